"""The log's oldest events leave: first the floor rises, then what is below it goes, in small steps beside the running business.

A reader takes floor and events from one moment, so it never mistakes what was taken away for what never was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.database import Database
from kernel import business_days

STEP = 1_000
"""Events looked at and deleted at once."""

StillNeeded = Callable[[AsyncConnection, str, Sequence[str]], Awaitable[set[str]]]
"""Told a merchant and ids of events, answers which of them somebody still reads by their ids."""


@dataclass(frozen=True)
class Keeping:
    """What stays."""

    days: int
    """Events are kept for so many days."""
    least: int
    """And so many of each lane whatever their age, so that quiet shops' tills find their place after a holiday."""
    needed: Sequence[StillNeeded] = ()


# Lanes whose oldest event may be too old: one probe by the primary key each. What a crash left below a floor is found as well.
_DUE = sa.text(
    """
    SELECT h.tenant_id, h.lane, h.floor_seq, h.last_seq,
           EXISTS (SELECT FROM events e WHERE e.tenant_id = h.tenant_id AND e.lane = h.lane AND e.seq < h.floor_seq) AS has_rest
    FROM log_heads h
    LEFT JOIN LATERAL (
        SELECT e.recorded_at FROM events e
        WHERE e.tenant_id = h.tenant_id AND e.lane = h.lane AND e.seq >= h.floor_seq ORDER BY e.seq LIMIT 1
    ) oldest ON true
    WHERE (h.last_seq - h.floor_seq >= :least AND oldest.recorded_at < :before)
       OR EXISTS (SELECT FROM events e WHERE e.tenant_id = h.tenant_id AND e.lane = h.lane AND e.seq < h.floor_seq)
    ORDER BY h.tenant_id, h.lane
    """
)
_OLDEST = sa.text(
    """
    SELECT seq, id, recorded_at FROM events
    WHERE tenant_id = :tenant_id AND lane = :lane AND seq >= :floor_seq ORDER BY seq LIMIT :step
    """
)
# Only upwards, never above what is to be kept, and only within the epoch's own numbers.
_RAISE = sa.text(
    """
    UPDATE log_heads SET floor_seq = :floor_seq
    WHERE tenant_id = :tenant_id AND lane = :lane AND floor_seq < :floor_seq AND :floor_seq <= last_seq + 1 - :least
    """
)
_DELETE = sa.text(
    """
    DELETE FROM events e USING log_heads h
    WHERE h.tenant_id = :tenant_id AND h.lane = :lane AND e.tenant_id = h.tenant_id AND e.lane = h.lane
      AND e.seq < h.floor_seq AND e.seq < :below
    """
)
_LOWEST = sa.text("SELECT min(seq) FROM events WHERE tenant_id = :tenant_id AND lane = :lane")


async def trim(database: Database, keeping: Keeping) -> int:
    """Takes away what is older than is kept; how many events. Safe to run in every process at once.

    Each step is a transaction of its own that holds nothing anybody waits for: the counter's row is locked for the raising of the
    floor alone, and the deleting comes after that is committed. Who dies in between leaves events below the floor, which nobody
    reads and the next run removes.
    """
    before = business_days.now() - timedelta(days=keeping.days)
    async with database.across_tenants() as connection:
        due = (await connection.execute(_DUE, {"least": keeping.least, "before": before})).all()
    count = 0
    for tenant_id, lane, floor_seq, last_seq, has_rest in due:
        if has_rest:
            count += await _delete(database, tenant_id, lane, floor_seq)
        count += await _trim_lane(database, keeping, before, tenant_id, lane, floor_seq, last_seq)
    return count


async def _trim_lane(
    database: Database, keeping: Keeping, before: datetime, tenant_id: str, lane: str, floor_seq: int, last_seq: int
) -> int:
    count = 0
    place = {"tenant_id": tenant_id, "lane": lane}
    while True:
        async with database.across_tenants() as connection:
            oldest = (await connection.execute(_OLDEST, {**place, "floor_seq": floor_seq, "step": STEP})).all()
            ids = [row.id for row in oldest]
            kept = {one for needed in keeping.needed for one in await needed(connection, tenant_id, ids)}
        upto = floor_seq
        for row in oldest:
            if row.recorded_at >= before or row.id in kept or row.seq > last_seq - keeping.least:
                break
            upto = row.seq + 1
        if upto == floor_seq:
            return count
        async with database.across_tenants() as connection:
            await connection.execute(_RAISE, {**place, "floor_seq": upto, "least": keeping.least})
        count += await _delete(database, tenant_id, lane, upto)
        if upto - floor_seq < STEP:
            return count
        floor_seq = upto


async def _delete(database: Database, tenant_id: str, lane: str, floor_seq: int) -> int:
    """Removes what lies below the floor, a step at a time."""
    count = 0
    place = {"tenant_id": tenant_id, "lane": lane}
    while True:
        async with database.across_tenants() as connection:
            lowest = (await connection.execute(_LOWEST, place)).scalar_one()
            if lowest is None or lowest >= floor_seq:
                return count
            gone = (await connection.execute(_DELETE, {**place, "below": min(lowest + STEP, floor_seq)})).rowcount
        if not gone:
            return count  # the floor is not that high after all
        count += gone
