"""What an answer carries besides its message: tags, links, selections, what the cloud adds; and who is turned away first."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf import message_factory

from gipos.v1 import accounts_pb2, catalog_pb2, sales_pb2


@pytest.fixture
async def stranger() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without a key."""
    async with aiohttp.ClientSession() as session:
        yield session


async def test_without_a_credential_the_body_is_not_even_read(cloud: Any, rest: Any, talk: Any) -> None:
    head = b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    raw = await talk(rest.url, head + b"Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in raw
    assert b"connection: close" in raw
    assert cloud.requests == []


async def test_without_a_credential_the_answer_says_how_to_send_one(cloud: Any, rest: Any, stranger: Any) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/api/v1/products", None),
        ("POST", "/api/v1/products", b"{broken"),
        ("GET", "/api/v1/events:watch", None),
        ("HEAD", "/api/v1/products", None),
    ]
    for method, path, data in calls:
        async with stranger.request(method, rest.url + path, data=data) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gipos"'
            if method != "HEAD":
                problem = await answer.json()
                assert problem["reason"] == "UNAUTHENTICATED"
                assert "Authorization: Bearer" in problem["detail"]
    assert cloud.requests == []


async def test_whether_a_credential_is_right_is_for_the_cloud_to_say(cloud: Any, rest: Any, stranger: Any) -> None:
    for headers in ({"Authorization": "nonsense"}, {"X-API-Key": "nonsense"}):
        async with stranger.get(f"{rest.url}/api/v1/me", headers=headers) as answer:
            assert answer.status == 200
    assert len(cloud.requests) == 2


async def test_a_list_has_a_tag_of_its_content(cloud: Any, rest: Any) -> None:
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id="prd_1")]))
    async with rest("GET", "/api/v1/products") as answer:
        tag = answer.headers["ETag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
        assert answer.headers["Cache-Control"] == "private, no-cache"
    async with rest("GET", "/api/v1/products", headers={"If-None-Match": f'"other", {tag}'}) as answer:
        assert answer.status == 304
        assert answer.headers["ETag"] == tag
        assert "Content-Type" not in answer.headers
        assert await answer.read() == b""
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id="prd_2")]))
    async with rest("GET", "/api/v1/products", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] != tag


async def test_a_very_long_list_is_not_hashed(cloud: Any, rest: Any) -> None:
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(name="x" * 70_000)]))
    async with rest("GET", "/api/v1/products") as answer:
        assert answer.status == 200
        assert "ETag" not in answer.headers


async def test_what_is_not_read_has_no_tag_of_its_content(cloud: Any, rest: Any) -> None:
    async with rest("POST", "/api/v1/products:import", json={"items": []}) as answer:
        assert answer.status == 200
        assert not {"ETag", "Cache-Control"} & {*answer.headers}


async def test_a_list_links_to_its_next_page(cloud: Any, rest: Any) -> None:
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(next_page_token="a+b/c=>", has_more=True))
    query = "?page_size=2&page_token=old&pageToken=older&query=teh%20%22botol%22&&category=%3Ca%3E"
    async with rest("GET", f"/api/v1/products{query.replace('&pageToken=older', '')}") as answer:
        assert answer.status == 200
        link = answer.headers["Link"]
    address = "/api/v1/products?page_size=2&query=teh%20%22botol%22&category=%3Ca%3E&page_token=a%2Bb%2Fc%3D%3E"
    assert link == f'<{address}>; rel="next"'
    async with rest("GET", address) as answer:
        assert answer.status == 200
    assert cloud.requests[-1].page_token == "a+b/c=>"
    assert cloud.requests[-1].query == 'teh "botol"'
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse())
    async with rest("GET", "/api/v1/products") as answer:
        assert "Link" not in answer.headers


SELECTIONS = [
    ("id", {"id": "prd_1"}),
    ("id,price.amount", {"id": "prd_1", "price": {"amount": 5000}}),
    ("price,price.amount", {"price": {"amount": 5000, "currency": "IDR"}}),
    ("price.amount,price", {"price": {"amount": 5000, "currency": "IDR"}}),
    ("price.*", {"price": {"amount": 5000, "currency": "IDR"}}),
    ("taxClass", {"tax_class": "ppn"}),
    (" id , name ", {"id": "prd_1", "name": "Teh"}),
    ("cost", {}),
]


