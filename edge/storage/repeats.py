"""Which waiting operations the cloud had acknowledged before: a restored cloud gets them again, and offline rules pass over them.

Kept as ranges of numbers with what the sales among them are worth, so that a checkout reads one value instead of counting rows.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from edge.storage import facts
from edge.storage.columns import whole


@dataclass(frozen=True)
class Repeats:
    """What the cloud had and gets again."""

    sales: int = 0
    amount: int = 0
    """Rupiah."""
    ranges: tuple[tuple[int, int], ...] = ()
    """First and last number of each, all of it waiting, from the lowest on."""


def parse(kept: str) -> Repeats:
    """Reads the fact. One that is broken counts for nothing: it must not stop a checkout, nor the mending of a store."""
    if not kept:
        return Repeats()
    try:
        sales, amount, ranges = json.loads(kept)
        return Repeats(int(sales), int(amount), tuple((int(first), int(last)) for first, last in ranges))
    except (TypeError, ValueError):
        return Repeats()


def add(connection: apsw.Connection, first: int, last: int) -> None:
    """What has these numbers waits once more."""
    if first > last:
        return
    known = parse(facts.text(connection, facts.REPEATS))
    sales, amount = _worth(connection, first, last)
    _keep(connection, Repeats(known.sales + sales, known.amount + amount, tuple(sorted((*known.ranges, (first, last))))))


def acknowledged(connection: apsw.Connection, watermark: int) -> None:
    """The cloud has everything up to here (again)."""
    known = parse(facts.text(connection, facts.REPEATS))
    sales, amount = known.sales, known.amount
    left = []
    for first, last in known.ranges:
        if first <= watermark:
            gone = _worth(connection, first, min(last, watermark))
            sales, amount = sales - gone[0], amount - gone[1]
        if last > watermark:
            left.append((max(first, watermark + 1), last))
    if tuple(left) != known.ranges:
        _keep(connection, Repeats(sales, amount, tuple(left)))


def moved(connection: apsw.Connection, numbers: Mapping[int, int]) -> None:
    """Everything that waits has another number: by the old one, the new one. Their order is the same."""
    known = parse(facts.text(connection, facts.REPEATS))
    if not known.ranges:
        return
    old, ranges = sorted(numbers), []
    for first, last in known.ranges:
        begins, ends = bisect_left(old, first), bisect_right(old, last)
        if begins < ends:
            ranges.append((numbers[old[begins]], numbers[old[ends - 1]]))
    worth = [_worth(connection, first, last) for first, last in ranges]
    _keep(connection, Repeats(sum(sales for sales, _ in worth), sum(amount for _, amount in worth), tuple(ranges)))


def _worth(connection: apsw.Connection, first: int, last: int) -> tuple[int, int]:
    """How many sales have these numbers, and what they are worth."""
    row = connection.execute(
        "SELECT coalesce(sum(kind = 'sale_recorded'), 0), coalesce(sum(amount), 0) FROM operations WHERE op_seq BETWEEN ? AND ?",
        (first, last),
    ).fetchone()
    assert row is not None
    return whole(row[0]), whole(row[1])


def _keep(connection: apsw.Connection, known: Repeats) -> None:
    # Nothing instead of zeros: a checkout that finds nothing has nothing to read.
    kept = json.dumps([known.sales, known.amount, known.ranges], separators=(",", ":")) if known.ranges else ""
    facts.put(connection, facts.REPEATS, kept)
