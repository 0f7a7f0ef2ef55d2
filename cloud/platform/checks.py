"""Checks that every feature makes at its boundary. Each returns violations, so that a caller hears of all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.timestamp_pb2 import Timestamp

from gipos.v1.common_pb2 import Money
from kernel import quantities
from kernel.errors import Violation
from kernel.money import LIMIT, RUPIAH

MAX_ADDRESS = 2048
MAX_PATHS = 50
"""More than any message has fields."""

# Line breaks and tabs are text; halves of surrogate pairs cannot be stored.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]")


def text(field: str, value: str, limit: int, *, required: bool = False) -> Iterator[Violation]:
    """Length, and characters that no name, code or note has."""
    if required and not value.strip():
        yield Violation(field, "REQUIRED", f"{field} is required.")
    if len(value) > limit:
        yield Violation(field, "TOO_LONG", f"{field} has at most {limit} characters; this one has {len(value)}.")
    if _NO_TEXT.search(value, 0, limit):  # no further: what is too long by megabytes is not read through
        yield Violation(field, "INVALID_CHARACTER", f"{field} contains a control character.")


def money(field: str, value: Money, *, present: bool, required: bool = False) -> Iterator[Violation]:
    """An amount of rupiah from 0 up to the limit."""
    if not present:
        if required:
            yield Violation(field, "REQUIRED", f'{field} is required, for example {{"amount": 15000}}.')
        return
    if value.currency not in {"", RUPIAH}:
        yield Violation(f"{field}.currency", "UNSUPPORTED", "Only IDR is supported.")
    if value.amount < 0:
        yield Violation(f"{field}.amount", "OUT_OF_RANGE", f"{field} must not be negative.")
    if value.amount > LIMIT:
        yield Violation(f"{field}.amount", "OUT_OF_RANGE", f"{field} must be at most {LIMIT}.")


def quantity(field: str, value: str, *, positive: bool = False) -> Iterator[Violation]:
    """A decimal with at most three places."""
    if not value:
        yield Violation(field, "REQUIRED", f"{field} is required.")
        return
    try:
        thousandths = quantities.parse(value)
    except ValueError as error:
        yield Violation(field, "INVALID_DECIMAL", f"{field} {error}.")
        return
    if positive and thousandths <= 0:
        yield Violation(field, "OUT_OF_RANGE", f"{field} must be above 0.")


def web_address(field: str, value: str) -> Iterator[Violation]:
    """Empty, or an https address."""
    if not value:
        return
    good = False
    if len(value) <= MAX_ADDRESS and value.isprintable():  # first: the library remembers what it has split
        with suppress(ValueError):
            parts = urlsplit(value)
            good = parts.scheme == "https" and bool(parts.hostname)
    if not good:
        yield Violation(field, "INVALID_URL", f"{field} must be an https address of at most {MAX_ADDRESS} characters.")


def day(field: str, value: str) -> Iterator[Violation]:
    """Empty, or a calendar day."""
    if not value:
        return
    try:
        good = len(value) == 10 and bool(date.fromisoformat(value))
    except ValueError:
        good = False
    if not good:
        yield Violation(field, "INVALID_DATE", f"{field} must be a day such as 2026-11-23.")


def one_of(field: str, value: int, words: Any) -> Iterator[Violation]:
    """A number that the enum (a generated class) has a word for; callers of REST write the words."""
    if value not in words.values():
        prefix = f"{re.sub(r'(?<=[a-z])(?=[A-Z])', '_', words.DESCRIPTOR.name).upper()}_"
        names = [name.removeprefix(prefix).lower() for name, number in words.items() if number]
        yield Violation(field, "INVALID_ENUM", f"{field} must be one of {', '.join(names)}.")


def mask(paths: Sequence[str]) -> Iterator[Violation]:
    """A field mask of a sane length, whatever its paths are."""
    if len(paths) > MAX_PATHS:
        yield Violation("update_mask", "TOO_MANY", f"update_mask names at most {MAX_PATHS} fields.")


def page_size(value: int) -> Iterator[Violation]:
    """0 for the usual size, or more."""
    if value < 0:
        yield Violation("page_size", "OUT_OF_RANGE", "page_size must be between 1 and 200.")


def moment(field: str, value: Timestamp) -> Iterator[Violation]:
    """A moment of a year that the database and Python both know."""
    try:
        value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        yield Violation(field, "INVALID_TIME", f"{field} must be a moment such as 2026-11-23T07:05:09Z.")


def order_by(value: str, names: Iterable[str], *, by_change: bool = False) -> Iterator[Violation]:
    """Empty, or one of the names, each also with " desc". A list by change has only the order of the changes."""
    name, _, direction = value.partition(" ")
    if value and (name not in names or direction not in {"", "asc", "desc"}):
        message = f'order_by must be one of {", ".join(names)}, each also with " desc".'
        yield Violation("order_by", "INVALID", message)
    elif by_change and value not in {"", "update_time", "update_time asc"}:
        yield Violation("order_by", "INVALID", "With updated_since the order is always update_time; leave order_by out.")