@pytest.mark.parametrize(("fields", "expected"), SELECTIONS)
async def test_only_what_was_asked_for_is_answered(fields: str, expected: Any, cloud: Any, rest: Any) -> None:
    product = catalog_pb2.Product(id="prd_1", name="Teh", tax_class=catalog_pb2.TAX_CLASS_PPN)
    product.price.amount, product.price.currency = 5000, "IDR"
    cloud.answer("GetProduct", product)
    async with rest("GET", "/api/v1/products/prd_1", params=None) as answer:
        whole = await answer.json()
    async with rest("GET", f"/api/v1/products/prd_1?fields={fields.replace(' ', '%20')}") as answer:
        assert answer.status == 200
        assert await answer.json() == expected
    async with rest("GET", "/api/v1/products/prd_1?fields=*") as answer:
        assert await answer.json() == whole


async def test_a_selection_reaches_into_lists(cloud: Any, rest: Any) -> None:
    sale = sales_pb2.Sale(id="sal_1", lines=[sales_pb2.SaleLine(product_id="p", quantity="2")])
    cloud.answer("ListSales", sales_pb2.ListSalesResponse(sales=[sale], next_page_token="t"))
    async with rest("GET", "/api/v1/sales?fields=sales.lines.product_id,next_page_token") as answer:
        assert await answer.json() == {"sales": [{"lines": [{"product_id": "p"}]}], "next_page_token": "t"}


async def test_a_selection_reaches_into_free_form_values_and_maps(echo_rest: Any) -> None:
    query = "attributes[a]=1&attributes[b]=2&free=%7B%22x%22:1,%22y%22:2%7D&fields=attributes.a,free.x,time"
    async with echo_rest("GET", f"/e/search?{query}") as answer:
        assert await answer.json() == {"attributes": {"a": "1"}, "free": {"x": 1}}


