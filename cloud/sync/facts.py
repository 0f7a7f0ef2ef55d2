"""What an operation says, checked and completed as far as that needs no database. Refuses only what cannot be stored at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.sales import bulk
from cloud.sync.troubles import NOT_UNDERSTOOD, UNSUPPORTED, Trouble, said
from gipos.edge.v1.link_pb2 import CLOCK_STATE_WRONG, ClockReading, Operation, ProductEdited, StockCounted
from gipos.v1.sales_pb2 import Sale, SaleLine, SaleStatus
from kernel import money, pricing, quantities
from kernel.business_days import business_date
from kernel.ids import PATTERN, is_id, new_id
from kernel.money import half_up

CLOCK_TOLERANCE = timedelta(hours=24)
"""A till that says nothing of its clock and is further ahead than this gets its sales marked."""
AHEAD_TOLERANCE = timedelta(minutes=5)
"""A till that says what it knows of the time cannot have sold later than this after the cloud received it."""
OLDEST = timedelta(days=365)
"""What happened longer ago is taken for a wrong clock."""

TOLD_BY_TILLS = frozenset({"OFFLINE_LIMIT_LIFTED", "OFFLINE_SALE_REFUSED", "OFFLINE_LIMIT_PASSED", "PRICE_TYPED"})
"""Why a sale wants looking at, where only the till can know it. Everything else is for the cloud to say."""

_COMPLETED = SaleStatus.SALE_STATUS_COMPLETED
_START = datetime(1970, 1, 1, tzinfo=UTC)
_LINE_IDS = re.compile(f"(?:{PATTERN.pattern.replace('[a-z]{2,4}', 'sli')} )+")
_thousandths = lru_cache(maxsize=4096)(quantities.parse)
"""A backlog has thousands of lines and a few dozen quantities."""
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
    """Only to be read: it may be the operation's own."""
    sold_at: datetime
    day: date
    quantities: list[int]
    """Of the lines, in thousandths."""
    clock: Clock
    prepared: bulk.Prepared
    """Of this very sale."""


@dataclass(slots=True)
class Counted:
    """A count of a shelf."""

    count: StockCounted
    quantity: int
    counted_at: datetime
    clock: Clock
    review_reasons: list[str] = field(default_factory=list)
    shown: int | None = None
    """What the till says that it showed, in thousandths."""


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
    except Trouble as trouble:
        return Poison(trouble.reason, str(trouble))
    except Exception:
        # Whatever it is: one operation must never stop the queue behind it.
        logger.exception("operation_unreadable", till_id=place.till_id, op_seq=operation.op_seq)
        return Poison(NOT_UNDERSTOOD, said(NOT_UNDERSTOOD))
    return Poison(UNSUPPORTED, said(UNSUPPORTED))


