"""Server streams over WebSocket, on the same path: one frame per message, and a last text frame that says how it ended.

Messages are JSON in text frames, or, with the subprotocol "gipos.v1.proto", serialized protobuf in binary frames.
Authentication is the Authorization (or X-API-Key) header; browsers, which cannot set one, offer the subprotocols
"gipos.v1.json, gipos.key.<api key>". No cookie is ever read, so a foreign page has nothing to ride on; which pages may use a key
is the cloud's to say, as for HTTP. A caller who reads slowly slows the service down: the next message is asked for when the
socket took the one before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway_rest import errors
from gateway_rest.channel import CallFailed
from gateway_rest.errors import Problem, Refusal
from gateway_rest.transcoding import omissions, streams
from gateway_rest.transcoding.exchanges import ClientGone, Exchange, Scope
from gateway_rest.transcoding.responses import Write
from gateway_rest.transcoding.streams import Source
from kernel.protojson import EncodingFailed

JSON = "gipos.v1.json"
PROTO = "gipos.v1.proto"
KEY_PREFIX = "gipos.key."
NORMAL = 1000
FIRST_FAILURE = 4000
"""Close codes of failures are this plus the gRPC code."""
CLOSE_REQUEST = "$close"
STATUS = "$status"


def take_key(scope: Scope, headers: dict[bytes, bytes]) -> tuple[str | None, bool]:
    """Moves a key from the offered subprotocols to the headers.

    Answers the subprotocol to accept, and whether the caller authenticates as browsers do.
    """
    offered: list[str] = scope.get("subprotocols") or []
    key = next((item.removeprefix(KEY_PREFIX) for item in offered if item.startswith(KEY_PREFIX)), "")
    if key and b"authorization" not in headers and b"x-api-key" not in headers:
        headers[b"authorization"] = b"Bearer " + key.encode("ascii", "replace")
    return next((item for item in offered if item in {JSON, PROTO}), None), bool(key)


async def serve(exchange: Exchange, source: Source, write: Write, subprotocol: str | None, *, is_browser: bool) -> None:
    """Answers with the stream.

    Raises:
        CallFailed, Refusal: before the socket was accepted; never for browsers, which cannot read a refused handshake.
        ClientGone: the caller hung up.
    """
    gone: asyncio.Task[None] | None = None
    problem: Problem | None = None
    try:
        try:
            await source.opened()
        except CallFailed as failed:
            if not is_browser:
                raise
            problem = errors.from_call(failed)
        await accept(exchange, subprotocol)
        gone = asyncio.ensure_future(_listen(exchange))
        if problem is None:
            problem = await _relay(
                exchange, source, gone, None if subprotocol == PROTO else omissions.marking(write, exchange.request_id)
            )
        await close(exchange, problem)
    finally:
        await source.close()
        if gone is not None:
            await streams.end(gone)


async def _relay(exchange: Exchange, source: Source, gone: asyncio.Task[None], write: Write | None) -> Problem | None:
    """Sends every message, serialized without `write`; answers why the stream failed, or None when it ended well."""
    try:
        async for message in source.messages(gone):
            if message is None:
                continue
            if write is None:
                await exchange.send({"type": "websocket.send", "bytes": message.SerializeToString()})
            else:
                await exchange.send({"type": "websocket.send", "text": write(message).decode()})
    except (CallFailed, Refusal, EncodingFailed) as failed:
        return streams.told(failed, exchange)
    except ClientGone:
        # The listener says whether the caller asked for the end or is simply not there any more.
        try:
            gone.result()
        except Refusal as refusal:
            return refusal.problem
    return None


async def _listen(exchange: Exchange) -> None:
    """Returns when the caller asks for the end.

    Raises:
        ClientGone: the caller hung up.
        Refusal: the caller sent something this stream does not understand.
    """
    while True:
        message = await exchange.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientGone
        try:
            frame: Any = orjson.loads(message.get("text") or b"")
        except orjson.JSONDecodeError:
            frame = None
        if isinstance(frame, dict) and frame.get(CLOSE_REQUEST) is True:
            return
        raise Refusal(400, "UNEXPECTED_FRAME")


async def accept(exchange: Exchange, subprotocol: str | None) -> None:
    """Completes the handshake."""
    exchange.status = 101
    headers = [(b"x-request-id", exchange.request_id.encode())]
    await exchange.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})


async def close(exchange: Exchange, problem: Problem | None) -> None:
    """Sends the status frame and closes."""
    status: dict[str, Any] = {"status": 200, "reason": "OK"}
    code = NORMAL
    if problem is not None:
        exchange.reason = problem.reason
        status = problem.body(exchange.request_id, exchange.language)
        code = FIRST_FAILURE + problem.code
    await exchange.send({"type": "websocket.send", "text": orjson.dumps({STATUS: status}).decode()})
    await exchange.send({"type": "websocket.close", "code": code, "reason": status["reason"]})


async def refuse(exchange: Exchange, problem: Problem, *, is_browser: bool, subprotocol: str | None) -> None:
    """Ends a socket that was not accepted: by an HTTP answer, or for browsers by a status frame."""
    exchange.reason = problem.reason
    if is_browser:
        await accept(exchange, subprotocol)
        await close(exchange, problem)
        return
    exchange.status = problem.status
    headers = [
        (b"content-type", errors.CONTENT_TYPE),
        (b"x-request-id", exchange.request_id.encode()),
        *problem.headers,
    ]
    body = problem.encode(exchange.request_id, exchange.language)
    await exchange.send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await exchange.send({"type": "websocket.http.response.body", "body": body})
