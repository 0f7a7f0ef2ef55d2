"""uvicorn's HTTP protocol with less work per request: a whole answer is one write, and a request is read without detours.

Two writes are two packets, two system calls and often two wake-ups at the caller: a quarter of the time of a small answer. What
is not an answer of known length goes uvicorn's own way.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle


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
            self._finish(head, message.get("body", b""))

    def _finish(self, head: Any, body: bytes) -> None:
        parts = [STATUS_LINE[head["status"]]]
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        length = 0
        closes = False
        headers = head["headers"]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                closes = b"close" in value.lower()
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        text = b"".join(parts)
        lines = len(self.default_headers) + len(headers) + 2 + (not closes and not self.keep_alive)
        if text.count(b"\n") != lines or text.count(b"\r") != lines or b"\x00" in text:
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
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
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
