"""Lists of sales: filters, orders and pages. Every order has an index that begins with the merchant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.inventory import listing as ledger
from cloud.platform import checks, paging
from cloud.sales.tables import sales
from gipos.v1.sales_pb2 import GetSaleRequest, ListSalesRequest, ListSalesResponse, Sale, SaleStatus
from kernel.errors import Invalid, NotFound, Violation

_COLUMN = sales.c
_ORDERS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "sale_time": (_COLUMN.sold_at, _COLUMN.id),
    "total": (_COLUMN.total, _COLUMN.id),
    "update_time": (_COLUMN.updated_at, _COLUMN.id),
}
_EQUAL: dict[str, object] = {
    "outlet_id": None, "till_id": "", "channel": "pos", "external_id": "", "number": "", "customer_id": "", "cashier": "",
    "status": SaleStatus.SALE_STATUS_COMPLETED,
}  # fmt: skip
"""Columns that are filtered by one value, with the value that their index leaves out."""
_TEXTS = {
    "outlet_id": 100, "till_id": 100, "channel": 40, "external_id": 200, "number": 64, "customer_id": 100, "cashier": 100,
    "payment_method": 40, "product_id": 100,
}  # fmt: skip


def _violations(request: ListSalesRequest) -> Iterator[Violation]:
    yield from checks.page_size(request.page_size)
    for name, limit in _TEXTS.items():
        yield from checks.text(name, getattr(request, name), limit)
    yield from checks.one_of("status", request.status, SaleStatus)
    days = [*checks.day("date_from", request.date_from), *checks.day("date_to", request.date_to)]
    yield from days
    if not days and request.date_from and request.date_to and request.date_from > request.date_to:
        yield Violation("date_to", "OUT_OF_RANGE", "date_to must not be before date_from.")
    yield from checks.moment("updated_since", request.updated_since)
    yield from checks.order_by(request.order_by, ("sale_time", "total"), by_change=request.HasField("updated_since"))


async def page(connection: AsyncConnection, tenant_id: str, request: ListSalesRequest) -> ListSalesResponse:
    """A page of sales, newest first unless told otherwise, or by time of change with updated_since.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    if wrong := list(_violations(request)):
        raise Invalid(wrong)
    query = _filtered(sa.select(_COLUMN.id, _COLUMN.body).where(_COLUMN.tenant_id == tenant_id), tenant_id, request)
    found = await paging.listed(connection, query, request, _ORDERS, "sale_time desc")
    return ListSalesResponse(sales=[Sale.FromString(row.body) for row in found.rows], **found.paging)


def _filtered(query: sa.Select[Any], tenant_id: str, request: ListSalesRequest) -> sa.Select[Any]:
    for name, left_out in _EQUAL.items():
        if value := getattr(request, name):
            query = query.where(_COLUMN[name] == value)
            if left_out is not None and value != left_out:
                query = query.where(_COLUMN[name] != left_out)  # so that any plan may use the index
    if request.date_from:
        query = query.where(_COLUMN.business_date >= date.fromisoformat(request.date_from))
    if request.date_to:
        query = query.where(_COLUMN.business_date <= date.fromisoformat(request.date_to))
    if request.payment_method:
        query = query.where(sa.literal(request.payment_method) == sa.any_(_COLUMN.payment_methods))
    if request.product_id:
        # Every line of every sale has its movement in the ledger, which is indexed by product.
        query = query.where(_COLUMN.id.in_(ledger.sales_of(tenant_id, request.product_id)))
    return query


async def find_by_external_id(connection: AsyncConnection, tenant_id: str, request: GetSaleRequest) -> Sale:
    """The sale with an external_id.

    Raises:
        Invalid: neither id nor external_id was given.
        NotFound: no such sale.
    """
    if not request.external_id:
        raise Invalid([Violation("id", "REQUIRED", "id or external_id is required.")])
    query = sa.select(_COLUMN.body).where(_COLUMN.tenant_id == tenant_id, _COLUMN.external_id == request.external_id)
    body = (await connection.execute(query.where(_COLUMN.external_id != ""))).scalar_one_or_none()
    if body is None:
        raise NotFound(f"There is no sale with external_id {request.external_id!r}.", external_id=request.external_id)
    return Sale.FromString(body)
