"""The resources as an integrator sees them: REST through the real gateway, with its status codes, conditions and paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.contract import installed

Call = Callable[..., Awaitable[tuple[int, dict[str, Any], dict[str, str]]]]


@pytest.fixture
async def rest(shop: Any) -> AsyncIterator[Call]:
    """Status, body and headers of a request under /api/v1."""
    gateway = Gateway(installed(), lambda: GrpcChannel(f"127.0.0.1:{shop.port}"))
    server = Server(configured(gateway, graceful_seconds=2), gateway)
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done()
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
    async with aiohttp.ClientSession(headers=dict(shop.auth)) as session:

        async def call(method: str, path: str, json: Any = None, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.request(method, base + path, json=json, headers=named) as answer:
                body = await answer.json() if answer.status != 204 else {}
                return answer.status, body, {name.lower(): value for name, value in answer.headers.items()}

        yield call
    server.should_exit = True
    await task


def reasons(body: dict[str, Any]) -> dict[str, str]:
    return {error["field"]: error["reason"] for error in body["errors"]}


async def test_a_catalogue_is_kept_by_the_integrators_own_ids(rest: Call) -> None:
    draft = {"name": "Kopi", "price": {"amount": 18000}, "category": "Minuman"}
    status, made, headers = await rest("PUT", "/products/by-external-id/erp%2F1", draft)
    assert (status, made["external_id"], headers["etag"]) == (201, "erp/1", '"1"')
    status, replaced, _ = await rest("PUT", "/products/by-external-id/erp%2F1", {**draft, "name": "Kopi Susu"}, If_Match='"1"')
    assert (status, replaced["id"], replaced["name"]) == (200, made["id"], "Kopi Susu")
    status, body, _ = await rest("PUT", "/products/by-external-id/erp%2F1", draft, If_Match='"1"')
    assert (status, body["reason"]) == (412, "VERSION_CONFLICT")
    status, found, _ = await rest("GET", "/products/by-external-id/erp%2F1")
    assert (status, found) == (200, replaced)
    status, body, _ = await rest("PUT", "/products/by-external-id/erp-2", {"name": "", "barcodes": ["8991234567007"]})
    assert status == 400
    assert reasons(body) == {"name": "REQUIRED", "price": "REQUIRED", "barcodes[0]": "INVALID_CHECK_DIGIT"}
    status, _, _ = await rest("DELETE", f"/products/{made['id']}", If_Match='"1"')
    assert status == 412
    status, _, _ = await rest("DELETE", f"/products/{made['id']}", If_Match='"2"')
    assert status == 204
    status, body, _ = await rest("GET", "/products/by-external-id/erp%2F1")
    assert (status, body["reason"]) == (404, "RESOURCE_NOT_FOUND")


async def test_pages_are_walked_by_their_tokens(rest: Call) -> None:
    items = [{"name": f"Produk {index}", "price": {"amount": 1000 * index}} for index in range(5)]
    status, body, _ = await rest("POST", "/products:batchCreate", {"products": items}, Idempotency_Key="batch-1")
    assert (status, body["succeeded"], body["failed"]) == (200, 5, 0)
    assert await rest("POST", "/products:batchCreate", {"products": items}, Idempotency_Key="batch-1") is not None
    path = "/products?order_by=price%20desc&page_size=2&show_total_size=true&price_min=1000"
    prices, token = [], ""
    while True:
        status, page, _ = await rest("GET", f"{path}&page_token={token}")
        assert (status, page["total_size"]) == (200, 4)
        prices += [product["price"]["amount"] for product in page["products"]]
        token = page["next_page_token"]
        if not token:
            break
    assert prices == [4000, 3000, 2000, 1000]
    status, body, _ = await rest("GET", "/products?order_by=colour&page_size=-1&price_min=-1")
    assert (status, reasons(body)) == (
        400,
        {"order_by": "INVALID", "page_size": "OUT_OF_RANGE", "price_min": "OUT_OF_RANGE"},
    )
    status, body, _ = await rest("GET", "/products?page_token=abc")
    assert (status, body["reason"]) == (404, "CURSOR_INVALID")


async def test_stock_is_counted_on_a_condition_and_adjusted_for_a_reason(rest: Call, shop: Any) -> None:
    product, outlet = await shop.product(), shop.outlets[0]
    status, body, _ = await rest("PUT", f"/inventory/{product.id}", {"outlet_id": outlet, "on_hand": 5}, If_Match='"0"')
    assert (status, body["on_hand"]) == (200, "5")
    status, body, _ = await rest("PUT", f"/inventory/{product.id}", {"outlet_id": outlet, "on_hand": 6}, If_Match='"0"')
    assert (status, body["reason"]) == (412, "VERSION_CONFLICT")
    adjust = {"outlet_id": outlet, "quantity": -1.5, "reason": "damaged"}
    for _ in range(2):
        status, body, _ = await rest("POST", f"/inventory/{product.id}:adjust", adjust, Idempotency_Key="adj-1")
        assert (status, body["on_hand"]) == (200, "3.5")
    status, body, _ = await rest("POST", f"/inventory/{product.id}:adjust", {**adjust, "reason": "stolen", "quantity": "0"})
    assert (status, reasons(body)) == (400, {"reason": "INVALID", "quantity": "OUT_OF_RANGE"})
    items = [{"product_id": product.id, **adjust}, {"product_id": "prd_x", **adjust}]
    status, body, _ = await rest("POST", "/inventory:batchAdjust", {"adjustments": items})
    assert (status, body["succeeded"], body["results"][1]["errors"][0]["field"]) == (200, 1, "product_id")
    status, body, _ = await rest("GET", "/inventory?available_below=2.5")
    assert (status, [level["available"] for level in body["levels"]]) == (200, ["2"])
    status, body, _ = await rest("GET", f"/inventory/{product.id}/movements?reason=damaged")
    assert (status, len(body["movements"])) == (200, 2)


async def test_customers_and_sales_are_found_by_their_own_ids(rest: Call, shop: Any) -> None:
    status, made, _ = await rest("PUT", "/customers/by-external-id/crm-1", {"name": "Siti", "phone": "081234567890"})
    assert status == 201
    status, body, _ = await rest("POST", "/customers", {"name": "Sitti", "phone": "+6281234567890"})
    assert (status, reasons(body)) == (409, {"phone": "ALREADY_EXISTS"})
    assert made["id"] in body["errors"][0]["message"]
    status, _, _ = await rest("POST", "/customers?allow_duplicate=true", {"name": "Sitti", "phone": "+6281234567890"})
    assert status == 201
    status, body, _ = await rest("GET", "/customers:findDuplicates?phone=0812-3456-7890&name=siti")
    assert (status, [candidate["matches"] for candidate in body["candidates"]]) == (200, [["phone", "name"], ["phone", "name"]])
    product = await shop.product()
    sale = {
        "outlet_id": shop.outlets[0],
        "lines": [{"product_id": product.id, "quantity": 1}],
        "customer_id": made["id"],
        "external_id": "web-1",
        "tenders": [{"method": "qris", "amount": {"amount": 18000}}],
    }
    status, body, _ = await rest("POST", "/sales", sale)
    assert status == 201
    status, found, _ = await rest("GET", "/sales/by-external-id/web-1")
    assert (status, found) == (200, body)
    status, page, _ = await rest("GET", f"/sales?payment_method=qris&customer_id={made['id']}&order_by=total&status=completed")
    assert (status, [one["id"] for one in page["sales"]]) == (200, [body["id"]])
    status, body, _ = await rest("GET", "/sales?date_from=2026-02-30&status=gone")
    assert status == 400
