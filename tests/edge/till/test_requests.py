from __future__ import annotations

from typing import Any

import pytest

from edge.till import requests
from edge.till.requests import CheckoutRequest, DiscountRequest, TenderRequest
from kernel.errors import Invalid


def fields(error: pytest.ExceptionInfo[Invalid]) -> set[tuple[str, str]]:
    return {(violation.field, violation.reason) for violation in error.value.violations}


@pytest.mark.parametrize(
    ("given", "thousandths"), [(None, 1000), (2, 2000), ("2", 2000), (0.75, 750), ("0.125", 125), (1.5, 1500)]
)
def test_quantities_may_be_numbers_or_texts(given: Any, thousandths: int) -> None:
    assert requests.scan({"barcode": "X", "quantity": given}).quantity == thousandths


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (0, "OUT_OF_RANGE"),
        (-1, "OUT_OF_RANGE"),
        ("1.2345", "INVALID_QUANTITY"),
        (1e30, "INVALID_QUANTITY"),
        ("dua", "INVALID_QUANTITY"),
        (True, "INVALID_TYPE"),
        ([1], "INVALID_TYPE"),
        (10**12, "INVALID_QUANTITY"),
    ],
)
def test_a_wrong_quantity_is_named(given: Any, reason: str) -> None:
    with pytest.raises(Invalid) as error:
        requests.scan({"barcode": "X", "quantity": given})
    assert fields(error) == {("quantity", reason)}


def test_a_scan_names_a_code_or_a_product_and_nothing_else() -> None:
    for body in ({}, {"barcode": "X", "product_id": "prd_1"}, {"barcode": ""}):
        with pytest.raises(Invalid) as error:
            requests.scan(body)
        assert fields(error) == {("barcode", "REQUIRED")}
    with pytest.raises(Invalid) as error:
        requests.scan({"barcode": 5, "colour": "red"})
    assert fields(error) == {("barcode", "INVALID_TYPE"), ("colour", "UNKNOWN_FIELD")}


def test_money_is_a_number_or_a_money_object() -> None:
    read = requests.checkout(
        {
            "tenders": [{"method": "cash", "amount": 60_000}, {"method": "card", "amount": {"amount": 5, "currency": "IDR"}}],
            "discounts": [{"name": "Promo Senin", "amount": 1000}],
            "cashier": "Sari",
        }
    )
    assert read == CheckoutRequest(
        tenders=(TenderRequest("cash", 60_000), TenderRequest("card", 5)),
        discounts=(DiscountRequest("Promo Senin", 1000),),
        cashier="Sari",
    )


def test_every_violation_of_a_checkout_is_listed_with_its_path() -> None:
    with pytest.raises(Invalid) as error:
        requests.checkout(
            {
                "tenders": [
                    {"amount": 1.5},
                    {"method": "cash", "amount": -1},
                    7,
                    {"method": "card", "amount": {"currency": "USD"}},
                ],
                "discounts": {},
                "cashier": "x" * 61,
                "tip": 1,
            }
        )
    assert fields(error) == {
        ("tenders[0].method", "REQUIRED"),
        ("tenders[0].amount", "INVALID_AMOUNT"),
        ("tenders[1].amount", "OUT_OF_RANGE"),
        ("tenders[2]", "INVALID_TYPE"),
        ("tenders[3].amount.currency", "INVALID_CURRENCY"),
        ("tenders[3].amount", "REQUIRED"),
        ("discounts", "INVALID_TYPE"),
        ("cashier", "INVALID_TEXT"),
        ("tip", "UNKNOWN_FIELD"),
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "Kopi", "price": 9000}, ("", "Kopi", 9000)),
        ({"name": "Kopi", "price": {"amount": 9000}, "barcode": "KG-1"}, ("KG-1", "Kopi", 9000)),
    ],
)
def test_a_typed_price_needs_a_name(body: dict[str, Any], expected: tuple[str, str, int]) -> None:
    read = requests.scan(body)
    assert (read.barcode, read.name, read.price) == expected


@pytest.mark.parametrize(
    "body",
    [{"price": 9000}, {"name": "Kopi"}, {"name": "Kopi", "price": -1}, {"name": "Kopi", "price": 1, "product_id": "prd_1"}],
)
def test_a_typed_price_alone_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        requests.scan(body)


def test_counts_may_be_zero_and_edits_name_what_changes() -> None:
    assert requests.count({"barcode": "KG-1", "counted": "0"}) == requests.CountRequest("KG-1", "", 0)
    assert requests.edit({"price": 500, "active": False}) == requests.EditRequest(price=500, active=False)
    assert requests.edit({"barcodes": ["8991002101418"]}).barcodes == ("8991002101418",)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"counted": 1},
        {"barcode": "KG-1"},
        {"barcode": "KG-1", "counted": -1},
        {"barcode": "a", "product_id": "b", "counted": 1},
    ],
)
def test_a_count_that_says_too_little_or_too_much_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        requests.count(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"price": "x"},
        {"barcodes": "KG-1"},
        {"barcodes": ["8991002101419"]},
        {"active": 1},
        {"cost": 5},
        {"barcodes": ["A"] * 21},
    ],
)
def test_an_edit_that_is_none_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        requests.edit(body)
