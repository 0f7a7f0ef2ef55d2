"""The ledger: stock changes only by movements, and a level is always the sum of its movements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.inventory.tables import movements
from cloud.platform import paging
from cloud.platform.database import Transaction
from gipos.v1.inventory_pb2 import Level, ListMovementsRequest, ListMovementsResponse, Movement
from kernel import quantities
from kernel.event_types import INVENTORY_UPDATED
from kernel.ids import new_id

SALE, REFUND, COUNT, OPENING = "sale", "refund", "count", "opening"


@dataclass(frozen=True)
class Change:
    """A change of the stock of one product in one outlet, in thousandths."""

    outlet_id: str
    product_id: str
    quantity: int
    reason: str
    sale_id: str = ""
    note: str = ""


# Levels are locked in the order of their keys (the ORDER BY feeds the upsert), so that two sales never wait for each other.
_ADD = sa.text(
    """
    INSERT INTO levels AS l (tenant_id, outlet_id, product_id, on_hand, updated_at)
    SELECT :tenant_id, d.outlet_id, d.product_id, d.quantity, :now
    FROM unnest(CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[]), CAST(:quantities AS bigint[]))
         AS d (outlet_id, product_id, quantity)
    ORDER BY d.outlet_id, d.product_id
    ON CONFLICT (tenant_id, outlet_id, product_id) DO UPDATE
        SET on_hand = l.on_hand + excluded.on_hand, version = l.version + 1, updated_at = excluded.updated_at
    RETURNING outlet_id, product_id, on_hand, reserved, version, updated_at
    """
)

_RECORD = sa.text(
    """
    INSERT INTO movements (tenant_id, id, outlet_id, product_id, quantity, on_hand_after, reason, sale_id, note, created_at)
    SELECT :tenant_id, m.id, m.outlet_id, m.product_id, m.quantity, m.on_hand_after, m.reason, m.sale_id, m.note, :now
    FROM unnest(CAST(:ids AS text[]), CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[]), CAST(:quantities AS bigint[]),
                CAST(:after AS bigint[]), CAST(:reasons AS text[]), CAST(:sale_ids AS text[]), CAST(:notes AS text[]))
         AS m (id, outlet_id, product_id, quantity, on_hand_after, reason, sale_id, note)
    """
)


def to_level(row: Any) -> Level:
    """A row of levels as the contract has it."""
    level = Level(
        product_id=row.product_id,
        outlet_id=row.outlet_id,
        on_hand=quantities.text(row.on_hand),
        reserved=quantities.text(row.reserved),
        available=quantities.text(row.on_hand - row.reserved),
        version=row.version,
    )
    level.update_time.FromDatetime(row.updated_at)
    return level


async def apply(tx: Transaction, changes: Sequence[Change]) -> None:
    """Adds the changes to the levels, writes the ledger and announces each level that moved, once.

    Several changes of one product (two lines of a sale, two sales of a batch) become one step of its level but a movement each.
    """
    if not changes:
        return
    sums: dict[tuple[str, str], int] = {}
    for change in changes:
        key = (change.outlet_id, change.product_id)
        sums[key] = sums.get(key, 0) + change.quantity
    result = await tx.run(
        _ADD,
        tenant_id=tx.tenant_id,
        outlet_ids=[outlet_id for outlet_id, _ in sums],
        product_ids=[product_id for _, product_id in sums],
        quantities=list(sums.values()),
        now=tx.now,
    )
    rows = {(row.outlet_id, row.product_id): row for row in result}
    await _record(tx, changes, {key: row.on_hand - sums[key] for key, row in rows.items()})
    for row in rows.values():
        announce(tx, to_level(row))


async def _record(tx: Transaction, changes: Sequence[Change], before: Mapping[tuple[str, str], int]) -> None:
    on_hand = dict(before)
    after = []
    for change in changes:
        key = (change.outlet_id, change.product_id)
        on_hand[key] += change.quantity
        after.append(on_hand[key])
    await tx.run(
        _RECORD,
        tenant_id=tx.tenant_id,
        ids=[new_id("mov") for _ in changes],
        outlet_ids=[change.outlet_id for change in changes],
        product_ids=[change.product_id for change in changes],
        quantities=[change.quantity for change in changes],
        after=after,
        reasons=[change.reason for change in changes],
        sale_ids=[change.sale_id for change in changes],
        notes=[change.note for change in changes],
        now=tx.now,
    )


def announce(tx: Transaction, level: Level) -> None:
    """Publishes a level that changed."""
    tx.publish(INVENTORY_UPDATED, level, subject_id=level.product_id, version=level.version, outlet_id=level.outlet_id)


async def page(connection: AsyncConnection, tenant_id: str, request: ListMovementsRequest) -> ListMovementsResponse:
    """A page of the ledger of one product, newest first."""
    limit = paging.size(request.page_size)
    column = movements.c
    query = sa.select(movements).where(column.tenant_id == tenant_id, column.product_id == request.product_id)
    if request.outlet_id:
        query = query.where(column.outlet_id == request.outlet_id)
    if after := paging.position(request, request.page_token, 1):
        query = query.where(column.id < after[0])
    rows = (await connection.execute(query.order_by(column.id.desc()).limit(limit + 1))).all()
    answer = ListMovementsResponse(has_more=len(rows) > limit)
    for row in rows[:limit]:
        movement = Movement(
            id=row.id,
            product_id=row.product_id,
            outlet_id=row.outlet_id,
            quantity=quantities.text(row.quantity),
            on_hand_after=quantities.text(row.on_hand_after),
            reason=row.reason,
            sale_id=row.sale_id,
            note=row.note,
        )
        movement.create_time.FromDatetime(row.created_at)
        answer.movements.append(movement)
    if answer.has_more:
        answer.next_page_token = paging.next_token(request, [rows[limit - 1].id])
    return answer
