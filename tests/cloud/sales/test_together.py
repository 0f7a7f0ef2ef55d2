"""Sales and products that share a transaction: one commit, and nobody pays for a neighbour's mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest

from gipos.v1.catalog_pb2 import CreateProductRequest, ListProductsRequest, Product
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import ListEventsRequest
from gipos.v1.inventory_pb2 import GetInventoryRequest
from gipos.v1.sales_pb2 import CreateSaleRequest, ListSalesRequest, Sale, SaleLine
from kernel.errors import Unreachable


def line(product: Any, quantity: str = "1") -> SaleLine:
    return SaleLine(product_id=product.id, quantity=quantity)


async def sell(shop: Any, *lines: SaleLine, key: str = "", **fields: Any) -> Any:
    request = CreateSaleRequest(sale=Sale(outlet_id=shop.outlets[0], lines=lines, **fields), request_id=key)
    return await shop.sales.CreateSale(request, metadata=shop.auth)


async def events(shop: Any) -> list[Any]:
    found, cursor = [], ""
    while True:
        page = await shop.events.ListEvents(ListEventsRequest(page_size=200, cursor=cursor), metadata=shop.auth)
        found += page.events
        cursor = page.next_cursor
        if not page.has_more:
            return found


async def test_many_sales_at_once_share_commits_and_leave_no_gap(shop: Any, sql: Any) -> None:
    coffee, tea = await shop.product(stock="100"), await shop.product("Teh", stock="100")
    sold = await asyncio.gather(*(sell(shop, line(coffee, "2"), line(tea), line(coffee)) for _ in range(20)))
    assert len({sale.id for sale in sold}) == 20
    async with shop.database.across_tenants() as connection:
        commits = (await connection.exec_driver_sql("SELECT count(DISTINCT xmin::text) FROM sales")).scalar_one()
        gaps = (await connection.exec_driver_sql("SELECT count(*), min(seq), max(seq), lane FROM events GROUP BY lane")).all()
        moved = "SELECT sum(quantity), min(on_hand_after) FROM movements WHERE reason = 'sale' GROUP BY product_id ORDER BY 1"
        after = (await connection.exec_driver_sql(moved)).all()
        entries = "SELECT count(*), count(DISTINCT resource_ids) FROM audit_entries WHERE action = 'sales.create'"
        audited = (await connection.exec_driver_sql(entries)).one()
    assert commits < 20
    assert all((count, low) == (high, 1) for count, low, high, _ in gaps)
    assert [tuple(map(int, row)) for row in after] == [(-60_000, 40_000), (-20_000, 80_000)]
    assert tuple(audited) == (20, 20)
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=coffee.id), metadata=shop.auth)
    assert stock.on_hand == "40"
    told = [event.subject.id for event in await events(shop) if event.type == "sale.created"]
    assert sorted(told) == sorted(sale.id for sale in sold)


async def test_a_sale_that_cannot_be_takes_no_other_down(shop: Any) -> None:
    coffee = await shop.product(stock="100")
    archived = Product(id="prd_06h0hk18j7df7kb14rhkytqawk")
    calls = [
        sell(shop, line(coffee)),
        sell(shop, line(archived)),
        sell(shop, line(coffee), external_id="web-1"),
        sell(shop, line(coffee), external_id="web-1"),
        sell(shop, line(coffee), note="\x00"),
        sell(shop, line(coffee)),
    ]
    done = await asyncio.gather(*calls, return_exceptions=True)
    codes = [answer.code() if isinstance(answer, grpc.aio.AioRpcError) else grpc.StatusCode.OK for answer in done]
    assert codes[0] == codes[5] == grpc.StatusCode.OK
    assert codes[1] == codes[4] == grpc.StatusCode.INVALID_ARGUMENT
    assert sorted([codes[2].name, codes[3].name]) == ["ALREADY_EXISTS", "OK"]
    listed = await shop.sales.ListSales(ListSalesRequest(), metadata=shop.auth)
    assert len(listed.sales) == 3
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=coffee.id), metadata=shop.auth)
    assert stock.on_hand == "97"


async def test_keys_hold_among_neighbours_and_for_repetitions(shop: Any) -> None:
    coffee = await shop.product(stock="100")
    first = await asyncio.gather(
        *(sell(shop, line(coffee), key=f"k{number % 8}") for number in range(16)), return_exceptions=True
    )
    ids = {sale.id for sale in first if not isinstance(sale, BaseException)}
    assert len(ids) == 8
    call = shop.sales.CreateSale(
        CreateSaleRequest(sale=Sale(outlet_id=shop.outlets[0], lines=[line(coffee)]), request_id="k3"), metadata=shop.auth
    )
    assert (await call).id in ids
    assert ("idempotent-replayed", "true") in [tuple(item) for item in await call.initial_metadata()]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sell(shop, line(coffee, "2"), key="k3")
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION or "key" in (caught.value.details() or "").lower()
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=coffee.id), metadata=shop.auth)
    assert stock.on_hand == "92"


async def test_products_added_at_once_are_what_they_would_be_one_by_one(shop: Any) -> None:
    drafts = [
        Product(
            name=f" Kopi {number} ", price=Money(amount=number), barcodes=[f"TOKO-{number}"] * (number % 3), sku=f"S{number % 9}"
        )
        for number in range(10)
    ]
    requests = [CreateProductRequest(product=draft, request_id=f"p{index}") for index, draft in enumerate(drafts)]
    done = await asyncio.gather(
        *(shop.products.CreateProduct(request, metadata=shop.auth) for request in requests), return_exceptions=True
    )
    made = [product for product in done if not isinstance(product, BaseException)]
    refused = [error for error in done if isinstance(error, grpc.aio.AioRpcError)]
    assert (len(made), [error.code() for error in refused]) == (9, [grpc.StatusCode.ALREADY_EXISTS])
    listed = await shop.products.ListProducts(ListProductsRequest(), metadata=shop.auth)
    assert {product.id: product for product in listed.products} == {product.id: product for product in made}
    created = [event for event in await events(shop) if event.type == "product.created"]
    assert sorted(event.subject.id for event in created) == sorted(product.id for product in made)
    again = await shop.products.CreateProduct(requests[1], metadata=shop.auth)
    assert again in made


async def test_whoever_leaves_in_the_middle_does_not_undo_it_for_the_others(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    tasks = [asyncio.ensure_future(sell(shop, line(coffee), key=f"k{number}")) for number in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in done) >= 5


async def test_an_unknown_outcome_is_said_and_nothing_is_tried_again(
    shop: Any, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    coffee = await shop.product(stock="10")
    execute = asyncpg.Connection.execute

    async def cut(self: Any, query: str, *arguments: Any, **more: Any) -> str:
        result: str = await execute(self, query, *arguments, **more)
        if query == "COMMIT":
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return result

    monkeypatch.setattr(asyncpg.Connection, "execute", cut)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sell(shop, line(coffee))
    monkeypatch.undo()
    assert caught.value.code().value[0] == Unreachable.code
    listed = await shop.sales.ListSales(ListSalesRequest(), metadata=shop.auth)
    assert len(listed.sales) == 1
