"""Products: create, change, archive, import; what is taken, what is freed, what is announced."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.platform import paging
from gipos.v1.catalog_pb2 import (
    DeleteProductRequest,
    GetProductRequest,
    ImportProductsRequest,
    ListProductsRequest,
    Product,
    ProductImport,
    ProductImportStatus,
    TaxClass,
    UpdateProductRequest,
)
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import ListEventsRequest
from gipos.v1.inventory_pb2 import GetInventoryRequest

CODE = "8991234567006"  # a made-up EAN-13 with a right check digit
UPC = "089686604443"

pytestmark = pytest.mark.parametrize("shop", ["over gRPC", "in process", "one by one"], indirect=True)


async def types(shop: Any) -> list[str]:
    events = await shop.events.ListEvents(ListEventsRequest(page_size=200), metadata=shop.auth)
    return [event.type for event in events.events]


async def test_a_product_gets_defaults_and_is_announced(shop: Any) -> None:
    product = await shop.product(barcodes=[UPC])
    assert product.active
    assert product.unit == "pcs"
    assert product.tax_class == TaxClass.TAX_CLASS_PPN
    assert list(product.barcodes) == ["0" + UPC]
    assert await shop.products.GetProduct(GetProductRequest(id=product.id), metadata=shop.auth) == product
    assert await types(shop) == ["product.created"]


async def test_a_code_belongs_to_one_product_until_it_is_archived(shop: Any) -> None:
    first = await shop.product(sku="KS", barcodes=["TOKO-1"])
    for fields in ({"sku": "KS"}, {"barcodes": ["TOKO-1"]}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.product("Lain", **fields)
        assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    await shop.products.DeleteProduct(DeleteProductRequest(id=first.id), metadata=shop.auth)
    second = await shop.product("Lain", sku="KS", barcodes=["TOKO-1"])
    archived = await shop.products.GetProduct(GetProductRequest(id=first.id), metadata=shop.auth)
    assert archived.HasField("delete_time")
    listed = await shop.products.ListProducts(ListProductsRequest(), metadata=shop.auth)
    assert [product.id for product in listed.products] == [second.id]


async def test_patch_changes_what_is_named_and_put_clears_the_rest(shop: Any) -> None:
    product = await shop.product(category="Minuman", sku="KS")
    patch = UpdateProductRequest(
        product=Product(id=product.id, price=Money(amount=20000)), update_mask=FieldMask(paths=["price"]), etag=product.etag
    )
    changed = await shop.products.UpdateProduct(patch, metadata=shop.auth)
    assert (changed.price.amount, changed.category, changed.sku) == (20000, "Minuman", "KS")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.UpdateProduct(patch, metadata=shop.auth)  # the etag is from before
    assert caught.value.code() == grpc.StatusCode.ABORTED
    put = UpdateProductRequest(
        product=Product(id=product.id, name="Kopi", price=Money(amount=1)), update_mask=FieldMask(paths=["*"])
    )
    replaced = await shop.products.UpdateProduct(put, metadata=shop.auth)
    assert (replaced.name, replaced.category, replaced.sku, replaced.active) == ("Kopi", "", "", True)
    assert replaced.create_time == product.create_time
    same = await shop.products.UpdateProduct(put, metadata=shop.auth)
    assert same.etag == replaced.etag
    assert await types(shop) == ["product.created", "product.updated", "product.updated"]


async def test_a_mask_inside_the_price_leaves_the_rest_of_it(shop: Any) -> None:
    product = await shop.product()
    before = product.price.amount
    currency = UpdateProductRequest(
        product=Product(id=product.id, price=Money(currency="IDR")), update_mask=FieldMask(paths=["price.currency"])
    )
    assert (await shop.products.UpdateProduct(currency, metadata=shop.auth)).price.amount == before > 0
    amount = UpdateProductRequest(
        product=Product(id=product.id, price=Money(amount=1000)), update_mask=FieldMask(paths=["price.amount"])
    )
    assert (await shop.products.UpdateProduct(amount, metadata=shop.auth)).price == Money(amount=1000, currency="IDR")


async def test_products_are_found_by_word_barcode_and_change(shop: Any) -> None:
    coffee = await shop.product("Kopi Susu Gula Aren", barcodes=[CODE])
    await shop.product("Teh Tawar")

    async def found(**filters: Any) -> list[str]:
        page = await shop.products.ListProducts(ListProductsRequest(**filters), metadata=shop.auth)
        return [product.name for product in page.products]

    assert await found(query="susu kop") == [coffee.name]
    assert await found(query="x' | & ! :*") == []
    assert await found(barcode=CODE) == [coffee.name]
    await shop.products.DeleteProduct(DeleteProductRequest(id=coffee.id), metadata=shop.auth)
    assert await found(updated_since=coffee.create_time) == ["Teh Tawar", coffee.name]
    assert await found(show_deleted=True) == ["Teh Tawar", coffee.name]


async def test_an_import_reports_each_item_and_changes_nothing_the_second_time(shop: Any) -> None:
    def item(name: str, code: str, price: int = 1000, stock: str = "5") -> ProductImport:
        product = Product(name=name, price=Money(amount=price), barcodes=[code])
        return ProductImport(product=product, opening_stock=stock, outlet_id=shop.outlets[0])

    request = ImportProductsRequest(
        items=[item("Kopi", CODE), item("Salah", "8991234567007"), item("Ganda", CODE), item("Teh", "TOKO-2", stock="-1.5")]
    )
    first = await shop.products.ImportProducts(request, metadata=shop.auth)
    statuses = [result.status for result in first.results]
    status = ProductImportStatus
    assert statuses == [
        status.PRODUCT_IMPORT_STATUS_CREATED,
        status.PRODUCT_IMPORT_STATUS_FAILED,
        status.PRODUCT_IMPORT_STATUS_FAILED,
        status.PRODUCT_IMPORT_STATUS_CREATED,
    ]
    assert first.results[1].errors[0].reason == "INVALID_CHECK_DIGIT"
    assert first.results[2].errors[0].reason == "DUPLICATE"
    before = await types(shop)
    second = await shop.products.ImportProducts(request, metadata=shop.auth)
    assert (second.created, second.updated, second.unchanged, second.failed) == (0, 0, 2, 2)
    assert await types(shop) == before
    request.items[0].product.price.amount = 1200
    third = await shop.products.ImportProducts(request, metadata=shop.auth)
    assert (third.updated, third.results[0].product_id) == (1, first.results[0].product_id)
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=first.results[3].product_id), metadata=shop.auth)
    assert stock.on_hand == "-1.5"


@pytest.mark.parametrize(
    "make",
    [lambda: GetProductRequest(id="prd_\0"), lambda: ListProductsRequest(sku="\0"), lambda: ListProductsRequest(query="\0x")],
)
async def test_a_nul_character_is_bad_input_and_not_our_fault(shop: Any, make: Any) -> None:
    request = make()
    call = shop.products.GetProduct if isinstance(request, GetProductRequest) else shop.products.ListProducts
    try:
        await call(request, metadata=shop.auth)
    except grpc.aio.AioRpcError as error:
        known = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        assert error.code() in known  # noqa: PT017 (a word search may also just find nothing)


async def test_a_made_up_page_token_is_refused(shop: Any) -> None:
    request = ListProductsRequest(updated_since=Timestamp())
    request.page_token = paging.next_token(request, ["yesterday", "prd_x"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.ListProducts(request, metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_import_leaves_alone_what_it_does_not_name(shop: Any) -> None:
    coffee = await shop.product(barcodes=[CODE], sku="KS", category="Minuman", image_url="https://contoh.id/a.png", active=False)
    again = ProductImport(product=Product(name="Kopi Susu", price=Money(amount=18000), barcodes=[CODE]))
    same = await shop.products.ImportProducts(ImportProductsRequest(items=[again]), metadata=shop.auth)
    assert same.unchanged == 1
    again.product.price.amount = 19000
    again.product.barcodes.append("TOKO-9")
    changed = await shop.products.ImportProducts(ImportProductsRequest(items=[again]), metadata=shop.auth)
    assert changed.updated == 1
    now = await shop.products.GetProduct(GetProductRequest(id=coffee.id), metadata=shop.auth)
    assert (now.price.amount, list(now.barcodes), now.sku, now.category) == (19000, [CODE, "TOKO-9"], "KS", "Minuman")
    assert (now.image_url, now.active) == (coffee.image_url, False)
