"""One HTTP exchange on bare ASGI: reads the body within limits, writes the answer once, and remembers what the log will say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

from gateway_rest import copy, errors
from gateway_rest.errors import Problem, Refusal
from gateway_rest.heads import Head
from gateway_rest.limits import Limits
from gateway_rest.transcoding import codings, metadata, origins

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_LIMIT = 64 * 1024 * 1024
"""How much of a body that is too large is read and thrown away, so that the caller gets to hear the answer."""
DRAIN_SECONDS = 5.0


class _Held:
    """Bytes of all bodies that somebody here still needs."""

    size = 0


class ClientGone(Exception):
    """The caller hung up; there is nobody to answer."""


class Exchange:
    """A request and the place for its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.perf_counter()
        self.is_socket: bool = scope["type"] == "websocket"
        self.method: str = scope.get("method", "GET")
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.head: Head = scope.get("head") or Head(scope["headers"])
        self.headers = self.head.fields
        """By name; only to be read."""
        self.repeated = self.head.repeated
        """A header that must not be given twice, and was."""
        self.client: str = scope["client"][0] if scope.get("client") else ""
        self.receive = receive
        self.send = send
        self._at_once: Callable[[int, Sequence[tuple[bytes, bytes]], bytes], bool] | None = scope.get("answer")
        """Sends a whole answer, if the server has such a way besides ASGI's (see gateway_rest.cycles)."""
        self.request_id = metadata.request_id(self.headers)
        self.route = ""
        """The path template; empty when there is none."""
        self.status = 0
        """HTTP status once the answer has begun."""
        self.reason = ""
        """Why it failed, for the log."""
        self.body_read = False
        self._held = 0
        """Bytes of its body, as they came."""
        self.extra: tuple[tuple[bytes, bytes], ...] = ()
        """Headers of every answer at this address."""

    @property
    def language(self) -> str:
        """The language of error texts."""
        return copy.choose(self.headers.get(b"accept-language"))

    @property
    def is_head(self) -> bool:
        """Whether only the headers of the answer are wanted."""
        return self.method == "HEAD"

    async def read_body(self, limits: Limits, most: int) -> bytes:
        """The whole request body of at most so many bytes, without its content coding.

        `let_go` gives back the room it takes.

        Raises:
            Refusal: 400, 408, 413, 415 or 503.
            ClientGone: the caller hung up.
        """
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await self._drain()
            raise _too_large(most)
        body = await self._collect(limits, most)
        if len(body) > most:
            await self._drain()
            raise _too_large(most)
        self.body_read = True
        coding = self.headers.get(b"content-encoding")
        return body if coding is None else codings.decode(body, coding, most)

    async def _collect(self, limits: Limits, most: int) -> bytes:
        """The body as it came. Each piece buys time for the next, at the rate that is asked for."""
        parts: list[bytes] = []
        size, more = 0, True
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limits.body_grace_seconds) as patience:
                while more and size <= most:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message.get("body", b""))
                    self._hold(len(parts[-1]), limits.bodies_bytes)
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if more:
                        earned = limits.body_grace_seconds + size / limits.body_rate
                        patience.reschedule(begun + min(limits.body_seconds, earned))
        except TimeoutError:
            seconds = f"{asyncio.get_running_loop().time() - begun:.0f}"
            raise Refusal(408, "REQUEST_TIMEOUT", headers=[(b"connection", b"close")], seconds=seconds) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, size: int, most: int) -> None:
        self._held += size
        _Held.size += size
        if _Held.size > most:
            raise Refusal(503, "BUSY", headers=[(b"retry-after", b"1"), (b"connection", b"close")])

    def let_go(self) -> None:
        """The body is not needed any more."""
        _Held.size -= self._held
        self._held = 0

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

    async def disconnected(self) -> None:
        """Returns when the caller hangs up (or the answer is complete)."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends status and headers."""
        self.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": self._complete(headers)})

    def _complete(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self.request_id.encode()), *self.extra, *headers]

    async def answer(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"", *, packs: bool = False
    ) -> None:
        """Sends a whole answer; `packs` allows a content coding if the caller takes one and it is worth it."""
        sized = list(headers)
        if packs and len(body) >= codings.SMALLEST and (accepted := self.headers.get(b"accept-encoding")):
            sized, body = await _packed(sized, body, accepted)
        if status not in (204, 304):
            sized.append((b"content-length", str(len(body)).encode()))
        if self._at_once is not None:
            self.status = status
            if self._at_once(status, self._complete(sized), b"" if self.is_head else body):
                return
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
            (b"vary", b"accept-encoding, accept-language, origin"),
            *problem.headers,
        ]
        if b"origin" in self.headers:
            headers += origins.readable(self.headers)
        if b"expect" in self.headers and not self.body_read:
            # Whether the body still comes is up to the caller: nobody could tell it from the next request.
            headers.append((b"connection", b"close"))
        await self.answer(problem.status, headers, problem.encode(self.request_id, self.language), packs=True)


async def _packed(headers: list[tuple[bytes, bytes]], body: bytes, accepted: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    coding = codings.negotiate(accepted)
    if not coding:
        return headers, body
    if len(body) < codings.IN_A_THREAD:
        packed = codings.encode(body, coding)
    else:
        packed = await asyncio.to_thread(codings.encode, body, coding)
    # The tag was of the bytes (or of the resource) without the coding: true in meaning, no longer byte for byte.
    weak = [(name, b"W/" + value if name == b"etag" and value[:1] == b'"' else value) for name, value in headers]
    return [*weak, (b"content-encoding", coding.encode())], packed


def _too_large(limit: int) -> Refusal:
    # The rest of the body is on its way: closing is cheaper than reading it to the end.
    return Refusal(413, "PAYLOAD_TOO_LARGE", headers=[(b"connection", b"close")], limit=str(limit))
