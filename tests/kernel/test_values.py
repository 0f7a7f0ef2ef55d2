"""Ids, money, quantities, barcodes, days and event types: tables of examples, and what must hold for any value."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import barcodes, business_days, event_types, ids, money, quantities


def test_ids_are_ordered_unique_and_well_formed_across_threads() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(ids.new_id("prd") for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(into == sorted(into) for into in made)
    assert len({one for into in made for one in into}) == 8000
    assert all(ids.is_id(one, "prd") for one in made[0])


@pytest.mark.parametrize("text", ["", "prd_", "prd_" + "0" * 25, "sal_" + "0" * 26, "prd_" + "U" * 26, "prd_" + "0" * 26 + "\n"])
def test_what_is_no_id(text: Any) -> None:
    assert not ids.is_id(text, "prd")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "Rp0"),
        (950, "Rp950"),
        (12500, "Rp12.500"),
        (1234567, "Rp1.234.567"),
        (1250000000, "Rp1.250.000.000"),
        (-2500, "-Rp2.500"),
    ],
)
def test_rupiah_as_people_write_it(amount: Any, text: Any) -> None:
    assert money.format_rupiah(amount) == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12500", 12500),
        ("12.500", 12500),
        ("Rp 12.500", 12500),
        ("Rp12.500,00", 12500),
        (" rp 1.000.000 ", 1_000_000),
        ("-Rp2.500", -2500),
        ("-5", -5),
    ],
)
def test_rupiah_is_read_as_people_write_it(text: Any, amount: Any) -> None:
    assert money.parse_rupiah(text) == amount


@pytest.mark.parametrize("text", ["12,500", "", "Rp", "1.2.3", "12.50", "abc", "12.500,50", "1 000"])
def test_ambiguous_amounts_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="rupiah"):
        money.parse_rupiah(text)


@given(st.integers(-(10**12), 10**12))
def test_a_quantity_reads_back_as_it_was(thousandths: Any) -> None:
    text = quantities.text(thousandths)
    assert quantities.parse(text) == thousandths
    assert Decimal(text) * 1000 == thousandths
    assert not text.endswith((".", ".0"))


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".5", "1.2345", "1e3", "1_000", "NaN", "+1", " 1", "1\n", "--1", "٣", "9" * 13, "1000000001"]
)
def test_what_is_no_quantity(text: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        quantities.parse(text)


@pytest.mark.parametrize(("thousandths", "text"), [(750, "0,75"), (2000, "2"), (1234500, "1.234,5"), (-1500, "-1,5")])
def test_quantities_as_people_write_them(thousandths: Any, text: Any) -> None:
    assert quantities.local_text(thousandths) == text


@pytest.mark.parametrize("code", ["96385074", "036000291452", "4006381333931", "10012345000017"])
def test_known_gtins_are_right(code: Any) -> None:
    assert barcodes.is_gtin(code)
    assert barcodes.problem(code) is None


@given(st.text("0123456789", min_size=11, max_size=13))
def test_exactly_one_check_digit_is_right(body: Any) -> None:
    assert sum(barcodes.is_gtin(body + digit) for digit in "0123456789") == 1


@pytest.mark.parametrize("code", ["", " ", "x ", "8991234567007", "0002010102112668", "é", "a" * 49, "a\tb"])
def test_what_cannot_be_a_barcode(code: Any) -> None:
    assert barcodes.problem(code)


@pytest.mark.parametrize(
    ("code", "normal"), [("036000291452", "0036000291452"), ("4006381333931", "4006381333931"), ("TOKO-1", "TOKO-1")]
)
def test_one_form_to_look_up_by(code: Any, normal: Any) -> None:
    assert barcodes.normal_form(code) == normal


@pytest.mark.parametrize(
    ("zone", "hour"), [("Asia/Jakarta", 14), ("Asia/Pontianak", 14), ("Asia/Makassar", 15), ("Asia/Jayapura", 16)]
)
def test_the_wall_clock_of_an_outlet(zone: Any, hour: Any) -> None:
    moment = datetime(2026, 11, 23, 7, 5, 9, tzinfo=UTC)
    assert business_days.local_time(moment, zone).hour == hour


def test_before_the_day_cut_it_is_still_the_day_before() -> None:
    moment = datetime(2026, 11, 22, 20, 30, tzinfo=UTC)  # 03.30 on the 23rd in Jakarta
    assert business_days.business_date(moment, "Asia/Jakarta", timedelta(hours=4)) == date(2026, 11, 22)
    assert business_days.business_date(moment, "Asia/Jakarta") == date(2026, 11, 23)


def test_event_patterns_select_what_they_name() -> None:
    assert event_types.selected(["sale.*"]) == {"sale.created", "sale.completed", "sale.refunded"}
    assert event_types.selected(["*"]) == set(event_types.EVENT_TYPES)
    assert event_types.selected(["product.created"]) == {"product.created"}
    assert event_types.is_pattern("inventory.*")
    assert not any(map(event_types.is_pattern, ("", "sale", "sale.", "sale.x", "s*", "*.created", ".*")))