def moment_of(timestamp: Timestamp) -> datetime:
    """A timestamp of a message as a moment.

    Raises:
        Trouble: it is outside the years 1 to 9999, or its parts are out of range: then it could be stored, and never be written
            as JSON again.
    """
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise Trouble("TIME_WRONG")
    try:
        return _START + timedelta(0, timestamp.seconds, timestamp.nanos // 1000)
    except OverflowError as error:
        raise Trouble("TIME_WRONG") from error


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
    is_right = clock.state != CLOCK_STATE_WRONG and now - OLDEST < happened
    if is_right and happened > now:
        is_right = happened < now + AHEAD_TOLERANCE + timedelta(milliseconds=min(max(clock.uncertainty_ms or 0, 0), 3_600_000))
    if not is_right:
        return now, clock, True
    return happened, clock, False


def _sold(operation: Operation, place: Place, now: datetime) -> Sold:
    sale = operation.sale_recorded
    if not is_id(sale.id, "sal"):
        raise Trouble("SALE_ID_WRONG")
    lines = list(sale.lines)
    if not lines:
        raise Trouble("SALE_EMPTY")
    if not -money.LIMIT <= sale.total.amount <= money.LIMIT:
        raise Trouble("TOTAL_WRONG")  # with a few of them no day of the merchant could be summed up any more
    amounts = _amounts([line.quantity for line in lines])
    said = list(sale.review_reasons)
    marks = [reason for reason in dict.fromkeys(said) if reason in TOLD_BY_TILLS]
    are_told_apart = _are_told_apart([line.id for line in lines])
    if not are_told_apart:
        marks.append("LINE_IDS_REPLACED")
    if sale.outlet_id not in {"", place.outlet_id}:
        marks.append("OUTLET_CHANGED")
    if not place.time_zone:
        marks.append("OUTLET_UNKNOWN")
    is_dated, has_clock = sale.HasField("sale_time"), operation.HasField("clock")
    sold_at, clock, is_doubtful = _when(operation, sale.sale_time if is_dated else None, now)
    day = None if has_clock else _day(sale.business_date)
    if day is None:
        day = _day_of(sold_at, place.time_zone or "Asia/Jakarta")
        text = day.isoformat()
    else:
        text = sale.business_date
    if is_doubtful:
        marks.append("CLOCK_SUSPECT")
    if not _is_total_right(sale, lines, amounts, day):
        marks.append("TOTAL_MISMATCH")
    takes_time = is_doubtful or has_clock or not is_dated
    is_as_said = (
        are_told_apart
        and said == marks
        and (sale.till_id, sale.outlet_id, sale.status, sale.business_date) == (place.till_id, place.outlet_id, _COMPLETED, text)
        and sale.channel
        and (not takes_time or (is_dated and _is(sale.sale_time, sold_at)))
        and not sale.HasField("create_time")
        and not sale.HasField("update_time")
    )
    for refund in sale.refunds:
        moment_of(refund.create_time)  # the only moment of a sale that nothing else looks at
    if not is_as_said:
        # The operation itself stays as it was sent: it may have to be put aside.
        sale = Sale()
        sale.CopyFrom(operation.sale_recorded)
        if not are_told_apart:
            # Refunds name lines by id; two with one id would be given back twice.
            for line in sale.lines:
                line.id = new_id("sli")
        sale.till_id, sale.outlet_id, sale.status, sale.business_date = place.till_id, place.outlet_id, _COMPLETED, text
        sale.channel = sale.channel or "pos"
        if takes_time:
            sale.sale_time.FromDatetime(sold_at)
        del sale.review_reasons[:]
        sale.review_reasons.extend(marks)
        sale.ClearField("create_time")
        sale.ClearField("update_time")
    return Sold(sale, sold_at, day, amounts, clock, bulk.prepared(sale, _product_ids(lines)))


def _product_ids(lines: Iterable[SaleLine]) -> list[str]:
    """What the lines take from stock.

    Whatever is none of ours counts as a product that does not exist. But a text with NUL can be asked for in no statement, and
    of two that differ only in separators the database is told the same (see packed): they must be one before they are added up.

    Raises:
        Trouble: an id has a NUL character.
    """
    product_ids = [line.product_id for line in lines]
    together = "".join(product_ids)
    if "\0" in together:
        raise Trouble("SALE_PRODUCT_WRONG")
    if "\x1f" in together:
        return [product_id.replace("\x1f", " ") for product_id in product_ids]
    return product_ids


def _amounts(texts: list[str]) -> list[int]:
    try:
        return [_thousandths(text) for text in texts]
    except ValueError as error:
        raise Trouble("QUANTITY_WRONG") from error


def _are_told_apart(line_ids: list[str]) -> bool:
    """Whether each is an id of its own. All are looked at in one go: that is half the price."""
    return len(set(line_ids)) == len(line_ids) and _LINE_IDS.fullmatch(" ".join(line_ids) + " ") is not None


def _is(stamp: Timestamp, moment: datetime) -> bool:
    """Whether it says this moment, to the microsecond and no further."""
    return stamp.nanos % 1000 == 0 and moment_of(stamp) == moment


def _day_of(moment: datetime, time_zone: str) -> date:
    """The business day of a moment.

    Raises:
        Trouble: in UTC it is within the year 9999, on the outlet's clock it is not any more.
    """
    try:
        return business_date(moment, time_zone)
    except OverflowError as error:
        raise Trouble("TIME_WRONG") from error


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def is_total_right(sale: Sale, amounts: Sequence[int], day: date) -> bool:
    """Whether the total is what lines, discounts and rounding make. `amounts` are the lines' quantities in thousandths."""
    return _is_total_right(sale, sale.lines, amounts, day)


def _is_total_right(sale: Sale, lines: Iterable[SaleLine], amounts: Sequence[int], day: date) -> bool:
    if not sale.prices_include_tax:
        again = Sale()
        again.CopyFrom(sale)
        pricing.total_up(again, day)
        return again.total.amount + sale.rounding.amount - again.rounding.amount == sale.total.amount
    # Where prices contain the tax, it changes nothing about the total: a few additions instead of all of pricing.
    whole = sale.rounding.amount
    for line, amount in zip(lines, amounts, strict=True):
        exact = amount * line.unit_price.amount
        # A whole number of pieces needs no rounding.
        whole += (exact // 1000 if amount % 1000 == 0 else half_up(exact, 1000)) - line.discount.amount
    for discount in sale.discounts:
        whole -= discount.amount.amount
    return whole == sale.total.amount


def _counted(operation: Operation, now: datetime) -> Counted:
    count = operation.stock_counted
    if not is_id(count.product_id, "prd"):
        raise Trouble("COUNT_PRODUCT_WRONG")
    (quantity,) = _amounts([count.counted])
    if quantity < 0:
        raise Trouble("COUNT_NEGATIVE")
    if "\0" in count.note or len(count.note) > 2000:
        raise Trouble("COUNT_NOTE_WRONG")
    counted_at, clock, is_doubtful = _when(operation, None, now)
    shown = _amounts([count.expected])[0] if count.expected else None
    return Counted(count, quantity, counted_at, clock, ["CLOCK_SUSPECT"] if is_doubtful else [], shown)


def _edited(operation: Operation, now: datetime) -> Edited:
    edit = operation.product_edited
    if not is_id(edit.product.id, "prd") or not edit.fields:
        raise Trouble("EDIT_EMPTY")
    return Edited(edit, _when(operation, None, now)[0] if operation.HasField("occurred_time") else None)
