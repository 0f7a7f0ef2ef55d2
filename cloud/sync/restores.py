"""A cloud that was restored from an older backup: its log does not continue what tills have copied, so lanes get a new epoch.

Noticed in three ways: the database is another one than before (at the start of a cloud), a till shows that it was acknowledged
more than is known here, or an operator says so. Tills then copy their lanes anew and send again what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from cloud.platform.database import Announcing, Database

logger = structlog.get_logger()

# Milliseconds: an epoch that was never given out before, whatever the backup remembers of earlier restores.
_NEXT = "greatest(epoch + 1, CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint))"
_LOCK = sa.text("SELECT lane, epoch FROM log_heads WHERE tenant_id = :tenant_id ORDER BY lane FOR UPDATE")
_NOTED = """
    INSERT INTO log_restores (tenant_id, lane, epoch, last_seq, noticed_at)
    SELECT tenant_id, lane, epoch, last_seq, now() FROM raised
"""
_RAISE = sa.text(
    f"""
    WITH raised AS (
        UPDATE log_heads SET epoch = {_NEXT} WHERE tenant_id = :tenant_id RETURNING tenant_id, lane, epoch, last_seq
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
    epochs = {str(lane): int(epoch) for lane, epoch in await tx.run(_LOCK, tenant_id=tx.tenant_id)}
    known = {lane: epoch for lane, epoch in copied.items() if lane in epochs}
    if known and all(epoch < epochs[lane] for lane, epoch in known.items()):
        return False
    await tx.run(_RAISE, tenant_id=tx.tenant_id)
    logger.error("log_lost_history", tenant_id=tx.tenant_id)
    return True


async def lost_history(database: Database, tenant_id: str, copied: Mapping[str, int]) -> None:
    """As raise_epochs, for who has noticed by a position that the log never reached."""
    async with database.transaction(tenant_id) as tx:
        await raise_epochs(tx, copied)


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
