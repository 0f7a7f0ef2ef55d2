"""Changes an outlet's tills must see: the tail of the log as ranges, and a snapshot where the tail cannot be continued."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.catalog import products
from cloud.inventory import levels
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.rpc import Caller
from cloud.sync.tables import till_links
from gipos.edge.v1.link_pb2 import Change, Changes, ResetReason, SnapshotPart
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level

FRAME_EVENTS = 500
SNAPSHOT_PART = 500

_PRODUCT_EVENTS = frozenset({"product.created", "product.updated", "product.deleted"})
_LEVEL_EVENTS = frozenset({"inventory.updated"})


@dataclass
class Lane:
    """Where one till stands in one lane."""

    name: str
    epoch: int
    seq: int
    unconfirmed: int = 0
    """Frames sent that the till has not confirmed: its credit."""


def _change(event: log.LoggedEvent) -> Change | None:
    """What a till needs of an event; None when it is none of its business."""
    if event.type in _PRODUCT_EVENTS:
        product = Product.FromString(event.body)
        product.ClearField("cost")  # never leaves the office
        return Change(seq=event.seq, product=product)
    if event.type in _LEVEL_EVENTS:
        return Change(seq=event.seq, level=Level.FromString(event.body))
    return None


async def tail(database: Database, caller: Caller, lane: Lane) -> Changes | None:
    """The next range of a lane, folded to the latest change per resource; None when there is nothing new."""
    async with database.snapshot(caller.tenant_id) as connection:
        events = await log.read(connection, caller.tenant_id, lane.name, lane.seq, FRAME_EVENTS)
        watermark, log_seq = await _watermark(connection, caller)
    if not events:
        return None
    latest: dict[tuple[str, str], Change] = {}
    for event in events:
        change = _change(event)
        if change is not None:
            key = (change.WhichOneof("body") or "", event.subject_id)
            latest.pop(key, None)  # so that the order stays that of the latest changes
            latest[key] = change
    frame = Changes(
        lane=lane.name,
        epoch=lane.epoch,
        from_exclusive=lane.seq,
        upto_inclusive=events[-1].seq,
        changes=latest.values(),
    )
    # The watermark says "your own sales up to here are in these levels"; said too early, stock would jump on the till.
    if lane.name == caller.outlet_id and frame.upto_inclusive >= log_seq:
        frame.op_watermark = watermark
    return frame


async def snapshot(database: Database, caller: Caller, lane_name: str) -> AsyncIterator[SnapshotPart]:
    """The state of a lane as of one moment, in parts."""
    async with database.snapshot(caller.tenant_id) as connection:
        head = (await log.heads(connection, caller.tenant_id))[lane_name]
        watermark, _ = await _watermark(connection, caller)
        if lane_name == log.TENANT_LANE:
            catalogue = await products.every(connection, caller.tenant_id)
            for product in catalogue:
                product.ClearField("cost")
            changes = [Change(seq=head.last_seq, product=product) for product in catalogue]
        else:
            stock = await levels.of_outlet(connection, caller.tenant_id, lane_name)
            changes = [Change(seq=head.last_seq, level=level) for level in stock]
    # Sent after the transaction has ended: a slow till must not hold back the database's vacuum.
    parts = [changes[start : start + SNAPSHOT_PART] for start in range(0, len(changes), SNAPSHOT_PART)] or [[]]
    for index, part in enumerate(parts):
        yield SnapshotPart(
            lane=lane_name,
            epoch=head.epoch,
            seq=head.last_seq,
            index=index,
            last=index == len(parts) - 1,
            changes=part,
            op_watermark=watermark if lane_name == caller.outlet_id else 0,
        )


def reset_reason(head: log.Head, position: Lane | None) -> ResetReason.ValueType | None:
    """Why a position cannot be continued; None when it can."""
    if position is None:
        return ResetReason.RESET_REASON_NEW
    if position.epoch != head.epoch:
        return ResetReason.RESET_REASON_EPOCH
    if position.seq > head.last_seq:
        return ResetReason.RESET_REASON_AHEAD
    if position.seq < head.floor_seq - 1:
        return ResetReason.RESET_REASON_TOO_OLD
    return None


async def _watermark(connection: AsyncConnection, caller: Caller) -> tuple[int, int]:
    query = sa.select(till_links.c.op_watermark, till_links.c.log_seq).where(
        till_links.c.tenant_id == caller.tenant_id, till_links.c.till_id == caller.till_id
    )
    row = (await connection.execute(query)).one_or_none()
    return (row.op_watermark, row.log_seq) if row is not None else (0, 0)
