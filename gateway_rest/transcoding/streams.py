"""Server streams over HTTP: NDJSON, server-sent events, or one JSON list when the stream ends by itself.

A stream that fails says so in its last line; a stream that is cut off never looks complete. The next message is read only after
the last one was taken by the caller's connection, so a slow caller slows the service down instead of filling our memory.
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from google.protobuf.message import Message

from gateway_rest import errors
from gateway_rest.channel import CallFailed, ReplyMetadata, Stream
from gateway_rest.errors import Problem, Refusal
from gateway_rest.transcoding import metadata, omissions, origins
from gateway_rest.transcoding.endpoints import Endpoint
from gateway_rest.transcoding.exchanges import ClientGone, Exchange
from gateway_rest.transcoding.responses import Write, content_type
from kernel.protojson import EncodingFailed

KEEP_ALIVE_SECONDS = 15.0
OPENING_SECONDS = 0.5
"""How long an immediate error is waited for before the headers go out; a quiet stream must not look like a dead one."""
LIST_LIMIT = 16 * 1024 * 1024
"""Bytes of a stream answered as one JSON list."""

_WEIGHT = re.compile(r"\s*q=([01](?:\.\d{0,3})?)\s*")

logger = structlog.get_logger()


class Form(enum.Enum):
    """How a stream is written."""

    NDJSON = "application/x-ndjson"
    EVENTS = "text/event-stream"
    LIST = "application/json"


def negotiate(accept: bytes | None, alternative: str, *, is_endless: bool) -> Form:
    """The form a caller asks for by Accept, or by `$alt` where headers cannot be set.

    Raises:
        Refusal: 406, one JSON document of a stream that has no end.
    """
    wanted = {"sse": Form.EVENTS, "ndjson": Form.NDJSON, "json": Form.LIST}.get(alternative)
    if wanted is None:
        wanted = Form.NDJSON
        for kind in _ranked((accept or b"*/*").decode("latin-1").lower()):
            if kind in {"*/*", "application/*", "application/x-ndjson", "application/jsonl"}:
                wanted = Form.NDJSON
                break
            if kind in {"text/event-stream", "text/*"}:
                wanted = Form.EVENTS
                break
            if kind == "application/json":
                # Clients list it first by habit and take anything after it.
                wanted = Form.LIST
    if wanted is Form.LIST and is_endless:
        raise Refusal(406, "NOT_ACCEPTABLE")
    return wanted


def _ranked(accept: str) -> list[str]:
    """The media types a caller takes, the most welcome first."""
    found: list[tuple[float, str]] = []
    for part in accept.split(","):
        kind, *parameters = part.split(";")
        weight = next((float(match[1]) for item in parameters if (match := _WEIGHT.fullmatch(item))), 1.0)
        if weight > 0:
            found.append((-weight, kind.strip()))
    return [kind for _, kind in sorted(found, key=lambda item: item[0])]


@dataclass(frozen=True)
class Ends:
    """What all live streams of a gateway share."""

    stopping: asyncio.Event
    """Set when the gateway goes down: streams end themselves, so that callers connect elsewhere at once."""
    keep_alive_seconds: float
    """After so much silence an event stream gets a comment, so that proxies and callers know it lives."""


class Source:
    """Reads a stream without ever cancelling a read: what a message is lost by."""

    def __init__(self, stream: Stream, ends: Ends, seconds: float) -> None:
        """`seconds` ends the stream from this side; may be infinite."""
        self._stream = stream
        self._until = asyncio.get_running_loop().time() + seconds
        self._stopping = asyncio.ensure_future(ends.stopping.wait())
        self._keep_alive_seconds = ends.keep_alive_seconds
        self._gone: asyncio.Task[Any] | None = None
        self._reading: asyncio.Task[Message | None] | None = None

    async def opened(self) -> ReplyMetadata:
        """The headers of the service if they (or a message, or an error) come soon, else nothing.

        Raises:
            CallFailed: the service refused at once.
        """
        opening = asyncio.ensure_future(self._stream.opened())
        self._reading = asyncio.ensure_future(self._stream.read())
        try:
            await asyncio.wait({self._reading, opening}, timeout=OPENING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done() and not self._reading.cancelled() and (error := self._reading.exception()) is not None:
                raise error
            if opening.done():
                # An error at once has its status only after its headers.
                await asyncio.wait({self._reading}, timeout=0.02)
                if self._reading.done() and (error := self._reading.exception()) is not None:
                    raise error
                return opening.result()
            return ()
        finally:
            await end(opening)

    async def messages(self, gone: asyncio.Task[Any]) -> AsyncIterator[Message | None]:
        """Every message in order; None now and then when nothing comes.

        Raises:
            CallFailed: the stream failed.
            ClientGone: `gone` is done.
            Refusal: this gateway is going down, or the caller's time is over.
        """
        while True:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._stream.read())
            patience = max(0.0, min(self._keep_alive_seconds, self._left()))
            await asyncio.wait({self._reading, gone, self._stopping}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done():
                message = self._reading.result()
                self._reading = None
                if message is None:
                    return
                yield message
            elif gone.done():
                raise ClientGone
            elif self._stopping.done():
                raise Refusal(503, "SHUTTING_DOWN", headers=[(b"retry-after", b"1")])
            elif self._left() <= 0:
                raise Refusal(504, "DEADLINE_EXCEEDED")
            else:
                yield None

    def _left(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Ends the call and every task behind it."""
        self._stream.cancel()
        await end(self._stopping)
        if self._reading is not None:
            await end(self._reading)


