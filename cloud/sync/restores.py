"""A cloud that was restored from an older backup: its log does not continue what tills have copied, so lanes get a new epoch.

Noticed in four ways: the database is another one than before (at the start of a cloud), a till shows that it was acknowledged
more or has copied further than is known here, a running cloud finds less than it has told its tills, or an operator says so. Then
tills copy their lanes anew and send again what is missing. Nothing else raises an epoch: every tablet of a merchant pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from cloud.platform import log
from cloud.platform.database import Announcing, Database
from cloud.sync.ranges import Place

CLOCKS_DIFFER_MS = 86_400_000
"""By so much, at most, the clock of the database was ahead that gave out an epoch."""

logger = structlog.get_logger()

# Milliseconds: an epoch that was never given out before, whatever the backup remembers of earlier restores.
_NEXT = "greatest(epoch + 1, CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint))"
_LOCK = sa.text("SELECT lane, epoch, last_seq, floor_seq FROM log_heads WHERE tenant_id = :tenant_id ORDER BY lane FOR UPDATE")
_NOTED = """
    INSERT INTO log_restores (tenant_id, lane, epoch, last_seq, noticed_at)
    SELECT tenant_id, lane, epoch, last_seq, now() FROM raised
"""
_RAISE = sa.text(
    f"""
    WITH raised AS (
        UPDATE log_heads SET epoch = greatest({_NEXT}, CAST(:least AS bigint)) WHERE tenant_id = :tenant_id
        RETURNING tenant_id, lane, epoch, last_seq
    ) {_NOTED}
    """  # noqa: S608 (constants of ours)
)
_RAISE_ALL = sa.text(
    f"""
    WITH every AS (
        SELECT tenant_id, lane FROM log_heads ORDER BY tenant_id, lane FOR UPDATE
    ), raised AS (
        UPDATE log_heads AS h SET epoch = {_NEXT} FROM every WHERE h.tenant_id = every.tenant_id AND h.lane = every.lane
        RETURNING h.tenant_id, h.lane, h.epoch, h.last_seq
    ) {_NOTED}
    """  # noqa: S608 (constants of ours)
)
# A recovery to a point in time begins a new timeline; a dump that is read in again, and a copy, are another database.
_ORIGIN = sa.text(
    """
    SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()),
                     (SELECT oid FROM pg_database WHERE datname = current_database()))
    """
)
_KNOWN = sa.text("SELECT origin FROM log_origins FOR UPDATE")
_NOTE = sa.text(
    """
    INSERT INTO log_origins (origin, since) VALUES (:origin, now())
    ON CONFLICT (id) DO UPDATE SET origin = excluded.origin, since = excluded.since
    """
)


async def raise_epochs(tx: Announcing, copied: Mapping[str, int]) -> bool:
    """Gives every lane of the merchant a new epoch, unless that was done since the till that proves the loss made its copies.

    Nothing but COMMIT may follow: the lanes' counters are locked.

    Args:
        tx: The merchant's.
        copied: The epochs of the till's copies, by lane. One that is older than the lane's has met a loss that was noticed: of
            all the tills that come back to a restored cloud the first one raises. A till without copies cannot tell; it raises.

    Returns whether they are new.
    """
    epochs = {str(lane): int(epoch) for lane, epoch, *_ in await tx.run(_LOCK, tenant_id=tx.tenant_id)}
    known = {lane: epoch for lane, epoch in copied.items() if lane in epochs}
    if known and all(epoch < epochs[lane] for lane, epoch in known.items()):
        return False
    await tx.run(_RAISE, tenant_id=tx.tenant_id, least=0)
    logger.error("log_lost_history", tenant_id=tx.tenant_id)
    return True


async def lost_history(database: Database, tenant_id: str, copied: Mapping[str, int]) -> None:
    """As raise_epochs, for who knows that the database has forgotten something since tills have copied these epochs."""
    async with database.transaction(tenant_id) as tx:
        await raise_epochs(tx, copied)


async def reached(database: Database, tenant_id: str, places: Iterable[Place]) -> dict[str, log.Head]:
    """The heads of the merchant, of new epochs if one of these places of its tills proves that the log has lost some.

    A place was committed before a till was told of it. So it is a proof if the lane now ends before it in the same epoch, or is
    in an older one. The lanes are locked for the look: no read that was simply older counts, and of many tills only the first
    raises.
    """
    async with database.transaction(tenant_id) as tx:
        heads = {row.lane: log.Head(row.epoch, row.last_seq, row.floor_seq) for row in await tx.run(_LOCK, tenant_id=tenant_id)}
        latest = int(tx.now.timestamp() * 1000) + CLOCKS_DIFFER_MS
        # An epoch of the future was made up: raised above it, there would soon be no number left.
        lost = [each for each in places if each.lane in heads and is_beyond(each, heads[each.lane]) and each.epoch <= latest]
        if lost:
            # Above those the tills name, whatever the clock of this database says: or each of their hellos would prove it anew.
            await tx.run(_RAISE, tenant_id=tenant_id, least=max(place.epoch for place in lost) + 1)
            heads = await log.heads(tx.connection, tenant_id)
            logger.error("log_lost_history", tenant_id=tenant_id, places=[(each.lane, each.epoch, each.seq) for each in lost])
    return heads


def is_beyond(place: Place, head: log.Head) -> bool:
    """Whether a till has copied what the log does not have, as far as this head tells."""
    return (head.epoch, head.last_seq) < (place.epoch, place.seq)


async def raise_all(database: Database) -> int:
    """Gives every lane of every merchant a new epoch; how many lanes."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_RAISE_ALL)).rowcount


async def check_origin(database: Database) -> bool:
    """Whether the database is another one than when a cloud last used it; every lane has a new epoch then. Safe to repeat."""
    async with database.across_tenants() as connection:
        try:
            async with connection.begin_nested():
                origin = (await connection.execute(_ORIGIN)).scalar_one()
        except DBAPIError as error:
            # Some hosts do not show it. The tills notice a loss by themselves, and `python -m cloud restored` says it.
            logger.warning("database_origin_unknown", error=str(error.orig))
            return False
        known = (await connection.execute(_KNOWN)).scalar_one_or_none()
        if known == origin:
            return False
        await connection.execute(_NOTE, {"origin": origin})
        if known is None:
            return False
        lanes = (await connection.execute(_RAISE_ALL)).rowcount
        logger.error("database_restored", before=known, now=origin, lanes=lanes)
        return True
