"""Texts of Timestamp, Duration and FieldMask: parsing and printing, nanoseconds kept. Refuses what RFC 3339 does not say."""

from __future__ import annotations

import datetime as dt
import functools
import re

_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_MASK_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|`[^`,]+`))*", re.ASCII)
_CAPITAL = re.compile(r"[A-Z]")
_EPOCH = dt.date(1970, 1, 1)
_DAY = 86_400

FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
"""0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z, the range of google.protobuf.Timestamp."""
LONGEST = 315_576_000_000
"""Seconds, the range of google.protobuf.Duration: about 10,000 years."""
MOST_PATHS = 1000
"""Paths in one field mask."""


@functools.lru_cache(maxsize=4096)
def _date_text(day: int) -> str:
    return (_EPOCH + dt.timedelta(days=day)).isoformat()


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    text = f"{nanos:09d}"
    if text.endswith("000000"):
        return "." + text[:3]
    return "." + (text[:6] if text.endswith("000") else text)


def timestamp_text(seconds: int, nanos: int) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 digits of fraction.

    Raises:
        ValueError: outside the years 1 to 9999.
    """
    if not FIRST_SECOND <= seconds <= LAST_SECOND or not 0 <= nanos < 1_000_000_000:
        raise ValueError("a timestamp is outside the years 1 to 9999")
    day, rest = divmod(seconds, _DAY)
    hour, rest = divmod(rest, 3600)
    minute, second = divmod(rest, 60)
    return f"{_date_text(day)}T{hour:02d}:{minute:02d}:{second:02d}{_fraction(nanos)}Z"


def parse_timestamp(text: str) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds.

    Raises:
        ValueError: not RFC 3339, no such moment, or outside the years 1 to 9999. The text is for the caller.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(
            'must be a time as RFC 3339 writes it, for example "2026-11-23T04:05:06Z" or "2026-11-23T11:05:06+07:00"'
        )
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction, _, sign, offset_hour, offset_minute = match.group(7, 8, 9, 10, 11)
    try:
        days = (dt.date(year, month, day) - _EPOCH).days
    except ValueError as error:
        raise ValueError(f"there is no such date: {error}") from None
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("there is no such time of day (leap seconds are not accepted)")
    offset = 0
    if sign:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            raise ValueError("the offset from UTC is out of range")
        offset = (int(offset_hour) * 3600 + int(offset_minute) * 60) * (1 if sign == "+" else -1)
    seconds = days * _DAY + hour * 3600 + minute * 60 + second - offset
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        raise ValueError("must lie within the years 1 to 9999")
    return seconds, int((fraction or "0").ljust(9, "0"))


def duration_text(seconds: int, nanos: int) -> str:
    """Seconds with an "s", for example "1.500s".

    Raises:
        ValueError: out of range, or seconds and nanos of different signs.
    """
    if abs(seconds) > LONGEST or abs(nanos) >= 1_000_000_000 or seconds * nanos < 0:
        raise ValueError("a duration is out of range")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def parse_duration(text: str) -> tuple[int, int]:
    """Seconds and nanoseconds, both of the sign of the whole.

    Raises:
        ValueError: not a number of seconds followed by "s", or out of range. The text is for the caller.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('must be a number of seconds followed by "s", for example "1.5s"')
    sign = -1 if match[1] else 1
    seconds, nanos = int(match[2]), int((match[3] or "0").ljust(9, "0"))
    if seconds > LONGEST or (seconds == LONGEST and nanos):
        raise ValueError(f"must lie within {LONGEST} seconds")
    return sign * seconds, sign * nanos


def parse_mask(text: str) -> list[str]:
    """The paths of a field mask in snake_case; both spellings and "*" are understood.

    Raises:
        ValueError: not a comma-separated list of field paths. The text is for the caller.
    """
    paths: list[str] = []
    if text.count(",") >= MOST_PATHS:
        raise ValueError(f"must not have more than {MOST_PATHS} paths")
    for part in text.split(",") if text else ():
        path = part.strip()
        if path != "*" and not _MASK_PATH.fullmatch(path):
            raise ValueError('must be field paths separated by commas, for example "name,price.amount"')
        paths.append(_CAPITAL.sub(lambda match: "_" + match[0].lower(), path) if "`" not in path else path)
    return paths
