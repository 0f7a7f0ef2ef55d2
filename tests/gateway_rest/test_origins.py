"""Web pages as callers: preflights without a key, the cloud's word on success, errors a page can read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from gipos.v1 import catalog_pb2, events_pb2

PAGE = "https://toko.example"
ASK = {"Origin": PAGE, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that has no key."""
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_preflight_needs_no_key_and_reaches_nobody(cloud: Any, rest: Any, browser: Any) -> None:
    async with browser.options(f"{rest.url}/api/v1/products/prd_1", headers=ASK) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert {"GET", "PUT", "PATCH", "DELETE"} <= {*answer.headers["Access-Control-Allow-Methods"].split(", ")}
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"authorization", "x-api-key", "content-type", "idempotency-key", "if-match"} <= {*allowed}
        assert answer.headers["Access-Control-Max-Age"] == "600"
        assert "origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert await answer.read() == b""
    assert cloud.requests == []


async def test_options_without_a_page_only_tells_the_methods(rest: Any, browser: Any) -> None:
    async with browser.options(f"{rest.url}/api/v1/products") as answer:
        assert answer.status == 204
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_preflight_of_a_route_for_every_method_allows_the_one_that_is_asked_for(echo_rest: Any) -> None:
    async with echo_rest("OPTIONS", "/e/anything", headers={**ASK, "Access-Control-Request-Method": "REPORT"}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "REPORT"


async def test_a_success_may_be_read_by_a_page_if_the_cloud_says_so(cloud: Any, rest: Any) -> None:
    async with rest("GET", "/api/v1/products", headers={"Origin": PAGE}) as answer:
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "origin" in answer.headers["Vary"]
    assert cloud.metadata[0]["origin"] == PAGE

    async def listed(_request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("access-control-allow-origin", PAGE),))
        return catalog_pb2.ListProductsResponse()

    cloud.answer("ListProducts", listed)
    async with rest("GET", "/api/v1/products", headers={"Origin": PAGE}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = {*answer.headers["Access-Control-Expose-Headers"].split(", ")}
    assert {"etag", "link", "location", "retry-after", "ratelimit", "idempotent-replayed", "x-request-id"} <= exposed


async def test_a_stream_may_be_read_by_a_page_if_the_cloud_says_so(cloud: Any, rest: Any) -> None:
    async def watch(_request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("access-control-allow-origin", PAGE),))
        yield events_pb2.WatchEventsResponse(cursor="c1")

    cloud.answer("WatchEvents", watch)
    async with rest("GET", "/api/v1/events:watch", headers={"Origin": PAGE, "Accept": "text/event-stream"}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "c1" in await answer.text()


async def test_an_error_may_always_be_read_by_the_page_that_caused_it(cloud: Any, rest: Any, browser: Any, refuse: Any) -> None:
    async def stranger(_request: Any, context: Any) -> Any:
        await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "ORIGIN_NOT_ALLOWED", "This key may not be used from there.")

    cloud.answer("ListProducts", stranger)
    async with rest("GET", "/api/v1/products", headers={"Origin": PAGE}) as answer:
        assert answer.status == 403
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert (await answer.json())["reason"] == "ORIGIN_NOT_ALLOWED"
    refused = [("GET", "/api/v1/products?nope=1", 401), ("GET", "/nope", 404), ("POST", "/api/v1/products/x:nope", 405)]
    for method, path, status in refused:
        async with browser.request(method, rest.url + path, headers={"Origin": PAGE}) as answer:
            assert answer.status == status
            assert answer.headers.getall("Access-Control-Allow-Origin") == [PAGE]
            assert "origin" in answer.headers["Vary"]


async def test_a_header_that_is_no_origin_is_not_repeated(rest: Any) -> None:
    async with rest("GET", "/api/v1/products?nope=1", headers={"Origin": "https://a b"}) as answer:
        assert answer.status == 400
        assert "Access-Control-Allow-Origin" not in answer.headers
