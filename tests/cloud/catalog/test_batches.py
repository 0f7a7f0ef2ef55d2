"""Batches of products: one result per item, and what is wrong with one is no matter of the others."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from gipos.v1.catalog_pb2 import (
    BatchCreateProductsRequest,
    BatchProductResult,
    BatchUpdateProductsRequest,
    GetProductRequest,
    ListProductsRequest,
    Product,
    ProductUpdate,
)
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import ListEventsRequest


def draft(name: str, **fields: Any) -> Product:
    return Product(name=name, price=Money(amount=1000), **fields)


def reasons(result: BatchProductResult) -> dict[str, str]:
    return {error.field: error.reason for error in result.errors}


async def types(shop: Any) -> list[str]:
    events = await shop.events.ListEvents(ListEventsRequest(page_size=1000), metadata=shop.auth)
    return [event.type for event in events.events]


async def test_one_bad_item_does_not_stop_the_others(shop: Any) -> None:
    await shop.product("Ada", sku="ADA", barcodes=["TOKO-1"])
    items = [
        draft("Kopi", sku="KP", external_id="1", barcodes=["TOKO-2"]),
        Product(sku="x" * 65, barcodes=["8991234567007"], tax_class=99),  # type: ignore[arg-type]  # on purpose
        draft("Teh", sku="ADA", barcodes=["TOKO-1"]),
        draft("Kopi lagi", sku="KP", external_id="1", barcodes=["TOKO-2"]),
        draft("Nol\0", sku="\0"),
        draft("Roti"),
    ]
    answer = await shop.products.BatchCreateProducts(BatchCreateProductsRequest(products=items), metadata=shop.auth)
    assert (answer.succeeded, answer.failed) == (2, 4)
    assert [reasons(result) for result in answer.results] == [
        {},
        {
            "name": "REQUIRED",
            "sku": "TOO_LONG",
            "price": "REQUIRED",
            "tax_class": "INVALID_ENUM",
            "barcodes[0]": "INVALID_CHECK_DIGIT",
        },
        {"sku": "ALREADY_EXISTS", "barcodes[0]": "ALREADY_EXISTS"},
        {"sku": "ALREADY_EXISTS", "external_id": "ALREADY_EXISTS", "barcodes[0]": "ALREADY_EXISTS"},
        {"name": "INVALID_CHARACTER", "sku": "INVALID_CHARACTER"},
        {},
    ]
    for result in (answer.results[0], answer.results[5]):
        stored = await shop.products.GetProduct(GetProductRequest(id=result.product.id), metadata=shop.auth)
        assert stored == result.product
    assert await types(shop) == ["product.created"] * 3
    assert not answer.results[1].HasField("product")


async def test_a_batch_with_a_key_happens_once(shop: Any) -> None:
    request = BatchCreateProductsRequest(products=[draft("Kopi")], request_id="batch-1")
    first = await shop.products.BatchCreateProducts(request, metadata=shop.auth)
    assert await shop.products.BatchCreateProducts(request, metadata=shop.auth) == first
    assert len((await shop.products.ListProducts(ListProductsRequest(), metadata=shop.auth)).products) == 1


@pytest.mark.parametrize("count", [0, 501])
async def test_a_batch_has_one_to_five_hundred_items(shop: Any, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.BatchCreateProducts(BatchCreateProductsRequest(products=[draft("Kopi")] * count), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def update(shop: Any, *items: ProductUpdate) -> Any:
    return await shop.products.BatchUpdateProducts(BatchUpdateProductsRequest(updates=items), metadata=shop.auth)


async def test_a_batch_update_changes_what_each_item_gives(shop: Any) -> None:
    coffee = await shop.product("Kopi", 1000, category="Minuman", sku="KP")
    tea = await shop.product("Teh", 2000, category="Minuman", external_id="erp-2")
    bread = await shop.product("Roti", 3000)
    before = await types(shop)
    answer = await update(
        shop,
        ProductUpdate(product=Product(id=coffee.id, price=Money(amount=1500))),
        ProductUpdate(product=Product(external_id="erp-2"), update_mask=FieldMask(paths=["category"])),
        ProductUpdate(product=Product(id=bread.id, price=Money(amount=1)), etag="7"),
        ProductUpdate(product=Product(id="prd_missing", name="x")),
        ProductUpdate(product=Product(name="x")),
        ProductUpdate(product=Product(id=coffee.id, name="Kopi lagi")),
        ProductUpdate(product=Product(id=bread.id), update_mask=FieldMask(paths=["colour"])),
    )
    assert [reasons(result) for result in answer.results] == [
        {},
        {},
        {"etag": "VERSION_CONFLICT"},
        {"product.id": "NOT_FOUND"},
        {"product.id": "REQUIRED"},
        {"product": "DUPLICATE"},
        {"update_mask": "UNKNOWN_FIELD"},
    ]
    first, second = answer.results[0].product, answer.results[1].product
    assert (first.price.amount, first.name, first.category, first.sku) == (1500, "Kopi", "Minuman", "KP")
    assert (second.id, second.category, second.name, second.external_id) == (tea.id, "", "Teh", "erp-2")
    assert (first.etag, second.etag) == ("2", "2")
    assert (await types(shop))[len(before) :] == ["product.updated"] * 2
    again = await update(shop, ProductUpdate(product=Product(id=coffee.id, price=Money(amount=1500))))
    assert again.results[0].product == first


async def test_codes_move_between_the_products_of_a_batch(shop: Any) -> None:
    one = await shop.product("Satu", sku="A", barcodes=["TOKO-1", "TOKO-9"])
    two = await shop.product("Dua", sku="B", barcodes=["TOKO-2"])
    answer = await update(
        shop,
        ProductUpdate(product=Product(id=one.id, sku="C", barcodes=["TOKO-9"])),
        ProductUpdate(product=Product(id=two.id, sku="A", barcodes=["TOKO-1"])),
    )
    assert [reasons(result) for result in answer.results] == [{}, {}]
    found = await shop.products.ListProducts(ListProductsRequest(barcode="TOKO-1"), metadata=shop.auth)
    assert [(product.id, product.sku) for product in found.products] == [(two.id, "A")]
    refused = await update(shop, ProductUpdate(product=Product(id=one.id, sku="a", barcodes=["TOKO-1"])))
    assert reasons(refused.results[0]) == {"barcodes[0]": "ALREADY_EXISTS"}


async def test_five_hundred_products_take_a_handful_of_statements(shop: Any, statements: list[str]) -> None:
    items = [draft(f"Produk {index}", sku=f"S{index}", barcodes=[f"TOKO-{index}"]) for index in range(500)]
    made = await shop.products.BatchCreateProducts(BatchCreateProductsRequest(products=items), metadata=shop.auth)
    assert made.succeeded == 500
    assert len(statements) < 20
    statements.clear()
    changes = [ProductUpdate(product=Product(id=result.product.id, price=Money(amount=2))) for result in made.results]
    assert (await update(shop, *changes)).succeeded == 500
    assert len(statements) < 20
