"""Lists of customers. Personal fields are sealed: they are found by blind indexes, never by their text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.customers import indexes
from cloud.customers.customers import normal_phone, phone_violations, to_proto
from cloud.customers.tables import customers
from cloud.platform import checks, paging
from cloud.platform.sealing import TenantKeys, keys_of
from gipos.v1.customers_pb2 import ListCustomersRequest, ListCustomersResponse
from kernel.errors import Invalid, Violation

_COLUMN = customers.c
_ORDERS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    "create_time": (_COLUMN.id,),  # ids are made in the order of time
    "update_time": (_COLUMN.updated_at, _COLUMN.id),
}
_TEXTS = {"query": 200, "external_id": 200, "email": 200}


def _violations(request: ListCustomersRequest) -> Iterator[Violation]:
    yield from checks.page_size(request.page_size)
    for name, limit in _TEXTS.items():
        yield from checks.text(name, getattr(request, name), limit)
    yield from phone_violations(request.phone)
    yield from checks.moment("updated_since", request.updated_since)
    yield from checks.order_by(request.order_by, _ORDERS, by_change=request.HasField("updated_since"))


async def page(connection: AsyncConnection, tenant_id: str, request: ListCustomersRequest) -> ListCustomersResponse:
    """A page of customers, newest first unless told otherwise, or by time of change with updated_since; in clear.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    if wrong := list(_violations(request)):
        raise Invalid(wrong)
    keys = await keys_of(connection, tenant_id)
    query = _filtered(sa.select(customers).where(_COLUMN.tenant_id == tenant_id), keys, request)
    found = await paging.listed(connection, query, request, _ORDERS, "create_time desc", deleted_at=_COLUMN.deleted_at)
    return ListCustomersResponse(customers=[to_proto(row, keys) for row in found.rows], **found.paging)


def _filtered(query: sa.Select[Any], keys: TenantKeys, request: ListCustomersRequest) -> sa.Select[Any]:
    if wanted := indexes.sought(keys, request.query):
        found = sa.func.matching_customers(sa.literal(wanted, _COLUMN.name_index.type)).column_valued("found")
        query = query.where(_COLUMN.id.in_(sa.select(found)))
    elif request.query.strip():
        query = query.where(sa.false())  # signs only: no name has a word that begins like them
    if request.phone:
        query = query.where(_COLUMN.phone_index == indexes.of_phone(keys, normal_phone(request.phone)))
    if request.email:
        query = query.where(_COLUMN.email_index == indexes.of_email(keys, request.email))
    if request.external_id:
        query = query.where(_COLUMN.external_id == request.external_id, _COLUMN.external_id != "")
    return query
