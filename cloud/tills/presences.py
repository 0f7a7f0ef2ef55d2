"""Which tills are connected, and how they fare: told by whoever holds their streams, written in bulk, read by the owner.

Comings and goings are written within a second, everything else every half minute, one statement for all tills of a process. A
process that died cannot say that its tills are gone: a till that was not heard of for 90 s counts as offline.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.platform.jobs import DATABASE_ERRORS
from cloud.tills.tables import presences
from kernel import business_days

TURN_SECONDS = 0.5
"""How soon a coming or going is written."""
EACH_SECONDS = 30.0
"""How often everything else is."""
BELIEVED = timedelta(seconds=90)
"""How long "online" holds without a word."""

# One statement for all, in one order for every process, so that no two wait for each other. What belongs to an older connection
# than the row does not count: the till has come back elsewhere meanwhile.
_WRITE = sa.text(
    """
    INSERT INTO till_presences AS p (tenant_id, till_id, connection, is_online, since_at, heard_at, waiting_operations,
        software_version, clock_offset_ms)
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:tills AS text[]), CAST(:connections AS text[]),
        CAST(:onlines AS boolean[]), CAST(:sinces AS timestamptz[]), CAST(:heards AS timestamptz[]),
        CAST(:waitings AS bigint[]), CAST(:versions AS text[]), CAST(:offsets AS bigint[])) AS given (tenant_id, till_id)
    ORDER BY given.tenant_id, given.till_id
    ON CONFLICT (tenant_id, till_id) DO UPDATE SET
        connection = excluded.connection, is_online = excluded.is_online, heard_at = greatest(p.heard_at, excluded.heard_at),
        waiting_operations = excluded.waiting_operations, software_version = excluded.software_version,
        clock_offset_ms = excluded.clock_offset_ms,
        since_at = CASE WHEN p.is_online AND excluded.is_online AND p.heard_at > excluded.heard_at - :believed
            THEN p.since_at ELSE excluded.since_at END
    WHERE p.connection = excluded.connection OR (excluded.is_online AND excluded.since_at >= p.since_at)
    """
).bindparams(sa.bindparam("believed", type_=sa.Interval()))

logger = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Presence:
    """One open stream of a till. Kept by whoever holds the stream; cheap to tell."""

    tenant_id: str
    till_id: str
    software_version: str
    waiting_operations: int
    since_at: datetime
    heard_at: datetime
    _owner: Presences
    clock_offset_ms: int = 0
    is_online: bool = True
    connection: str = field(default_factory=lambda: uuid4().hex)
    due_at: float = 0.0
    """On the loop's clock: when it is written next."""

    def heard(self, *, waiting_operations: int | None = None, clock_offset_ms: int | None = None) -> None:
        """The till was heard. What is not given stays."""
        self.heard_at = business_days.now()
        if waiting_operations is not None:
            self.waiting_operations = waiting_operations
        if clock_offset_ms is not None:
            self.clock_offset_ms = clock_offset_ms

    def left(self) -> None:
        """The stream has ended."""
        if self.is_online:
            self.is_online = False
            self.since_at = self.heard_at = business_days.now()
            self._owner.hurry(self)


class Presences:
    """All streams of this process."""

    def __init__(self, database: Database, *, turn_seconds: float = TURN_SECONDS, each_seconds: float = EACH_SECONDS) -> None:
        self._database = database
        self._turn_seconds = turn_seconds
        self._each_seconds = each_seconds
        self._open: dict[str, Presence] = {}
        """By connection; also those that have left and are not written yet."""
        self._hurried = asyncio.Event()

    def connected(self, who: Caller, *, software_version: str = "", waiting_operations: int = 0) -> Presence:
        """A till has said hello."""
        now = business_days.now()
        # One statement writes all tills of all merchants: a text that the database cannot hold would keep every row from it.
        version = software_version.replace("\0", "")[:100]
        presence = Presence(who.tenant_id, who.till_id, version, waiting_operations, now, now, self)
        self._open[presence.connection] = presence
        self.hurry(presence)
        return presence

    def hurry(self, presence: Presence) -> None:
        """This one is written within the next turn."""
        presence.due_at = 0.0
        self._hurried.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._each_seconds / 4):
                    await self._hurried.wait()
            except TimeoutError:
                pass  # nobody came or went; the others are due now and then
            self._hurried.clear()
            try:
                await self.flush(asyncio.get_running_loop().time())
            except DATABASE_ERRORS as error:
                logger.warning("presences_not_written", count=len(self._open), error=repr(error))
                self._hurried.set()
            await asyncio.sleep(self._turn_seconds)  # comings and goings come in crowds

    async def flush(self, until: float = float("inf")) -> None:
        """Writes every stream that is due by then; all of them when no time is given.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: the database is away; all is still due.
        """
        due = [presence for presence in self._open.values() if presence.due_at <= until]
        if not due:
            return
        # Of a till that came twice within a turn only the newest stream counts: one statement cannot write a row twice.
        newest = {(each.tenant_id, each.till_id): each for each in sorted(due, key=lambda each: each.since_at)}
        was_online = {each.connection: each.is_online for each in newest.values()}
        async with self._database.across_tenants() as connection:
            await connection.execute(_WRITE, _columns(list(newest.values())))
        next_at = asyncio.get_running_loop().time() + self._each_seconds
        for each in due:
            if each.is_online:
                each.due_at = next_at
            elif not was_online.get(each.connection, False):
                del self._open[each.connection]  # written as gone, or its till has come back already


async def forked(connection: AsyncConnection, tenant_id: str, till_id: str, now: datetime) -> None:
    """Notes that a second tablet appeared under this till's name."""
    row = {"tenant_id": tenant_id, "till_id": till_id, "connection": "", "is_online": False, "since_at": now, "heard_at": now}
    statement = insert(presences).values(**row, forked_at=now)
    await connection.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "till_id"], set_={"forked_at": now}))


async def every(connection: AsyncConnection, tenant_id: str) -> dict[str, sa.Row[tuple[object, ...]]]:
    """What is known of the tills of a merchant, by till."""
    rows = await connection.execute(sa.select(presences).where(presences.c.tenant_id == tenant_id))
    return {row.till_id: row for row in rows}


def _columns(written: list[Presence]) -> dict[str, object]:
    return {
        "tenants": [each.tenant_id for each in written],
        "tills": [each.till_id for each in written],
        "connections": [each.connection for each in written],
        "onlines": [each.is_online for each in written],
        "sinces": [each.since_at for each in written],
        "heards": [each.heard_at for each in written],
        "waitings": [each.waiting_operations for each in written],
        "versions": [each.software_version for each in written],
        "offsets": [each.clock_offset_ms for each in written],
        "believed": BELIEVED,
    }
