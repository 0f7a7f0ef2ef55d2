"""Sales of tills, stored many at a time with a handful of statements. They are facts: nothing is refused here, only marked.

What is stored and announced is the same as by sales.store; the two are held together by a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.inventory import movements
from cloud.inventory.movements import Change
from cloud.platform import log
from cloud.platform.database import Announcing
from cloud.platform.statements import packed, packed_numbers, unpacked, unpacked_numbers
from gipos.v1.sales_pb2 import Sale, SaleStatus
from kernel.event_types import SALE_COMPLETED, SALE_CREATED
from kernel.ids import new_ids

SLICE = 50
"""Sales that are prepared before others get a turn: someone may be waiting for the answer to a single one."""

_EVENTS = (SALE_CREATED.name, SALE_COMPLETED.name)
_KNOWN = sa.text("SELECT id FROM products WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS text[]))")

_INSERT = sa.text(
    f"""
    INSERT INTO sales (tenant_id, id, number, outlet_id, till_id, channel, customer_id, status, business_date, total, external_id,
                       version, body, sold_at, created_at, updated_at, cashier, payment_methods,
                       store_epoch, op_seq, device_clock, clock_offset_ms, clock_uncertainty_ms, clock_state)
    SELECT :tenant_id, substr(s.id, 2), substr(s.number, 2), substr(s.outlet_id, 2), substr(s.till_id, 2), substr(s.channel, 2),
           substr(s.customer_id, 2), :status, CAST(substr(s.business_date, 2) AS date), s.total, substr(s.external_id, 2), 1,
           s.body, s.sold_at, :now, :now, substr(s.cashier, 2), string_to_array(substr(s.payment_methods, 2), chr(30)),
           s.store_epoch, s.op_seq, s.device_clock, s.clock_offset_ms, s.clock_uncertainty_ms, s.clock_state
    FROM unnest({unpacked("ids")}, {unpacked("numbers")}, {unpacked("outlet_ids")}, {unpacked("till_ids")},
                {unpacked("channels")}, {unpacked("customer_ids")}, {unpacked("business_dates")},
                {unpacked_numbers("totals")}, {unpacked("external_ids")}, CAST(:bodies AS bytea[]),
                CAST(:sold_at AS timestamptz[]), {unpacked("cashiers")}, {unpacked("payment_methods")},
                {unpacked_numbers("store_epochs")}, {unpacked_numbers("op_seqs")}, CAST(:device_clocks AS timestamptz[]),
                CAST(:offsets AS bigint[]), CAST(:uncertainties AS bigint[]), {unpacked_numbers("clock_states")})
         AS s (id, number, outlet_id, till_id, channel, customer_id, business_date, total, external_id, body, sold_at,
               cashier, payment_methods, store_epoch, op_seq, device_clock, clock_offset_ms, clock_uncertainty_ms, clock_state)
    ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING id
    """  # noqa: S608 (texts of ours)
)


@dataclass(slots=True)
class Recorded:
    """A sale as a till sent it, with what was worked out of it already."""

    sale: Sale
    sold_at: datetime
    day: date
    quantities: Sequence[int]
    """Of the lines, in thousandths."""
    store_epoch: int
    op_seq: int
    device_clock: datetime | None
    clock_offset_ms: int | None
    clock_uncertainty_ms: int | None
    clock_state: int


async def store_many(tx: Announcing, recorded: Sequence[Recorded]) -> set[str]:
    """Stores sales, takes their goods from stock and announces them; the ids of those that were not there yet.

    A sale that is there already is left as it is: its effects have happened. Products that do not exist are marked, not refused.
    """
    if not recorded:
        return set()
    wanted = {line.product_id for each in recorded for line in each.sale.lines}
    known = {row[0] for row in await tx.run(_KNOWN, tenant_id=tx.tenant_id, ids=list(wanted))}
    stamp = Timestamp()
    stamp.FromDatetime(tx.now)
    bodies = []
    for index, each in enumerate(recorded):
        if index % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        sale = each.sale
        if not all(line.product_id in known for line in sale.lines) and "PRODUCT_UNKNOWN" not in sale.review_reasons:
            sale.review_reasons.append("PRODUCT_UNKNOWN")
        sale.status = SaleStatus.SALE_STATUS_COMPLETED
        sale.create_time.CopyFrom(stamp)
        sale.update_time.CopyFrom(stamp)
        bodies.append(sale.SerializeToString())
    rows = await tx.run(
        _INSERT,
        tenant_id=tx.tenant_id,
        status=SaleStatus.SALE_STATUS_COMPLETED,
        now=tx.now,
        ids=packed([each.sale.id for each in recorded]),
        numbers=packed([each.sale.number for each in recorded]),
        outlet_ids=packed([each.sale.outlet_id for each in recorded]),
        till_ids=packed([each.sale.till_id for each in recorded]),
        channels=packed([each.sale.channel for each in recorded]),
        customer_ids=packed([each.sale.customer_id for each in recorded]),
        business_dates=packed([each.day.isoformat() for each in recorded]),
        totals=packed_numbers([each.sale.total.amount for each in recorded]),
        external_ids=packed([each.sale.external_id for each in recorded]),
        bodies=bodies,
        sold_at=[each.sold_at for each in recorded],
        cashiers=packed([each.sale.cashier for each in recorded]),
        payment_methods=packed(
            ["\x1e".join(sorted({tender.method for tender in each.sale.tenders} - {""})) for each in recorded]
        ),
        store_epochs=packed_numbers([each.store_epoch for each in recorded]),
        op_seqs=packed_numbers([each.op_seq for each in recorded]),
        device_clocks=[each.device_clock for each in recorded],
        offsets=[each.clock_offset_ms for each in recorded],
        uncertainties=[each.clock_uncertainty_ms for each in recorded],
        clock_states=packed_numbers([each.clock_state for each in recorded]),
    )
    added = {row[0] for row in rows}
    await asyncio.sleep(0)
    fresh: list[tuple[Recorded, bytes]] = []
    left = set(added)
    for each, body in zip(recorded, bodies, strict=True):
        if each.sale.id in left:
            left.discard(each.sale.id)  # the same sale twice in one batch has its effects once
            fresh.append((each, body))
    _announce(tx, fresh)
    await asyncio.sleep(0)
    changes = [
        Change(each.sale.outlet_id, line.product_id, -quantity, movements.SALE, each.sale.id)
        for each, _ in fresh
        for line, quantity in zip(each.sale.lines, each.quantities, strict=True)
    ]
    await movements.apply(tx, changes)
    return added


def _announce(tx: Announcing, fresh: Sequence[tuple[Recorded, bytes]]) -> None:
    """As `tx.publish`, but with each sale serialised once for its row and both events."""
    ids = iter(new_ids("evt", 2 * len(fresh)))
    for each, body in fresh:
        sale_id, outlet_id = each.sale.id, each.sale.outlet_id
        for name in _EVENTS:
            tx.events.append(log.NewEvent(next(ids), outlet_id, name, sale_id, 1, outlet_id, body, each.sold_at))
