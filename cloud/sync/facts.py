"""What an operation says, checked and completed as far as that needs no database. Refuses only what cannot be stored at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from gipos.edge.v1.link_pb2 import CLOCK_STATE_WRONG, ClockReading, Operation, ProductEdited, StockCounted
from gipos.v1.sales_pb2 import Sale
from kernel import pricing, quantities
from kernel.business_days import business_date
from kernel.ids import is_id, new_id
from kernel.money import half_up

CLOCK_TOLERANCE = timedelta(hours=24)
"""A till that says nothing of its clock and is further ahead than this gets its sales marked."""
AHEAD_TOLERANCE = timedelta(minutes=5)
"""A till that says what it knows of the time cannot have sold later than this after the cloud received it."""
OLDEST = timedelta(days=365)
"""What happened longer ago is taken for a wrong clock."""

TOLD_BY_TILLS = frozenset({"OFFLINE_LIMIT_LIFTED", "OFFLINE_SALE_REFUSED", "OFFLINE_LIMIT_PASSED", "PRICE_TYPED"})
"""Why a sale wants looking at, where only the till can know it. Everything else is for the cloud to say."""
NOT_UNDERSTOOD = "NOT_UNDERSTOOD"
UNSUPPORTED = "UNSUPPORTED"

_START = datetime(1970, 1, 1, tzinfo=UTC)
logger = structlog.get_logger()


@dataclass(slots=True)
class Clock:
    """What a till knew of the time; None and 0 for a till that does not say."""

    device_time: datetime | None = None
    offset_ms: int | None = None
    uncertainty_ms: int | None = None
    state: int = 0


@dataclass(slots=True)
class Sold:
    """A sale, ready to be stored but for what only the database knows."""

    sale: Sale
    sold_at: datetime
    day: date
    quantities: list[int]
    """Of the lines, in thousandths."""
    clock: Clock


@dataclass(slots=True)
class Counted:
    """A count of a shelf."""

    count: StockCounted
    quantity: int
    counted_at: datetime
    clock: Clock
    review_reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Edited:
    """New values for a product."""

    edit: ProductEdited
    edited_at: datetime | None = None
    """None when the till does not say."""


@dataclass(slots=True)
class Poison:
    """Something that cannot be stored."""

    reason: str
    message: str


Fact: TypeAlias = Sold | Counted | Edited | Poison


@dataclass(frozen=True)
class Place:
    """Whose operations they are, and what is the time there."""

    till_id: str
    outlet_id: str
    time_zone: str
    """Empty when the outlet is not known."""


@dataclass(slots=True)
class Item:
    """An operation and what it says."""

    operation: Operation
    fact: Fact


def understood(operations: Sequence[Operation], place: Place, now: datetime) -> list[Item]:
    """What operations say; never raises."""
    return [Item(operation, _understood(operation, place, now)) for operation in operations]


def _understood(operation: Operation, place: Place, now: datetime) -> Fact:
    try:
        kind = operation.WhichOneof("body")
        if kind == "sale_recorded":
            return _sold(operation, place, now)
        if kind == "stock_counted":
            return _counted(operation, now)
        if kind == "product_edited":
            return _edited(operation, now)
    except ValueError as error:
        return Poison(NOT_UNDERSTOOD, str(error))
    except Exception:
        # Whatever it is: one operation must never stop the queue behind it.
        logger.exception("operation_unreadable", till_id=place.till_id, op_seq=operation.op_seq)
        return Poison(NOT_UNDERSTOOD, "It could not be read; our log has the details.")
    return Poison(UNSUPPORTED, "This version of the cloud does not know this kind of operation.")


def moment_of(timestamp: Timestamp) -> datetime:
    """A timestamp of a message as a moment.

    Raises:
        ValueError: it is outside the years 1 to 9999.
    """
    try:
        return _START + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)
    except OverflowError as error:
        raise ValueError("A time is outside the years 1 to 9999.") from error


def _clock(reading: ClockReading) -> Clock:
    return Clock(
        moment_of(reading.device_time) if reading.HasField("device_time") else None,
        reading.offset_ms,
        reading.uncertainty_ms,
        reading.state,
    )


def _when(operation: Operation, said: Timestamp | None, now: datetime) -> tuple[datetime, Clock, bool]:
    """When it happened, what the till knew of the time, and whether that is to be doubted.

    A till that says nothing of its clock is taken at its word, and marked when that is absurd. With a clock that is wrong or
    absurd the moment of arrival is the best there is.
    """
    if not operation.HasField("clock"):
        happened = moment_of(said if said is not None else operation.occurred_time)
        return happened, Clock(), not now - OLDEST < happened < now + CLOCK_TOLERANCE
    clock = _clock(operation.clock)
    happened = moment_of(operation.occurred_time if operation.HasField("occurred_time") or said is None else said)
    latest = now + AHEAD_TOLERANCE + timedelta(milliseconds=min(max(operation.clock.uncertainty_ms, 0), 3_600_000))
    if clock.state == CLOCK_STATE_WRONG or not now - OLDEST < happened < latest:
        return now, clock, True
    return happened, clock, False


def _sold(operation: Operation, place: Place, now: datetime) -> Sold:
    sale = Sale()
    sale.CopyFrom(operation.sale_recorded)
    if not is_id(sale.id, "sal"):
        raise ValueError("The sale has no id of the right shape.")
    if not sale.lines:
        raise ValueError("The sale has no lines.")
    amounts = [quantities.parse(line.quantity) for line in sale.lines]
    ids = {line.id for line in sale.lines}
    marks = [reason for reason in dict.fromkeys(sale.review_reasons) if reason in TOLD_BY_TILLS]
    if len(ids) < len(amounts) or not all(is_id(each, "sli") for each in ids):
        # Refunds name lines by id; two with one id would be given back twice.
        for line in sale.lines:
            line.id = new_id("sli")
        marks.append("LINE_IDS_REPLACED")
    if sale.outlet_id not in {"", place.outlet_id}:
        marks.append("OUTLET_CHANGED")
    if not place.time_zone:
        marks.append("OUTLET_UNKNOWN")
    sale.till_id, sale.outlet_id = place.till_id, place.outlet_id
    sale.channel = sale.channel or "pos"
    sold_at, clock, is_doubtful = _when(operation, sale.sale_time if sale.HasField("sale_time") else None, now)
    if is_doubtful or operation.HasField("clock") or not sale.HasField("sale_time"):
        sale.sale_time.FromDatetime(sold_at)
    day = None if operation.HasField("clock") else _day(sale.business_date)
    if day is None:
        day = business_date(sold_at, place.time_zone or "Asia/Jakarta")
        sale.business_date = day.isoformat()
    if is_doubtful:
        marks.append("CLOCK_SUSPECT")
    if not is_total_right(sale, amounts, day):
        marks.append("TOTAL_MISMATCH")
    del sale.review_reasons[:]
    sale.review_reasons.extend(marks)
    return Sold(sale, sold_at, day, amounts, clock)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def is_total_right(sale: Sale, amounts: Sequence[int], day: date) -> bool:
    """Whether the total is what lines, discounts and rounding make. `amounts` are the lines' quantities in thousandths."""
    if not sale.prices_include_tax:
        again = Sale()
        again.CopyFrom(sale)
        pricing.total_up(again, day)
        return again.total.amount + sale.rounding.amount - again.rounding.amount == sale.total.amount
    # Where prices contain the tax, it changes nothing about the total: a few additions instead of all of pricing.
    whole = sale.rounding.amount
    for line, amount in zip(sale.lines, amounts, strict=True):
        whole += half_up(amount * line.unit_price.amount, 1000) - line.discount.amount
    for discount in sale.discounts:
        whole -= discount.amount.amount
    return whole == sale.total.amount


def _counted(operation: Operation, now: datetime) -> Counted:
    count = operation.stock_counted
    if not is_id(count.product_id, "prd"):
        raise ValueError("The count names no product by an id of the right shape.")
    quantity = quantities.parse(count.counted)
    if quantity < 0:
        raise ValueError("A shelf cannot hold less than nothing.")
    if "\0" in count.note or len(count.note) > 2000:
        raise ValueError("The note of the count is too long or has a NUL character.")
    counted_at, clock, is_doubtful = _when(operation, None, now)
    return Counted(count, quantity, counted_at, clock, ["CLOCK_SUSPECT"] if is_doubtful else [])


def _edited(operation: Operation, now: datetime) -> Edited:
    edit = operation.product_edited
    if not is_id(edit.product.id, "prd") or not edit.fields:
        raise ValueError("The change names no product or no field.")
    return Edited(edit, _when(operation, None, now)[0] if operation.HasField("occurred_time") else None)
