"""The one log: every business change, numbered per (tenant, lane) without gaps and in the order of commits.

A lane is what one kind of reader resumes on: one per outlet, one for the merchant. The number comes from a counter row
that is locked as the last statement of the transaction: whoever sees n + 1 also sees n, and a rollback gives its number back. (A
sequence would hand out numbers before the commit, and readers would miss events.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.statements import packed, packed_numbers, unpacked, unpacked_numbers

TENANT_LANE = "tenant"


@dataclass(slots=True)  # not frozen: made by the thousand when tills upload, and freezing doubles what that costs
class NewEvent:
    """An event on its way into the log."""

    id: str
    lane: str
    type: str
    subject_id: str
    version: int
    outlet_id: str
    body: bytes
    """The resource after the event, serialised."""
    occurred_at: datetime


@dataclass(frozen=True)
class LoggedEvent:
    """An event in the log."""

    lane: str
    seq: int
    id: str
    type: str
    subject_id: str
    version: int
    outlet_id: str
    body: bytes
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True)
class Head:
    """Where a lane ends, and where it begins."""

    epoch: int
    last_seq: int
    floor_seq: int
    """The oldest position that is kept."""


def appending(also: str = "") -> sa.TextClause:
    """The statement that numbers and stores the events of one lane, and does something else along with it.

    Args:
        also: further parts of its WITH, each after a comma. They may read `head`: last_seq is the number of the last event.
    """
    return sa.text(_APPENDING.format(also=also))


_APPENDING = f"""
    WITH head AS (
        UPDATE log_heads SET last_seq = last_seq + cardinality(CAST(:bodies AS bytea[]))
        WHERE tenant_id = :tenant_id AND lane = :lane
        RETURNING last_seq, epoch
    ), added AS (
        INSERT INTO events (tenant_id, lane, seq, id, type, subject_id, version, outlet_id, body, occurred_at)
        SELECT :tenant_id, :lane, head.last_seq - cardinality(CAST(:bodies AS bytea[])) + e.place,
               substr(e.id, 2), substr(e.type, 2), substr(e.subject_id, 2), e.version, substr(e.outlet_id, 2), e.body,
               e.occurred_at
        FROM head, unnest({unpacked("ids")}, {unpacked("types")}, {unpacked("subject_ids")}, {unpacked_numbers("versions")},
                          {unpacked("outlet_ids")}, CAST(:bodies AS bytea[]), CAST(:occurred_at AS timestamptz[]))
             WITH ORDINALITY AS e (id, type, subject_id, version, outlet_id, body, occurred_at, place)
    ){{also}}
    SELECT last_seq, epoch FROM head
    """  # noqa: S608 (texts of ours)
_APPEND = appending()


@dataclass(frozen=True, slots=True)
class Along:
    """What is done in the same statement as the events of a lane are numbered."""

    lane: str
    statement: sa.TextClause
    """Made by `appending`."""
    parameters: Mapping[str, Any]


_READ = sa.text(
    """
    SELECT lane, seq, id, type, subject_id, version, outlet_id, body, occurred_at, recorded_at
    FROM events WHERE tenant_id = :tenant_id AND lane = :lane AND seq > :after ORDER BY seq LIMIT :limit
    """
)

_LATEST = sa.text(
    """
    SELECT lane, seq, id, type, subject_id, version, outlet_id, body, occurred_at, recorded_at FROM (
        SELECT DISTINCT ON (subject_id) * FROM events
        WHERE tenant_id = :tenant_id AND lane = :lane AND seq > :after AND seq <= :upto AND type = ANY(:types)
        ORDER BY subject_id, seq DESC
    ) AS latest ORDER BY seq
    """
)

# Of a log that was undone later on, what came before the first restore that it did not see is the past of the present one.
_SHARED = sa.text(
    """
    SELECT CASE WHEN h.epoch <> :epoch THEN coalesce((
               SELECT min(r.last_seq) FROM log_restores r
               WHERE r.tenant_id = h.tenant_id AND r.lane = h.lane AND r.epoch > :epoch), 0) END
    FROM log_heads h WHERE h.tenant_id = :tenant_id AND h.lane = :lane
    """
)
_HEADS = sa.text("SELECT lane, epoch, last_seq, floor_seq FROM log_heads WHERE tenant_id = :tenant_id")
_ADD_LANE = sa.text("INSERT INTO log_heads (tenant_id, lane) VALUES (:tenant_id, :lane) ON CONFLICT DO NOTHING")


class Runs(Protocol):
    """Whatever runs a statement with named parameters and answers its rows."""

    async def run(self, statement: sa.TextClause, **parameters: Any) -> Any:
        """The rows."""


async def append(
    tx: Runs, tenant_id: str, events: Sequence[NewEvent], along: Along | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers and stores events; the new head of each lane, and the epoch of each. Nothing but COMMIT may follow.

    Lanes are locked in order of their names, so that two transactions never wait for each other.

    Raises:
        RuntimeError: there is nothing in the lane that something else was to be done along with, or no such lane.
    """
    by_lane: defaultdict[str, list[NewEvent]] = defaultdict(list)
    for event in events:
        by_lane[event.lane].append(event)
    heads: dict[str, int] = {}
    epochs: dict[str, int] = {}
    for lane, mine in sorted(by_lane.items()):
        mate = along if along is not None and along.lane == lane else None
        rows = await tx.run(
            _APPEND if mate is None else mate.statement,
            **({} if mate is None else mate.parameters),
            tenant_id=tenant_id,
            lane=lane,
            ids=packed([event.id for event in mine]),
            types=packed([event.type for event in mine]),
            subject_ids=packed([event.subject_id for event in mine]),
            versions=packed_numbers(event.version for event in mine),
            outlet_ids=packed([event.outlet_id for event in mine]),
            bodies=[event.body for event in mine],
            occurred_at=[event.occurred_at for event in mine],
        )
        ((heads[lane], epochs[lane]),) = rows
    if along is not None and along.lane not in heads:
        raise RuntimeError(f"nothing was announced in lane {along.lane}")
    return heads, epochs


