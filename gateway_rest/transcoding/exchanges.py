"""One HTTP exchange on bare ASGI: reads the body within limits, writes the answer once, and remembers what the log will say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gateway_rest import copy, errors
from gateway_rest.errors import Problem, Refusal
from gateway_rest.transcoding import metadata

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request body."""
DRAIN_LIMIT = 64 * 1024 * 1024
"""How much of a body that is too large is read and thrown away, so that the caller gets to hear the answer."""
DRAIN_SECONDS = 5.0
BODY_SECONDS = 30
"""How long a body may take to arrive."""


class ClientGone(Exception):
    """The caller hung up; there is nobody to answer."""


class Exchange:
    """A request and the place for its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.perf_counter()
        self.method: str = scope.get("method", "GET")
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.client: str = scope["client"][0] if scope.get("client") else ""
        self.receive = receive
        self.send = send
        self.request_id = metadata.request_id(self.headers)
        self.route = ""
        """The path template; empty when there is none."""
        self.status = 0
        """HTTP status once the answer has begun."""
        self.reason = ""
        """Why it failed, for the log."""
        self.body_read = False

    @property
    def language(self) -> str:
        """The language of error texts."""
        return copy.choose(self.headers.get(b"accept-language"))

    @property
    def is_head(self) -> bool:
        """Whether only the headers of the answer are wanted."""
        return self.method == "HEAD"

    async def read_body(self, limit: int = BODY_LIMIT) -> bytes:
        """The whole request body.

        Raises:
            Refusal: 413 or 408.
            ClientGone: the caller hung up.
        """
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            await self._drain()
            raise _too_large(limit)
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._read_rest(body, limit)
        if len(body) > limit:
            await self._drain()
            raise _too_large(limit)
        self.body_read = True
        return body

    async def _drain(self) -> None:
        """Throws away the rest of a body that is too large, within bounds.

        A connection that is closed while the caller still writes is reset, and simple clients then never see the answer. Those
        who ask first (Expect: 100-continue) have sent nothing yet.
        """
        if b"expect" in self.headers:
            return
        left, more = DRAIN_LIMIT, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while more and left > 0:
                    message = await self.receive()
                    left -= len(message.get("body", b""))
                    more = message.get("more_body", False)

    async def _read_rest(self, first: bytes, limit: int) -> bytes:
        parts, size, more = [first], len(first), True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more and size <= limit:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(408, "REQUEST_TIMEOUT", headers=[(b"connection", b"close")], seconds=str(BODY_SECONDS)) from None
        return b"".join(parts)

    async def disconnected(self) -> None:
        """Returns when the caller hangs up (or the answer is complete)."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends status and headers."""
        self.status = status
        all_headers = [(b"x-request-id", self.request_id.encode()), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """Sends a whole answer."""
        sized = list(headers)
        if status not in (204, 304):
            sized.append((b"content-length", str(len(body)).encode()))
        await self.begin(status, sized)
        await self.send({"type": "http.response.body", "body": b"" if self.is_head else body})

    async def refuse(self, problem: Problem) -> None:
        """Answers with an error. Once an answer has begun, nothing can be taken back: the caller must see the connection end."""
        self.reason = problem.reason
        if self.status:
            raise ClientGone
        headers = [
            (b"content-type", errors.CONTENT_TYPE),
            (b"cache-control", b"no-store"),
            (b"content-language", self.language.encode()),
            (b"vary", b"accept-language"),
            *problem.headers,
        ]
        await self.answer(problem.status, headers, problem.encode(self.request_id, self.language))


def _too_large(limit: int) -> Refusal:
    # The rest of the body is on its way: closing is cheaper than reading it to the end.
    return Refusal(413, "PAYLOAD_TOO_LARGE", headers=[(b"connection", b"close")], limit=str(limit))
