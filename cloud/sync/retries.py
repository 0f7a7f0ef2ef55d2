"""Trying again what was put aside, once whatever stood in its way is mended. It takes effect once, however often one presses."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.platform import trail
from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.sync import batches, facts, quarantine, watermarks
from cloud.sync.batches import Batch
from cloud.sync.facts import Place
from gipos.v1.devices_pb2 import QuarantinedOperation

_ZONE = sa.text("SELECT time_zone FROM outlets WHERE tenant_id = :tenant_id AND id = :outlet_id")


async def retry(database: Database, caller: Caller, till_id: str, operation_id: str) -> QuarantinedOperation:
    """The operation as it is afterwards: stored, or still open with what stood in its way this time.

    Raises:
        NotFound: no such operation of this till.
        VersionConflict: it was given up in the meantime.
    """
    async with database.transaction(caller.tenant_id) as tx:
        found = await quarantine.find(tx.connection, tx.tenant_id, till_id, operation_id)
        # The till first, as uploads do: its counts and what it uploads at this moment must not cross.
        await watermarks.lock(tx, [(till_id, found.store_epoch)])
        row = await quarantine.find(tx.connection, tx.tenant_id, till_id, operation_id, lock=True)
        if quarantine.is_settled(row, quarantine.STORED):
            trail.repeated(row.id)
            return quarantine.shown(row, caller)
        operation = quarantine.read(row.operation)
        if operation is None:
            trail.about(row.id)
            return quarantine.shown(row, caller)
        zone = (await tx.run(_ZONE, tenant_id=tx.tenant_id, outlet_id=row.outlet_id)).scalar_one_or_none()
        place = Place(till_id, row.outlet_id, zone or "")
        # Its clock is judged by when it arrived, not by today.
        items = facts.understood([operation], place, row.created_at)
        aside = await batches.again(tx, Batch(place, 0, row.store_epoch, items))
        if aside:
            await quarantine.still_open(tx, row, aside)
        else:
            await quarantine.settle(tx, row, caller, quarantine.STORED, sale_id=operation.sale_recorded.id)
        return quarantine.shown(await quarantine.find(tx.connection, tx.tenant_id, till_id, operation_id), caller)
