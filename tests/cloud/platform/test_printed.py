"""Printed answers are what the codec and the serialiser would have made, and the shelf they are kept on has an end."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform.printed import Elements, Pages, Printed, printed, serialiser
from gipos.v1.catalog_pb2 import ListProductsResponse, Product
from gipos.v1.common_pb2 import Money
from kernel import protojson

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
PRODUCTS = st.lists(
    st.builds(
        Product,
        id=NAMES,
        name=st.one_of(NAMES, st.just('"products":[]')),
        barcodes=st.lists(NAMES, max_size=3),
        price=st.one_of(st.none(), st.builds(Money, amount=st.integers(-(10**15), 10**15))),
    ),
    max_size=4,
)


@given(PRODUCTS, NAMES, st.booleans())
def test_a_page_of_printed_elements_is_the_page(products: list[Product], token: str, more: bool) -> None:
    page = Pages(ListProductsResponse, "products").page(
        [printed(product) for product in products], next_page_token=token, has_more=more
    )
    whole = ListProductsResponse(products=products, next_page_token=token, has_more=more)
    assert page.parse() == whole
    assert page.json == protojson.encode(whole)
    assert page.next_page_token == token


def test_a_serialiser_takes_both_forms() -> None:
    product = Product(id="prd_1", etag="3")
    serialise = serialiser(Product.SerializeToString)
    assert serialise(product) == serialise(printed(product)) == product.SerializeToString()
    assert printed(product).etag == "3"


def element(size: int) -> Printed:
    return Printed(Product, b"", b"x" * size)


def test_only_the_very_version_is_found() -> None:
    elements: Elements[str] = Elements(10_000)
    elements.keep("a", 1, element(10))
    assert elements.find("a", 1) is not None
    assert elements.find("a", 2) is None
    elements.keep("a", 2, element(20))
    assert elements.find("a", 1) is None
    assert elements.find("b", 1) is None


@pytest.mark.parametrize("used", [0, 3])
def test_what_was_used_longest_ago_is_forgotten_first_and_the_size_is_kept(used: int) -> None:
    elements: Elements[int] = Elements(10 * 1500)
    kept: dict[int, Any] = {number: element(1000) for number in range(10)}
    for number, one in kept.items():
        elements.keep(number, 1, one)
    assert elements.find(used, 1) is kept[used]
    elements.keep(10, 1, element(1000))
    gone = 1 if used == 0 else 0
    assert [number for number in range(11) if elements.find(number, 1) is None] == [gone]
    elements.keep(11, 1, element(10 * 1500))
    assert all(elements.find(number, 1) is None for number in range(12))


def test_what_a_stamp_weighs_is_counted_if_it_is_told() -> None:
    elements: Elements[int] = Elements(10_000)
    for number in range(10):
        elements.keep(number, 1, element(1000), beside=2000)
    assert [number for number in range(10) if elements.find(number, 1) is not None] == [8, 9]


def test_the_shelf_takes_as_much_memory_as_it_says() -> None:
    limit = 1_000_000
    elements: Elements[int] = Elements(limit)
    tracemalloc.start()
    try:
        for number in range(3_000):
            elements.keep(number, 1, printed(Product(id=f"prd_{number}", name="Kopi", price=Money(amount=number))))
        assert elements.find(2_999, 1) is not None
        assert elements.find(0, 1) is None
        assert tracemalloc.get_traced_memory()[0] < limit * 1.2
    finally:
        tracemalloc.stop()