async def add_lane(connection: AsyncConnection, tenant_id: str, lane: str) -> None:
    """Opens a lane. Every outlet and every merchant has one from its first moment on."""
    await connection.execute(_ADD_LANE, {"tenant_id": tenant_id, "lane": lane})


async def read(connection: AsyncConnection, tenant_id: str, lane: str, after: int, limit: int) -> list[LoggedEvent]:
    """The events after a position, in order."""
    rows = await connection.execute(_READ, {"tenant_id": tenant_id, "lane": lane, "after": after, "limit": limit})
    return [LoggedEvent(*row) for row in rows]


async def latest(
    connection: AsyncConnection, tenant_id: str, lane: str, after: int, upto: int, types: Sequence[str]
) -> list[LoggedEvent]:
    """The last event of each subject within (after, upto], of these types, in order: all that a reader of states needs."""
    place = {"tenant_id": tenant_id, "lane": lane, "after": after, "upto": upto, "types": list(types)}
    return [LoggedEvent(*row) for row in await connection.execute(_LATEST, place)]


async def shared_upto(tx: Runs, tenant_id: str, lane: str, epoch: int) -> int | None:
    """Up to where a lane of this epoch is what the present one goes on from, 0 for nowhere; None when it is the present one."""
    for (upto,) in await tx.run(_SHARED, tenant_id=tenant_id, lane=lane, epoch=epoch):
        return None if upto is None else int(upto)
    return None


async def heads(connection: AsyncConnection, tenant_id: str) -> dict[str, Head]:
    """Every lane of a merchant."""
    rows = await connection.execute(_HEADS, {"tenant_id": tenant_id})
    return {lane: Head(epoch, last_seq, floor_seq) for lane, epoch, last_seq, floor_seq in rows}