async def test_a_selection_shapes_what_response_body_names_and_every_line_of_a_stream(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/many?fields=b", json=[{"a": "1", "b": "2"}]) as answer:
        assert await answer.json() == [{"b": "2"}]

    async def lines(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield request
        yield request

    echo.answer("ListLines", lines)
    async with echo_rest("GET", "/e/lines?name=x&fields=name") as answer:
        assert await answer.text() == '{"name":"x"}\n{"name":"x"}\n'


UNKNOWN = [
    ("nmae", "fields.nmae", 'did you mean "name"?'),
    ("id,price.amuont", "fields.price.amuont", 'did you mean "price.amount"?'),
    ("name.x", "fields", "name has no fields of its own"),
    ("create_time.seconds", "fields", "create_time has no fields of its own"),
    ("price..amount", "fields.price..amount", ""),
]


@pytest.mark.parametrize(("fields", "field", "words"), UNKNOWN)
async def test_a_field_that_does_not_exist_is_refused_before_anything_is_called(
    fields: str, field: str, words: str, cloud: Any, rest: Any
) -> None:
    async with rest("GET", f"/api/v1/products/prd_1?fields={fields}") as answer:
        assert answer.status == 400
        errors = (await answer.json())["errors"]
    assert [(item["field"], item["reason"]) for item in errors] == [(field, "UNKNOWN_FIELD")]
    assert words in errors[0]["message"]
    assert cloud.requests == []
    async with rest("GET", f"/api/v1/products/prd_1?$ignoreUnknown=true&fields=id,{fields}") as answer:
        assert answer.status == 200


GIVEN = {
    "ratelimit": '"per-second";r=0;t=1',
    "ratelimit-policy": '"per-second";q=10;w=1',
    "x-ratelimit-limit": "10",
    "retry-after": "7",
    "idempotent-replayed": "true",
    "deprecation": "@1",
    "link": '<https://docs.example>; rel="help"',
}


async def test_what_the_cloud_adds_to_an_answer_becomes_headers(cloud: Any, rest: Any) -> None:
    hidden = {"x-internal": "1", "server": "x", "content-length": "1", "set-cookie": "a=b", "transfer-encoding": "chunked"}

    async def created(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((*GIVEN.items(), *hidden.items(), ("location", "/somewhere")))
        return request.product

    cloud.answer("CreateProduct", created)
    async with rest("POST", "/api/v1/products", json={}) as answer:
        assert answer.status == 201
        assert {name: answer.headers[name] for name in GIVEN} == GIVEN
        assert answer.headers["Location"] == "/somewhere"
        assert not {"x-internal", "server", "set-cookie", "transfer-encoding"} & {name.lower() for name in answer.headers}
        await answer.json()


async def test_what_the_cloud_adds_to_an_error_becomes_headers_too(cloud: Any, rest: Any) -> None:
    async def limited(_request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", tuple(GIVEN.items()))

    cloud.answer("ListProducts", limited)
    async with rest("GET", "/api/v1/products") as answer:
        assert answer.status == 429
        assert {name: answer.headers.getall(name) for name in GIVEN if name != "retry-after"} == {
            name: [value] for name, value in GIVEN.items() if name != "retry-after"
        }
        assert len(answer.headers.getall("Retry-After")) == 1


async def test_a_value_of_the_cloud_cannot_add_headers_of_its_own(cloud: Any, rest: Any) -> None:
    evil = "a\r\nX-Evil: 1"
    cloud.answer("CreateProduct", catalog_pb2.Product(id=evil, etag=evil))
    async with rest("POST", "/api/v1/products", json={}) as answer:
        assert answer.status == 201
        assert "X-Evil" not in answer.headers
        assert answer.headers["Location"] == "/api/v1/products/a%0D%0AX-Evil%3A%201"
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(next_page_token=evil))
    async with rest("GET", "/api/v1/products") as answer:
        assert "X-Evil" not in answer.headers
        assert "%0D%0A" in answer.headers["Link"]


def _body(echo: Any, **values: Any) -> Any:
    return message_factory.GetMessageClass(echo.contract.pool.FindMessageTypeByName("google.api.HttpBody"))(**values)


async def test_a_type_that_is_none_becomes_bytes(echo: Any, echo_rest: Any) -> None:
    for kind in ("", "nonsense", "text/html\r\nX-Evil: 1", "text/é"):
        echo.answer("Picture", _body(echo, content_type=kind, data=b"x"))
        async with echo_rest("GET", "/e/picture") as answer:
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "X-Evil" not in answer.headers


async def test_raw_bytes_go_in_as_the_whole_request(echo: Any, echo_rest: Any) -> None:
    picture = b"\x89PNG\r\n\0\xff"
    async with echo_rest("POST", "/e/picture", data=picture, headers={"Content-Type": "image/png"}) as answer:
        assert answer.status == 200
    assert (echo.requests[0].content_type, echo.requests[0].data) == ("image/png", picture)


async def test_raw_bytes_go_in_and_out_as_one_field_next_to_the_path(echo: Any, echo_rest: Any) -> None:
    picture = b"\x89PNG\r\n\0\xff"
    async with echo_rest("PUT", "/e/pictures/a%2Fb", data=picture, headers={"Content-Type": "image/png"}) as answer:
        assert answer.status == 200
        assert answer.content_type == "image/png"
        assert await answer.read() == picture
    assert echo.requests[0].name == "a/b"
    async with echo_rest("PUT", "/e/pictures/x") as answer:
        assert answer.status == 200
        assert await answer.read() == b""
    assert not echo.requests[1].HasField("file")


async def test_a_stream_of_raw_bytes_is_one_download(echo: Any, echo_rest: Any) -> None:
    async def parts(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield _body(echo, content_type="text/csv", data=b"a;b\n")
        yield _body(echo, data=b"1;2\n")

    echo.answer("Download", parts)
    async with echo_rest("GET", "/e/download") as answer:
        assert (answer.status, answer.content_type) == (200, "text/csv")
        assert await answer.read() == b"a;b\n1;2\n"


async def test_a_download_that_fails_never_looks_complete(echo: Any, echo_rest: Any, refuse: Any) -> None:
    async def parts(_request: Any, context: Any) -> AsyncIterator[Any]:
        yield _body(echo, content_type="text/csv", data=b"a;b\n")
        await refuse(context, grpc.StatusCode.ABORTED, "GAVE_UP", "Try again.")

    echo.answer("Download", parts)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with echo_rest("GET", "/e/download") as answer:
            await answer.read()

    async def nothing(_request: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(context, grpc.StatusCode.ABORTED, "GAVE_UP", "Try again.")
        yield

    echo.answer("Download", nothing)
    async with echo_rest("GET", "/e/download") as answer:
        assert answer.status == 409


async def test_the_cloud_hears_of_a_caller_who_left_while_he_was_served(cloud: Any, rest: Any) -> None:
    begun = asyncio.Event()

    async def slow(_request: Any, _context: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()
        return accounts_pb2.GetCallerRequest()

    cloud.answer("GetCaller", slow)
    asked = asyncio.ensure_future(rest("GET", "/api/v1/me").__aenter__())
    async with asyncio.timeout(20):
        await begun.wait()
    asked.cancel()
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()