async def serve(exchange: Exchange, endpoint: Endpoint, source: Source, form: Form, write: Write) -> None:
    """Answers with the stream.

    Raises:
        CallFailed, Refusal: before anything was sent.
        ClientGone: the caller hung up.
    """
    gone = asyncio.ensure_future(exchange.disconnected())
    try:
        headers = metadata.answered(await source.opened())
        if b"origin" in exchange.headers:
            headers += [origins.EXPOSE, (b"vary", b"origin")]
        if endpoint.response.is_raw:
            await _serve_raw(exchange, endpoint, source, gone, headers)
            return
        write = omissions.marking(write, exchange.request_id)
        if form is Form.LIST:
            await _serve_list(exchange, source, gone, headers, write)
            return
        kind = form.value.encode() + (b"; charset=utf-8" if form is Form.EVENTS else b"")
        headers += [(b"content-type", kind), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        await exchange.begin(200, headers)
        if not exchange.is_head:
            await _serve_live(exchange, endpoint, source, gone, form, write)
        else:
            await exchange.send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        await source.close()
        await end(gone)


async def end(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits until it is over. How it ended is of no interest unless that was no way for a stream to end.

    Awaiting the task itself would also swallow our own cancellation.
    """
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, (CallFailed, ClientGone, Refusal)):
        raise error


async def _serve_live(
    exchange: Exchange, endpoint: Endpoint, source: Source, gone: asyncio.Task[Any], form: Form, write: Write
) -> None:
    is_events = form is Form.EVENTS
    problem: Problem | None = None
    if is_events:
        await _send(exchange, b"retry: 1000\n\n")
    try:
        async for message in source.messages(gone):
            if message is not None:
                await _send(exchange, _event(endpoint, message, write) if is_events else write(message) + b"\n")
            elif is_events:
                await _send(exchange, b":\n\n")
    except (CallFailed, Refusal, EncodingFailed) as failed:
        problem = told(failed, exchange)
    if problem is not None:
        exchange.reason = problem.reason
        body = problem.body(exchange.request_id, exchange.language)
        await _send(
            exchange,
            b"event: error\ndata: " + orjson.dumps(body) + b"\n\n" if is_events else orjson.dumps({"error": body}) + b"\n",
        )
    if is_events:
        await _send(exchange, b"event: end\ndata: {}\n\n")
    await exchange.send({"type": "http.response.body", "body": b""})


def told(failed: CallFailed | Refusal | EncodingFailed, exchange: Exchange) -> Problem:
    """What a caller hears of a stream that failed on the way."""
    if isinstance(failed, Refusal):
        return failed.problem
    if isinstance(failed, CallFailed):
        return errors.from_call(failed)
    logger.error("stream_failed", request_id=exchange.request_id, exc_info=failed)
    return errors.internal()


async def _serve_list(
    exchange: Exchange, source: Source, gone: asyncio.Task[Any], headers: list[tuple[bytes, bytes]], write: Write
) -> None:
    items: list[bytes] = []
    size = 0
    async for message in source.messages(gone):
        if message is None:
            continue
        items.append(write(message))
        size += len(items[-1])
        if size > LIST_LIMIT:
            raise Refusal(406, "NOT_ACCEPTABLE")
    await exchange.answer(200, [*headers, (b"content-type", b"application/json")], b"[" + b",".join(items) + b"]", packs=True)


async def _serve_raw(
    exchange: Exchange, endpoint: Endpoint, source: Source, gone: asyncio.Task[Any], headers: list[tuple[bytes, bytes]]
) -> None:
    """A download in pieces. Raw bytes have no place for an error: a failure cuts the connection before the last chunk."""
    try:
        async for message in source.messages(gone):
            if message is None:
                continue
            content = endpoint.response.raw(message)
            if not exchange.status:
                await exchange.begin(200, [*headers, content_type(content), (b"x-content-type-options", b"nosniff")])
            if content.data and not exchange.is_head:
                await _send(exchange, content.data)
    except (CallFailed, Refusal) as failed:
        if not exchange.status:
            raise
        # Returning without a last chunk makes the server cut the connection.
        exchange.reason = told(failed, exchange).reason
        return
    if not exchange.status:
        await exchange.begin(200, headers)
    await exchange.send({"type": "http.response.body", "body": b""})


def _event(endpoint: Endpoint, message: Any, write: Write) -> bytes:
    parts = [b"event: message\n"]
    if endpoint.has_cursor and message.cursor and message.cursor.isprintable():
        parts.append(b"id: " + message.cursor.encode() + b"\n")
    return b"".join((*parts, b"data: ", write(message), b"\n\n"))


async def _send(exchange: Exchange, chunk: bytes) -> None:
    await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
