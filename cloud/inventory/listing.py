"""Lists of levels and of the movements behind them."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.inventory import adjustments, buffers, promises
from cloud.inventory import movements as ledger
from cloud.inventory.tables import levels, movements, reservations
from cloud.platform import changes, checks, paging
from gipos.v1.inventory_pb2 import (
    ListLevelsRequest,
    ListLevelsResponse,
    ListMovementsRequest,
    ListMovementsResponse,
    ListReservationsRequest,
    ListReservationsResponse,
    Movement,
    ReservationStatus,
)
from kernel import business_days, quantities
from kernel.errors import Invalid, Violation

REASONS = (ledger.SALE, ledger.REFUND, ledger.COUNT, ledger.OPENING, ledger.ORDER, *adjustments.REASONS)
"""Of movements."""

_LEVEL = levels.c
_MOVEMENT = movements.c
_BY_PRODUCT = paging.Order((_LEVEL.product_id, _LEVEL.outlet_id), is_descending=True)
# No index has this order on purpose: one on updated_at would make every sale rewrite every index of its levels.
_BY_CHANGE = paging.Order((_LEVEL.updated_at, _LEVEL.product_id, _LEVEL.outlet_id))
_NEWEST = paging.Order((_MOVEMENT.id,), is_descending=True)
_RESERVATION = reservations.c
_NEWEST_RESERVATIONS = paging.Order((_RESERVATION.id,), is_descending=True)


async def _outlet_violations(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> list[Violation]:
    return outlets.among(await outlets.every(connection, tenant_id), outlet_id)[1] if outlet_id else []


def _level_violations(request: ListLevelsRequest) -> Iterator[Violation]:
    yield from checks.page_size(request.page_size)
    yield from checks.text("product_id", request.product_id, 100)
    yield from checks.moment("updated_since", request.updated_since)
    if request.available_below:
        yield from checks.quantity("available_below", request.available_below)


async def page(connection: AsyncConnection, tenant_id: str, request: ListLevelsRequest) -> ListLevelsResponse:
    """A page of levels, newest products first, or by time of change with updated_since.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    if wrong := [*_level_violations(request), *await _outlet_violations(connection, tenant_id, request.outlet_id)]:
        raise Invalid(wrong)
    query = sa.select(levels).where(_LEVEL.tenant_id == tenant_id)
    if request.outlet_id:
        query = query.where(_LEVEL.outlet_id == request.outlet_id)
    if request.product_id:
        query = query.where(_LEVEL.product_id == request.product_id)
    if request.available_below:
        query = query.where(_LEVEL.on_hand - _LEVEL.reserved < quantities.parse(request.available_below))
    order = _BY_PRODUCT
    if request.HasField("updated_since"):
        query = await changes.since(connection, query, request.updated_since, _LEVEL.updated_at)
        order = _BY_CHANGE
    found = await paging.fetch(connection, query, request, order)
    return ListLevelsResponse(levels=await buffers.shown(connection, tenant_id, found.rows), **found.paging)


def sales_of(tenant_id: str, product_id: str) -> sa.Select[tuple[str]]:
    """A query for the ids of the sales that took from the stock of a product."""
    return sa.select(_MOVEMENT.sale_id).where(
        _MOVEMENT.tenant_id == tenant_id, _MOVEMENT.product_id == product_id, _MOVEMENT.reason == ledger.SALE
    )


async def movements_page(connection: AsyncConnection, tenant_id: str, request: ListMovementsRequest) -> ListMovementsResponse:
    """A page of the ledger of one product, newest first.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    wrong = [*checks.page_size(request.page_size), *await _outlet_violations(connection, tenant_id, request.outlet_id)]
    if request.reason and request.reason not in REASONS:
        wrong.append(Violation("reason", "INVALID", f"reason must be one of {', '.join(REASONS)}."))
    if wrong:
        raise Invalid(wrong)
    query = sa.select(movements).where(_MOVEMENT.tenant_id == tenant_id, _MOVEMENT.product_id == request.product_id)
    if request.outlet_id:
        query = query.where(_MOVEMENT.outlet_id == request.outlet_id)
    if request.reason:
        query = query.where(_MOVEMENT.reason == request.reason)
    found = await paging.fetch(connection, query, request, _NEWEST)
    answer = ListMovementsResponse(next_page_token=found.next_page_token, has_more=bool(found.next_page_token))
    for row in found.rows:
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
    return answer


async def reservations_page(
    connection: AsyncConnection, tenant_id: str, request: ListReservationsRequest
) -> ListReservationsResponse:
    """A page of reservations, newest first.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    wrong = [*checks.page_size(request.page_size), *await _outlet_violations(connection, tenant_id, request.outlet_id)]
    wrong += [*checks.text("external_id", request.external_id, 200), *checks.one_of("status", request.status, ReservationStatus)]
    if wrong:
        raise Invalid(wrong)
    now = business_days.now()
    query = sa.select(reservations).where(_RESERVATION.tenant_id == tenant_id)
    if request.outlet_id:
        query = query.where(_RESERVATION.outlet_id == request.outlet_id)
    if request.external_id:
        query = query.where(_RESERVATION.external_id == request.external_id)
    if request.status:
        is_open, status = _RESERVATION.status == promises.OPEN, promises.named(request.status)
        is_over = sa.and_(is_open, _RESERVATION.expires_at <= now)
        if status == promises.OPEN:
            query = query.where(is_open, _RESERVATION.expires_at > now)
        elif status == promises.EXPIRED:
            query = query.where(sa.or_(_RESERVATION.status == status, is_over))
        else:
            query = query.where(_RESERVATION.status == status)
    found = await paging.fetch(connection, query, request, _NEWEST_RESERVATIONS)
    return ListReservationsResponse(reservations=[promises.to_proto(row, now) for row in found.rows], **found.paging)
