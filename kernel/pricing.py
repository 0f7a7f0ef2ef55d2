"""What a sale costs: subtotals, discounts, tax and change, so that every part adds up to the rupiah.

The till and the cloud compute with this one function; a receipt printed offline is therefore what the cloud would have said.
Sources: PMK 131/2024 (PPN 12 % on an other-value base of 11/12), UU HKPD (PBJT). Rates are dated data, never constants in code.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.sales_pb2 import Sale, TaxLine
from kernel import quantities
from kernel.money import RUPIAH, allocate, half_up, rupiah

CASH = "cash"


@dataclass(frozen=True)
class TaxRate:
    """How a tax class is computed from some day on."""

    since: date
    name: str
    rate: Fraction
    base_share: Fraction = Fraction(1)
    """The other-value base (DPP nilai lain) as a share of the base."""

    @property
    def effective(self) -> Fraction:
        """Tax as a share of the base."""
        return self.rate * self.base_share


TAX_RATES: dict[TaxClass.ValueType, tuple[TaxRate, ...]] = {
    TaxClass.TAX_CLASS_PPN: (TaxRate(date(2025, 1, 1), "PPN", Fraction(12, 100), Fraction(11, 12)),),
    TaxClass.TAX_CLASS_PPN_MEWAH: (TaxRate(date(2025, 1, 1), "PPN", Fraction(12, 100)),),
    TaxClass.TAX_CLASS_PBJT: (TaxRate(date(2024, 1, 5), "PBJT", Fraction(10, 100)),),
}
"""Newest first. Classes that are absent carry no tax line."""


def tax_rate(tax_class: TaxClass.ValueType, day: date) -> TaxRate | None:
    """The rate in force on a day, None for classes without tax. A day before the first rate (a wrong clock) gets the oldest."""
    rates = TAX_RATES.get(tax_class)
    if not rates:
        return None
    return next((rate for rate in rates if rate.since <= day), rates[-1])


def tax_of(amount: int, rate: TaxRate, *, included: bool) -> TaxLine:
    """The tax in (or on top of) an amount. The one place where tax is rounded: half up, per document and class."""
    effective = rate.effective
    if included:
        tax = half_up(amount * effective.numerator, effective.numerator + effective.denominator)
        base = amount - tax
    else:
        tax = half_up(amount * effective.numerator, effective.denominator)
        base = amount
    other = half_up(base * rate.base_share.numerator, rate.base_share.denominator)
    return TaxLine(name=rate.name, base=rupiah(base), other_value_base=rupiah(other), amount=rupiah(tax))


def cash_rounding(total: int, unit: int) -> int:
    """What cash rounding adds to a total: to the nearest unit, ties down (Permendag 35/2013 art. 6: tell before paying)."""
    if unit <= 1:
        return 0
    rest = total % unit
    return unit - rest if 2 * rest > unit else -rest


def line_subtotal(quantity: int, unit_price: int) -> int:
    """Thousandths times rupiah, rounded half up to the rupiah."""
    return half_up(quantity * unit_price, 1000)


def total_up(sale: Sale, day: date, rounding_unit: int = 1) -> None:
    """Fills every computed amount of a sale from its lines, discounts and tenders.

    Lines must have quantity, unit_price and tax_class. Without tenders the sale counts as paid in full by "other".
    """
    currency = RUPIAH
    after_own = []
    for line in sale.lines:
        subtotal = line_subtotal(quantities.parse(line.quantity), line.unit_price.amount)
        line.subtotal.amount = subtotal
        after_own.append(subtotal - line.discount.amount)
    shares = allocate(sum(discount.amount.amount for discount in sale.discounts), after_own)
    net = [own - share for own, share in zip(after_own, shares, strict=True)]

    del sale.taxes[:]
    line_tax = [0] * len(net)
    for tax_class in sorted({line.tax_class for line in sale.lines}):
        rate = tax_rate(tax_class, day)
        if rate is None:
            continue
        members = [index for index, line in enumerate(sale.lines) if line.tax_class == tax_class]
        tax_line = tax_of(sum(net[index] for index in members), rate, included=sale.prices_include_tax)
        tax_line.tax_class = tax_class
        sale.taxes.append(tax_line)
        parts = allocate(tax_line.amount.amount, [net[index] for index in members])
        for index, part in zip(members, parts, strict=True):
            line_tax[index] = part

    for index, line in enumerate(sale.lines):
        line.unit_price.currency = line.subtotal.currency = currency
        if line.HasField("discount"):
            line.discount.currency = currency
        line.discount_total.CopyFrom(rupiah(line.subtotal.amount - net[index]))
        line.tax.CopyFrom(rupiah(line_tax[index]))
        line.total.CopyFrom(rupiah(net[index] + (0 if sale.prices_include_tax else line_tax[index])))
        line.refunded_quantity = line.refunded_quantity or "0"

    subtotal = sum(line.subtotal.amount for line in sale.lines)
    before_rounding = sum(line.total.amount for line in sale.lines)
    # Rounding concerns coins, so it applies only when everything is paid in cash.
    only_cash = bool(sale.tenders) and all(tender.method == CASH for tender in sale.tenders)
    rounding = cash_rounding(before_rounding, rounding_unit) if only_cash else 0
    total = before_rounding + rounding
    if not sale.tenders:
        sale.tenders.add(method="other", amount=rupiah(total))
    for tender in sale.tenders:
        tender.amount.currency = currency
    for discount in sale.discounts:
        discount.amount.currency = currency
    paid = sum(tender.amount.amount for tender in sale.tenders)
    sale.subtotal.CopyFrom(rupiah(subtotal))
    sale.discount_total.CopyFrom(rupiah(subtotal - sum(net)))
    sale.tax_total.CopyFrom(rupiah(sum(line_tax)))
    sale.rounding.CopyFrom(rupiah(rounding))
    sale.total.CopyFrom(rupiah(total))
    sale.paid_total.CopyFrom(rupiah(paid))
    sale.change.CopyFrom(rupiah(paid - total))
    sale.refunded_total.CopyFrom(rupiah(sale.refunded_total.amount))
