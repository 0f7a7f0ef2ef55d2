"""Answers that are kept printed: what is stored unchanged is not decoded and printed again for everybody who reads it.

The database is asked every time which version of a row there is; only what that version looks like is remembered. So nothing here
can be out of date, and nothing has to be invalidated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from kernel import protojson
from kernel.buffers import trimmed

K = TypeVar("K", bound=Hashable)
_OVERHEAD = 500
"""Bytes that Python needs for an entry besides its texts, about."""


@dataclass(slots=True, frozen=True)
class Printed:
    """A message in both its forms. A service may answer with it instead of the message."""

    message_class: type[Message]
    wire: bytes
    """As Protocol Buffers."""
    json: bytes
    """Exactly what the codec prints."""
    etag: str = ""
    """The message's own, if it has one."""
    next_page_token: str = ""
    """As above."""

    def parse(self) -> Message:
        """The message itself; a new one each time, so that whoever gets it may do with it what they like."""
        return self.message_class.FromString(self.wire)


def printed(message: Message) -> Printed:
    """A message in both forms."""
    json = trimmed(protojson.encode(message))
    return Printed(type(message), message.SerializeToString(), json, getattr(message, "etag", ""))


def serialiser(plain: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A serialiser for gRPC that takes a message, its printed form, or bytes that are one already."""

    def serialise(answer: Any) -> bytes:
        if type(answer) is bytes:
            return answer
        return answer.wire if type(answer) is Printed else plain(answer)

    return serialise


class Elements(Generic[K]):
    """Printed forms by key and stamp, the least recently used ones forgotten first.

    Args:
        limit: Bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: dict[K, tuple[Hashable, Printed, int]] = {}
        """With what each costs."""

    def find(self, key: K, stamp: Hashable) -> Printed | None:
        """The printed form of exactly this version."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != stamp:
            return None
        # A dict keeps the order of insertion: what is used goes to its end.
        del self._kept[key]
        self._kept[key] = kept
        return kept[1]

    def keep(self, key: K, stamp: Hashable, element: Printed, *, beside: int = 0) -> None:
        """Remembers a version in place of any other; `beside` is what the stamp weighs, if that is worth counting."""
        self._forget(key)
        cost = _cost(element) + beside
        self._kept[key] = (stamp, element, cost)
        self._size += cost
        while self._size > self._limit and self._kept:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: K) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept[2]


class Pages:
    """Puts pages together from printed elements.

    Args:
        message_class: Of the page.
        field: Its repeated field of elements.
    """

    def __init__(self, message_class: type[Message], field: str) -> None:
        self._class = message_class
        number = message_class.DESCRIPTOR.fields_by_name[field].number
        self._tag = _varint(number << 3 | 2)
        self._hole = b'"' + field.encode() + b'":['

    def page(self, elements: Sequence[Printed], **fields: Any) -> Printed:
        """A page of these elements; `fields` are its other ones."""
        rest = self._class(**fields)
        tag = self._tag
        wire = b"".join([part for one in elements for part in (tag, _varint(len(one.wire)), one.wire)])
        # No text of a caller can hold this: JSON escapes the quotes within texts.
        before, hole, after = protojson.encode(rest).partition(self._hole)
        json = b"".join((before, hole, b",".join([one.json for one in elements]), after))
        return Printed(self._class, wire + rest.SerializeToString(), json, next_page_token=fields.get("next_page_token", ""))


def _cost(element: Printed) -> int:
    return len(element.wire) + len(element.json) + _OVERHEAD


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))
