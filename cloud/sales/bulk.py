"""Sales of tills, stored many at a time with a handful of statements. They are facts: nothing is refused here, only marked.

What is stored and announced is the same as by sales.store; the two are held together by a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from cloud.inventory import movements
from cloud.platform import log
from cloud.platform.database import Announcing
from cloud.platform.overlapping import beside
from cloud.platform.statements import packed, packed_numbers, unpacked, unpacked_numbers
from gipos.v1.sales_pb2 import Sale, SaleStatus
from kernel.event_types import SALE_COMPLETED, SALE_CREATED
from kernel.ids import new_ids

SLICE = 50
"""Sales that are prepared before others get a turn: someone may be waiting for the answer to a single one."""

_EVENTS = (SALE_CREATED.name, SALE_COMPLETED.name)
_TEXTS = (
    "ids", "numbers", "outlet_ids", "till_ids", "channels", "customer_ids", "business_dates", "external_ids", "cashiers",
    "payment_methods",
)  # fmt: skip
_KNOWN = sa.text(
    f"""
    SELECT p.id FROM unnest({unpacked("ids")}) AS w (id) JOIN products p ON p.tenant_id = :tenant_id AND p.id = substr(w.id, 2)
    """  # noqa: S608 (texts of ours)
)

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
class Prepared:
    """What of a sale goes to the database, worked out before there is a transaction to hold up."""

    texts: tuple[str, ...]
    """In the order of _TEXTS."""
    total: int
    product_ids: list[str]
    """Of the lines."""
    body: bytes
    """The sale but for what storing it adds."""


@dataclass(slots=True)
class Recorded:
    """A sale as a till sent it, with what was worked out of it already."""

    sale: Sale
    prepared: Prepared
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


def prepared(sale: Sale, product_ids: list[str]) -> Prepared:
    """What goes to the database of a sale that will not change any more."""
    methods = {tender.method for tender in sale.tenders}
    methods.discard("")
    texts = (
        sale.id, sale.number, sale.outlet_id, sale.till_id, sale.channel, sale.customer_id, sale.business_date, sale.external_id,
        sale.cashier, "\x1e".join(sorted(methods)),
    )  # fmt: skip
    return Prepared(texts, sale.total.amount, product_ids, sale.SerializeToString())


async def store_many(tx: Announcing, recorded: Sequence[Recorded]) -> set[str]:
    """Stores sales, takes their goods from stock and announces them; the ids of those that were not there yet.

    A sale that is there already is left as it is: its effects have happened. Products that do not exist are marked, not refused.
    """
    if not recorded:
        return set()
    wanted = {product_id for each in recorded for product_id in each.prepared.product_ids}
    known = {row[0] for row in await tx.run(_KNOWN, tenant_id=tx.tenant_id, ids=packed(list(wanted)))}
    stored = bodies(tx.now, recorded, wanted - known)
    await asyncio.sleep(0)
    inserting = tx.run(
        _INSERT,
        tenant_id=tx.tenant_id,
        status=SaleStatus.SALE_STATUS_COMPLETED,
        now=tx.now,
        **columns(recorded),
        bodies=stored,
    )
    # Nearly always all of them are new: what follows is made for all while they are being stored.
    rows, events = await beside(inserting, announced(recorded, stored))
    added = {row[0] for row in rows}
    if len(added) < len(recorded):
        fresh: list[tuple[Recorded, bytes]] = []
        left = set(added)
        for each, body in zip(recorded, stored, strict=True):
            if each.sale.id in left:
                left.discard(each.sale.id)  # the same sale twice in one batch has its effects once
                fresh.append((each, body))
        recorded = [each for each, _ in fresh]
        events = await announced(recorded, [body for _, body in fresh])
    tx.events += events
    await movements.take(tx, taken(recorded))
    return added


def columns(recorded: Sequence[Recorded]) -> dict[str, Any]:
    """The rows of sales as parameters of a statement, but for what all of them share and their bodies."""
    texts = dict(zip(_TEXTS, map(packed, zip(*[each.prepared.texts for each in recorded], strict=True)), strict=True))
    return texts | {
        "totals": packed_numbers([each.prepared.total for each in recorded]),
        "sold_at": [each.sold_at for each in recorded],
        "store_epochs": packed_numbers([each.store_epoch for each in recorded]),
        "op_seqs": packed_numbers([each.op_seq for each in recorded]),
        "device_clocks": [each.device_clock for each in recorded],
        "offsets": [each.clock_offset_ms for each in recorded],
        "uncertainties": [each.clock_uncertainty_ms for each in recorded],
        "clock_states": packed_numbers([each.clock_state for each in recorded]),
    }


def bodies(now: datetime, recorded: Sequence[Recorded], unknown: Collection[str] = ()) -> list[bytes]:
    """The sales as they are stored. Fields may follow on what is serialised already: protobuf has it so."""
    stamped = Sale()
    stamped.create_time.FromDatetime(now)
    stamped.update_time.CopyFrom(stamped.create_time)
    tail = stamped.SerializeToString()
    if not unknown:
        return [each.prepared.body + tail for each in recorded]
    unknown = frozenset(unknown)
    marked = Sale(review_reasons=["PRODUCT_UNKNOWN"]).SerializeToString() + tail
    return [each.prepared.body + (tail if unknown.isdisjoint(each.prepared.product_ids) else marked) for each in recorded]


def taken(recorded: Sequence[Recorded]) -> movements.Taken:
    """What sales take from stock."""
    goods = movements.Taken()
    for each in recorded:
        sale_id, _, outlet_id = each.prepared.texts[:3]
        for product_id, quantity in zip(each.prepared.product_ids, each.quantities, strict=True):
            goods.add(outlet_id, product_id, -quantity, sale_id)
    return goods


async def announced(fresh: Sequence[Recorded], stored: Sequence[bytes]) -> list[log.NewEvent]:
    """What sales that are new announce. Each is serialised once, for its row and both events."""
    ids = iter(new_ids("evt", 2 * len(fresh)))
    events: list[log.NewEvent] = []
    for index, (each, body) in enumerate(zip(fresh, stored, strict=True)):
        if index % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        sale_id, _, outlet_id = each.prepared.texts[:3]
        sold_at = each.sold_at
        events += [log.NewEvent(next(ids), outlet_id, name, sale_id, 1, outlet_id, body, sold_at) for name in _EVENTS]
    return events
