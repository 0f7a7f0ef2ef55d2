"""Hostile bytes on real sockets: ambiguous framing, heads without end, bodies that trickle. Clean refusals, no second request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway_rest.limits import Limits

HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/json\r\n"
SMUGGLED = b"DELETE /e/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def parsed(raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of the first answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, json.loads(body[: int(headers["content-length"])])


MALFORMED = {
    "two lengths": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}" + SMUGGLED,
    "the same length twice": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2, 2\r\n\r\n{}",
    "length and chunks": b"POST /e/star/n HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunks and length": b"POST /e/star/n HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a negative length": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: -1\r\n\r\n",
    "a signed length": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 0x2\r\n\r\n{}",
    "a length beyond numbers": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "a coding below the chunks": b"POST /e/star/n HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding nobody knows": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked that is not last": b"POST /e/star/n HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "space before the colon": b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length : 2\r\n\r\n{}",
    "a folded header": b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c: d\r\n\r\n",
    "a bare line feed in a header": b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: b\nX-C: d\r\n\r\n",
    "a bare carriage return in a header": b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: b\rX-C: d\r\n\r\n",
    "a null byte in a header": b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: b\0c\r\n\r\n",
    "a null byte in the path": b"GET /e/\0search HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes beyond ASCII in the path": b"GET /e/\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /e/search HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /e/search HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a method nobody knows": b"FETCH /e/search HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"get /e/search HTTP/1.1\r\n" + HOST + b"\r\n",
    "a version nobody speaks": b"GET /e/search HTTP/3.9\r\n" + HOST + b"\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a WebSocket with a body": b"GET /e/search HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    + b"Sec-WebSocket-Version: 13\r\nContent-Length: 5\r\n\r\nhello",
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    "noise": b"\xff\xfe\xfd garbage \r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_cannot_be_read_in_one_way_is_refused_and_the_connection_closed(
    name: str, echo: Any, echo_rest: Any, talk: Any
) -> None:
    raw = await talk(echo_rest.url, MALFORMED[name])
    status, headers, problem = parsed(raw)
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert problem["reason"] == "MALFORMED_REQUEST"
    assert problem["request_id"] == headers["x-request-id"]
    assert raw.count(b"HTTP/1.1 ") == 1
    assert echo.requests == []


MALFORMED_CHUNKS = {
    "a size that is no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a size beyond numbers": b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"1\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "a bare line feed after the size": b"2\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED_CHUNKS)
async def test_a_chunk_that_cannot_be_read_is_400_and_reaches_nobody(name: str, echo: Any, echo_rest: Any, talk: Any) -> None:
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    status, headers, problem = parsed(await talk(echo_rest.url, head + MALFORMED_CHUNKS[name]))
    assert (status, problem["reason"], headers["connection"]) == (400, "MALFORMED_REQUEST", "close")
    assert echo.requests == []


async def test_a_body_that_is_cut_off_reaches_nobody(echo: Any, echo_rest: Any) -> None:
    host, _, port = echo_rest.url.partition("//")[2].partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b'Content-Length: 20\r\n\r\n{"i32":1}')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with echo_rest("GET", "/e/search?name=after") as answer:
        assert answer.status == 200
    assert [request.name for request in echo.requests] == ["after"]


async def test_trailers_never_become_headers(echo: Any, echo_rest: Any, talk: Any) -> None:
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = (head, b"2\r\n{}\r\n", b"0\r\nAuthorization: Bearer other\r\n\r\n")
    status, _, _ = parsed(await talk(echo_rest.url, *pieces, pause=0.02))
    assert status == 200
    assert "authorization" not in echo.metadata[0]


async def test_pipelined_requests_are_answered_in_their_order(echo_rest: Any, talk: Any) -> None:
    first = b"GET /e/search?name=1 HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /e/search?name=2 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    raw = await talk(echo_rest.url, first + last)
    assert raw.index(b'"name":"1"') < raw.index(b'"name":"2"')


async def test_a_head_that_came_before_is_served_like_the_first_one(echo: Any, echo_rest: Any, talk: Any) -> None:
    def read(number: int) -> bytes:
        return b"GET /e/search?name=%d HTTP/1.1\r\n" % number + HOST + b"X-Api-Key: k\r\n\r\n"

    post = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\n\r\n{}"
    last = b"GET /e/search?name=7 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    pieces = (read(1), read(2), post, read(3), read(4) + read(5), read(6)[:30], read(6)[30:], last)
    raw = await talk(echo_rest.url, *pieces, pause=0.05)
    answers = raw.split(b"HTTP/1.1 200 OK")[1:]
    assert [number for answer in answers for number in range(9) if b'"name":"%d"' % number in answer] == [1, 2, 3, 4, 5, 6, 7]
    assert len(answers) == 8
    assert [call.get("x-api-key") for call in echo.metadata] == ["k", "k", None, "k", "k", "k", "k", None]


async def test_garbage_behind_a_good_request_does_not_spoil_its_answer(echo_rest: Any, talk: Any) -> None:
    raw = await talk(echo_rest.url, b"GET /e/search?name=1 HTTP/1.1\r\n" + HOST + b"\r\n" + b"\xff\xff\xff\r\n\r\n")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert parsed(raw)[0] == 200


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_offer_to_speak_another_protocol_is_passed_over(method: bytes, echo_rest: Any, talk: Any) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    target = b"/e/search?name=x" if method == b"GET" else b"/e/star/x"
    body = b'{"i32":7}' if method == b"POST" else b""
    length = b"Content-Length: %d\r\n" % len(body)
    first = method + b" " + target + b" HTTP/1.1\r\n" + HOST + JSON + upgrade + length + b"\r\n" + body
    last = b"GET /e/search?name=last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    raw = await talk(echo_rest.url, first, last, pause=0.2)
    status, _, answer = parsed(raw)
    assert (status, answer["name"], answer["i32"]) == (200, "x", 7 if body else 0)
    assert b'"name":"last"' in raw


TIGHT = Limits(
    target_bytes=2000,
    head_bytes=8000,
    head_fields=30,
    idle_seconds=0.5,
    head_seconds=0.6,
    body_bytes=5000,
    body_bytes_of={"routes.v1.EchoService.Many": 20_000},
    body_seconds=2.0,
    body_grace_seconds=0.4,
    body_rate=1000,
)


@pytest.fixture
async def tight_rest(echo: Any, serve: Any) -> AsyncIterator[Any]:
    """A gateway with little patience."""
    async for running in serve(echo.contract, f"127.0.0.1:{echo.port}", limits=TIGHT):
        yield running


TOO_MUCH = {
    "a long address": (b"GET /e/search?name=" + b"x" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "URI_TOO_LONG"),
    "many headers": (b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 40 + b"\r\n", 431, "TOO_MANY_HEADERS"),
    "one long header": (b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: " + b"b" * 9000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
    "a header without end": (b"GET /e/search HTTP/1.1\r\n" + HOST + b"X-A: " + b"b" * 9000, 431, "HEADERS_TOO_LARGE"),
    "an address without end": (b"GET /e/" + b"x" * 9000, 431, "HEADERS_TOO_LARGE"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_a_head_beyond_the_limits_is_refused(name: str, echo: Any, tight_rest: Any, talk: Any) -> None:
    data, expected, reason = TOO_MUCH[name]
    status, headers, problem = parsed(await talk(tight_rest.url, data))
    assert (status, problem["reason"], headers["connection"]) == (expected, reason, "close")
    assert echo.requests == []


async def test_trailers_without_end_close_the_connection(tight_rest: Any, talk: Any) -> None:
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-A: "
    raw = await talk(tight_rest.url, head, *[b"b" * 4000] * 4, pause=0.02)
    assert raw == b"" or parsed(raw)[0] == 431


async def test_a_head_that_does_not_come_is_408(tight_rest: Any, talk: Any) -> None:
    status, headers, problem = parsed(await talk(tight_rest.url, b"GET /e/search HTTP/1.1\r\nHo"))
    assert (status, problem["reason"], headers["connection"]) == (408, "REQUEST_TIMEOUT", "close")


async def test_a_head_that_comes_a_byte_at_a_time_is_408(tight_rest: Any, talk: Any) -> None:
    slow = [bytes([byte]) for byte in b"GET /e/search HTTP/1.1\r\nHost: x"]
    status, _, _ = parsed(await talk(tight_rest.url, *slow, pause=0.05))
    assert status == 408


@pytest.mark.parametrize("noise", [b"", b"\r\n\r\n"])
async def test_a_connection_that_says_nothing_is_closed(noise: bytes, tight_rest: Any, talk: Any) -> None:
    assert await talk(tight_rest.url, noise) == b""


async def test_a_body_that_does_not_come_is_408(echo: Any, tight_rest: Any, talk: Any) -> None:
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 100\r\n\r\n"
    for begun in (b"", b'{"name":'):
        status, headers, problem = parsed(await talk(tight_rest.url, head + begun))
        assert (status, problem["reason"], headers["connection"]) == (408, "REQUEST_TIMEOUT", "close")
    assert echo.requests == []


async def test_a_body_that_comes_too_slowly_is_408_and_one_that_comes_steadily_is_served(
    echo: Any, tight_rest: Any, talk: Any
) -> None:
    body = b'{"name":"n","snake_case_name":"' + b"x" * 960 + b'"}'
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    pieces = [body[start : start + 10] for start in range(0, len(body), 10)]
    status, _, _ = parsed(await talk(tight_rest.url, head, *pieces, pause=0.05))  # 200 bytes a second
    assert status == 408
    assert echo.requests == []
    pieces = [body[start : start + 250] for start in range(0, len(body), 250)]
    status, _, _ = parsed(await talk(tight_rest.url, head, *pieces, pause=0.05))  # 5,000 bytes a second
    assert status == 200


async def test_a_body_that_nobody_reads_may_not_trickle_for_ever_either(tight_rest: Any, talk: Any) -> None:
    head = b"GET /e/search?name=x HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n"
    raw = await talk(tight_rest.url, head, *[b"x"] * 40, pause=0.1)
    assert parsed(raw)[0] == 200  # answered at once, closed later; `talk` would time out otherwise


async def test_a_route_may_have_a_limit_of_its_own(echo: Any, tight_rest: Any) -> None:
    items = [{"a": "x" * 1000} for _ in range(10)]
    async with tight_rest("POST", "/e/many", json=items) as answer:
        assert answer.status == 200
    async with tight_rest("POST", "/e/star/n", json={"subs": items}) as answer:
        assert answer.status == 413
        assert (await answer.json())["detail"] == "The body is larger than 5000 bytes. Send less at once."
    assert len(echo.requests) == 1


async def test_all_bodies_together_have_a_limit_and_what_is_answered_makes_room(echo: Any, serve: Any) -> None:
    arrived, later = asyncio.Event(), asyncio.Event()

    async def star(request: Any, _context: Any) -> Any:
        arrived.set()
        await later.wait()
        return request

    echo.answer("Star", star)
    body = {"snake_case_name": "x" * 3000}
    async for rest in serve(echo.contract, f"127.0.0.1:{echo.port}", limits=Limits(bodies_bytes=5000)):
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(status_of(rest, body))
            await arrived.wait()
            async with rest("POST", "/e/star/n", json=body) as answer:
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert (await answer.json())["reason"] == "BUSY"
            later.set()
        assert first.result() == 200
        assert await status_of(rest, body) == 200


async def status_of(rest: Any, body: Any) -> int:
    async with rest("POST", "/e/star/n", json=body) as answer:
        status: int = answer.status
        return status


async def test_who_asks_before_sending_too_much_is_told_at_once(tight_rest: Any, talk: Any) -> None:
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + JSON + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
    raw = await talk(tight_rest.url, head)
    status, headers, _ = parsed(raw)
    assert (status, headers["connection"]) == (413, "close")


async def test_a_long_quiet_stream_is_not_taken_for_a_slow_request(echo: Any, tight_rest: Any) -> None:
    later = asyncio.Event()

    async def lines(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield request
        await later.wait()
        yield request

    echo.answer("ListLines", lines)
    async with tight_rest("GET", "/e/lines?name=x") as answer:
        assert await answer.content.readline()
        await asyncio.sleep(1.0)  # longer than any limit for what arrives
        later.set()
        assert await answer.content.readline()


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Origin", "If-Match"])
async def test_a_header_that_decides_something_must_not_come_twice(name: str, echo: Any, echo_rest: Any, talk: Any) -> None:
    field = name.encode() + b": application/json\r\n"
    head = b"POST /e/star/n HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 2\r\n" + field + field + b"\r\n{}"
    status, _, problem = parsed(await talk(echo_rest.url, head))
    assert (status, problem["reason"]) == (400, "DUPLICATE_HEADER")
    assert problem["detail"].lower().startswith(f"the header {name.lower()} ")
    assert echo.requests == []


async def test_lists_may_be_spread_over_several_headers(echo: Any, echo_rest: Any, talk: Any) -> None:
    accept = b"Accept-Language: fr\r\nAccept-Language: id\r\nConnection: close\r\n"
    raw = await talk(echo_rest.url, b"GET /e/search?nope=1 HTTP/1.1\r\n" + HOST + accept + b"\r\n")
    assert parsed(raw)[1]["content-language"] == "id"


HOSTILE_BODIES = {
    "nothing but space": b" \n ",
    "half an object": b'{"name": "a"',
    "half a string": b'{"name": "a',
    "two documents": b"{} {}",
    "a comment": b'{"name": "a" /* b */}',
    "single quotes": b"{'name': 'a'}",
    "a trailing comma": b'{"name": "a",}',
    "NaN": b'{"real": NaN}',
    "infinity": b'{"real": Infinity}',
    "a number without end": b'{"i32": ' + b"9" * 100_000 + b"}",
    "an exponent without end": b'{"real": 1e999999999}',
    "a fraction for a whole number": b'{"i32": 1.5}',
    "beyond 64 bits": b'{"i64": 9223372036854775808}',
    "half a surrogate": b'{"name": "\\ud800"}',
    "a null byte": b'{"name": "a\\u0000b"}',
    "a raw null byte": b'{"name": "a\0b"}',
    "a raw control character": b'{"name": "a\nb"}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "the same key twice": b'{"i32": 1, "i32": 1}',
    "the same key twice further down": b'{"sub": {"inner": {"a": "x", "a": "y"}}}',
    "the same key twice in two spellings": b'{"snake_case_name": "a", "snakeCaseName": "b"}',
    "lists without end": b'{"tags": ' + b"[" * 100_000,
    "objects without end": b'{"sub":' * 50_000,
    "deep and closed": b'{"free":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "a list for an object": b"[]",
    "a word for an object": b'"x"',
    "a field nobody knows": b'{"__proto__": {"admin": true}}',
    "ten thousand fields nobody knows": b"{" + b",".join(b'"f%d":1' % number for number in range(10_000)) + b"}",
}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
async def test_a_hostile_body_is_a_clean_refusal(name: str, echo: Any, echo_rest: Any) -> None:
    headers = {"Content-Type": "application/json"}
    async with echo_rest("POST", "/e/star/n", data=HOSTILE_BODIES[name], headers=headers) as answer:
        if name == "nothing but space":
            assert answer.status == 200
            return
        assert answer.status == 400
        problem = await answer.json()
    assert problem["reason"] in {"MALFORMED_JSON", "VALIDATION_FAILED"}
    assert problem["errors"]
    assert echo.requests == []


HOSTILE_HEADERS = {
    "Idempotency-Key": ["", "x" * 300, "a\tb", "é"],
    "If-Match": ["7 8", '"a', "W/7", '"a", "b"', "\x7f"],
    "X-Request-Timeout": ["-1", "1e3", "nan", "∞", "9" * 50],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE_HEADERS.items() for value in values])
async def test_a_hostile_header_is_a_clean_refusal(name: str, value: str, cloud: Any, rest: Any, talk: Any) -> None:
    head = b"PUT /api/v1/products/prd_1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: close\r\n" + JSON
    field = name.encode() + b": " + value.encode() + b"\r\n"
    status, _, problem = parsed(await talk(rest.url, head + field + b"Content-Length: 2\r\n\r\n{}"))
    assert status == 400
    assert problem["reason"] in {"VALIDATION_FAILED", "MALFORMED_REQUEST"}
    assert cloud.requests == []
