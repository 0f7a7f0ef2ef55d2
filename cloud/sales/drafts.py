"""What an integration may say about a sale. Pure: checks, fills in and prices a draft, touches no database.

Sales of tills do not come through here: they are facts that happened, and are recorded as they were said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

from cloud.platform import checks
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import Product
from gipos.v1.sales_pb2 import Sale, SaleLine
from kernel import pricing, quantities
from kernel.business_days import business_date
from kernel.errors import Violation
from kernel.ids import new_id
from kernel.money import LIMIT

MAX_LINES = 500
MAX_TENDERS = 20
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def violations(draft: Sale, now: datetime) -> Iterator[Violation]:
    """Everything wrong with a draft that can be seen without the catalogue."""
    for field, limit in (("number", 64), ("cashier", 100), ("note", 1000), ("external_id", 200)):
        yield from checks.text(field, getattr(draft, field), limit)
    if draft.channel and _WORD.fullmatch(draft.channel) is None:
        yield Violation("channel", "INVALID", 'channel is a short word in lower case, for example "pos" or "tokopedia".')
    yield from checks.day("business_date", draft.business_date)
    if draft.HasField("sale_time"):
        if unreadable := list(checks.moment("sale_time", draft.sale_time)):
            yield from unreadable
        elif draft.sale_time.ToDatetime(tzinfo=UTC) > now + timedelta(days=1):
            yield Violation("sale_time", "OUT_OF_RANGE", "sale_time lies in the future.")
    if not 1 <= len(draft.lines) <= MAX_LINES:
        yield Violation("lines", "REQUIRED" if not draft.lines else "TOO_MANY", f"A sale has 1 to {MAX_LINES} lines.")
    for index, line in enumerate(draft.lines[:MAX_LINES]):
        path = f"lines[{index}]"
        if not line.product_id:
            yield Violation(f"{path}.product_id", "REQUIRED", "product_id is required.")
        yield from checks.quantity(f"{path}.quantity", line.quantity, positive=True)
        yield from checks.money(f"{path}.unit_price", line.unit_price, present=line.HasField("unit_price"))
        yield from checks.money(f"{path}.discount", line.discount, present=line.HasField("discount"))
    if len(draft.discounts) > MAX_TENDERS or len(draft.tenders) > MAX_TENDERS:
        yield Violation("tenders", "TOO_MANY", f"A sale has at most {MAX_TENDERS} discounts and {MAX_TENDERS} tenders.")
    for index, discount in enumerate(draft.discounts[:MAX_TENDERS]):
        yield from checks.text(f"discounts[{index}].name", discount.name, 100)
        present = discount.HasField("amount")
        yield from checks.money(f"discounts[{index}].amount", discount.amount, present=present, required=True)
    for index, tender in enumerate(draft.tenders[:MAX_TENDERS]):
        if _WORD.fullmatch(tender.method) is None:
            message = 'method is a short word in lower case, for example "cash", "qris" or "card".'
            yield Violation(f"tenders[{index}].method", "REQUIRED" if not tender.method else "INVALID", message)
        yield from checks.text(f"tenders[{index}].reference", tender.reference, 200)
        yield from checks.money(f"tenders[{index}].amount", tender.amount, present=tender.HasField("amount"), required=True)


def prepared(draft: Sale, products: Mapping[str, Product], outlet: Outlet, now: datetime) -> tuple[Sale, list[Violation]]:
    """The sale with names, prices, tax and totals filled in, and what is still wrong with it.

    The draft must have passed `violations`.
    """
    sale = Sale(
        id=new_id("sal"),
        number=draft.number,
        outlet_id=outlet.id,
        cashier=draft.cashier,
        channel=draft.channel or "api",
        customer_id=draft.customer_id,
        discounts=draft.discounts,
        tenders=draft.tenders,
        prices_include_tax=outlet.prices_include_tax,
        note=draft.note,
        external_id=draft.external_id,
    )
    if draft.HasField("sale_time"):
        sale.sale_time.CopyFrom(draft.sale_time)
    else:
        sale.sale_time.FromDatetime(now)
    sold_at = sale.sale_time.ToDatetime(tzinfo=UTC)
    sale.business_date = draft.business_date or business_date(sold_at, outlet.time_zone).isoformat()
    wrong: list[Violation] = []
    for index, line in enumerate(draft.lines):
        product = products.get(line.product_id)
        if product is None:
            wrong.append(Violation(f"lines[{index}].product_id", "NOT_FOUND", f"There is no product {line.product_id}."))
            continue
        if product.HasField("delete_time"):
            message = f"Product {line.product_id} ({product.name}) is archived."
            wrong.append(Violation(f"lines[{index}].product_id", "ARCHIVED", message))
        sale.lines.append(_line(line, product))
    if wrong:
        return sale, wrong
    wrong += _amounts(sale)
    if not wrong:
        pricing.total_up(sale, date.fromisoformat(sale.business_date))
        wrong += _tenders(sale, given=bool(draft.tenders))
    return sale, wrong


def _line(line: SaleLine, product: Product) -> SaleLine:
    priced = SaleLine(
        id=new_id("sli"),
        product_id=product.id,
        name=product.name,
        quantity=quantities.text(quantities.parse(line.quantity)),
        unit=product.unit,
        unit_price=line.unit_price if line.HasField("unit_price") else product.price,
        tax_class=product.tax_class,
    )
    if line.HasField("discount"):
        priced.discount.CopyFrom(line.discount)
    return priced


def _amounts(sale: Sale) -> Iterator[Violation]:
    net = 0
    for index, line in enumerate(sale.lines):
        subtotal = pricing.line_subtotal(quantities.parse(line.quantity), line.unit_price.amount)
        if line.discount.amount > subtotal:
            message = f"The discount {line.discount.amount} is more than the line's {subtotal}."
            yield Violation(f"lines[{index}].discount", "OUT_OF_RANGE", message)
        net += subtotal - line.discount.amount
    if net > LIMIT:
        yield Violation("lines", "OUT_OF_RANGE", f"The sale adds up to {net}; at most {LIMIT} is accepted.")
    discounts = sum(discount.amount.amount for discount in sale.discounts)
    if discounts > max(net, 0):
        yield Violation("discounts", "OUT_OF_RANGE", f"The discounts add up to {discounts}, more than the lines' {net}.")


def _tenders(sale: Sale, *, given: bool) -> Iterator[Violation]:
    if not given:
        return
    change = sale.change.amount
    if change < 0:
        message = f"The tenders add up to {sale.paid_total.amount}, but the total is {sale.total.amount}: {-change} is missing."
        yield Violation("tenders", "INSUFFICIENT", message)
    cash = sum(tender.amount.amount for tender in sale.tenders if tender.method == pricing.CASH)
    if change > cash:
        message = f"Only cash gives change: {change} too much was paid by other methods."
        yield Violation("tenders", "OVERPAID", message)
