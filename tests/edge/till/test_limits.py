from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.storage.policies import BUILT_IN, Rules
from edge.till import limits
from edge.till.limits import HOUR_MS, Standing
from gipos.v1.sales_pb2 import Sale
from kernel.money import rupiah

RULES = Rules(version=1, longest_hours=72, most_sales=200, most_amount=1_000_000, override_minutes=30, supervisor_pins=("$x",))


def standing(hours: float = 0, sales: int = 0, amount: int = 0, *, is_online: bool = False) -> Standing:
    return Standing(int(hours * HOUR_MS), sales, amount, is_online=is_online)


def sale(total: int = 1000, *methods: str) -> Sale:
    made = Sale(total=rupiah(total))
    for method in methods or ("cash",):
        made.tenders.add(method=method, amount=rupiah(total))
    return made


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (standing(), []),
        (standing(hours=35.9), []),
        (standing(hours=36), [("offline_hours", 50)]),
        (standing(hours=57.6), [("offline_hours", 80)]),
        (standing(hours=100), [("offline_hours", 100)]),
        (standing(sales=100, amount=800_000), [("waiting_sales", 50), ("waiting_amount", 80)]),
        (standing(sales=99, amount=499_999), []),
    ],
)
def test_the_cashier_is_warned_at_50_80_and_100_percent(where: Standing, expected: list[tuple[str, int]]) -> None:
    assert [(one.limit, one.percent) for one in limits.warnings(RULES, where)] == expected


@pytest.mark.parametrize(
    ("rules", "where", "made", "expected"),
    [
        (RULES, standing(hours=71.99, sales=199, amount=999_000), sale(1000), set()),
        (RULES, standing(hours=72), sale(), {"offline_hours"}),
        (RULES, standing(sales=200), sale(), {"waiting_sales"}),
        (RULES, standing(amount=999_500), sale(501), {"waiting_amount"}),
        (RULES, standing(hours=99, sales=300, amount=5_000_000), sale(), {"offline_hours", "waiting_sales", "waiting_amount"}),
        (Rules(version=1, longest_hours=0), standing(hours=10_000, sales=10**6, amount=10**12), sale(), set()),
        # What may be taken depends on whether the cloud is there.
        (Rules(version=1, tenders=frozenset({"cash"})), standing(), sale(5, "qris"), {"tenders"}),
        (Rules(version=1, tenders=frozenset({"cash"})), standing(), sale(5, "cash", "qris"), {"tenders"}),
        (Rules(version=1, tenders=frozenset({"cash"})), standing(is_online=True), sale(5, "qris"), set()),
        (Rules(version=1, tenders=frozenset({"cash"})), standing(hours=0.1, is_online=True), sale(5, "qris"), {"tenders"}),
        (Rules(version=1, tenders=frozenset({"qris"})), standing(), sale(5, "cash"), {"tenders"}),
        # Without rules of the owner's there is no PIN either: cash is taken whatever happens.
        (BUILT_IN, standing(is_online=True), sale(5, "qris"), set()),
        (BUILT_IN, standing(hours=1), sale(5, "qris"), {"tenders"}),
        (BUILT_IN, standing(hours=73), sale(0, "other"), set()),
        (BUILT_IN, standing(hours=73), sale(5, "qris"), {"offline_hours", "tenders"}),
        (BUILT_IN, standing(hours=7300), sale(5, "cash"), set()),
    ],
)
def test_what_is_refused(rules: Rules, where: Standing, made: Sale, expected: set[str]) -> None:
    assert {one.limit for one in limits.refusals(rules, where, made)} == expected


def test_what_may_be_taken_without_the_internet_is_said_before_anybody_pays() -> None:
    assert limits.warnings(BUILT_IN, standing(is_online=True)) == []
    (warning,) = limits.warnings(BUILT_IN, standing())
    assert (warning.limit, warning.indonesian) == ("tenders", "Tanpa internet hanya boleh dibayar dengan: tunai.")
    assert limits.passed(BUILT_IN, standing()) is False


def test_a_refusal_says_in_both_languages_what_was_reached_and_what_to_do() -> None:
    text = limits.refusal_text(RULES, limits.refusals(RULES, standing(sales=200), sale()))
    assert text.startswith("Penjualan tidak disimpan. 200 penjualan belum terkirim, batasnya 200.")
    assert "Minta supervisor" in text
    assert "Nothing was sold. 200 sales are not uploaded" in text
    without = Rules(version=1, most_sales=1)
    assert "supervisor" not in limits.refusal_text(without, limits.refusals(without, standing(sales=2), sale()))
    built_in = limits.refusal_text(BUILT_IN, limits.refusals(BUILT_IN, standing(hours=80), sale(5, "qris")))
    assert "Terima tunai" in built_in


@given(
    hours=st.integers(0, 200),
    sales=st.integers(0, 500),
    amount=st.integers(0, 10**7),
    total=st.integers(0, 10**6),
    online=st.booleans(),
)
def test_nothing_is_refused_without_a_warning_at_100_percent_but_an_amount_that_would_pass_the_limit(
    hours: int, sales: int, amount: int, total: int, online: bool
) -> None:
    where = standing(hours, sales, amount, is_online=online)
    warned = {one.limit for one in limits.warnings(RULES, where) if one.percent == 100}
    refused = {one.limit for one in limits.refusals(RULES, where, sale(total))}
    assert warned - {"waiting_amount"} == refused - {"waiting_amount"}
    assert limits.passed(RULES, where) == bool(warned)
    if amount + total <= 1_000_000:
        assert "waiting_amount" not in refused
