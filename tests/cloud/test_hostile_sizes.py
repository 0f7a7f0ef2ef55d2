"""What is far too long or far too many: told to be so, and neither looked through nor remembered."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from cloud.accounts import api_keys, key_drafts, oauth_forms
from cloud.catalog import drafts as products
from cloud.customers import customers
from cloud.platform import checks, peers
from cloud.sales import drafts as sales
from cloud.sales import refunds
from gipos.v1.catalog_pb2 import Product
from gipos.v1.common_pb2 import Money
from gipos.v1.customers_pb2 import Customer
from gipos.v1.keys_pb2 import ApiKey, OAuthClient, OAuthRequest
from gipos.v1.sales_pb2 import Discount, RefundLine, Sale, SaleLine, Tender
from kernel.errors import Invalid, Violation

MEBIBYTE = 1024 * 1024


def kept(work: Callable[[int], None]) -> int:
    """Bytes that are still there after the work was done ten times with other texts."""
    work(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1, 11):
            work(number)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_an_address_of_a_picture_that_is_too_long_is_not_remembered() -> None:
    def check(number: int) -> None:
        (wrong,) = checks.web_address("image_url", f"https://{number}.example/" + "x" * MEBIBYTE)
        assert wrong.reason == "INVALID_URL"

    assert kept(check) < MEBIBYTE


def test_a_request_to_oauth_with_a_huge_address_is_refused_and_not_remembered() -> None:
    def read(number: int) -> None:
        for request in (
            OAuthRequest(method="POST", uri=f"https://{number}.example/" + "x" * MEBIBYTE),
            OAuthRequest(method="POST", uri="https://a.example/oauth/token", authorization="Basic " + "x" * MEBIBYTE),
        ):
            with pytest.raises(oauth_forms.OAuth2Error):
                oauth_forms.read(request)

    assert kept(read) < MEBIBYTE


def test_a_way_here_that_anybody_may_claim_is_not_remembered() -> None:
    resolve = peers.resolver(["127.0.0.1"])

    def ask(number: int) -> None:
        claimed = f"{number}" * MEBIBYTE
        assert resolve("203.0.113.9", claimed) == "203.0.113.9"
        assert resolve("127.0.0.1", claimed) == "127.0.0.1"
        assert resolve("127.0.0.1", f"{claimed}, 198.51.100.{number}") == f"198.51.100.{number}"

    assert kept(ask) < MEBIBYTE


def test_a_phone_number_of_megabytes_is_too_long_and_nothing_else() -> None:
    wrong = list(customers.violations(Customer(name="Siti", phone="x" * 4 * MEBIBYTE)))
    assert [(one.field, one.reason) for one in wrong] == [("phone", "TOO_LONG")]


def test_lists_that_are_far_too_long_are_not_judged_item_by_item() -> None:
    many = 100_000
    money = Money(amount=1)
    discounts, tenders = [Discount()] * many, [Tender()] * many
    sale = Sale(lines=[SaleLine()] * many, discounts=discounts, tenders=tenders)
    client = OAuthClient(name="x", scopes=["products:read"] * many, grant_types=["?"] * many, redirect_uris=["?"] * many)
    key = ApiKey(name="x", scopes=["?"] * many, allowed_addresses=["?"] * many, allowed_origins=["?"] * many)
    now = datetime.now(UTC)
    refused = refunds_of(Sale(id="sal_1", lines=[SaleLine(id="sli_1", quantity="1")]), [RefundLine(line_id="?")] * many)
    for wrong in (
        list(products.violations(Product(name="x", price=money, barcodes=[""] * many))),
        products.merged(Product(), Product(), ["?"] * many)[1],
        list(sales.violations(sale, now)),
        key_drafts.client_violations(client),
        key_drafts.key_violations(key, now, api_keys.WRITABLE),
        refused,
    ):
        assert "TOO_MANY" in {one.reason for one in wrong}
        assert len(wrong) < 2000


def refunds_of(sale: Sale, lines: list[RefundLine]) -> list[Violation]:
    with pytest.raises(Invalid) as caught:
        refunds.planned(sale, lines)
    return list(caught.value.violations)


@pytest.mark.parametrize("character", ["\0", "\x1f", "\x0b", "\ud800"])
def test_what_is_no_text_is_found_within_the_limit(character: str) -> None:
    assert [one.reason for one in checks.text("name", f"ab{character}", 3)] == ["INVALID_CHARACTER"]
    assert [one.reason for one in checks.text("name", f"abc{character}", 3)] == ["TOO_LONG"]


@pytest.mark.parametrize("text", ["", "Kopi\nSusu\t", "caf\u00e9 \U0001f600", "\x7f"])
def test_line_breaks_and_letters_of_all_kinds_are_text(text: str) -> None:
    assert not list(checks.text("note", text, 20))
