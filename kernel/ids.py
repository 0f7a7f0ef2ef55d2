"""Prefixed, time-ordered ids that anybody may make, an offline till included.

Shape: `prd_` + 26 characters of lower-case Crockford base32: 48 bits of milliseconds, then 82 random bits (30 of them a counter
start, so that ids made by one process in one millisecond stay in order). Nobody may read anything but the prefix from an id.
"""

from __future__ import annotations

import re
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PATTERN = re.compile(r"[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}")

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_RANDOM_BITS = 82
_lock = threading.Lock()
_last = (0, 0)


def new_id(prefix: str) -> str:
    """A new id with this prefix, greater than every id of this process before it."""
    global _last  # noqa: PLW0603 (the one place where order within the process is kept)
    with _lock:
        millisecond, tail = max(time.time_ns() // 1_000_000, _last[0]), secrets.randbits(_RANDOM_BITS)
        if millisecond == _last[0]:
            # Same millisecond (or a clock that went back): step forward by a random amount, so ids stay unguessable.
            tail = _last[1] + 1 + secrets.randbits(30)
            if tail >> _RANDOM_BITS:
                millisecond, tail = millisecond + 1, secrets.randbits(_RANDOM_BITS)
        _last = (millisecond, tail)
    number = (millisecond << _RANDOM_BITS) | tail
    # Two characters at a time: ids are made by the dozen for each sale.
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)]
    return f"{prefix}_{''.join(pairs)}"


def is_id(text: str, prefix: str) -> bool:
    """Whether the text has the shape of an id with this prefix."""
    return text.startswith(prefix + "_") and PATTERN.fullmatch(text) is not None
