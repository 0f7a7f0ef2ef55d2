"""Printed elements of pages, kept by their content: the same product is printed once, however often it is listed.

Nothing is ever stale here. The key is the message itself, serialised, so a product that changed is another key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from kernel.buffers import trimmed

MOST_BYTES = 8 * 1024 * 1024
"""What all that is kept may weigh. Beyond it everything is forgotten: what is in use is back at once, and nothing is counted."""

_OVERHEAD = 300
"""Bytes that Python needs for an entry besides its two texts, about. Levels are so small that it is most of what they take."""
_kept_bytes = 0
_all: list[Elements] = []


class Elements:
    """The printed elements of one message type; called with an element it answers the JSON text, ready to be put into a page."""

    def __init__(self, encode: Callable[[Any], Any]) -> None:
        self._encode = encode
        self._printed: dict[bytes, orjson.Fragment] = {}
        _all.append(self)

    def __call__(self, message: Any) -> orjson.Fragment:
        """The element, printed now or before."""
        key: bytes = message.SerializePartialToString()
        printed = self._printed.get(key)
        if printed is None:
            text = trimmed(orjson.dumps(self._encode(message)))
            _make_room(len(key) + len(text) + _OVERHEAD)
            printed = self._printed[key] = orjson.Fragment(text)
        return printed

    def __len__(self) -> int:
        return len(self._printed)

    def forget(self) -> None:
        """Drops everything."""
        self._printed.clear()


def _make_room(size: int) -> None:
    global _kept_bytes  # noqa: PLW0603 (one budget for all types of the process)
    if _kept_bytes + size > MOST_BYTES:
        for elements in _all:
            elements.forget()
        _kept_bytes = 0
    _kept_bytes += size
