"""What reservations do to levels: how much of each is promised is the sum of the open reservations, always.

In this order everything is locked: reservations by their ids, levels by outlet and product, the lanes' counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from cloud.inventory import movements
from cloud.inventory.tables import reservations
from cloud.platform.database import Database, Transaction
from cloud.platform.jobs import DATABASE_ERRORS
from gipos.v1.inventory_pb2 import Level, Reservation, ReservationLine, ReservationStatus
from kernel import business_days, quantities
from kernel.errors import GiposError
from kernel.event_types import RESERVATION_EXPIRED, RESERVATION_FULFILLED, RESERVATION_RELEASED, EventType

OPEN, RELEASED, FULFILLED, EXPIRED = "open", "released", "fulfilled", "expired"
STATUSES = {
    OPEN: ReservationStatus.RESERVATION_STATUS_OPEN,
    RELEASED: ReservationStatus.RESERVATION_STATUS_RELEASED,
    FULFILLED: ReservationStatus.RESERVATION_STATUS_FULFILLED,
    EXPIRED: ReservationStatus.RESERVATION_STATUS_EXPIRED,
}
BATCH = 200
"""Reservations that end in one transaction."""
KEPT = timedelta(days=90)
"""How long those that ended can still be read."""

_COLUMN = reservations.c
_EVENTS: dict[str, EventType[Reservation]] = {
    RELEASED: RESERVATION_RELEASED,
    FULFILLED: RESERVATION_FULFILLED,
    EXPIRED: RESERVATION_EXPIRED,
}
_HOLD = sa.text(
    """
    SELECT l.outlet_id, l.product_id, l.on_hand, l.reserved FROM levels l
    JOIN unnest(CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[])) AS d (outlet_id, product_id)
      ON l.outlet_id = d.outlet_id AND l.product_id = d.product_id
    WHERE l.tenant_id = :tenant_id ORDER BY l.outlet_id, l.product_id FOR UPDATE OF l
    """
)
# The condition stands in the statement that promises: whatever was read before, no more is promised than there is.
_MOVE = sa.text(
    """
    UPDATE levels AS l SET reserved = l.reserved + d.quantity, version = l.version + 1, updated_at = :now
    FROM unnest(CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[]), CAST(:quantities AS bigint[]),
                CAST(:buffers AS bigint[]))
         AS d (outlet_id, product_id, quantity, buffer)
    WHERE l.tenant_id = :tenant_id AND l.outlet_id = d.outlet_id AND l.product_id = d.product_id
      AND (d.quantity <= 0 OR l.reserved + d.quantity <= l.on_hand - d.buffer)
    RETURNING l.outlet_id, l.product_id, l.on_hand, l.reserved, l.version, l.updated_at
    """
)
_DUE = sa.text("SELECT DISTINCT tenant_id FROM reservations WHERE status = 'open' AND expires_at <= :now")
_FORGET = sa.text("DELETE FROM reservations WHERE status <> 'open' AND updated_at < :before")

Key = tuple[str, str]
"""Outlet and product."""
logger = structlog.get_logger()


def named(status: ReservationStatus.ValueType) -> str:
    """The word that rows have for a status."""
    return next(word for word, each in STATUSES.items() if each == status)


def to_proto(row: Any, now: datetime) -> Reservation:
    """A row as the contract has it. One whose time is over counts as expired, whether or not somebody has noted it yet."""
    is_over = row.status == OPEN and row.expires_at <= now
    reservation = Reservation(
        id=row.id,
        outlet_id=row.outlet_id,
        lines=[
            ReservationLine(product_id=product_id, quantity=quantities.text(quantity))
            for product_id, quantity in zip(row.product_ids, row.quantities, strict=True)
        ],
        external_id=row.external_id,
        status=STATUSES[EXPIRED if is_over else row.status],
        version=row.version,
    )
    reservation.expire_time.FromDatetime(row.expires_at)
    reservation.create_time.FromDatetime(row.created_at)
    reservation.update_time.FromDatetime(row.updated_at)
    return reservation


async def end(tx: Transaction, rows: Sequence[Any], status: str) -> dict[Key, Level]:
    """Ends reservations whose levels are held; the levels afterwards, which are not announced yet."""
    if not rows:
        return {}
    given: dict[Key, int] = {}
    for row in rows:
        for key, quantity in zip(keys(row), row.quantities, strict=True):
            given[key] = given.get(key, 0) - quantity
    moved = await move(tx, given, {})
    for row in await store(tx, [row.id for row in rows], status=status):
        tx.publish(_EVENTS[status], to_proto(row, tx.now), subject_id=row.id, version=row.version, outlet_id=row.outlet_id)
    return moved


async def store(tx: Transaction, ids: Sequence[str], **values: Any) -> Sequence[Any]:
    """Changes reservations; their new rows."""
    statement = (
        sa.update(reservations)
        .where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id.in_(ids))
        .values(**values, version=_COLUMN.version + 1, updated_at=tx.now)
        .returning(reservations)
    )
    rows: Sequence[Any] = (await tx.connection.execute(statement)).all()
    return rows


async def overdue(tx: Transaction, which: sa.ColumnElement[bool], *, skip_locked: bool) -> Sequence[Any]:
    """Locks reservations that are open though their time is over, some 200 at most."""
    query = sa.select(reservations).where(
        _COLUMN.tenant_id == tx.tenant_id, _COLUMN.status == OPEN, _COLUMN.expires_at <= tx.now, which
    )
    query = query.order_by(_COLUMN.id).limit(BATCH).with_for_update(skip_locked=skip_locked)
    return (await tx.connection.execute(query)).all()


async def hold(tx: Transaction, keys: Iterable[Key]) -> dict[Key, tuple[int, int]]:
    """Locks levels in the order that everybody keeps; on hand and reserved of those there are."""
    wanted = sorted(set(keys))
    rows = await tx.run(
        _HOLD, tenant_id=tx.tenant_id, outlet_ids=[outlet_id for outlet_id, _ in wanted], product_ids=[each for _, each in wanted]
    )
    return {(row.outlet_id, row.product_id): (row.on_hand, row.reserved) for row in rows}


async def move(tx: Transaction, by: Mapping[Key, int], back: Mapping[Key, int]) -> dict[Key, Level]:
    """Changes what is promised; the levels that allowed it."""
    rows = await tx.run(
        _MOVE,
        tenant_id=tx.tenant_id,
        outlet_ids=[outlet_id for outlet_id, _ in by],
        product_ids=[product_id for _, product_id in by],
        quantities=list(by.values()),
        buffers=[back.get(key, 0) for key in by],
        now=tx.now,
    )
    return {(row.outlet_id, row.product_id): movements.to_level(row) for row in rows}


def keys(row: Any) -> list[Key]:
    """The levels a reservation is about."""
    return [(row.outlet_id, product_id) for product_id in row.product_ids]


def announce(tx: Transaction, levels: Mapping[Key, Level]) -> None:
    """Publishes levels that changed."""
    for level in levels.values():
        movements.announce(tx, level)


async def expire(database: Database) -> int:
    """Ends the reservations whose time is over, of all merchants, in batches; how many."""
    async with database.across_tenants() as connection:
        tenants = (await connection.execute(_DUE, {"now": business_days.now()})).scalars().all()
    count = 0
    for tenant_id in tenants:
        try:
            while done := await _expire_batch(database, tenant_id):
                count += done
        except (GiposError, *DATABASE_ERRORS) as error:
            # One merchant's trouble must not keep the others' goods; the next turn tries again.
            logger.warning("reservations_not_expired", tenant_id=tenant_id, error=repr(error))
    return count


async def _expire_batch(database: Database, tenant_id: str) -> int:
    async with database.transaction(tenant_id) as tx:
        # What others hold they are settling themselves.
        rows = await overdue(tx, sa.true(), skip_locked=True)
        await hold(tx, [key for row in rows for key in keys(row)])
        announce(tx, await end(tx, rows, EXPIRED))
        return len(rows)


async def forget_old(database: Database) -> int:
    """Removes reservations that ended 90 days ago; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET, {"before": business_days.now() - KEPT})).rowcount
