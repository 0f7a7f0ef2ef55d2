"""Composition root of the gateway: the transcoder in front, documentation and health behind it, one error form for both."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gateway_rest import copy, docs, errors, health, oauth, openapi
from gateway_rest.channel import Channel
from gateway_rest.contract import Contract
from gateway_rest.dashboards import page
from gateway_rest.dashboards.sockets import PATH as DASHBOARD
from gateway_rest.dashboards.sockets import Dashboards, Room
from gateway_rest.errors import Problem, Refusal
from gateway_rest.forwarding import Proxies
from gateway_rest.limits import Limits
from gateway_rest.metrics import Metrics
from gateway_rest.transcoding import origins, retirements, rules, websockets
from gateway_rest.transcoding.exchanges import Exchange, Message, Receive, Scope, Send
from gateway_rest.transcoding.streams import KEEP_ALIVE_SECONDS
from gateway_rest.transcoding.transcoder import Transcoder
from gateway_rest.versions import Versions

STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
"""Sent with every answer that goes out by TLS: a year long, browsers do not try without (RFC 6797)."""

logger = structlog.get_logger()


class Gateway:
    """The ASGI application. Connects on start-up, so that every connection belongs to the loop that serves.

    `connect` makes the channel: over the network, or to a cloud in this very process.
    """

    def __init__(
        self,
        contract: Contract,
        connect: Callable[[], Channel],
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        limits: Limits | None = None,
        proxies: Proxies | None = None,
        room: Room | None = None,
    ) -> None:
        """Makes it ready to start.

        Raises:
            RuleError: a route of the contract cannot be served.
        """
        self._rules = rules.load(contract.files, contract.pool, contract.packages)
        for binding in self._rules.bindings:
            retirements.headers(binding)
        self._versions = Versions(self._rules)
        self._needs_credentials = contract.needs_credentials
        self._proxies = proxies or Proxies()
        self.limits = limits or Limits()
        self._document = openapi.document(contract, self._rules)
        self._connect = connect
        self._room = room
        self._dashboards: Dashboards | None = None
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
        self._transcoder = Transcoder(
            self._rules,
            self._channel,
            self.metrics,
            keep_alive_seconds=self._keep_alive_seconds,
            limits=self.limits,
            needs_credentials=self._needs_credentials,
        )
        self._dashboards = Dashboards(self._channel, self.metrics, self._room)
        self._screens = Starlette(
            routes=self._routes(self._channel),
            middleware=[Middleware(GZipMiddleware, minimum_size=1024)],
            exception_handlers={HTTPException: self._refused, Refusal: self._refused, Exception: _failed},
        )

    def _routes(self, channel: Channel) -> list[BaseRoute]:
        """What is no method of the contract. Everything that speaks HTTP in its own way gets its line here."""
        return [
            *docs.routes(self._document),
            *page.routes(),
            *health.routes(channel, self.metrics),
            *oauth.routes(channel, self.limits),
        ]

    def drain(self) -> None:
        """Lets live streams end, so that a stop does not wait for them."""
        if self._transcoder is not None:
            self._transcoder.drain()
        if self._dashboards is not None:
            self._dashboards.drain()

    async def stop(self) -> None:
        """Closes the channel."""
        self.drain()
        if self._dashboards is not None:
            self._dashboards.stop()
        if self._channel is not None:
            await self._channel.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._transcoder is not None
        assert self._screens is not None
        if self._proxies:
            try:
                self._proxies.settle(scope)
            except Refusal as refusal:
                await _turn_away(Exchange(scope, receive, send), refusal)
                return
        if scope.get("scheme") == "https":
            scope.pop("answer", None)  # it would pass by what is added here
            send = _by_tls(send)
        if await self._transcoder.serve(scope, receive, send):
            return
        if scope["type"] == "websocket":
            if scope["path"] == DASHBOARD:
                assert self._dashboards is not None
                await self._dashboards.serve(Exchange(scope, receive, send), scope)
                return
            await _turn_away(Exchange(scope, receive, send), self._missing("GET", scope))
            return
        await self._screens(scope, receive, send)

    def _missing(self, method: str, scope: Scope) -> Refusal:
        return self._versions.missing(method, scope.get("raw_path") or scope["path"].encode(), _shown(scope))

    async def _refused(self, request: Request, error: Exception) -> Response:
        if isinstance(error, Refusal):
            return _respond(request, error.problem)
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "GET")
            facts = {"method": request.method, "allowed": allowed}
            return _respond(request, Refusal(405, "METHOD_NOT_ALLOWED", headers=[(b"allow", allowed.encode())], **facts).problem)
        if error.status_code == 404:
            return _respond(request, self._missing(request.method, request.scope).problem)
        return _respond(request, Problem(error.status_code, "HTTP_ERROR", ""))

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


async def _turn_away(exchange: Exchange, refusal: Refusal) -> None:
    """Refuses before anything looked at the request."""
    if exchange.is_socket:
        await exchange.receive()  # websocket.connect
        await websockets.refuse(exchange, refusal.problem, is_browser=False, subprotocol=None)
    else:
        await exchange.refuse(refusal.problem)


def _by_tls(send: Send) -> Send:
    async def strictly(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), STRICT_TRANSPORT]
        await send(message)

    return strictly


def _respond(request: Request, problem: Problem) -> Response:
    exchange = Exchange(request.scope, request.receive, _unused)
    language = copy.choose(exchange.headers.get(b"accept-language"))
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    headers |= {name.decode(): value.decode("latin-1") for name, value in origins.readable(exchange.headers)}
    headers |= {"x-request-id": exchange.request_id, "content-language": language, "vary": "accept-language, origin"}
    return Response(problem.encode(exchange.request_id, language), problem.status, headers, errors.CONTENT_TYPE.decode())


async def _unused(_: object) -> None:
    raise AssertionError("answers of screens are sent by Starlette")


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("screen_failed", path=_shown(request.scope), exc_info=error)
    return _respond(request, errors.internal())
