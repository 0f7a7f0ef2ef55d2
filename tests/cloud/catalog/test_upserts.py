"""The integrator's own id as the key."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from gipos.v1.catalog_pb2 import (
    DeleteProductRequest,
    GetProductRequest,
    ListProductsRequest,
    Product,
    UpsertProductRequest,
)
from gipos.v1.common_pb2 import Money


def put(name: str, external_id: str = "erp-1", etag: str = "", **fields: Any) -> UpsertProductRequest:
    return UpsertProductRequest(
        product=Product(name=name, price=Money(amount=1000), external_id=external_id, **fields), etag=etag
    )


async def code_of(call: Any) -> str:
    await call
    return str(dict(await call.initial_metadata()).get("x-http-code", ""))


async def test_the_first_put_creates_and_the_next_replaces(shop: Any) -> None:
    call = shop.products.UpsertProduct(put("Kopi", sku="KP"), metadata=shop.auth)
    assert await code_of(call) == "201"
    made = await call
    call = shop.products.UpsertProduct(put("Kopi Susu"), metadata=shop.auth)
    assert await code_of(call) == ""
    replaced = await call
    assert (replaced.id, replaced.name, replaced.sku, replaced.etag) == (made.id, "Kopi Susu", "", "2")
    found = await shop.products.GetProduct(GetProductRequest(external_id="erp-1"), metadata=shop.auth)
    assert found == replaced


async def test_a_condition_holds_for_what_is_there(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.UpsertProduct(put("Kopi", etag="1"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    await shop.products.UpsertProduct(put("Kopi"), metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.UpsertProduct(put("Teh", etag="7"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert (await shop.products.UpsertProduct(put("Teh", etag="1"), metadata=shop.auth)).name == "Teh"


async def test_many_first_puts_at_once_make_one_product(shop: Any) -> None:
    calls = [shop.products.UpsertProduct(put(f"Kopi {index}"), metadata=shop.auth) for index in range(10)]
    codes = await asyncio.gather(*(code_of(call) for call in calls))
    assert sorted(codes) == [""] * 9 + ["201"]
    assert len((await shop.products.ListProducts(ListProductsRequest(), metadata=shop.auth)).products) == 1


async def test_an_archived_product_frees_its_external_id(shop: Any) -> None:
    made = await shop.products.UpsertProduct(put("Kopi"), metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.DeleteProduct(DeleteProductRequest(id=made.id, etag="7"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    await shop.products.DeleteProduct(DeleteProductRequest(id=made.id, etag=made.etag), metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.GetProduct(GetProductRequest(external_id="erp-1"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert (await shop.products.UpsertProduct(put("Kopi"), metadata=shop.auth)).id != made.id


async def test_a_put_without_a_key_is_refused(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.UpsertProduct(put("Kopi", external_id=" "), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.GetProduct(GetProductRequest(), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
