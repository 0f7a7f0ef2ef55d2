"""Lists of products: filters, search, orders, pages that nothing shifts, and indexes that are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.catalog import listing
from gipos.v1.catalog_pb2 import DeleteProductRequest, ListProductsRequest, Product, TaxClass, UpdateProductRequest
from gipos.v1.common_pb2 import Money

CODE = "8991234567006"
UPC = "089686604443"


def violations(error: Any) -> dict[str, str]:
    """Field to reason."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.reason for violation in bad.field_violations})
    return found


async def names(shop: Any, **fields: Any) -> list[str]:
    page = await shop.products.ListProducts(ListProductsRequest(**fields), metadata=shop.auth)
    assert page.has_more == bool(page.next_page_token)
    return [product.name for product in page.products]


async def refused(shop: Any, **fields: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.products.ListProducts(ListProductsRequest(**fields), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value


async def test_filters_narrow_a_list_and_add_up(shop: Any) -> None:
    await shop.product("Kopi", 18000, category="Minuman", sku="KP-1", external_id="erp-1", barcodes=[UPC])
    await shop.product("Teh", 5000, category="Minuman", tax_class=TaxClass.TAX_CLASS_BEBAS)
    await shop.product("Roti", 12000, category="Makanan", active=False)
    assert await names(shop, category="minuman") == ["Teh", "Kopi"]
    assert await names(shop, active=False) == ["Roti"]
    assert await names(shop, active=True) == ["Teh", "Kopi"]
    assert await names(shop, tax_class=TaxClass.TAX_CLASS_BEBAS) == ["Teh"]
    assert await names(shop, price_min=5000, price_max=12000) == ["Roti", "Teh"]
    assert await names(shop, price_max=0) == []
    assert await names(shop, sku="kp-1") == ["Kopi"]
    assert await names(shop, external_id="erp-1") == ["Kopi"]
    assert await names(shop, barcode=UPC) == ["Kopi"]
    assert await names(shop, barcode="0" + UPC) == ["Kopi"]
    assert await names(shop, category="Minuman", price_min=6000) == ["Kopi"]


SEARCHES = {
    "minum": True,  # the stem of "minuman"
    "diminum": True,  # another affix of the same stem
    "MINUMAN": True,
    "minuma": True,  # the last word may be begun only
    "dingin minuman": True,  # in any order
    "soda lemon": True,
    "ton/soda": True,
    "ton lemo": True,
    "botol": False,
    "minu dingin": False,  # only the last word may be begun only
    "lemon jeruk": False,
    UPC: True,  # a whole barcode, in any of its forms
    "0" + UPC: True,
    UPC[:-1]: False,
    "md-100/a": True,  # a whole SKU, whatever its case
    "x' | & ! :*": False,
    "'": False,
    "%": False,
}


async def test_search_knows_indonesian_words_beginnings_barcodes_and_skus(shop: Any) -> None:
    drink = "Minuman Dingin Ton/Soda (Lemon) 1.5L"
    await shop.product(drink, barcodes=[UPC], sku="MD-100/A")
    await shop.product("Roti Tawar")
    assert {query: await names(shop, query=query) for query in SEARCHES} == {
        query: [drink] if found else [] for query, found in SEARCHES.items()
    }


async def test_search_never_leaves_the_merchant(shop: Any) -> None:
    product = await shop.product("Kopi Susu", barcodes=[UPC], sku="KP")
    matching = sa.text("SELECT * FROM matching_products(CAST(:words AS text[]), :code, :sku)")
    wanted = {"words": ["kopi", "sus"], "code": "0" + UPC, "sku": "kp"}
    for tenant_id, found in ((shop.tenant_id, [product.id]), ("ten_other", []), ("", [])):
        async with shop.database.reading(tenant_id) as connection:
            assert list((await connection.execute(matching, wanted)).scalars()) == found


async def walk(shop: Any, between: Any = None, **fields: Any) -> list[Product]:
    found: list[Product] = []
    token = ""
    while True:
        request = ListProductsRequest(page_size=3, page_token=token, **fields)
        page = await shop.products.ListProducts(request, metadata=shop.auth)
        found += page.products
        token = page.next_page_token
        if not token:
            return found
        if between is not None:
            await between()


@pytest.mark.parametrize("order", ["create_time", "name", "price", "sku", "update_time"])
async def test_every_order_pages_through_everything_once_while_others_add(shop: Any, order: str) -> None:
    for index in range(8):
        # Ties on purpose: two names and two prices only.
        await shop.product(f"Produk {'aB'[index % 2]}", 1000 * (index % 2 + 1), sku=f"s{index}" if index % 3 else "")
    mine = {product.id for product in await walk(shop)}
    assert len(mine) == 8
    keys: dict[str, Callable[[Product], Any]] = {
        "create_time": lambda product: product.id,
        "name": lambda product: (product.name.lower(), product.id),
        "price": lambda product: (product.price.amount, product.id),
        "sku": lambda product: (product.sku.lower(), product.id),
        "update_time": lambda product: (product.update_time.ToNanoseconds(), product.id),
    }
    key = keys[order]

    async def add() -> None:
        await shop.product("Produk a", 1000)

    up = await walk(shop, between=add, order_by=order)
    assert [key(product) for product in up] == sorted(key(product) for product in up)
    assert {product.id for product in up} >= mine
    assert len({product.id for product in up}) == len(up)
    down = await walk(shop, order_by=f"{order} desc")
    assert [key(product) for product in down] == sorted((key(product) for product in down), reverse=True)
    assert {product.id for product in down} >= {product.id for product in up}


async def test_a_total_is_counted_only_when_asked(shop: Any) -> None:
    for index in range(3):
        await shop.product(f"Kopi {index}", category="Minuman")
    await shop.product("Roti")
    plain = await shop.products.ListProducts(ListProductsRequest(page_size=1, category="Minuman"), metadata=shop.auth)
    assert not plain.HasField("total_size")
    request = ListProductsRequest(page_size=1, category="Minuman", show_total_size=True)
    counted = await shop.products.ListProducts(request, metadata=shop.auth)
    assert (counted.total_size, len(counted.products)) == (3, 1)
    request.page_token = counted.next_page_token
    assert (await shop.products.ListProducts(request, metadata=shop.auth)).total_size == 3


async def test_everything_that_is_wrong_is_said_at_once(shop: Any) -> None:
    error = await refused(
        shop,
        page_size=-1,
        tax_class=99,
        order_by="colour",
        price_min=5,
        price_max=4,
        updated_since=Timestamp(seconds=10**15),
        query="x" * 201,
        sku="a\0",
    )
    assert violations(error) == {
        "page_size": "OUT_OF_RANGE",
        "tax_class": "INVALID_ENUM",
        "order_by": "INVALID",
        "price_max": "OUT_OF_RANGE",
        "updated_since": "INVALID_TIME",
        "query": "TOO_LONG",
        "sku": "INVALID_CHARACTER",
    }
    assert "order_by" in violations(await refused(shop, order_by="name", updated_since=Timestamp()))
    assert "order_by" in violations(await refused(shop, order_by="name up"))


async def test_a_page_token_is_good_for_its_own_listing_only(shop: Any) -> None:
    for index in range(3):
        await shop.product(f"Kopi {index}", category="Minuman")
    page = await shop.products.ListProducts(ListProductsRequest(page_size=1, category="Minuman"), metadata=shop.auth)
    token = page.next_page_token
    again = await shop.products.ListProducts(
        ListProductsRequest(page_size=2, page_token=token, category="Minuman"), metadata=shop.auth
    )
    assert len(again.products) == 2
    for wrong in ({"category": "Makanan"}, {"category": "Minuman", "order_by": "name"}, {}):
        assert violations(await refused(shop, page_token=token, **wrong)) == {"page_token": "CURSOR_INVALID"}


async def test_a_poller_by_change_misses_nothing_that_commits_late(shop: Any) -> None:
    late, early = await shop.product("Terlambat"), await shop.product("Cepat")

    def rename(product: Product) -> UpdateProductRequest:
        return UpdateProductRequest(product=Product(id=product.id, name=f"{product.name} 2", price=Money(amount=1)))

    since = early.update_time
    hold, started = asyncio.Event(), asyncio.Event()

    async def slow_change() -> None:
        async with shop.database.transaction(shop.tenant_id) as tx:
            await tx.connection.execute(
                sa.text("UPDATE products SET name = 'Terlambat 2', updated_at = :now WHERE id = :id"),
                {"now": tx.now, "id": late.id},
            )
            started.set()
            await hold.wait()

    slow = asyncio.create_task(slow_change())
    await started.wait()
    changed = await shop.products.UpdateProduct(rename(early), metadata=shop.auth)
    seen: dict[str, Product] = {}

    async def poll() -> list[str]:
        nonlocal since
        page = await shop.products.ListProducts(ListProductsRequest(updated_since=since), metadata=shop.auth)
        for product in page.products:
            seen[product.id] = product
            since = product.update_time
        return [product.name for product in page.products]

    # The later change is committed, the earlier one is not: neither is shown, or the earlier one would be passed over.
    assert "Cepat 2" not in await poll()
    hold.set()
    await slow
    assert await poll() == ["Terlambat 2", "Cepat 2"]
    assert seen[early.id] == changed
    await shop.products.DeleteProduct(DeleteProductRequest(id=late.id), metadata=shop.auth)
    assert await poll() == ["Cepat 2", "Terlambat 2"]
    assert seen[late.id].HasField("delete_time")


_FILL = """
    INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, tax_class, image_url, active, external_id,
                          created_at, updated_at)
    SELECT :tenant_id, 'prd_' || lpad(n::text, 26, '0'), 'Produk ' || md5(n::text), 'SKU' || n, '{}', 'K' || n % 20, 'pcs',
           1000 * (n % 300), 2, '', true, '', now() + n * interval '1 second', now() + n * interval '1 second'
    FROM generate_series(1, 5000) AS n
"""


async def test_five_thousand_products_are_listed_by_index_in_every_order(shop: Any, database_url: str) -> None:
    """The statements are caught on their way to the database, and PostgreSQL is asked how it would answer them."""
    async with shop.database.across_tenants() as connection:
        await connection.execute(sa.text(_FILL), {"tenant_id": shop.tenant_id})
        await connection.execute(
            sa.text("UPDATE products SET tenant_id = 'ten_other' WHERE id > 'prd_' || lpad('4900', 26, '0')")
        )
    owner = await asyncpg.connect(database_url)
    await owner.execute("ANALYZE products")
    await owner.close()
    wanted = {
        "create_time": "products_pkey",
        "name": "products_name",
        "price desc": "products_price",
        "sku": "products_sku_key",
        "update_time desc": "products_updated",
    }
    async with shop.database.reading(shop.tenant_id) as connection:
        caught: list[tuple[str, Any]] = []

        def catch(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            caught.append((statement, parameters))

        sa.event.listen(connection.sync_connection, "before_cursor_execute", catch)
        for order, index in wanted.items():
            request = ListProductsRequest(order_by=order, active=True)
            page = await listing.page(connection, shop.tenant_id, request)
            request.page_token = page.next_page_token
            caught.clear()
            assert len((await listing.page(connection, shop.tenant_id, request)).products) == 50
            statement, parameters = caught[-1]
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            plan = "\n".join(row[0] for row in await raw.fetch("EXPLAIN " + statement, *parameters))
            assert index in plan, f"{order}: {plan}"
            assert "Sort" not in plan, f"{order}: {plan}"
