"""Prefixed, time-ordered ids that anybody may make, an offline till included.

Shape: `prd_` + 26 characters of lower-case Crockford base32: 48 bits of milliseconds, then 82 random bits (30 of them a counter
start, so that ids made by one process in one millisecond stay in order). Nobody may read anything but the prefix from an id.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PATTERN = re.compile(r"[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}")

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_RANDOM_BITS = 82
_LOW = 0xFFF_FFFF_FFFF_FFFF
_LOW_LETTERS = 12
"""Of an id, that spell the lowest 60 bits. The ids of one call differ in those, but for one call in thousands of millions."""
_POOL_BYTES = 4096
_lock = threading.Lock()
_last_millisecond = 0
_last_tail = 0


class _Pool:
    """Random bits of the system, fetched in bulk: asking it for each id costs more than all the rest of one."""

    __slots__ = ("_bytes", "_used")

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def bits(self, count: int) -> int:
        size = (count + 7) // 8
        if self._used + size > len(self._bytes):
            self._bytes, self._used = os.urandom(_POOL_BYTES), 0
        self._used += size
        return int.from_bytes(self._bytes[self._used - size : self._used]) >> (size * 8 - count)

    def forget(self) -> None:
        """For a process that was forked: what is left belongs to its parent."""
        self._bytes = b""
        self._used = 0


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.forget)


def new_id(prefix: str) -> str:
    """A new id with this prefix, greater than every id of this process before it."""
    global _last_millisecond, _last_tail
    with _lock:
        millisecond = time.time_ns() // 1_000_000
        if millisecond > _last_millisecond:
            tail = _pool.bits(_RANDOM_BITS)
        else:
            # Same millisecond (or a clock that went back): step forward by a random amount, so ids stay unguessable.
            millisecond, tail = _last_millisecond, _last_tail + 1 + _pool.bits(30)
            if tail >> _RANDOM_BITS:
                millisecond, tail = millisecond + 1, _pool.bits(_RANDOM_BITS)
        _last_millisecond, _last_tail = millisecond, tail
    return _spelled(prefix, millisecond, tail)


def new_ids(prefix: str, count: int) -> list[str]:
    """So many new ids with this prefix, in order; a good deal cheaper than one by one."""
    global _last_millisecond, _last_tail
    if not count:
        return []
    steps = struct.unpack(f"<{count}I", os.urandom(4 * count))
    with _lock:
        millisecond = max(time.time_ns() // 1_000_000, _last_millisecond + 1)
        tail = _pool.bits(_RANDOM_BITS - 24)  # room for the steps of thousands
        high = millisecond << 22 | tail >> 60
        head, pairs = _spelled(prefix, millisecond, tail)[:-_LOW_LETTERS], _PAIRS
        found = []
        for step in steps:
            tail += 1 + (step >> 2)
            low = tail & _LOW
            if millisecond << 22 | tail >> 60 != high:
                found.append(_spelled(prefix, millisecond, tail))
                continue
            found.append(
                f"{head}{pairs[low >> 50]}{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}"
                f"{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
            )
        if tail >> _RANDOM_BITS:
            raise OverflowError("too many ids at once")
        _last_millisecond, _last_tail = millisecond, tail
    return found


def _spelled(prefix: str, millisecond: int, tail: int) -> str:
    # Two characters at a time, spelled out: ids are made by the dozen for each sale.
    high, low = millisecond << 22 | tail >> 60, tail & _LOW
    pairs = _PAIRS
    return (
        f"{prefix}_{pairs[high >> 60]}{pairs[high >> 50 & 1023]}{pairs[high >> 40 & 1023]}{pairs[high >> 30 & 1023]}"
        f"{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}{pairs[low >> 50]}{pairs[low >> 40 & 1023]}"
        f"{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def is_id(text: str, prefix: str) -> bool:
    """Whether the text has the shape of an id with this prefix."""
    return text.startswith(prefix + "_") and PATTERN.fullmatch(text) is not None
