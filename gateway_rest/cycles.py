"""uvicorn's HTTP protocol with less work per request: a whole answer is one write, and a request is read without detours.

Two writes are two packets, two system calls and often two wake-ups at the caller: a quarter of the time of a small answer. What
is not an answer of known length goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway_rest.heads import Head, Pair

_COLON = b": ".join


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    _head: Any = None
    """The head of an answer of known length, which waits for its body."""

    async def send(self, message: Any) -> None:
        """What an ASGI application sends."""
        if self._head is None:
            if self.response_started or message["type"] != "http.response.start" or not _is_sized(message):
                await super().send(message)
                return
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if not self.disconnected:
                self._head = message
                self.response_started = True
                self.waiting_for_100_continue = False
            return
        head, self._head = self._head, None
        if message.get("more_body") or message["type"] != "http.response.body":
            # In pieces after all.
            self.response_started = False
            await super().send(head)
            await super().send(message)
        elif not self.disconnected:
            self._finish(head["status"], head["headers"], message.get("body", b""))

    def answer(self, status: int, headers: Sequence[Pair], body: bytes) -> bool:
        """Sends a whole answer at once, its length among the headers; false where it must go ASGI's way and nothing was sent."""
        if self.response_started or self.disconnected or self.flow.write_paused:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self._finish(status, headers, body)
        return True

    def _finish(self, status: int, headers: Sequence[Pair], body: bytes) -> None:
        length = 0
        closes = False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                closes = b"close" in value.lower()
        lines = [*map(_COLON, self.default_headers), *map(_COLON, headers)]
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        count = len(lines) + 2
        lines += (b"", b"")
        text = STATUS_LINE[status] + b"\r\n".join(lines)
        if text.count(b"\n") != count or text.count(b"\r") != count or b"\x00" in text:
            raise RuntimeError("Invalid HTTP header.")
        if self.scope["method"] == "HEAD":
            body = b""
        elif length != len(body):
            raise RuntimeError("Response content does not have the length that was announced.")
        self.transport.write(text + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Protocol(HttpToolsProtocol):
    """One connection."""

    _idle_since = math.inf
    """When the last answer was complete; never while a request is under way or arrives."""

    def on_response_complete(self) -> None:
        """Takes the next request that waits, or waits for one. One timer looks at that from time to time, not one each time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._look_idle)

    def _look_idle(self) -> None:
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.transport.is_closing() or left == math.inf:
            return  # the next answer begins it anew
        if left <= 0:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_idle)

    def on_headers_complete(self) -> None:
        """Begins to serve a request, or puts it behind the one that is being served."""
        parser = self.parser
        version = parser.get_http_version()
        scope: Any = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        if parser.should_upgrade() and self._should_upgrade():
            return
        url = httptools.parse_url(self.url)
        raw_path = url.path
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        self._begin(scope, keep_alive=version != "1.0" and parser.should_keep_alive())

    def read_at_once(self, head: Head, path: bytes, query: bytes) -> None:
        """Begins to serve a whole request without a body that nobody needs to parse. No other one may be under way."""
        self.expect_100_continue = False
        text = path.decode("ascii")
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": head.pairs,
            "head": head,
            "state": self.app_state.copy(),
            "method": "GET",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
        }
        self.scope = scope
        self._begin(scope, keep_alive=True)
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _begin(self, scope: Any, *, keep_alive: bool) -> None:
        before = self.cycle
        self.cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            keep_alive,
            self.on_response_complete,
        )
        scope["answer"] = self.cycle.answer
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))


def _is_sized(message: Any) -> bool:
    if message["status"] in (204, 304):
        return True
    headers = message["headers"]
    if headers and headers[-1][0] == b"content-length":  # where our own answers have it
        return True
    return any(name == b"content-length" for name, _ in headers)
