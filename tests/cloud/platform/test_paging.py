"""Page tokens: nobody reads them, nobody makes them up, and they do not live for ever."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform import paging
from gipos.v1.catalog_pb2 import ListProductsRequest
from gipos.v1.sales_pb2 import ListSalesRequest
from kernel.errors import CursorInvalid, Invalid

REQUEST = ListProductsRequest(category="Minuman", page_size=3)


@pytest.fixture(autouse=True)
def _own_keys() -> Iterator[None]:
    """Whatever a test seals with, the next one seals with fresh keys."""
    yield
    paging.seal_with([os.urandom(32)])


def test_a_token_is_read_again_with_other_page_sizes_only() -> None:
    token = paging.next_token(REQUEST, ["a", "b"])
    assert paging.position(REQUEST, token, 2) == ["a", "b"]
    assert paging.position(ListProductsRequest(category="Minuman", page_size=9, show_total_size=True), token, 2) == ["a", "b"]
    for other, parts in ((REQUEST, 1), (ListProductsRequest(category="Makanan"), 2), (ListSalesRequest(), 2)):
        with pytest.raises(CursorInvalid):
            paging.position(other, token, parts)
    assert paging.position(REQUEST, "", 2) is None


def test_a_token_shows_nothing_and_is_never_the_same_twice() -> None:
    tokens = {paging.next_token(REQUEST, ["Siti Rahayu", "cus_1"]) for _ in range(2)}
    assert len(tokens) == 2
    for token in tokens:
        assert b"Siti" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert token.replace("-", "").replace("_", "").isalnum()


def test_a_changed_token_is_refused() -> None:
    token = paging.next_token(REQUEST, ["a"])
    for place in range(0, len(token) - 1, 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(CursorInvalid):
            paging.position(REQUEST, changed, 1)


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    with pytest.raises(CursorInvalid):
        paging.unpack("page", text, "page_token")


def test_a_token_of_another_kind_is_refused() -> None:
    with pytest.raises(CursorInvalid):
        paging.position(REQUEST, paging.pack("cursor", ["x", "a"]), 1)


def test_a_token_is_good_for_three_days(monkeypatch: pytest.MonkeyPatch) -> None:
    token = paging.next_token(REQUEST, ["a"])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + paging.PAGE_TOKEN_SECONDS - 10)
    assert paging.position(REQUEST, token, 1) == ["a"]
    monkeypatch.setattr(time, "time", lambda: now + paging.PAGE_TOKEN_SECONDS + 10)
    with pytest.raises(CursorInvalid) as caught:
        paging.position(REQUEST, token, 1)
    assert "expired" in caught.value.message


def test_tokens_outlive_a_rotation_of_the_keys() -> None:
    old, new = os.urandom(32), os.urandom(32)
    paging.seal_with([old])
    token = paging.next_token(REQUEST, ["a"])
    paging.seal_with([new, old])
    assert paging.position(REQUEST, token, 1) == ["a"]
    paging.seal_with([new])
    with pytest.raises(CursorInvalid):
        paging.position(REQUEST, token, 1)


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (200, 200), (5000, 200)])
def test_sizes_have_a_default_and_a_limit(asked: int, size: int) -> None:
    assert paging.size(asked) == size
    with pytest.raises(Invalid):
        paging.size(-1)


@pytest.mark.parametrize(("wanted", "descending"), [("name", False), ("name asc", False), ("name desc", True)])
def test_orders_have_a_direction(wanted: str, descending: bool) -> None:
    order = paging.order_of({"name": ()}, wanted)
    assert order is not None
    assert order.is_descending is descending
    for unknown in ("", "price", "name up", "name  desc", "NAME"):
        assert paging.order_of({"name": ()}, unknown) is None
