"""gzip and zstd in both directions: by weight, above a size, never for live streams, and no bomb gets further than its limit."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import zstandard

from gateway_rest.errors import Refusal
from gateway_rest.transcoding import codings
from gipos.v1 import catalog_pb2, keys_pb2

LIMIT = 100_000
BODY = json.dumps({"name": "n", "snake_case_name": "x" * 3000}).encode()


def products(count: int) -> catalog_pb2.ListProductsResponse:
    return catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id=f"prd_{number}") for number in range(count)])


@pytest.fixture
async def plain(rest: Any) -> AsyncIterator[Any]:
    """A client that asks for nothing by itself and unpacks nothing."""
    headers = {"Authorization": "Bearer k"}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
        rest.session, before = session, rest.session
        yield rest
        rest.session = before


def unpacked(body: bytes, coding: str) -> bytes:
    return gzip.decompress(body) if coding == "gzip" else zstandard.decompress(body)


CHOICES = [
    ("gzip", "gzip"),
    ("zstd", "zstd"),
    ("gzip, deflate, br, zstd", "zstd"),
    ("zstd;q=0.5, gzip;q=0.8", "gzip"),
    ("GZIP ; q=0.3", "gzip"),
    ("x-gzip", "gzip"),
    ("*", "gzip"),
    ("gzip;q=0, *", ""),
    ("gzip;q=0, zstd;q=0", ""),
    ("identity", ""),
    ("identity;q=1, gzip;q=0.5", ""),
    ("identity;q=0.5, gzip;q=0.5", "gzip"),
    ("br", ""),
    ("", ""),
    ("gzip;q=2", ""),
    (";;,,=", ""),
]


@pytest.mark.parametrize(("accepted", "coding"), CHOICES)
def test_the_coding_is_chosen_by_weight(accepted: str, coding: str) -> None:
    assert codings.negotiate(accepted.encode()) == coding


async def test_a_long_answer_is_packed_as_the_caller_likes(cloud: Any, plain: Any) -> None:
    cloud.answer("ListProducts", products(200))
    async with plain("GET", "/api/v1/products") as answer:
        whole = await answer.read()
        assert "Content-Encoding" not in answer.headers
        assert "accept-encoding" in answer.headers["Vary"]
    for accepted, coding in (("gzip", "gzip"), ("gzip, zstd", "zstd")):
        async with plain("GET", "/api/v1/products", headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers["Content-Encoding"] == coding
            packed = await answer.read()
            assert int(answer.headers["Content-Length"]) == len(packed) < len(whole)
        assert unpacked(packed, coding) == whole
    async with plain("GET", "/api/v1/products", headers={"Accept-Encoding": "br"}) as answer:
        assert await answer.read() == whole


async def test_a_very_long_answer_is_packed_too(cloud: Any, plain: Any) -> None:
    cloud.answer("ListProducts", products(3000))
    async with plain("GET", "/api/v1/products", headers={"Accept-Encoding": "zstd"}) as answer:
        body = zstandard.ZstdDecompressor().decompress(await answer.read())
    assert len(body) > codings.IN_A_THREAD
    assert len(json.loads(body)["products"]) == 3000


async def test_a_short_answer_is_not_worth_it(cloud: Any, plain: Any) -> None:
    async with plain("GET", "/api/v1/products", headers={"Accept-Encoding": "gzip, zstd"}) as answer:
        assert "Content-Encoding" not in answer.headers


async def test_a_secret_is_never_packed_nor_stored(cloud: Any, plain: Any) -> None:
    cloud.answer("CreateApiKey", keys_pb2.ApiKey(id="key_1", key="gipos_test_secret", name="x" * 3000))
    options = {"json": {"name": "n", "scopes": ["products:read"]}, "headers": {"Accept-Encoding": "gzip, zstd"}}
    async with plain("POST", "/api/v1/api-keys", **options) as answer:
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_tag_of_a_packed_answer_is_weak_and_still_matches(cloud: Any, plain: Any) -> None:
    cloud.answer("GetProduct", catalog_pb2.Product(id="prd_1", etag="7", name="x" * 2000))
    async with plain("GET", "/api/v1/products/prd_1", headers={"Accept-Encoding": "gzip"}) as answer:
        tag = answer.headers["ETag"]
    assert tag == 'W/"7"'
    async with plain("GET", "/api/v1/products/prd_1", headers={"Accept-Encoding": "gzip", "If-None-Match": tag}) as answer:
        assert answer.status == 304
    async with plain("PUT", "/api/v1/products/prd_1", json={"name": "a"}, headers={"If-Match": tag}) as answer:
        assert answer.status == 200
    assert cloud.requests[-1].etag == "7"


async def test_head_says_how_long_the_packed_answer_would_be(cloud: Any, plain: Any) -> None:
    cloud.answer("ListProducts", products(200))
    lengths = []
    for method in ("GET", "HEAD"):
        async with plain(method, "/api/v1/products", headers={"Accept-Encoding": "gzip"}) as answer:
            lengths.append(answer.headers["Content-Length"])
    assert lengths[0] == lengths[1]


async def test_a_live_stream_is_not_packed_so_that_every_event_arrives_at_once(echo: Any, echo_rest: Any) -> None:
    async def lines(request: Any, _context: Any) -> AsyncIterator[Any]:
        request.name = "x" * 5000
        yield request

    echo.answer("ListLines", lines)
    for accept in ("application/x-ndjson", "text/event-stream"):
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        async with echo_rest("GET", "/e/lines", headers=headers) as answer:
            assert "Content-Encoding" not in answer.headers
            assert len(await answer.read()) > 5000


async def test_what_does_not_shrink_is_left_alone(echo: Any, echo_rest: Any) -> None:
    from google.protobuf import message_factory

    body = message_factory.GetMessageClass(echo.contract.pool.FindMessageTypeByName("google.api.HttpBody"))
    for kind, coding in (("image/png", None), ("text/csv", "gzip")):
        echo.answer("Picture", body(content_type=kind, data=b"x" * 5000))
        async with echo_rest("GET", "/e/picture", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers.get("Content-Encoding") == coding
            assert await answer.read() == b"x" * 5000


async def test_long_errors_and_documents_are_packed_as_well(echo: Any, echo_rest: Any) -> None:
    bad = "&".join(f"nope{number}=1" for number in range(100))
    async with echo_rest("GET", f"/e/search?{bad}", headers={"Accept-Encoding": "gzip"}) as answer:
        assert (answer.status, answer.headers["Content-Encoding"]) == (400, "gzip")
        assert len((await answer.json())["errors"]) == 100
    async with echo_rest("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY[:10]) + gzip.compress(BODY[10:])),
        ("zstd", zstandard.compress(BODY)),
        ("zstd", zstandard.compress(BODY[:10]) + zstandard.compress(BODY[10:])),
        ("identity", BODY),
        ("", BODY),
    ],
    ids=["gzip", "x-gzip", "gzip-members", "zstd", "zstd-frames", "identity", "none"],
)
async def test_a_packed_body_is_read(coding: str, data: bytes, echo: Any, echo_rest: Any) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with echo_rest("POST", "/e/star/n", data=data, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    assert len(echo.requests[0].snake_case_name) == 3000


BROKEN = {
    "gzip cut off": ("gzip", gzip.compress(BODY)[:-9]),
    "gzip without its sum": ("gzip", gzip.compress(BODY)[:-4]),
    "gzip with a wrong sum": ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
    "zstd cut off": ("zstd", zstandard.compress(BODY)[:-3]),
    "not gzip": ("gzip", BODY),
    "not zstd": ("zstd", BODY),
    "gzip called zstd": ("zstd", gzip.compress(BODY)),
    "garbage behind": ("gzip", gzip.compress(BODY) + b"garbage"),
    "bare deflate called gzip": ("gzip", zlib.compress(BODY)),
    "thousands of empty members": ("gzip", gzip.compress(b"") * 10_000),
    "thousands of empty frames": ("zstd", zstandard.compress(b"") * 10_000),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_is_not_what_it_says_is_400(name: str, echo: Any, echo_rest: Any) -> None:
    coding, data = BROKEN[name]
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with echo_rest("POST", "/e/star/n", data=data, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["reason"] == "MALFORMED_ENCODING"
    assert echo.requests == []


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_bomb_is_413(coding: str, echo: Any, echo_rest: Any) -> None:
    blank = b" " * 200_000_000
    data = gzip.compress(blank, 1) if coding == "gzip" else zstandard.compress(blank)
    assert len(data) < 1024 * 1024
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with echo_rest("POST", "/e/star/n", data=data, headers=headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["reason"] == "PAYLOAD_TOO_LARGE"
    assert echo.requests == []


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "compress", "aws-chunked", "\xff"])
async def test_a_coding_nobody_knows_is_415_and_says_which_are_known(coding: str, echo_rest: Any) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with echo_rest("POST", "/e/star/n", data=b"{}", headers=headers) as answer:
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "gzip, zstd"
        assert (await answer.json())["reason"] == "UNSUPPORTED_CONTENT_ENCODING"


def test_a_frame_that_asks_for_more_memory_than_anybody_gets_is_refused() -> None:
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27)).compressobj()
    data = wide.compress(BODY) + wide.flush()
    with pytest.raises(Refusal) as caught:
        codings.decode(data, b"zstd", LIMIT)
    assert caught.value.problem.reason == "MALFORMED_ENCODING"


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_the_limit_is_exact(size: int, pack: Any) -> None:
    coding = b"gzip" if pack is gzip.compress else b"zstd"
    if size <= LIMIT:
        assert codings.decode(pack(b"x" * size), coding, LIMIT) == b"x" * size
        return
    with pytest.raises(Refusal) as caught:
        codings.decode(pack(b"x" * size), coding, LIMIT)
    assert caught.value.problem.status == 413
