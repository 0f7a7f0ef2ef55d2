"""The dashboards' WebSocket: a ticket comes in, then only values go out. What is shown is decided by the cloud, topic by topic.

Nobody is waited for: a dashboard that does not take what it is sent gets the newest value when it does, and is closed when it
does not for long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from gateway_rest import errors
from gateway_rest.channel import CallFailed, Channel
from gateway_rest.dashboards.feeds import HEARTBEAT_SECONDS, RESTART, TRY_AGAIN, UNAUTHENTICATED, Feed
from gateway_rest.dashboards.lines import EXTENSION, PATH, Line, frame
from gateway_rest.dashboards.screens import Screen
from gateway_rest.dashboards.seats import Closing, Seat
from gateway_rest.errors import Problem
from gateway_rest.metrics import Metrics
from gateway_rest.transcoding import metadata
from gateway_rest.transcoding.exchanges import Exchange
from gipos.v1.dashboards_pb2 import DashboardPass, RedeemDashboardTicketRequest, WatchTopicsRequest, WatchTopicsResponse

__all__ = ["PATH", "Dashboards", "Room"]

FIRST_SECONDS = 10.0
"""How long a socket may take to show its ticket."""
REDEEM_SECONDS = 10.0
MOST_VERSIONS = 2_000
MOST_WORDS, WORDS_A_SECOND = 60, 1
"""Messages after the first one: so many at once, and so many in the long run. They mean nothing, and cost."""
LONGEST_NAME = 200

BAD_MESSAGE, FORBIDDEN, TOO_MANY = 4400, 4403, 4429
_CODES = {400: BAD_MESSAGE, 401: UNAUTHENTICATED, 403: FORBIDDEN}
_SERVICE = "/gipos.v1.DashboardService/"

logger = structlog.get_logger()


@dataclass(frozen=True)
class Room:
    """How many dashboards may be open at once, in one process."""

    per_merchant: int = 200
    per_viewer: int = 5
    """Of one API key and viewer; those whose tickets name no viewer are one."""


@dataclass(frozen=True)
class _First:
    """What a dashboard says first."""

    ticket: str
    epoch: str
    versions: dict[str, str]


class _Unfit(Exception):
    """The first message is none."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Dashboards:
    """All dashboards of this process."""

    def __init__(self, channel: Channel, metrics: Metrics, room: Room | None = None) -> None:
        self._redeem = channel.unary(_SERVICE + "RedeemDashboardTicket", RedeemDashboardTicketRequest, DashboardPass)
        self._watch = channel.stream(_SERVICE + "WatchTopics", WatchTopicsRequest, WatchTopicsResponse)
        self._metrics = metrics
        self._room = room or Room()
        self._feeds: dict[tuple[str, ...], Feed] = {}
        self._taken: Counter[tuple[str, ...]] = Counter()
        self._is_draining = False

    def drain(self) -> None:
        """Asks every dashboard to come back, to whoever is there then."""
        self._is_draining = True
        for feed in self._feeds.values():
            for seat in feed.seats:
                seat.close(RESTART, "RESTART")

    def stop(self) -> None:
        """Ends what works for nobody any more."""
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()

    async def serve(self, exchange: Exchange, scope: Any) -> None:
        """One WebSocket, from its handshake to its end."""
        exchange.route = PATH
        await exchange.receive()  # websocket.connect
        if self._is_draining:
            await exchange.send({"type": "websocket.close"})
            return
        await exchange.send({"type": "websocket.accept", "headers": [(b"x-request-id", exchange.request_id.encode())]})
        line: Line = scope["extensions"][EXTENSION]
        self._metrics.in_flight.value += 1
        closing: Closing | None = None
        try:
            with self._metrics.streams.track_inprogress():
                closing = await self._admit(exchange, scope, line)
        finally:
            self._metrics.in_flight.value -= 1
            self._metrics.observe("GET", PATH, 101, 0.0, timed=False)
            logger.info(
                "dashboard_closed",
                request_id=exchange.request_id,
                code=closing.code if closing is not None else 1000,
                reason=closing.reason if closing is not None else "CLIENT_GONE",
            )

    async def _admit(self, exchange: Exchange, scope: Any, line: Line) -> Closing | None:
        """Serves who shows a ticket; why the socket was closed, or None when the dashboard hung up."""
        asked_at = asyncio.get_running_loop().time()
        try:
            if scope["query_string"]:
                raise _unreadable("The address must have no query: addresses are logged. The ticket is in the first message.")
            first = await _first(exchange)
            if first is None:
                return None
            asked_at = asyncio.get_running_loop().time()
            who = await self._redeemed(exchange, first.ticket)
        except _Unfit as unfit:
            return _close(exchange, line, _CODES[unfit.problem.status], unfit.problem)
        except CallFailed as failed:
            problem = errors.from_call(failed)
            return _close(exchange, line, _CODES.get(problem.status, TRY_AGAIN), problem)
        places = {(who.tenant_id,): self._room.per_merchant, (who.key_id, who.viewer): self._room.per_viewer}
        if any(self._taken[place] >= most for place, most in places.items()):
            problem = Problem(429, "TOO_MANY_DASHBOARDS", "Too many dashboards are open. Close one of them, then try again.")
            return _close(exchange, line, TOO_MANY, problem)
        self._taken.update(places.keys())
        try:
            return await self._show(exchange, line, who, first, asked_at)
        finally:
            self._taken.subtract(places.keys())
            for place in places:
                if not self._taken[place]:
                    del self._taken[place]

    async def _redeemed(self, exchange: Exchange, ticket: str) -> DashboardPass:
        # No key is taken from anywhere: the ticket alone says who this is.
        pairs = metadata.outgoing(exchange.headers, exchange.request_id, exchange.client)
        outgoing = [(name, value) for name, value in pairs if name not in {"authorization", "x-api-key"}]
        reply = await self._redeem(RedeemDashboardTicketRequest(ticket=ticket), outgoing, REDEEM_SECONDS)
        assert isinstance(reply.message, DashboardPass), "the class the call was made for"
        return reply.message

    async def _show(self, exchange: Exchange, line: Line, who: DashboardPass, first: _First, asked_at: float) -> Closing | None:
        clock = asyncio.get_running_loop().time
        left = (who.expire_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
        feed = self._feed(who)
        screen = Screen(feed.values, first.epoch, first.versions)
        # Heartbeats begin at once: a dashboard should not look dead while its first values are read.
        seat = Seat(screen, line, who, exchange.client, clock() + HEARTBEAT_SECONDS, clock() + left)
        screen.beat(feed.heartbeat())
        try:
            feed.join(seat, asked_at)
            if self._is_draining:
                seat.close(RESTART, "RESTART")
            await _listen(exchange, seat)
        finally:
            feed.leave(seat)
            seat.leave()
        return seat.closing

    def _feed(self, who: DashboardPass) -> Feed:
        key = (who.tenant_id, *who.topics)
        if key not in self._feeds:
            self._feeds[key] = Feed(self._watch, who.topics, over=lambda feed: self._forget(key, feed))
        return self._feeds[key]

    def _forget(self, key: tuple[str, ...], feed: Feed) -> None:
        if self._feeds.get(key) is feed:
            del self._feeds[key]
        feed.close()


async def _listen(exchange: Exchange, seat: Seat) -> None:
    """Returns at the end. What a dashboard says after its first message means nothing yet, and nobody may say much of it."""
    clock = asyncio.get_running_loop().time
    allowed, since = float(MOST_WORDS), clock()
    while (await exchange.receive())["type"] != "websocket.disconnect":
        now = clock()
        allowed, since = min(MOST_WORDS, allowed + (now - since) * WORDS_A_SECOND) - 1, now
        if allowed < 0:
            seat.close(BAD_MESSAGE, "TOO_MANY_MESSAGES")


async def _first(exchange: Exchange) -> _First | None:
    """The first message; None when the dashboard hung up before it.

    Raises:
        _Unfit: it did not come in time, or is none.
    """
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            message = await exchange.receive()
    except TimeoutError:
        raise _unidentified("No ticket came within 10 seconds. Send it in the first message.") from None
    if message["type"] == "websocket.disconnect":
        return None
    try:
        said: Any = orjson.loads(message.get("text") or message.get("bytes") or b"")
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise _unreadable("The first message must be a JSON object.")
    if not isinstance(said.get("ticket"), str) or not said["ticket"]:
        raise _unidentified("The first message must have a ticket, as POST /api/v1/dashboard-tickets makes it.")
    epoch, versions = said.get("epoch", ""), said.get("topics", {})
    fits = isinstance(epoch, str) and isinstance(versions, dict) and len(versions) <= MOST_VERSIONS
    if not fits or not all(
        isinstance(version, str) and max(len(name), len(version)) <= LONGEST_NAME for name, version in versions.items()
    ):
        raise _unreadable('"epoch" must be a text and "topics" an object of versions by topic, as they were received.')
    return _First(said["ticket"], epoch, versions)


def _unreadable(text: str) -> _Unfit:
    return _Unfit(Problem(400, "INVALID_FIRST_MESSAGE", text))


def _unidentified(text: str) -> _Unfit:
    return _Unfit(Problem(401, "UNAUTHENTICATED", text))


def _close(exchange: Exchange, line: Line, code: int, problem: Problem) -> Closing:
    """Says why in words, then closes."""
    body = problem.body(exchange.request_id, exchange.language)
    line.write(frame(orjson.dumps({"t": "error", **body})))
    line.end(code, problem.reason)
    return Closing(code, problem.reason)
