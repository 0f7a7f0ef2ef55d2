from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import money, quantities
from scripts import catalog_numbers
from scripts.catalog_numbers import Style, Unreadable

PLAIN = Style()


@pytest.mark.parametrize(
    ("cell", "amount"),
    [
        ("18000", 18000),
        ("18.000", 18000),
        ("1.250.000", 1250000),
        ("Rp 18.000", 18000),
        ("Rp18.000,00", 18000),
        ("rp.18.000", 18000),
        ("Rp18.000,-", 18000),
        ("18000.-", 18000),
        ("IDR 18000", 18000),
        ("18000 idr", 18000),
        ("18000.0", 18000),
        ("18000.00", 18000),
        ("18000,00", 18000),
        ("18,000.00", 18000),
        ("1,250,000", 1250000),
        ("\u00a018.000\u00a0", 18000),
        ("'18000", 18000),
        ("-Rp2.500", -2500),
        ("Rp-2500", -2500),
        ("(2.500)", -2500),
        ("\u22122500", -2500),
        ("0", 0),
    ],
)
def test_a_price_is_read_as_people_and_programs_write_it(cell: str, amount: int) -> None:
    assert catalog_numbers.price(cell, PLAIN) == amount


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("gratis", "number.none"),
        ("18rb", "number.none"),
        ("12rp500", "number.none"),
        ("18 000", "number.none"),
        ("1.2.3", "number.none"),
        ("12.50.000", "number.none"),
        ("\u0661\u0662", "number.none"),
        ("1e5", "number.none"),
        ("nan", "number.none"),
        ("12500,50", "number.cents"),
        ("12.5", "number.cents"),
        ("12,500", "number.unclear"),
        ("12,000", "number.unclear"),
        ("99999999999999", "number.huge"),
    ],
)
def test_a_price_that_is_no_whole_amount_of_rupiah_is_refused_with_the_reason(cell: str, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        catalog_numbers.price(cell, PLAIN)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("column", "cell", "amount"),
    [
        (["12,500", "1,250,000"], "12,500", 12500),
        (["12,500", "9,500.00"], "12,500", 12500),
        (["500.000", "1500.000"], "500.000", 500),
        (["18.000", "18000.0"], "18.000", 18000),
        (["18.000", "1.250.000"], "18.000", 18000),
    ],
)
def test_the_column_decides_what_a_separator_means(column: list[str], cell: str, amount: int) -> None:
    assert catalog_numbers.price(cell, catalog_numbers.style(column)) == amount


@pytest.mark.parametrize("column", [["12,500", "12.500,00"], ["500.000", "1500.000", "1.250.000"]])
def test_a_column_that_proves_the_opposite_or_contradicts_itself_leaves_a_price_unread(column: list[str]) -> None:
    with pytest.raises(Unreadable):
        catalog_numbers.price(column[0], catalog_numbers.style(column))


@given(st.integers(-money.LIMIT, money.LIMIT))
def test_what_the_kernel_prints_and_reads_is_read_the_same(amount: int) -> None:
    assert catalog_numbers.price(money.format_rupiah(amount), PLAIN) == amount
    for text in (str(amount), money.format_digits(amount), f"Rp{amount}"):
        assert catalog_numbers.price(text, PLAIN) == money.parse_rupiah(text) == amount


@given(
    st.text(alphabet="0123456789.,-Rp ()", max_size=16),
    st.sampled_from([PLAIN, Style("."), Style(","), Style(".", three_places=True)]),
)
def test_any_text_is_a_number_or_a_reason(text: str, column: Style) -> None:
    for read in (catalog_numbers.price, catalog_numbers.cost, catalog_numbers.stock):
        # Any other exception than this one fails the test.
        with contextlib.suppress(Unreadable):
            assert isinstance(read(text, column), int)


def test_an_average_cost_is_rounded_to_the_rupiah() -> None:
    assert catalog_numbers.cost("1866.6667", PLAIN) == 1867
    assert catalog_numbers.cost("1866,5", PLAIN) == 1867


@pytest.mark.parametrize(
    ("cell", "thousandths"),
    [
        ("12", 12000),
        ("1,5", 1500),
        ("1.5", 1500),
        ("0,250", 250),
        ("0.250", 250),
        ("12.0", 12000),
        ("-3", -3000),
        ("1.250,5", 1250500),
    ],
)
def test_stock_takes_a_dot_or_a_comma_before_decimals(cell: str, thousandths: int) -> None:
    assert catalog_numbers.stock(cell, PLAIN) == thousandths


@pytest.mark.parametrize(
    ("cell", "reason"), [("1.250", "number.unclear"), ("1,250", "number.unclear"), ("1.2345", "number.places")]
)
def test_stock_that_could_mean_two_things_is_not_guessed(cell: str, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        catalog_numbers.stock(cell, PLAIN)
    assert caught.value.reason == reason


def test_stock_is_read_as_its_column_proves() -> None:
    assert catalog_numbers.stock("1.250", catalog_numbers.style(["1.250", "0.5"])) == 1250
    assert catalog_numbers.stock("1.250", catalog_numbers.style(["1.250", "0,5"])) == 1_250_000
    with pytest.raises(Unreadable):
        catalog_numbers.stock("1.250", catalog_numbers.style(["1.250", "0,5", "0.5"]))


@given(st.integers(-quantities.LIMIT, quantities.LIMIT))
def test_every_quantity_comes_back_with_its_own_separator_as_proof(thousandths: int) -> None:
    canonical = quantities.text(thousandths)
    assert catalog_numbers.stock(canonical, Style(".")) == thousandths
    assert catalog_numbers.stock(quantities.local_text(thousandths), Style(",")) == thousandths
    assert Decimal(canonical) * 1000 == thousandths
