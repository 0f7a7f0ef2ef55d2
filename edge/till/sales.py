"""Turns a cart into a sale: what it costs, whether it is paid, what number it gets. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from edge.storage.carts import CartLine
from edge.storage.outlets import Identity
from edge.till.requests import CheckoutRequest
from gipos.v1.sales_pb2 import Sale, SaleStatus
from kernel import business_days, ids, money, pricing, quantities
from kernel.errors import Invalid, Violation

CHANNEL = "pos"
MAX_LINES = 500
FALLBACK_TIME_ZONE = "Asia/Jakarta"


def line_problem(line: CartLine) -> str | None:
    """Why a line cannot be sold as it is: more than a sale can hold. None when it can."""
    if pricing.line_subtotal(line.quantity, line.product.price.amount) > money.LIMIT:
        return f"makes {line.product.name} cost more than {money.format_rupiah(money.LIMIT)}"
    return None


def time_zone(identity: Identity) -> str:
    """The outlet's zone; Jakarta's when the cloud named none that exists."""
    zone = identity.outlet.time_zone
    return zone if zone in business_days.TIME_ZONES else FALLBACK_TIME_ZONE


def receipt_number(identity: Identity, sale: Sale, seq: int) -> str:
    """For example "KMG-2611-200123": outlet, month, till, and a count of the till that has no gaps."""
    day = date.fromisoformat(sale.business_date)
    return f"{identity.outlet.code}-{day:%y%m}-{identity.till.number}{seq:05d}"


def preview(lines: Sequence[CartLine], identity: Identity, now: datetime) -> Sale:
    """The cart as a sale that is not made yet: lines, taxes and totals."""
    sale = _priced(lines, CheckoutRequest(), identity, now)
    del sale.tenders[:]
    for name in ("id", "number", "sale_time", "paid_total", "change"):
        sale.ClearField(name)
    return sale


def build(lines: Sequence[CartLine], request: CheckoutRequest, identity: Identity, now: datetime) -> Sale:
    """The sale of these lines, paid like this. It has no number yet.

    Raises:
        Invalid: the discounts exceed the goods, or the tenders do not cover the total.
    """
    violations = _discount_violations(lines, request)
    if violations:
        raise Invalid(violations)
    sale = _priced(lines, request, identity, now)
    violations = _tender_violations(sale, request)
    if violations:
        raise Invalid(violations)
    return sale


def _priced(lines: Sequence[CartLine], request: CheckoutRequest, identity: Identity, now: datetime) -> Sale:
    day = business_days.business_date(now, time_zone(identity))
    sale = Sale(
        id=ids.new_id("sal"),
        outlet_id=identity.outlet.id,
        till_id=identity.till.id,
        cashier=request.cashier,
        channel=CHANNEL,
        business_date=day.isoformat(),
        status=SaleStatus.SALE_STATUS_COMPLETED,
        prices_include_tax=identity.outlet.prices_include_tax,
        note=request.note,
    )
    sale.sale_time.FromDatetime(now)
    for line in lines:
        sale.lines.add(
            id=ids.new_id("sli"),
            product_id=line.product.id,
            name=line.product.name,
            quantity=quantities.text(line.quantity),
            unit=line.product.unit or "pcs",
            unit_price=money.rupiah(line.product.price.amount),
            tax_class=line.product.tax_class,
        )
    for discount in request.discounts:
        sale.discounts.add(name=discount.name, amount=money.rupiah(discount.amount))
    for tender in request.tenders:
        sale.tenders.add(method=tender.method, amount=money.rupiah(tender.amount), reference=tender.reference)
    pricing.total_up(sale, day)
    return sale


def _discount_violations(lines: Sequence[CartLine], request: CheckoutRequest) -> list[Violation]:
    violations = [
        Violation(f"discounts[{index}].amount", "OUT_OF_RANGE", "must be above 0")
        for index, discount in enumerate(request.discounts)
        if discount.amount == 0
    ]
    goods = sum(pricing.line_subtotal(line.quantity, line.product.price.amount) for line in lines)
    given = sum(discount.amount for discount in request.discounts)
    if given > goods:
        message = f"add up to {money.format_rupiah(given)}, more than the goods cost ({money.format_rupiah(goods)})"
        violations.append(Violation("discounts", "OUT_OF_RANGE", message))
    return violations


def _tender_violations(sale: Sale, request: CheckoutRequest) -> list[Violation]:
    total = sale.total.amount
    if not request.tenders:
        return [Violation("tenders", "REQUIRED", f"must pay {money.format_rupiah(total)}")] if total else []
    violations = [
        Violation(f"tenders[{index}].amount", "OUT_OF_RANGE", "must be above 0")
        for index, tender in enumerate(request.tenders)
        if tender.amount == 0 and total
    ]
    cash = sum(tender.amount for tender in request.tenders if tender.method == pricing.CASH)
    paid = sum(tender.amount for tender in request.tenders)
    if paid < total:
        message = (
            f"cover {money.format_rupiah(paid)} of {money.format_rupiah(total)}; {money.format_rupiah(total - paid)} is missing"
        )
        violations.append(Violation("tenders", "NOT_ENOUGH", message))
    elif paid - cash > total:
        message = f"pay {money.format_rupiah(paid - cash)} without cash, more than the total of {money.format_rupiah(total)}"
        violations.append(Violation("tenders", "TOO_MUCH", message))
    return violations
