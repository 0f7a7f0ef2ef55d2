"""The ASGI application in front: finds the binding, calls the service, answers. Every failure becomes one problem+json here."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time

import structlog

from gateway_rest import errors, logs
from gateway_rest.channel import CallFailed, Channel, Reply
from gateway_rest.errors import Problem, Refusal
from gateway_rest.limits import Limits
from gateway_rest.metrics import Metrics
from gateway_rest.transcoding import metadata, origins, streams, websockets
from gateway_rest.transcoding.endpoints import Endpoint
from gateway_rest.transcoding.exchanges import ClientGone, Exchange, Receive, Scope, Send
from gateway_rest.transcoding.requests import Assembled
from gateway_rest.transcoding.responses import Write
from gateway_rest.transcoding.rules import Binding, Rules
from gateway_rest.transcoding.streams import Source
from gateway_rest.transcoding.watching import Watch
from kernel.protojson import JsonRefused
from kernel.protojson.findings import Findings

DEADLINE_SECONDS = 15.0
"""A unary call may take this long; the header X-Request-Timeout can only shorten it. Streams have no deadline but that header."""

logger = structlog.get_logger()


class Transcoder:
    """Serves every binding of a contract through a channel."""

    def __init__(
        self,
        rules: Rules,
        channel: Channel,
        metrics: Metrics,
        *,
        keep_alive_seconds: float,
        limits: Limits | None = None,
        needs_credentials: bool = False,
    ) -> None:
        self._trie = rules.trie
        self._limits = limits or Limits()
        self._needs_credentials = needs_credentials
        self._endpoints = {binding: Endpoint(binding, rules, channel, self._limits) for binding in rules.bindings}
        self._metrics = metrics
        self._watch = Watch()
        self._ends = streams.Ends(asyncio.Event(), keep_alive_seconds)

    def drain(self) -> None:
        """Lets live streams end."""
        self._ends.stopping.set()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answers a request if its path is ours; answers whether it was."""
        is_socket = scope["type"] == "websocket"
        raw_path = scope.get("raw_path") or scope["path"].encode()
        binding, segments, allowed = self._trie.find("GET" if is_socket else scope["method"], raw_path)
        if binding is None and not allowed:
            return False
        exchange = Exchange(scope, receive, send)
        self._metrics.in_flight.value += 1
        try:
            if binding is None:
                await self._without_binding(exchange, allowed, is_socket=is_socket)
            elif exchange.method == "OPTIONS" and origins.is_preflight(exchange.headers):
                await exchange.answer(204, origins.preflight(exchange.headers, ()))
            else:
                endpoint = self._endpoints[binding]
                exchange.route, exchange.extra = endpoint.route, endpoint.headers
                if is_socket:
                    await self._serve_socket(exchange, scope, endpoint, segments)
                else:
                    await self._serve_http(exchange, endpoint, segments)
        finally:
            exchange.let_go()
            self._metrics.in_flight.value -= 1
            self._note(exchange, binding, is_socket=is_socket)
        return True

    async def _without_binding(self, exchange: Exchange, allowed: frozenset[str], *, is_socket: bool) -> None:
        methods = sorted({*allowed, "OPTIONS", *(("HEAD",) if "GET" in allowed else ())})
        header = (b"allow", ", ".join(methods).encode())
        if is_socket:
            await exchange.receive()  # websocket.connect
            problem = Refusal(405, "METHOD_NOT_ALLOWED", method="A WebSocket", allowed=", ".join(methods)).problem
            await websockets.refuse(exchange, problem, is_browser=False, subprotocol=None)
        elif exchange.method == "OPTIONS":
            asks = origins.is_preflight(exchange.headers)
            await exchange.answer(204, [header, *(origins.preflight(exchange.headers, methods) if asks else ())])
        else:
            refusal = Refusal(405, "METHOD_NOT_ALLOWED", headers=[header], method=exchange.method, allowed=", ".join(methods))
            await exchange.refuse(refusal.problem)

    async def _serve_http(self, exchange: Exchange, endpoint: Endpoint, segments: list[bytes]) -> None:
        assembled: Assembled | None = None
        try:
            self._admit(exchange)
            seconds = metadata.deadline(exchange.headers, DEADLINE_SECONDS if endpoint.stream is None else math.inf)
            body = b""
            if endpoint.request.takes_body:
                body = await exchange.read_body(self._limits, endpoint.body_bytes)
                if body and not endpoint.request.is_raw:
                    metadata.require_json(exchange.headers)
            assembled = endpoint.request.assemble(segments, exchange.query, exchange.headers, body)
            write = self._writer(endpoint, assembled)
            outgoing = metadata.told(exchange.head, exchange.request_id, exchange.client)
            if endpoint.stream is None:
                reply = await self._call(exchange, endpoint, assembled, outgoing, seconds)
                await endpoint.response.send(exchange, reply, write)
                return
            form = streams.negotiate(
                exchange.headers.get(b"accept"), assembled.system.get("$alt", ""), is_endless=endpoint.is_endless
            )
            with self._metrics.streams.track_inprogress():
                source = self._source(endpoint, assembled, outgoing, seconds)
                await streams.serve(exchange, endpoint, source, form, write)
        except ClientGone:
            exchange.reason = exchange.reason or "CLIENT_GONE"
        except Exception as error:
            # The last line of defence: logged in full, answered with an id only.
            problem = self._problem(exchange, error, endpoint, if_match=assembled is not None and assembled.if_match)
            if exchange.status:
                raise
            await exchange.refuse(problem)

    def _admit(self, exchange: Exchange) -> None:
        """Refuses what needs no look at the body."""
        if exchange.repeated:
            raise Refusal(400, "DUPLICATE_HEADER", name=exchange.repeated)
        headers = exchange.headers
        if self._needs_credentials and b"authorization" not in headers and b"x-api-key" not in headers:
            raise errors.unidentified()

    def _writer(self, endpoint: Endpoint, assembled: Assembled) -> Write:
        if not assembled.system:
            return endpoint.response.write
        ignores = assembled.system.get("$ignoreUnknown") == "true"
        found = Findings(exact_at_hand=False, ignore_unknown=ignores)
        write = endpoint.response.writer(assembled.system, found)
        found.settle()
        return write

    def _source(self, endpoint: Endpoint, assembled: Assembled, outgoing: list[tuple[str, str]], seconds: float) -> Source:
        assert endpoint.stream is not None
        return Source(endpoint.stream(assembled.message, outgoing), self._ends, seconds)

    async def _call(
        self, exchange: Exchange, endpoint: Endpoint, assembled: Assembled, outgoing: list[tuple[str, str]], seconds: float
    ) -> Reply:
        """Calls the service, and gives up when the caller does."""
        assert endpoint.unary is not None
        watched = self._watch.begin(exchange.disconnected)
        try:
            return await endpoint.unary(assembled.message, outgoing, seconds)
        except asyncio.CancelledError:
            if watched.hung_up:
                watched.task.uncancel()
                raise ClientGone from None
            raise
        finally:
            self._watch.end(watched)

    async def _serve_socket(self, exchange: Exchange, scope: Scope, endpoint: Endpoint, segments: list[bytes]) -> None:
        subprotocol, is_browser = websockets.take_key(scope, exchange.headers)
        await exchange.receive()  # websocket.connect
        try:
            if endpoint.stream is None:
                raise Refusal(400, "NOT_A_STREAM")
            self._admit(exchange)
            seconds = metadata.deadline(exchange.headers, math.inf)
            assembled = endpoint.request.assemble(segments, exchange.query, exchange.headers, b"")
            write = self._writer(endpoint, assembled)
            outgoing = metadata.told(exchange.head, exchange.request_id, exchange.client)
            with self._metrics.streams.track_inprogress():
                source = self._source(endpoint, assembled, outgoing, seconds)
                await websockets.serve(exchange, source, write, subprotocol, is_browser=is_browser)
        except (ClientGone, OSError):
            # Servers tell of a send to a closed socket by an OSError.
            exchange.reason = exchange.reason or "CLIENT_GONE"
        except Exception as error:  # noqa: BLE001 (the last line of defence: logged in full, answered with an id only)
            problem = self._problem(exchange, error, endpoint, if_match=False)
            if exchange.status:
                await websockets.close(exchange, problem)
            else:
                await websockets.refuse(exchange, problem, is_browser=is_browser, subprotocol=subprotocol)

    def _problem(self, exchange: Exchange, error: Exception, endpoint: Endpoint, *, if_match: bool) -> Problem:
        if isinstance(error, JsonRefused):
            return errors.from_json(error)
        if isinstance(error, Refusal):
            return error.problem
        if isinstance(error, CallFailed):
            problem = errors.from_call(error, if_match=if_match, body_field=endpoint.body_field)
            if problem.reason == "INTERNAL":
                logger.error("call_failed", request_id=exchange.request_id, rpc=endpoint.binding.path, status=str(error.status))
            return _with_headers(problem, error)
        logger.error("request_failed", request_id=exchange.request_id, rpc=endpoint.binding.path, exc_info=error)
        return errors.internal()

    def _note(self, exchange: Exchange, binding: Binding | None, *, is_socket: bool) -> None:
        seconds = time.perf_counter() - exchange.started
        status = exchange.status or 499
        is_stream = is_socket or (binding is not None and binding.rpc.server_streaming)
        self._metrics.observe(exchange.method, exchange.route or "other", status, seconds, timed=not is_stream)
        event = {
            "event": "request",
            "request_id": exchange.request_id,
            "method": "WEBSOCKET" if is_socket else exchange.method,
            "route": exchange.route or exchange.raw_path.decode("latin-1"),
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        if exchange.reason:
            event["reason"] = exchange.reason
        logs.note(event)


def _with_headers(problem: Problem, error: CallFailed) -> Problem:
    """The problem with what the service said besides it. Which page may read an error is not asked (see origins)."""
    given = {name for name, _ in problem.headers}
    more = {
        name: value
        for name, value in metadata.answered(error.metadata)
        if name not in given and not name.startswith(b"access-control-")
    }
    return dataclasses.replace(problem, headers=(*problem.headers, *more.items())) if more else problem
