"""Lists of products: filters, search, orders and pages. Every order has an index that begins with the merchant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.catalog.products import to_proto
from cloud.catalog.tables import name_key, product_barcodes, products, sku_key
from cloud.platform import checks, paging
from gipos.v1.catalog_pb2 import GetProductRequest, ListProductsRequest, ListProductsResponse, Product, TaxClass
from kernel import barcodes
from kernel.errors import Invalid, NotFound, Violation

MAX_WORDS = 20

_COLUMN = products.c
_ORDERS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "create_time": (_COLUMN.id,),  # ids are made in the order of time
    "name": (name_key, _COLUMN.id),
    "price": (_COLUMN.price, _COLUMN.id),
    "sku": (sku_key, _COLUMN.id),
    "update_time": (_COLUMN.updated_at, _COLUMN.id),
}
# The signs that migration 0006 takes for spaces, and what separates words anyway.
_BETWEEN_WORDS = re.compile(r"""[-/._,+&()'":;@#%*!?=<>\[\]{}|\\^~`\s]+""")
_TEXTS = {"query": 200, "barcode": 48, "sku": 64, "external_id": 200, "category": 100}


def _violations(request: ListProductsRequest) -> Iterator[Violation]:
    yield from checks.page_size(request.page_size)
    for name, limit in _TEXTS.items():
        yield from checks.text(name, getattr(request, name), limit)
    yield from checks.one_of("tax_class", request.tax_class, TaxClass)
    yield from checks.moment("updated_since", request.updated_since)
    yield from checks.order_by(request.order_by, _ORDERS, by_change=request.HasField("updated_since"))
    for name in ("price_min", "price_max"):
        if getattr(request, name) < 0:
            yield Violation(name, "OUT_OF_RANGE", f"{name} must not be negative.")
    if request.HasField("price_min") and request.HasField("price_max") and request.price_min > request.price_max:
        yield Violation("price_max", "OUT_OF_RANGE", "price_max must not be below price_min.")


async def page(connection: AsyncConnection, tenant_id: str, request: ListProductsRequest) -> ListProductsResponse:
    """A page of products, newest first unless told otherwise, or by time of change with updated_since.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    if wrong := list(_violations(request)):
        raise Invalid(wrong)
    query = _filtered(sa.select(products).where(_COLUMN.tenant_id == tenant_id), tenant_id, request)
    found = await paging.listed(connection, query, request, _ORDERS, "create_time desc", deleted_at=_COLUMN.deleted_at)
    return ListProductsResponse(products=[to_proto(row) for row in found.rows], **found.paging)


def _filtered(query: sa.Select[Any], tenant_id: str, request: ListProductsRequest) -> sa.Select[Any]:
    if request.query.strip():
        words = [word for word in _BETWEEN_WORDS.split(request.query.lower()) if word][:MAX_WORDS]
        whole = request.query.strip()
        matching = sa.func.matching_products(sa.literal(words, _COLUMN.barcodes.type), barcodes.normal_form(whole), whole)
        query = query.where(_COLUMN.id.in_(sa.select(matching)))
    if request.barcode:
        owner = sa.select(product_barcodes.c.product_id).where(
            product_barcodes.c.tenant_id == tenant_id, product_barcodes.c.code == barcodes.normal_form(request.barcode)
        )
        query = query.where(_COLUMN.id.in_(owner))
    if request.sku:
        query = query.where(sku_key == sa.func.lower(request.sku))
    if request.external_id:
        query = query.where(_COLUMN.external_id == request.external_id, _COLUMN.external_id != "")
    if request.category:
        query = query.where(sa.func.lower(_COLUMN.category) == sa.func.lower(request.category))
    if request.HasField("active"):
        query = query.where(_COLUMN.active == request.active)
    if request.tax_class:
        query = query.where(_COLUMN.tax_class == request.tax_class)
    if request.HasField("price_min"):
        query = query.where(_COLUMN.price >= request.price_min)
    if request.HasField("price_max"):
        query = query.where(_COLUMN.price <= request.price_max)
    return query


async def by_external_id(connection: AsyncConnection, tenant_id: str, external_id: str) -> Product | None:
    """The product that is not archived and has this external_id."""
    query = sa.select(products).where(
        _COLUMN.tenant_id == tenant_id,
        _COLUMN.external_id == external_id,
        _COLUMN.external_id != "",
        _COLUMN.deleted_at.is_(None),
    )
    row = (await connection.execute(query)).one_or_none()
    return to_proto(row) if row is not None else None


async def find_by_external_id(connection: AsyncConnection, tenant_id: str, request: GetProductRequest) -> Product:
    """As `by_external_id`.

    Raises:
        Invalid: neither id nor external_id was given.
        NotFound: no such product.
    """
    if not request.external_id:
        raise Invalid([Violation("id", "REQUIRED", "id or external_id is required.")])
    found = await by_external_id(connection, tenant_id, request.external_id)
    if found is None:
        message = f"There is no product with external_id {request.external_id!r} that is not archived."
        raise NotFound(message, external_id=request.external_id)
    return found
