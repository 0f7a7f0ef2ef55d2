"""Reads and writes the few fields the judge and the poisoner need of serialised messages, by their published numbers.

Our own few lines on purpose: what the product encodes is not checked with what the product decodes with.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; ValueError or IndexError for what is no message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value - (1 << 64) if value >= 1 << 63 else value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[place : place + size]
        place += size


class Message:
    """A message, by field numbers."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    def number(self, field: int, default: int = 0) -> int:
        """An integer or bool."""
        value = self._fields.get(field, [default])[-1]
        assert isinstance(value, int)
        return value

    def text(self, field: int) -> str:
        """A string."""
        return self.raw(field).decode()

    def raw(self, field: int) -> bytes:
        """Bytes, or a message that is not looked into."""
        value = self._fields.get(field, [b""])[-1]
        assert isinstance(value, bytes)
        return value

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return field in self._fields

    def many(self, field: int) -> list[bytes]:
        """All values of a repeated field."""
        return [value for value in self._fields.get(field, []) if isinstance(value, bytes)]


def written(*parts: tuple[int, int | bytes | str]) -> bytes:
    """A message with these fields, by their numbers: whole numbers, texts, and messages as bytes."""
    data = b""
    for number, value in parts:
        if isinstance(value, int):
            data += _coded(number << 3 | _VARINT) + _coded(value)
        else:
            body = value.encode() if isinstance(value, str) else value
            data += _coded(number << 3 | _BYTES) + _coded(len(body)) + body
    return data


def _coded(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def thousandths(text: str) -> int:
    """A decimal quantity in thousandths; an empty one is 0."""
    whole, _, part = (text or "0").partition(".")
    sign = -1 if whole.startswith("-") else 1
    return sign * (abs(int(whole or 0)) * 1000 + int((part + "000")[:3]))
