"""Pages print what they list from memory, and nobody can tell but by the clock."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gipos.v1 import catalog_pb2
from kernel import protojson
from kernel.protojson import elements
from kernel.protojson.encoders import Writer

from .strategies import messages


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    for kept in elements._all:
        kept.forget()


def kept() -> int:
    return sum(len(one) for one in elements._all)


def page(*names: str) -> Any:
    return catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id="prd_1", name=name) for name in names])


def test_an_element_is_kept_by_its_content() -> None:
    writer = Writer(catalog_pb2.ListProductsResponse)
    first = writer.write(page("kopi", "teh"))
    assert kept() == 2
    assert writer.write(page("kopi", "teh")) == first
    assert kept() == 2
    changed = orjson.loads(writer.write(page("kopi", "gula")))
    assert [product["name"] for product in changed["products"]] == ["kopi", "gula"]
    assert kept() == 3


def test_what_is_printed_from_memory_is_what_is_printed_anew() -> None:
    writer = Writer(catalog_pb2.ListProductsResponse)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages(catalog_pb2.Product), max_size=3))
    def check(products: list[Any]) -> None:
        listed = catalog_pb2.ListProductsResponse(products=[*products, *products], next_page_token="x")
        for _ in range(2):
            assert writer.write(listed) == orjson.dumps(writer.convert(listed))

    check()


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "MOST_BYTES", 20_000)
    writer = Writer(catalog_pb2.ListProductsResponse)
    for number in range(500):
        text = writer.write(page(f"kopi {number}"))
        assert orjson.loads(text)["products"][0]["name"] == f"kopi {number}"
    assert kept() < 100


def test_what_is_kept_takes_as_much_memory_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "MOST_BYTES", 1_000_000)
    writer = Writer(catalog_pb2.ListProductsResponse)
    writer.write(page("kopi"))
    tracemalloc.start()
    try:
        for number in range(3_000):
            writer.write(page(f"kopi {number}"))
            assert tracemalloc.get_traced_memory()[0] < 1_200_000
    finally:
        tracemalloc.stop()
    assert kept() > 300


def test_an_element_without_json_form_is_a_failure_each_time() -> None:
    broken = page("kopi")
    broken.products[0].create_time.seconds = 10**15
    for _ in range(2):
        with pytest.raises(protojson.EncodingFailed):
            Writer(catalog_pb2.ListProductsResponse).write(broken)
    assert kept() == 0
