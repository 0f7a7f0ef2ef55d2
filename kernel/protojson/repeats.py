"""Keys that come twice in one JSON object: parsers keep the last without a word, so whoever checked the first was fooled.

The question is asked of every document and must cost next to nothing. Only documents that could hold a repeated key, which hardly
any do, are parsed a second time to see.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kernel.protojson.findings import Enough, Findings, Path


def are_excluded(data: bytes, keys: int) -> bool:
    """Whether a JSON text surely has no repeated key, when so many were found in what it was parsed to.

    A key is followed by a colon. Where no colon follows white space, each key of the text shows as `":`, and what else shows so
    stands in strings and only adds to the count. So when the count is the number of keys that were found, none was lost.
    """
    return (
        data.count(b'":') == keys
        and b" :" not in data
        # One byte is found, or not, many times faster than two; compact documents have none of these.
        and not (b"\n" in data and b"\n:" in data)
        and not (b"\t" in data and b"\t:" in data)
        and not (b"\r" in data and b"\r:" in data)
    )


_MOST = 100
"""Objects with repeated keys, after which the rest of a document is not looked at."""


class _Repeated(dict[str, Any]):
    """An object with repeated keys."""

    repeated: list[str]


def note(data: bytes, path: Path, found: Findings) -> None:
    """Notes every repeated key of a text that is known to be JSON; of a text that is full of them, that it is."""
    count = 0

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal count
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        count += 1
        if count > _MOST:
            raise Enough
        result = _Repeated(plain)
        result.repeated = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        return result

    try:
        tree = json.loads(data, object_pairs_hook=keep, parse_float=str, parse_int=str)
        for place in _places(tree, path):
            found.add(place, "DUPLICATE_FIELD", "is given more than once")
    except RecursionError:
        found.too_deep(path)
    except Enough:
        found.violations.clear()
        found.add(path, "DUPLICATE_FIELD", "has very many keys that are given more than once")


def _places(tree: Any, path: Path) -> Iterator[Path]:
    if isinstance(tree, _Repeated):
        for key in tree.repeated:
            yield (path, key)
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, (dict, list)):
                yield from _places(value, (path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            if isinstance(value, (dict, list)):
                yield from _places(value, (path, "", index))
