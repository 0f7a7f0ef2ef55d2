"""Two tablets under one name: a cloned disk, or a restored image beside the original. Noticed, said, and kept apart by lives."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
import structlog

from cloud.platform.database import Transaction
from cloud.tills import devices, presences
from kernel.event_types import DEVICE_FORKED

SAID_AGAIN_AFTER = timedelta(hours=1)
"""Two tablets take turns for as long as both are on; the owner is told once an hour."""

logger = structlog.get_logger()

_NOTE = sa.text(
    """
    UPDATE till_links SET forked_epoch = :epoch, forked_at = CASE WHEN forked_at > :since THEN forked_at ELSE :now END
    WHERE tenant_id = :tenant_id AND till_id = :till_id RETURNING forked_at
    """
)


async def note(tx: Transaction, till_id: str, epoch: int = 0) -> None:
    """Notes that a second tablet was met, and says so in the log. The till's row must be locked.

    Args:
        tx: the transaction.
        till_id: the till.
        epoch: a life both of them claim, in which whoever is behind may not go on; 0 when each has one of its own.
    """
    place = {"tenant_id": tx.tenant_id, "till_id": till_id}
    noted_at = (await tx.run(_NOTE, **place, epoch=epoch, now=tx.now, since=tx.now - SAID_AGAIN_AFTER)).scalar_one()
    logger.error("till_forked", till_id=till_id, store_epoch=epoch)
    if noted_at != tx.now:
        return
    await presences.forked(tx.connection, tx.tenant_id, till_id, tx.now)
    device = await devices.find(tx.connection, tx.tenant_id, till_id)
    tx.publish(DEVICE_FORKED, device, subject_id=till_id, version=1)
