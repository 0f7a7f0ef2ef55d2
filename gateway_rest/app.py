"""Composition root of the gateway: the transcoder in front, documentation and health behind it, one error form for both."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway_rest import copy, docs, errors, health, openapi
from gateway_rest.channel import Channel
from gateway_rest.contract import Contract
from gateway_rest.errors import Problem, Refusal
from gateway_rest.metrics import Metrics
from gateway_rest.transcoding import rules, websockets
from gateway_rest.transcoding.exchanges import Exchange, Receive, Scope, Send
from gateway_rest.transcoding.streams import KEEP_ALIVE_SECONDS
from gateway_rest.transcoding.transcoder import Transcoder

logger = structlog.get_logger()


class Gateway:
    """The ASGI application. Connects on start-up, so that every connection belongs to the loop that serves.

    `connect` makes the channel: over the network, or to a cloud in this very process.
    """

    def __init__(
        self, contract: Contract, connect: Callable[[], Channel], *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS
    ) -> None:
        self._rules = rules.load(contract.files, contract.pool, contract.packages)
        self._document = openapi.document(contract, self._rules)
        self._connect = connect
        self._keep_alive_seconds = keep_alive_seconds
        self._channel: Channel | None = None
        self._transcoder: Transcoder | None = None
        self._screens: Starlette | None = None
        self.metrics = Metrics()

    def start(self) -> None:
        """Opens the channel. Called by the server's lifespan; needs the running loop."""
        for warning in self._rules.warnings:
            logger.warning("route_warning", detail=warning)
        self._channel = self._connect()
        self._transcoder = Transcoder(self._rules, self._channel, self.metrics, keep_alive_seconds=self._keep_alive_seconds)
        self._screens = Starlette(
            routes=[*docs.routes(self._document, openapi.TITLE), *health.routes(self._channel, self.metrics)],
            exception_handlers={HTTPException: _refused, Refusal: _refused, Exception: _failed},
        )

    def drain(self) -> None:
        """Lets live streams end, so that a stop does not wait for them."""
        if self._transcoder is not None:
            self._transcoder.drain()

    async def stop(self) -> None:
        """Closes the channel."""
        self.drain()
        if self._channel is not None:
            await self._channel.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._transcoder is not None
        assert self._screens is not None
        if await self._transcoder.serve(scope, receive, send):
            return
        if scope["type"] == "websocket":
            exchange = Exchange(scope, receive, send)
            problem = Refusal(404, "ROUTE_NOT_FOUND", path=_shown(scope)).problem
            await websockets.refuse(exchange, problem, is_browser=False, subprotocol=None)
            return
        await self._screens(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _shown(scope: Scope) -> str:
    path: str = scope["path"]
    return path[:200].encode("ascii", "replace").decode()


def _respond(request: Request, problem: Problem) -> Response:
    exchange = Exchange(request.scope, request.receive, _unused)
    language = copy.choose(exchange.headers.get(b"accept-language"))
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    headers |= {"x-request-id": exchange.request_id, "content-language": language, "vary": "accept-language"}
    return Response(problem.encode(exchange.request_id, language), problem.status, headers, errors.CONTENT_TYPE.decode())


async def _unused(_: object) -> None:
    raise AssertionError("answers of screens are sent by Starlette")


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        return _respond(request, error.problem)
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET")
        facts = {"method": request.method, "allowed": allowed}
        return _respond(request, Refusal(405, "METHOD_NOT_ALLOWED", headers=[(b"allow", allowed.encode())], **facts).problem)
    if error.status_code == 404:
        return _respond(request, Refusal(404, "ROUTE_NOT_FOUND", path=_shown(request.scope)).problem)
    return _respond(request, Problem(error.status_code, "HTTP_ERROR", ""))


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("screen_failed", path=_shown(request.scope), exc_info=error)
    return _respond(request, errors.internal())
