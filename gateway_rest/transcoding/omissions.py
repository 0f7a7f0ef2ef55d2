"""What a caller is told when a value has no JSON form: everything else is printed, and the answer says what it lacks.

Such values are not made any more, but may have been stored before that was so. One of them must not hide the rest of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import structlog

from kernel import protojson
from kernel.protojson import EncodingFailed, LeftOut

NAME = b"x-left-out"
"""The header of an answer: paths of the fields, the first few of them."""
MOST = 20
"""Paths in the header."""
_LONGEST = 200
"""Bytes of one of them; keys of maps are what a caller likes."""
_REMEMBERED = 1000
_PLACE = re.compile(r".*\.|\[\d+\]")
"""All of a path but the name of its last field."""

logger = structlog.get_logger()
_logged: set[tuple[str, str]] = set()
"""What was logged already: lists are read again and again."""

Write = Callable[[Any], bytes]


def answered(message: Any, body_field: str, write: Write, request_id: str) -> tuple[bytes, tuple[bytes, bytes]]:
    """The body of an answer that cannot be printed as it is, and the header that says what it lacks.

    `body_field` is the field that is printed alone; empty when all of the message is.

    Raises:
        EncodingFailed: it cannot be printed even so.
    """
    copy, left_out = _spared(message, request_id)
    paths = [each.field for each in left_out]
    if body_field:
        if body_field in paths:
            raise EncodingFailed("nothing is left of the answer")
        paths = [path.removeprefix(body_field).removeprefix(".") for path in paths if re.match(rf"{body_field}\b", path)]
    return write(copy), (NAME, _listed(paths))


def marking(write: Write, request_id: str) -> Write:
    """Writes elements of a stream, which have no headers of their own: what one lacks is said in its member "$left_out"."""

    def written(message: Any) -> bytes:
        try:
            return write(message)
        except EncodingFailed:
            copy, left_out = _spared(message, request_id)
            text = write(copy)
            return protojson.marked(text, left_out) if text.endswith(b"}") else text

    return written


def _listed(paths: Sequence[str]) -> bytes:
    shown = [quote(path, safe="[].$-_")[:_LONGEST] for path in paths[:MOST]]
    if len(paths) > MOST:
        shown.append(f"+{len(paths) - MOST}")
    return ", ".join(shown).encode()


def _spared(message: Any, request_id: str) -> tuple[Any, list[LeftOut]]:
    """The message without what cannot be printed. Each such value is logged once."""
    copy, left_out = protojson.spared(message)
    kind = message.DESCRIPTOR.full_name
    for each in left_out:
        key = (each.within or kind, _PLACE.sub("", each.field))
        if key not in _logged:
            if len(_logged) >= _REMEMBERED:
                _logged.clear()
            _logged.add(key)
            logger.warning("value_left_out", request_id=request_id, message=kind, field=each.field, within=each.within)
    return copy, left_out
