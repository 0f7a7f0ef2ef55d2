"""The ledger: stock changes only by movements, and a level is always the sum of its movements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cloud.platform.database import Announcing
from gipos.v1.inventory_pb2 import Level
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
    return _level(row.outlet_id, row.product_id, row.on_hand, row.reserved, row.version, row.updated_at)


def _level(outlet_id: str, product_id: str, on_hand: int, reserved: int, version: int, updated_at: datetime) -> Level:
    level = Level(
        product_id=product_id,
        outlet_id=outlet_id,
        on_hand=quantities.text(on_hand),
        reserved=quantities.text(reserved),
        available=quantities.text(on_hand - reserved),
        version=version,
    )
    level.update_time.FromDatetime(updated_at)
    return level


async def apply(tx: Announcing, changes: Sequence[Change]) -> dict[tuple[str, str], Level]:
    """Adds the changes to the levels, writes the ledger and announces each level that moved, once; outlet and product to level.

    Several changes of one product (two lines of a sale, two sales of a batch) become one step of its level but a movement each.
    """
    if not changes:
        return {}
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
    # By position: rows come from SQLAlchemy or from the driver itself.
    rows = {(row[0], row[1]): row for row in result}
    await _record(tx, changes, {key: row[2] - sums[key] for key, row in rows.items()})
    after = {key: _level(*row) for key, row in rows.items()}
    for level in after.values():
        announce(tx, level)
    return after


async def _record(tx: Announcing, changes: Sequence[Change], before: Mapping[tuple[str, str], int]) -> None:
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


def announce(tx: Announcing, level: Level) -> None:
    """Publishes a level that changed."""
    tx.publish(INVENTORY_UPDATED, level, subject_id=level.product_id, version=level.version, outlet_id=level.outlet_id)
