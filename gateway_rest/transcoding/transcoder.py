"""The ASGI application in front: finds the binding, calls the service, answers. Every failure becomes one problem+json here."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from gateway_rest import errors
from gateway_rest.channel import CallFailed, Channel, Reply
from gateway_rest.errors import Problem, Refusal
from gateway_rest.metrics import Metrics
from gateway_rest.transcoding import metadata, streams, websockets
from gateway_rest.transcoding.endpoints import Endpoint
from gateway_rest.transcoding.exchanges import ClientGone, Exchange, Receive, Scope, Send
from gateway_rest.transcoding.requests import Assembled
from gateway_rest.transcoding.rules import Binding, Rules
from kernel.protojson import JsonRefused

DEADLINE_SECONDS = 15.0
"""A unary call may take this long; the header X-Request-Timeout can only shorten it."""
WATCH_AFTER_SECONDS = 0.05
"""A call that takes longer is watched for a caller who hangs up. Most are over before, and need no watching."""

logger = structlog.get_logger()


class Transcoder:
    """Serves every binding of a contract through a channel."""

    def __init__(self, rules: Rules, channel: Channel, metrics: Metrics, *, keep_alive_seconds: float) -> None:
        self._trie = rules.trie
        self._endpoints = {binding: Endpoint(binding, rules, channel) for binding in rules.bindings}
        self._metrics = metrics
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
        self._metrics.in_flight.inc()
        try:
            if binding is None:
                await self._without_binding(exchange, allowed, is_socket=is_socket)
            else:
                exchange.route = binding.template.text
                if is_socket:
                    await self._serve_socket(exchange, scope, self._endpoints[binding], segments)
                else:
                    await self._serve_http(exchange, self._endpoints[binding], segments)
        finally:
            self._metrics.in_flight.dec()
            self._note(exchange, binding, is_socket=is_socket)
        return True

    async def _without_binding(self, exchange: Exchange, allowed: frozenset[str], *, is_socket: bool) -> None:
        methods = sorted({*allowed, "OPTIONS", *(("HEAD",) if "GET" in allowed else ())})
        header = (b"allow", ", ".join(methods).encode())
        if is_socket:
            problem = Refusal(405, "METHOD_NOT_ALLOWED", method="A WebSocket", allowed=", ".join(methods)).problem
            await websockets.refuse(exchange, problem, is_browser=False, subprotocol=None)
        elif exchange.method == "OPTIONS":
            await exchange.answer(204, [header])
        else:
            refusal = Refusal(405, "METHOD_NOT_ALLOWED", headers=[header], method=exchange.method, allowed=", ".join(methods))
            await exchange.refuse(refusal.problem)

    async def _serve_http(self, exchange: Exchange, endpoint: Endpoint, segments: list[bytes]) -> None:
        assembled: Assembled | None = None
        try:
            seconds = metadata.deadline(exchange.headers, DEADLINE_SECONDS)
            body = b""
            if endpoint.request.takes_body:
                body = await exchange.read_body()
                if body:
                    metadata.require_json(exchange.headers)
            assembled = endpoint.request.assemble(segments, exchange.query, exchange.headers, body)
            outgoing = metadata.outgoing(exchange.headers, exchange.request_id, exchange.client)
            if endpoint.stream is not None:
                form = streams.negotiate(
                    exchange.headers.get(b"accept"), assembled.system.get("$alt", ""), is_endless=endpoint.is_endless
                )
                with self._metrics.streams.track_inprogress():
                    await streams.serve(exchange, endpoint, endpoint.stream(assembled.message, outgoing), form, self._ends)
                return
            reply = await self._call(exchange, endpoint, assembled, outgoing, seconds)
            await exchange.answer(*endpoint.response.answer(reply, exchange.headers, assembled.system))
        except ClientGone:
            exchange.reason = exchange.reason or "CLIENT_GONE"
        except Exception as error:
            # The last line of defence: logged in full, answered with an id only.
            problem = self._problem(exchange, error, endpoint, if_match=assembled is not None and assembled.if_match)
            if exchange.status:
                raise
            await exchange.refuse(problem)

    async def _call(
        self, exchange: Exchange, endpoint: Endpoint, assembled: Assembled, outgoing: list[tuple[str, str]], seconds: float
    ) -> Reply:
        """Calls the service, and gives up when the caller does."""
        assert endpoint.unary is not None
        loop = asyncio.get_running_loop()
        own = asyncio.current_task()
        watcher: list[asyncio.Task[None]] = []
        hung_up = False

        def on_gone(task: asyncio.Task[None]) -> None:
            nonlocal hung_up
            if not task.cancelled() and own is not None:
                hung_up = True
                own.cancel()

        def watch() -> None:
            watcher.append(loop.create_task(exchange.disconnected()))
            watcher[0].add_done_callback(on_gone)

        timer = loop.call_later(WATCH_AFTER_SECONDS, watch)
        try:
            return await endpoint.unary(assembled.message, outgoing, seconds)
        except asyncio.CancelledError:
            if hung_up and own is not None:
                own.uncancel()
                raise ClientGone from None
            raise
        finally:
            timer.cancel()
            if watcher:
                watcher[0].remove_done_callback(on_gone)
                watcher[0].cancel()

    async def _serve_socket(self, exchange: Exchange, scope: Scope, endpoint: Endpoint, segments: list[bytes]) -> None:
        subprotocol, is_browser = websockets.take_key(scope, exchange.headers)
        await exchange.receive()  # websocket.connect
        try:
            if endpoint.stream is None:
                raise Refusal(400, "NOT_A_STREAM")
            assembled = endpoint.request.assemble(segments, exchange.query, exchange.headers, b"")
            outgoing = metadata.outgoing(exchange.headers, exchange.request_id, exchange.client)
            stream = endpoint.stream(assembled.message, outgoing)
            with self._metrics.streams.track_inprogress():
                await websockets.serve(exchange, endpoint, stream, self._ends, subprotocol, is_browser=is_browser)
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
            return problem
        logger.error("request_failed", request_id=exchange.request_id, rpc=endpoint.binding.path, exc_info=error)
        return errors.internal()

    def _note(self, exchange: Exchange, binding: Binding | None, *, is_socket: bool) -> None:
        seconds = time.perf_counter() - exchange.started
        status = exchange.status or 499
        is_stream = is_socket or (binding is not None and binding.rpc.server_streaming)
        self._metrics.observe(exchange.method, exchange.route or "other", status, seconds, timed=not is_stream)
        fields: dict[str, Any] = {"reason": exchange.reason} if exchange.reason else {}
        logger.info(
            "request",
            request_id=exchange.request_id,
            method="WEBSOCKET" if is_socket else exchange.method,
            route=exchange.route or exchange.raw_path.decode("latin-1"),
            status=status,
            ms=round(seconds * 1000, 2),
            **fields,
        )
