"""Stock promised to online orders: all lines or none, never more than there is, until it is fulfilled, released or too late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.inventory import buffers, movements, promises
from cloud.inventory.movements import Change
from cloud.inventory.tables import reservations
from cloud.platform import checks, trail
from cloud.platform.database import Transaction
from gipos.v1.inventory_pb2 import CreateReservationRequest, ExtendReservationRequest, Level, Reservation
from kernel import business_days, quantities
from kernel.errors import AlreadyExists, Invalid, NotEnoughStock, NotFound, ReservationEnded, Violation
from kernel.event_types import RESERVATION_CREATED, RESERVATION_EXTENDED
from kernel.ids import new_id

USUAL_SECONDS = 900
LONGEST_SECONDS = 7 * 86_400
MOST_LINES = 100

_COLUMN = reservations.c


async def find(connection: AsyncConnection, tenant_id: str, reservation_id: str) -> Reservation:
    """One reservation.

    Raises:
        NotFound: there is none with this id.
    """
    query = sa.select(reservations).where(_COLUMN.tenant_id == tenant_id, _COLUMN.id == reservation_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(reservation_id)
    return promises.to_proto(row, business_days.now())


async def create(tx: Transaction, request: CreateReservationRequest) -> Reservation:
    """Promises goods to an order, or answers what was promised to it before.

    Raises:
        Invalid: something about the request is not right.
        NotEnoughStock: of one line there is not enough; nothing was promised.
        AlreadyExists: the external_id belongs to another reservation.
    """
    wrong, wanted = _read(request)
    outlet_id = ""
    try:
        outlet_id = (await outlets.meant(tx.connection, tx.tenant_id, request.outlet_id)).id
    except Invalid as error:
        wrong += error.violations
    known = await products.by_ids(tx.connection, tx.tenant_id, {each for each in wanted if "\0" not in each})
    for index, line in enumerate(request.lines):
        if line.product_id and (line.product_id not in known or known[line.product_id].HasField("delete_time")):
            message = f"There is no product {line.product_id} that is not archived."
            wrong.append(Violation(f"lines[{index}].product_id", "NOT_FOUND", message))
    if wrong:
        raise Invalid(wrong)
    if request.external_id:
        # Two orders with one external_id would both find nothing: the second waits here until the first has committed.
        await tx.alone(f"reservation {request.external_id}")
        if (same := await _of_order(tx, request.external_id)) is not None:
            if same.outlet_id != outlet_id or dict(zip(same.product_ids, same.quantities, strict=True)) != wanted:
                raise AlreadyExists(
                    f"external_id {request.external_id!r} belongs to reservation {same.id}, which is for something else. "
                    "Release that one first, or use another external_id.",
                    [Violation("external_id", "ALREADY_EXISTS", f"It belongs to reservation {same.id}.")],
                    reservation_id=same.id,
                )
            trail.repeated(same.id)
            return promises.to_proto(same, tx.now)
    return await _promise(tx, request, outlet_id, wanted)


def _read(request: CreateReservationRequest) -> tuple[list[Violation], dict[str, int]]:
    """What is wrong with a request, and how much of each product it asks for."""
    wrong = [*checks.text("external_id", request.external_id, 200), *_duration(request.expires_in_seconds)]
    if not 1 <= len(request.lines) <= MOST_LINES:
        reason = "REQUIRED" if not request.lines else "TOO_MANY"
        wrong.append(Violation("lines", reason, f"lines must hold 1 to {MOST_LINES} lines; these are {len(request.lines)}."))
    wanted: dict[str, int] = {}
    for index, line in enumerate(request.lines):
        found = list(checks.quantity(f"lines[{index}].quantity", line.quantity, positive=True))
        if not line.product_id:
            found.append(Violation(f"lines[{index}].product_id", "REQUIRED", "product_id is required."))
        if not found:
            wanted[line.product_id] = wanted.get(line.product_id, 0) + quantities.parse(line.quantity)
        wrong += found
    return wrong, dict(sorted(wanted.items()))


def _duration(seconds: int) -> Iterator[Violation]:
    if not 0 <= seconds <= LONGEST_SECONDS:
        message = f"expires_in_seconds must be 1 to {LONGEST_SECONDS} (7 days); {USUAL_SECONDS} when left out."
        yield Violation("expires_in_seconds", "OUT_OF_RANGE", message)


async def _of_order(tx: Transaction, external_id: str) -> Any:
    query = sa.select(reservations).where(
        _COLUMN.tenant_id == tx.tenant_id,
        _COLUMN.external_id == external_id,
        sa.or_(_COLUMN.status == promises.FULFILLED, sa.and_(_COLUMN.status == promises.OPEN, _COLUMN.expires_at > tx.now)),
    )
    return (await tx.connection.execute(query)).one_or_none()


async def _promise(tx: Transaction, request: CreateReservationRequest, outlet_id: str, wanted: Mapping[str, int]) -> Reservation:
    keys = [(outlet_id, product_id) for product_id in wanted]
    # Promises whose time is over stand in nobody's way, whether or not the schedule has come round to them.
    over = sa.or_(
        sa.and_(_COLUMN.outlet_id == outlet_id, _COLUMN.product_ids.overlap(list(wanted))),
        sa.and_(_COLUMN.external_id != "", _COLUMN.external_id == request.external_id),
    )
    ended = await promises.overdue(tx, over, skip_locked=False)
    held = await promises.hold(tx, [*keys, *(key for row in ended for key in promises.keys(row))])
    moved = await promises.end(tx, ended, promises.EXPIRED)
    there = {key: held[key] for key in keys if key in held}
    back = await buffers.of(tx.connection, tx.tenant_id, {key: on_hand for key, (on_hand, _) in there.items()}, tx.now)
    taken = await promises.move(tx, dict(zip(keys, wanted.values(), strict=True)), back)
    if len(taken) < len(keys):
        raise _not_enough(request, [key for key in keys if key not in taken], there, moved, back)
    row = await _insert(tx, request, outlet_id, wanted)
    promises.announce(tx, moved | taken)
    reservation = promises.to_proto(row, tx.now)
    tx.publish(RESERVATION_CREATED, reservation, subject_id=reservation.id, version=1, outlet_id=outlet_id)
    return reservation


def _not_enough(
    request: CreateReservationRequest,
    short: Sequence[promises.Key],
    there: Mapping[promises.Key, tuple[int, int]],
    moved: Mapping[promises.Key, Level],
    back: Mapping[promises.Key, int],
) -> NotEnoughStock:
    violations = []
    for key in short:
        on_hand, reserved = there.get(key, (0, 0))
        if key in moved:
            reserved = quantities.parse(moved[key].reserved)
        left = quantities.text(buffers.available_online(on_hand, reserved, back.get(key, 0)))
        index = next(place for place, line in enumerate(request.lines) if line.product_id == key[1])
        message = f"Only {left} of product {key[1]} can be promised in this outlet now."
        violations.append(Violation(f"lines[{index}].quantity", "NOT_ENOUGH_STOCK", message))
    return NotEnoughStock(f"{violations[0].message} Nothing was reserved; order less, or from another outlet.", violations)


async def _insert(tx: Transaction, request: CreateReservationRequest, outlet_id: str, wanted: Mapping[str, int]) -> Any:
    values = {
        "tenant_id": tx.tenant_id,
        "id": new_id("rsv"),
        "outlet_id": outlet_id,
        "external_id": request.external_id,
        "status": promises.OPEN,
        "product_ids": list(wanted),
        "quantities": list(wanted.values()),
        "version": 1,
        "expires_at": tx.now + timedelta(seconds=request.expires_in_seconds or USUAL_SECONDS),
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    return (await tx.connection.execute(sa.insert(reservations).values(**values).returning(reservations))).one()


async def release(tx: Transaction, reservation_id: str) -> Reservation:
    """Gives the goods back. One that was released or has expired is answered as it is.

    Raises:
        NotFound: there is none with this id.
        ReservationEnded: it was fulfilled.
    """
    row = await _locked(tx, reservation_id)
    if row.status == promises.FULFILLED:
        raise ReservationEnded(
            f"Reservation {row.id} was fulfilled: its goods have left the shop. Record a return instead.", status=row.status
        )
    if row.status != promises.OPEN:
        return promises.to_proto(row, tx.now)
    return await _settle(tx, row, promises.RELEASED if row.expires_at > tx.now else promises.EXPIRED)


async def fulfil(tx: Transaction, reservation_id: str) -> Reservation:
    """Takes what was promised from the stock. One that was fulfilled is answered as it is.

    Raises:
        NotFound: there is none with this id.
        ReservationEnded: it was released, or its time was over.
    """
    row = await _locked(tx, reservation_id)
    if row.status == promises.FULFILLED:
        return promises.to_proto(row, tx.now)
    _check_open(row, tx.now)
    return await _settle(tx, row, promises.FULFILLED)


async def extend(tx: Transaction, request: ExtendReservationRequest) -> Reservation:
    """Sets when an open reservation ends, from now on.

    Raises:
        Invalid: the duration is not right.
        NotFound: there is none with this id.
        ReservationEnded: it is not open any more.
    """
    if wrong := list(_duration(request.expires_in_seconds)):
        raise Invalid(wrong)
    row = await _locked(tx, request.id)
    _check_open(row, tx.now)
    until = tx.now + timedelta(seconds=request.expires_in_seconds or USUAL_SECONDS)
    (changed,) = await promises.store(tx, [row.id], expires_at=until)
    trail.about(row.id)
    reservation = promises.to_proto(changed, tx.now)
    tx.publish(RESERVATION_EXTENDED, reservation, subject_id=row.id, version=changed.version, outlet_id=row.outlet_id)
    return reservation


async def _locked(tx: Transaction, reservation_id: str) -> Any:
    query = sa.select(reservations).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == reservation_id).with_for_update()
    row = (await tx.connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(reservation_id)
    return row


def _missing(reservation_id: str) -> NotFound:
    return NotFound(f"Reservation {reservation_id} does not exist.", reservation_id=reservation_id)


def _check_open(row: Any, now: datetime) -> None:
    if row.status != promises.OPEN or row.expires_at <= now:
        status = promises.EXPIRED if row.status == promises.OPEN else row.status
        raise ReservationEnded(
            f"Reservation {row.id} is {status}; its goods may be promised to others by now. Make a new reservation.",
            status=status,
        )


async def _settle(tx: Transaction, row: Any, status: str) -> Reservation:
    await promises.hold(tx, promises.keys(row))
    moved = await promises.end(tx, [row], status)
    if status == promises.FULFILLED:
        note = row.external_id or row.id
        await movements.apply(
            tx,
            [
                Change(*key, -quantity, movements.ORDER, note=note)
                for key, quantity in zip(promises.keys(row), row.quantities, strict=True)
            ],
        )
    else:
        promises.announce(tx, moved)
    return await find(tx.connection, tx.tenant_id, row.id)
