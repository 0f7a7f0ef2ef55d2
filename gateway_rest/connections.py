"""One HTTP connection: uvicorn's own, with limits on what it leaves unlimited, and every refusal in the form of all others.

Ambiguous framing (two lengths, a length next to chunks, strange codings) is refused by the parser itself; after any refusal the
connection is closed, because nobody can tell where the next request would begin.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway_rest import copy, errors
from gateway_rest.cycles import Protocol
from gateway_rest.errors import Refusal
from gateway_rest.heads import Heads
from gateway_rest.limits import Limits
from kernel.ids import new_id

_OFFERS = {b"upgrade", b"http2-settings"}

logger = structlog.get_logger()

_heads = Heads()


class Connection(Protocol):
    """Serves the requests of one connection."""

    limits = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle_bytes = 0
        """Bytes since the parser last had something to tell: a head, a trailer or noise that grows."""
        self._receiving = False
        """Between the first byte of a request and its last."""
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: Refusal | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._expect(self.limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the timer."""
        self._rest()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, within the limits."""
        if self._ended:
            return
        self._idle_since = math.inf
        before = self.cycle
        # Nothing of a request is there yet, no other one is under way, and none has ended the connection.
        is_first = not self._idle_bytes and not self._receiving and (before is None or before.response_complete)
        if is_first and (before is None or before.keep_alive) and (known := _heads.read(data)) is not None:
            head, path, query = known
            limits = self.limits
            is_short = len(path) + len(query) < limits.target_bytes and len(data) <= limits.head_bytes
            if is_short and len(head.pairs) <= limits.head_fields and not self.transport.is_closing():
                self._rest()
                self.read_at_once(head, path, query)
                return
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or Refusal(400, "MALFORMED_REQUEST"))
            return
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._rest()
                self.handle_websocket_upgrade()
            else:
                self._decline(data[upgrade.args[0] :])
            return
        cycle = self.cycle
        if is_first and cycle is not before and cycle.keep_alive and not cycle.more_body and cycle.scope["method"] == "GET":
            _heads.learn(data, cycle.scope["headers"])
        if self._idle_bytes > self.limits.head_bytes and (self._in_head or self._receiving or not self._is_busy()):
            self._refuse(Refusal(431, "HEADERS_TOO_LARGE", limit=str(self.limits.head_bytes)))
        elif self._timer is None and (self._receiving or not self._is_busy()):
            self._expect(self._patience())

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._receiving = self._in_head = True
        self._rest()

    def on_headers_complete(self) -> None:
        """Hands the request on, if its head is one we take."""
        limits = self.limits
        names = [header[0] for header in self.headers]
        if len(self.url) > limits.target_bytes:
            self._refusal = Refusal(414, "URI_TOO_LONG", limit=str(limits.target_bytes))
        elif len(names) > limits.head_fields:
            self._refusal = Refusal(431, "TOO_MANY_HEADERS", limit=str(limits.head_fields))
        elif self._idle_bytes > limits.head_bytes and self._head_size() > limits.head_bytes:
            self._refusal = Refusal(431, "HEADERS_TOO_LARGE", limit=str(limits.head_bytes))
        elif names.count(b"host") != 1 and (b"host" in names or self.parser.get_http_version() == "1.1"):
            self._refusal = Refusal(400, "MALFORMED_REQUEST")
        elif self._has_body(names) and self.parser.should_upgrade() and self._should_upgrade():
            # A WebSocket begins where the head ends (RFC 6455 §4.1); with a body nobody would know where, and wait for ever.
            self._refusal = Refusal(400, "MALFORMED_REQUEST")
        elif b"transfer-encoding" in names and not self._is_just_chunked():
            # The parser takes "gzip, chunked" for chunked and would hand on what nobody has unpacked.
            self._refusal = Refusal(400, "MALFORMED_REQUEST")
        if self._refusal is not None:
            raise self._refusal
        self._in_head = False
        self._idle_bytes = 0
        self._rest()
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            # Trailers are collected here from now on, and never become headers of a request that is already being served.
            self.headers = []
        elif self._should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._receiving = False
        self._idle_bytes = 0
        self._rest()
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's signature; its sentence says less than ours)
        """What uvicorn calls for whatever it cannot read."""
        self._refuse(Refusal(400, "MALFORMED_REQUEST"))

    def _decline(self, rest: bytes) -> None:
        """Serves a request that offers another protocol than WebSocket (Java offers h2c at first) as if it did not.

        The parser takes what follows the headers for the other protocol and would lose the body, so the request is read again.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(Refusal(400, "MALFORMED_REQUEST"))
            return
        lines = [method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token for token in value.split(b",") if token.strip().lower() not in _OFFERS]
                lines += [b"connection: " + b",".join(tokens)] if tokens else []
            elif name not in _OFFERS:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join((*lines, b"", rest)))

    def _has_body(self, names: Sequence[bytes]) -> bool:
        return b"transfer-encoding" in names or (b"content-length" in names and (b"content-length", b"0") not in self.headers)

    def _is_just_chunked(self) -> bool:
        return [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"] == [b"chunked"]

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _patience(self) -> float:
        """Seconds until what is missing must have come."""
        if self._in_head:
            return self.limits.head_seconds
        if not self._receiving:
            return self.limits.idle_seconds
        # The exchange that reads the body gives up first and says so; this is for bodies nobody reads.
        return self.limits.body_seconds + self.limits.body_grace_seconds

    def _expect(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._tire)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tire(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(Refusal(408, "REQUEST_TIMEOUT", seconds=f"{self.limits.head_seconds:g}"))
        else:
            self._end()
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answers and closes. An answer that is under way for an earlier request is let go out first."""
        self._end()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if self._is_busy() and (cycle.more_body is False or cycle.response_started):
            if cycle.more_body:
                # Half an answer to half a request: nothing that is said now would be understood.
                self.transport.close()
                return
            cycle.keep_alive = False
            return
        if self._is_busy():
            cycle.disconnected = True
            cycle.message_event.set()
        request_id = new_id("req")
        problem = refusal.problem
        logger.info("request_refused", request_id=request_id, status=problem.status, reason=problem.reason)
        body = problem.encode(request_id, copy.DEFAULT)
        fields = [
            *self.server_state.default_headers,
            (b"content-type", errors.CONTENT_TYPE),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()

    def _end(self) -> None:
        self._ended = True
        self._rest()


def limited(limits: Limits) -> type[Connection]:
    """The protocol class for a server with these limits."""
    return type("Connection", (Connection,), {"limits": limits})
