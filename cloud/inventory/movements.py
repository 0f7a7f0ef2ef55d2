"""The ledger: stock changes only by movements, and a level is always the sum of its movements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.platform import log
from cloud.platform.database import Announcing
from cloud.platform.overlapping import beside
from cloud.platform.statements import packed, packed_numbers, unpacked, unpacked_numbers
from gipos.v1.inventory_pb2 import Level
from kernel import quantities
from kernel.event_types import INVENTORY_UPDATED
from kernel.ids import new_ids

SALE, REFUND, COUNT, OPENING, ORDER = "sale", "refund", "count", "opening", "order"

SLICE = 100
"""Levels that are prepared before others get a turn."""
WORTH_OVERLAPPING = 50
"""Levels that are prepared while the ledger is written; for fewer a task of its own costs more than it saves."""


@dataclass(slots=True)
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
    f"""
    INSERT INTO levels AS l (tenant_id, outlet_id, product_id, on_hand, updated_at)
    SELECT :tenant_id, substr(d.outlet_id, 2), substr(d.product_id, 2), d.quantity, :now
    FROM unnest({unpacked("outlet_ids")}, {unpacked("product_ids")}, {unpacked_numbers("quantities")})
         AS d (outlet_id, product_id, quantity)
    ORDER BY d.outlet_id, d.product_id
    ON CONFLICT (tenant_id, outlet_id, product_id) DO UPDATE
        SET on_hand = l.on_hand + excluded.on_hand, version = l.version + 1, updated_at = excluded.updated_at
    RETURNING outlet_id, product_id, on_hand, reserved, version, updated_at
    """  # noqa: S608 (texts of ours)
)

_RECORD = sa.text(
    f"""
    INSERT INTO movements (tenant_id, id, outlet_id, product_id, quantity, on_hand_after, reason, sale_id, note, created_at)
    SELECT :tenant_id, substr(m.id, 2), substr(m.outlet_id, 2), substr(m.product_id, 2), m.quantity, m.on_hand_after,
           substr(m.reason, 2), substr(m.sale_id, 2), substr(m.note, 2), :now
    FROM unnest({unpacked("ids")}, {unpacked("outlet_ids")}, {unpacked("product_ids")}, {unpacked_numbers("quantities")},
                {unpacked_numbers("after")}, {unpacked("reasons")}, {unpacked("sale_ids")}, {unpacked("notes")})
         AS m (id, outlet_id, product_id, quantity, on_hand_after, reason, sale_id, note)
    """  # noqa: S608 (texts of ours)
)


def to_level(row: Any) -> Level:
    """A row of levels as the contract has it."""
    return _level(row.outlet_id, row.product_id, row.on_hand, row.reserved, row.version, row.updated_at)


def _level(outlet_id: str, product_id: str, on_hand: int, reserved: int, version: int, updated_at: datetime) -> Level:
    there = quantities.text(on_hand)
    level = Level(
        product_id=product_id,
        outlet_id=outlet_id,
        on_hand=there,
        reserved=quantities.text(reserved) if reserved else "0",
        available=quantities.text(on_hand - reserved) if reserved else there,
        version=version,
    )
    level.update_time.CopyFrom(_stamp(updated_at))
    return level


@lru_cache(maxsize=16)
def _stamp(moment: datetime) -> Timestamp:
    """One for all levels of a transaction."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


class Taken:
    """Changes on their way into the ledger, in columns: a backlog has thousands of them. Sales unless said otherwise."""

    __slots__ = ("keys", "notes", "quantities", "reasons", "running", "sale_ids", "sums")

    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []
        """Outlet and product of each."""
        self.quantities: list[int] = []
        self.sale_ids: list[str] = []
        self.reasons: list[str] = []
        """Empty when all are sales; notes likewise."""
        self.notes: list[str] = []
        self.sums: dict[tuple[str, str], int] = {}
        """What they make together."""
        self.running: list[int] = []
        """What each and those before it of its product make."""

    def add(self, outlet_id: str, product_id: str, quantity: int, sale_id: str) -> None:
        """Another change, in thousandths."""
        key = (outlet_id, product_id)
        self.keys.append(key)
        self.quantities.append(quantity)
        self.sale_ids.append(sale_id)
        self.sums[key] = whole = self.sums.get(key, 0) + quantity
        self.running.append(whole)


async def apply(tx: Announcing, changes: Sequence[Change]) -> dict[tuple[str, str], Level]:
    """Adds the changes to the levels, writes the ledger and announces each level that moved, once; outlet and product to level.

    Several changes of one product (two lines of a sale, two sales of a batch) become one step of its level but a movement each.
    """
    taken = Taken()
    for change in changes:
        taken.add(change.outlet_id, change.product_id, change.quantity, change.sale_id)
    taken.reasons = [change.reason for change in changes]
    taken.notes = [change.note for change in changes]
    return {key: _level(*row) for key, row in (await _enter(tx, taken)).items()}


async def take(tx: Announcing, taken: Taken) -> None:
    """As apply, for many changes whose levels nobody asks for."""
    await _enter(tx, taken)


async def _enter(tx: Announcing, taken: Taken) -> dict[tuple[str, str], Any]:
    """The rows of the levels that moved."""
    if not taken.keys:
        return {}
    sums = taken.sums
    result = await tx.run(
        _ADD,
        tenant_id=tx.tenant_id,
        outlet_ids=packed([outlet_id for outlet_id, _ in sums]),
        product_ids=packed([product_id for _, product_id in sums]),
        quantities=packed_numbers(sums.values()),
        now=tx.now,
    )
    # By position: rows come from SQLAlchemy or from the driver itself.
    rows = {(row[0], row[1]): row for row in result}
    before = {key: row[2] - sums[key] for key, row in rows.items()}
    recording = tx.run(
        _RECORD,
        tenant_id=tx.tenant_id,
        ids=packed(new_ids("mov", len(taken.keys))),
        outlet_ids=packed([outlet_id for outlet_id, _ in taken.keys]),
        product_ids=packed([product_id for _, product_id in taken.keys]),
        quantities=packed_numbers(taken.quantities),
        after=packed_numbers([before[key] + moved for key, moved in zip(taken.keys, taken.running, strict=True)]),
        reasons=packed(taken.reasons or [SALE] * len(taken.keys)),
        sale_ids=packed(taken.sale_ids),
        notes=packed(taken.notes or [""] * len(taken.keys)),
        now=tx.now,
    )
    if len(rows) < WORTH_OVERLAPPING:
        await recording
        tx.events += await announced(tx, list(rows.values()))
    else:
        _, events = await beside(recording, announced(tx, list(rows.values())))
        tx.events += events
    return rows


async def announced(tx: Announcing, rows: Sequence[Any]) -> list[log.NewEvent]:
    """The events of levels that moved: of rows of outlet, product, on hand, reserved, version and time."""
    events: list[log.NewEvent] = []
    ids = new_ids("evt", len(rows))
    for index, (event_id, row) in enumerate(zip(ids, rows, strict=True)):
        if index % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        outlet_id, product_id, _, _, version, _ = row
        body = _level(*row).SerializeToString()
        events.append(log.NewEvent(event_id, outlet_id, INVENTORY_UPDATED.name, product_id, version, outlet_id, body, tx.now))
    return events


def announce(tx: Announcing, level: Level) -> None:
    """Publishes a level that changed."""
    tx.publish(INVENTORY_UPDATED, level, subject_id=level.product_id, version=level.version, outlet_id=level.outlet_id)
