"""The rules of sales: record what an integration asks for, record what a till did, find, list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.customers import customers
from cloud.inventory import movements
from cloud.inventory.movements import Change
from cloud.platform.database import Announcing, Transaction
from cloud.sales import drafts
from cloud.sales.tables import joined, sales
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.sales_pb2 import Sale, SaleStatus
from kernel import quantities
from kernel.errors import AlreadyExists, Invalid, NotFound, Violation
from kernel.event_types import SALE_COMPLETED, SALE_CREATED

_COLUMN = sales.c

_INSERT = sa.text(
    """
    INSERT INTO sales (tenant_id, id, number, outlet_id, till_id, channel, customer_id, status, business_date, total, external_id,
                       version, body, sold_at, created_at, updated_at, cashier, payment_methods)
    SELECT :tenant_id, s.id, s.number, s.outlet_id, s.till_id, s.channel, s.customer_id, s.status, s.business_date, s.total,
           s.external_id, 1, s.body, s.sold_at, :now, :now, s.cashier, string_to_array(s.payment_methods, chr(31))
    FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS text[]), CAST(:outlet_ids AS text[]), CAST(:till_ids AS text[]),
                CAST(:channels AS text[]), CAST(:customer_ids AS text[]), CAST(:statuses AS smallint[]),
                CAST(:business_dates AS date[]), CAST(:totals AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:bodies AS bytea[]), CAST(:sold_at AS timestamptz[]), CAST(:cashiers AS text[]),
                CAST(:payment_methods AS text[]))
         AS s (id, number, outlet_id, till_id, channel, customer_id, status, business_date, total, external_id, body, sold_at,
               cashier, payment_methods)
    ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING id
    """
)


async def create(tx: Transaction, draft: Sale) -> Sale:
    """Records a sale that an integration made.

    Raises:
        Invalid: the draft breaks rules, or its tenders do not pay for it.
        AlreadyExists: another sale has its external_id.
    """
    if wrong := list(drafts.violations(draft, tx.now)):
        raise Invalid(wrong)
    outlet, unclear = outlets.among(await outlets.every(tx.connection, tx.tenant_id), draft.outlet_id)
    if unclear:
        wrong += unclear
        outlet = Outlet(time_zone="Asia/Jakarta", tills=[Till(id=draft.till_id)])  # only so that the rest is checked, too
    if draft.till_id and all(till.id != draft.till_id for till in outlet.tills):
        wrong.append(Violation("till_id", "NOT_FOUND", f"There is no till {draft.till_id} in outlet {outlet.id}."))
    if draft.customer_id:
        try:
            await customers.find(tx.connection, tx.tenant_id, draft.customer_id)
        except NotFound as error:
            wrong.append(Violation("customer_id", "NOT_FOUND", error.message))
    known = await products.by_ids(tx.connection, tx.tenant_id, {line.product_id for line in draft.lines})
    sale, more = drafts.prepared(draft, known, outlet, tx.now)
    if wrong or more:
        raise Invalid([*wrong, *more])
    sale.till_id = draft.till_id
    try:
        await store(tx, [sale])
    except IntegrityError as error:
        message = f"external_id {sale.external_id!r} already belongs to another sale."
        raise AlreadyExists(message, [Violation("external_id", "ALREADY_EXISTS", message)]) from error
    return sale


def stamp(sale: Sale, now: datetime) -> None:
    """Fills in what recording adds to a sale."""
    sale.status = SaleStatus.SALE_STATUS_COMPLETED
    sale.create_time.FromDatetime(now)
    sale.update_time.FromDatetime(now)


async def store(tx: Announcing, recorded: Sequence[Sale]) -> list[str]:
    """Stores sales, takes their goods from stock and announces them; the ids of those that were not there yet.

    A sale that is there already is left as it is: its effects have happened.
    """
    for sale in recorded:
        stamp(sale, tx.now)
    result = await tx.run(
        _INSERT,
        tenant_id=tx.tenant_id,
        ids=[sale.id for sale in recorded],
        numbers=[sale.number for sale in recorded],
        outlet_ids=[sale.outlet_id for sale in recorded],
        till_ids=[sale.till_id for sale in recorded],
        channels=[sale.channel for sale in recorded],
        customer_ids=[sale.customer_id for sale in recorded],
        statuses=[sale.status for sale in recorded],
        business_dates=[date.fromisoformat(sale.business_date) for sale in recorded],
        totals=[sale.total.amount for sale in recorded],
        external_ids=[sale.external_id for sale in recorded],
        bodies=[sale.SerializeToString() for sale in recorded],
        sold_at=[sale.sale_time.ToDatetime(tzinfo=UTC) for sale in recorded],
        cashiers=[sale.cashier for sale in recorded],
        payment_methods=[joined(tender.method for tender in sale.tenders) for sale in recorded],
        now=tx.now,
    )
    added = {row[0] for row in result}
    fresh = [sale for sale in recorded if sale.id in added]
    for sale in fresh:
        occurred_at = sale.sale_time.ToDatetime(tzinfo=UTC)
        for event_type in (SALE_CREATED, SALE_COMPLETED):
            tx.publish(event_type, sale, subject_id=sale.id, version=1, outlet_id=sale.outlet_id, occurred_at=occurred_at)
    await movements.apply(
        tx,
        [
            Change(sale.outlet_id, line.product_id, -quantities.parse(line.quantity), movements.SALE, sale_id=sale.id)
            for sale in fresh
            for line in sale.lines
        ],
    )
    return [sale.id for sale in fresh]


async def find(connection: AsyncConnection, tenant_id: str, sale_id: str, *, lock: bool = False) -> tuple[Sale, int]:
    """One sale and its version.

    Raises:
        NotFound: no such sale.
    """
    query = sa.select(_COLUMN.body, _COLUMN.version).where(_COLUMN.tenant_id == tenant_id, _COLUMN.id == sale_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound(f"Sale {sale_id} does not exist.", sale_id=sale_id)
    return Sale.FromString(row.body), row.version


async def replace(tx: Transaction, sale: Sale, version: int) -> None:
    """Stores a changed sale under its next version."""
    sale.update_time.FromDatetime(tx.now)
    await tx.connection.execute(
        sa.update(sales)
        .where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == sale.id)
        .values(body=sale.SerializeToString(), status=sale.status, version=version, updated_at=tx.now)
    )
