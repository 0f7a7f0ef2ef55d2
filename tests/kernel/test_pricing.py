"""What a sale costs. The vectors for tax are those of the tax office's examples; the rest must hold for any sale."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.sales_pb2 import Sale
from kernel import pricing, quantities
from kernel.money import allocate, half_up, rupiah

DAY = date(2026, 11, 23)
PPN = pricing.TAX_RATES[TaxClass.TAX_CLASS_PPN][0]
MEWAH = pricing.TAX_RATES[TaxClass.TAX_CLASS_PPN_MEWAH][0]


@pytest.mark.parametrize(
    ("price", "base", "other", "tax"),
    [
        (111_000, 100_000, 91_667, 11_000),
        (54_000, 48_649, 44_595, 5_351),
        (36_000, 32_432, 29_729, 3_568),
        (18_000, 16_216, 14_865, 1_784),
        (1, 1, 1, 0),
        (0, 0, 0, 0),
    ],
)
def test_tax_inside_a_price(price: Any, base: Any, other: Any, tax: Any) -> None:
    line = pricing.tax_of(price, PPN, included=True)
    assert (line.base.amount, line.other_value_base.amount, line.amount.amount) == (base, other, tax)


@pytest.mark.parametrize(("rate", "net", "tax"), [(PPN, 100_000, 11_000), (MEWAH, 100_000, 12_000), (PPN, 1, 0)])
def test_tax_on_top_of_a_price(rate: Any, net: Any, tax: Any) -> None:
    assert pricing.tax_of(net, rate, included=False).amount.amount == tax


@pytest.mark.parametrize(
    ("total", "unit", "rounded"),
    [
        (12_765, 100, 12_800), (12_750, 100, 12_700), (12_749, 100, 12_700), (12_751, 100, 12_800), (10_207, 100, 10_200),
        (12_765, 500, 13_000), (12_750, 500, 12_500), (10_207, 500, 10_000), (12_765, 1, 12_765), (12_765, 0, 12_765),
    ],
)  # fmt: skip
def test_cash_rounding(total: Any, unit: Any, rounded: Any) -> None:
    assert total + pricing.cash_rounding(total, unit) == rounded


def test_tax_classes_without_tax_have_no_tax_line() -> None:
    sale = Sale(prices_include_tax=True)
    sale.lines.add(quantity="1", unit_price=rupiah(5000), tax_class=TaxClass.TAX_CLASS_BEBAS)
    pricing.total_up(sale, DAY)
    assert not sale.taxes
    assert sale.tax_total.amount == 0
    assert [(tender.method, tender.amount.amount) for tender in sale.tenders] == [("other", 5000)]


LINES = st.lists(
    st.tuples(
        st.integers(1, 50_000),  # thousandths
        st.integers(0, 2_000_000),
        st.floats(0, 1),  # the line's own discount as a share; only to pick a whole number below
        st.sampled_from(TaxClass.values()[1:]),
    ),
    min_size=1,
    max_size=8,
)


@given(LINES, st.integers(0, 5_000), st.booleans(), st.sampled_from([1, 100, 500]), st.sampled_from(["cash", "qris"]))
def test_every_part_adds_up_to_the_rupiah(lines: Any, discount: Any, included: Any, unit: Any, method: Any) -> None:
    sale = Sale(prices_include_tax=included)
    room = 0
    for quantity, price, share, tax_class in lines:
        subtotal = pricing.line_subtotal(quantity, price)
        own = int(subtotal * share)
        room += subtotal - own
        sale.lines.add(quantity=quantities.text(quantity), unit_price=rupiah(price), tax_class=tax_class, discount=rupiah(own))
    sale.discounts.add(name="Promo", amount=rupiah(min(discount, room)))
    sale.tenders.add(method=method, amount=rupiah(10**9))
    pricing.total_up(sale, DAY, unit)
    added_tax = 0 if included else sale.tax_total.amount
    assert sale.total.amount == sale.subtotal.amount - sale.discount_total.amount + added_tax + sale.rounding.amount
    assert sale.subtotal.amount == sum(line.subtotal.amount for line in sale.lines)
    assert sale.total.amount - sale.rounding.amount == sum(line.total.amount for line in sale.lines)
    assert sale.discount_total.amount == sum(line.discount_total.amount for line in sale.lines)
    assert sale.tax_total.amount == sum(line.tax.amount for line in sale.lines) == sum(tax.amount.amount for tax in sale.taxes)
    assert sale.paid_total.amount - sale.change.amount == sale.total.amount
    assert all(line.total.amount >= 0 and line.discount_total.amount >= line.discount.amount for line in sale.lines)
    assert sale.rounding.amount == 0 or (method == "cash" and sale.total.amount % unit == 0)
    again = Sale()
    again.CopyFrom(sale)
    pricing.total_up(again, DAY, unit)
    assert again == sale


@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_an_allocation_adds_up_and_is_fair(total: Any, weights: Any) -> None:
    parts = allocate(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))


@pytest.mark.parametrize(("top", "bottom", "result"), [(5, 2, 3), (-5, 2, -3), (4, 3, 1), (-4, 3, -1), (0, 7, 0)])
def test_halves_are_rounded_away_from_zero(top: Any, bottom: Any, result: Any) -> None:
    assert half_up(top, bottom) == result
