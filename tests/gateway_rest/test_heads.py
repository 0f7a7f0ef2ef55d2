"""What is remembered of heads says what the parser says of the same bytes, and nothing of what could be read otherwise."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_rest.heads import KEPT, LONGEST, Heads

LINE = b"GET /api/v1/products?page_size=50 HTTP/1.1"
HEADERS = b"\r\nHost: x\r\nAuthorization: Bearer k\r\nAccept: */*\r\n\r\n"
PAIRS = [(b"host", b"x"), (b"authorization", b"Bearer k"), (b"accept", b"*/*")]


class Parsed:
    """What the parser says of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.heads = self.complete = 0
        self.url = b""
        self.body = b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def known() -> Heads:
    heads = Heads()
    heads.learn(LINE + HEADERS, PAIRS)
    return heads


def test_the_same_headers_are_known_again_whatever_is_read() -> None:
    found = known().read(b"GET /api/v1/products/prd_1?a=%20b&c HTTP/1.1" + HEADERS)
    assert found is not None
    head, path, query = found
    assert (path, query) == (b"/api/v1/products/prd_1", b"a=%20b&c")
    assert head.fields == dict(PAIRS)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /a HTTP/1.1" + HEADERS,
        b"HEAD /a HTTP/1.1" + HEADERS,
        b"GET /a HTTP/1.0" + HEADERS,
        b"GET  /a HTTP/1.1" + HEADERS,
        b"GET http://x/a HTTP/1.1" + HEADERS,
        b"GET //x/a HTTP/1.1" + HEADERS,
        b"GET /a#b HTTP/1.1" + HEADERS,
        b"GET /a\0 HTTP/1.1" + HEADERS,
        b"GET /a\nX: y HTTP/1.1" + HEADERS,
        b"\r\n" + LINE + HEADERS,
        LINE + HEADERS + LINE + HEADERS,
        LINE + HEADERS + b"x",
        LINE + HEADERS[:-1],
        LINE + b"\r\nX: y" + HEADERS,
        b"",
        b"\r\n\r\n",
    ],
)
def test_whatever_is_not_exactly_that_is_for_the_parser(data: bytes) -> None:
    assert known().read(data) is None


@pytest.mark.parametrize(
    ("data", "pairs"),
    [
        (LINE + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n", [(b"host", b"x"), (b"content-length", b"0")]),
        (LINE + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", [(b"host", b"x"), (b"transfer-encoding", b"chunked")]),
        (LINE + b"\r\nHost: x\r\nConnection: close\r\n\r\n", [(b"host", b"x"), (b"connection", b"close")]),
        (LINE + b"\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", [(b"host", b"x"), (b"upgrade", b"h2c")]),
        (LINE + b"\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", [(b"host", b"x"), (b"expect", b"100-continue")]),
        (LINE + b"\r\nHost: x\r\nA: b\n c\r\n\r\n", [(b"host", b"x"), (b"a", b"b c")]),
        (LINE + b"\r\nHost: x\n\nGET /b HTTP/1.1\r\nHost: y\r\n\r\n", [(b"host", b"y")]),
        (LINE + b"\r\nHost: x\r\n\r\n" + LINE + b"\r\nHost: x\r\n\r\n", [(b"host", b"x")]),
        (LINE + b"\r\nHost: " + b"x" * LONGEST + b"\r\n\r\n", [(b"host", b"x" * LONGEST)]),
    ],
)
def test_what_says_something_of_what_follows_is_not_remembered(data: bytes, pairs: Any) -> None:
    heads = Heads()
    heads.learn(data, pairs)
    assert heads.read(data) is None


def test_of_too_many_heads_the_old_ones_are_forgotten() -> None:
    heads = known()
    for number in range(KEPT):
        heads.learn(LINE + b"\r\nHost: %d\r\n\r\n" % number, [(b"host", b"%d" % number)])
    assert heads.read(LINE + HEADERS) is None
    assert heads.read(LINE + b"\r\nHost: %d\r\n\r\n" % (KEPT - 1)) is not None


PIECES = st.sampled_from(
    [
        *(
            b"GET ",
            b"POST ",
            b"/",
            b"//",
            b"a",
            b"%2f",
            b"%",
            b"?",
            b"&a=b",
            b"#",
            b" ",
            b"  ",
            b"\t",
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
        ),
        *(
            b" HTTP/1.1",
            b" HTTP/1.0",
            b":80",
            b"http://x",
            HEADERS,
            b"\r\nHost: x",
            b"@",
            b"*",
            b"[::1]",
            b"..",
            b";",
            b"+",
            b"~",
        ),
        b"\xff",
    ]
)


@given(st.lists(PIECES, max_size=6).map(b"".join), st.booleans())
def test_the_parser_says_the_same(middle: bytes, is_line: bool) -> None:
    data = b"GET /" + middle + b" HTTP/1.1" + HEADERS if is_line else LINE + middle + HEADERS
    found = known().read(data)
    if found is None:
        return
    head, path, query = found
    said = Parsed(data)
    url = httptools.parse_url(said.url)
    assert (said.heads, said.complete, said.body, said.parser.get_method()) == (1, 1, b"", b"GET")
    assert said.parser.should_keep_alive()
    assert not said.parser.should_upgrade()
    assert (url.path, url.query or b"", said.pairs) == (path, query, list(head.pairs))
