"""Changes an outlet's tills must see: the tail of the log as ranges, and a snapshot where the tail cannot be continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.catalog import products
from cloud.inventory import levels
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.rpc import Caller
from cloud.sync.tables import till_stores
from gipos.edge.v1.link_pb2 import Change, Changes, ResetReason, SnapshotPart
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level

RANGE = 2000
"""How many positions a frame covers at most, unless the till's own sales ask for more."""
TOO_FAR = 20_000
"""Positions behind which a snapshot is the shorter way."""
SNAPSHOT_PART = 500

PRODUCT_EVENTS = ("product.created", "product.updated", "product.deleted")
LEVEL_EVENTS = ("inventory.updated",)


@dataclass
class Lane:
    """Where one till stands in one lane."""

    name: str
    epoch: int
    seq: int
    unconfirmed: int = 0
    """Frames sent that the till has not confirmed: its credit."""
    op_watermark: int = 0
    """The highest of the till's own operations that it was told is contained."""


def _change(event: log.LoggedEvent) -> Change:
    if event.type in LEVEL_EVENTS:
        return Change(seq=event.seq, level=Level.FromString(event.body))
    product = Product.FromString(event.body)
    product.ClearField("cost")  # never leaves the office
    return Change(seq=event.seq, product=product)


async def tail(database: Database, caller: Caller, store_epoch: int, lane: Lane) -> Changes | None:
    """The next range of a lane, folded to the latest change per resource; None when there is nothing new.

    A range never ends before the effects of the till's own last upload: the frame would hold some of its sales and not say which,
    and the till, which still counts them as pending, would take them off its stock twice.
    """
    types = PRODUCT_EVENTS if lane.name == log.TENANT_LANE else LEVEL_EVENTS
    async with database.snapshot(caller.tenant_id) as connection:
        head = (await log.heads(connection, caller.tenant_id))[lane.name].last_seq
        watermark, log_seq = (0, 0)
        if lane.name == caller.outlet_id:
            watermark, log_seq = await _watermark(connection, caller, store_epoch)
        # A watermark can rise without an event, by an operation that was a repeat or was put aside; the till must hear of it.
        if head <= lane.seq and watermark <= lane.op_watermark:
            return None
        upto = min(head, max(lane.seq + RANGE, log_seq))
        events = await log.latest(connection, caller.tenant_id, lane.name, lane.seq, upto, types)
    return Changes(
        lane=lane.name,
        epoch=lane.epoch,
        from_exclusive=lane.seq,
        upto_inclusive=upto,
        changes=[_change(event) for event in events],
        op_watermark=watermark,
    )


async def snapshot(
    database: Database, gate: asyncio.Semaphore, caller: Caller, store_epoch: int, lane_name: str
) -> AsyncIterator[SnapshotPart]:
    """The state of a lane as of one moment, in parts. The gate keeps a crowd of tills from building all at once."""
    async with gate, database.snapshot(caller.tenant_id) as connection:
        head = (await log.heads(connection, caller.tenant_id))[lane_name]
        watermark, _ = await _watermark(connection, caller, store_epoch)
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
    if position.seq < head.floor_seq - 1 or head.last_seq - position.seq > TOO_FAR:
        return ResetReason.RESET_REASON_TOO_OLD
    return None


async def _watermark(connection: AsyncConnection, caller: Caller, store_epoch: int) -> tuple[int, int]:
    column = till_stores.c
    query = sa.select(column.op_watermark, column.log_seq).where(
        column.tenant_id == caller.tenant_id, column.till_id == caller.till_id, column.store_epoch == store_epoch
    )
    row = (await connection.execute(query)).one_or_none()
    return (row.op_watermark, row.log_seq) if row is not None else (0, 0)
