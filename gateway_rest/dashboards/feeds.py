"""Feeds: one stream of the cloud per merchant (and set of topics that keys allow), for all dashboards of this process.

A feed asks as one of its dashboards, with that one's pass. When the pass ends, the next one asks; when the cloud is away, the
dashboards keep what they have, their heartbeats say so, and the feed goes on where it was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime

import orjson
import structlog
from google.rpc import code_pb2

from gateway_rest.channel import CallFailed, Stream, StreamCall
from gateway_rest.dashboards.lines import frame
from gateway_rest.dashboards.seats import Seat
from gateway_rest.dashboards.values import Topic, Values
from gipos.v1.dashboards_pb2 import DashboardPass, WatchTopicsRequest, WatchTopicsResponse
from kernel.ids import new_id

PUBLISH_SECONDS = 0.25
"""Between two publications of a topic. A little more than what a dashboard is sent at most, so that it never waits."""
HEARTBEAT_SECONDS = 14.0
"""They are sent by the sweep, so a second later at most."""
SWEEP_SECONDS = 1.0
STUCK_SECONDS = 10.0
MOST_WAITING_BYTES = 256 * 1024
LINGER_SECONDS = 30.0
"""How long a feed without dashboards is kept: those who were cut off come back to it."""
SILENT_SECONDS = 25.0
"""The cloud says something every ten."""
LONGEST_PAUSE = 5.0

TRY_AGAIN, RESTART, UNAUTHENTICATED = 1013, 1012, 4401

logger = structlog.get_logger()


class Feed:
    """See above."""

    def __init__(self, watch: StreamCall, kinds: Iterable[str], *, over: Callable[[Feed], None]) -> None:
        self._watch = watch
        self._kinds = list(kinds)
        self._over = over
        self._clock = asyncio.get_running_loop().time
        self.values = Values()
        self.seats: set[Seat] = set()
        self.is_live = False
        """Whether the cloud is heard."""
        self._empty_since = self._clock()
        self._ended_keys: dict[str, float] = {}
        """When keys were said to be changed."""
        self._publishing: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()
        self._stream: Stream | None = None
        self._covered: set[str] = set()
        """Keys that the cloud was asked about when the stream was opened; of what changes later it tells by itself."""
        self._hears_since = float("inf")
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._sweep())]

    # Dashboards.

    def join(self, seat: Seat, asked_at: float) -> None:
        """A dashboard comes. `asked_at` is when its ticket was shown: a key that changed since then does not count."""
        self.seats.add(seat)
        self._arrived.set()
        if self._ended_keys.get(seat.who.key_id, float("-inf")) >= asked_at:
            seat.close(UNAUTHENTICATED, "KEY_CHANGED")
            return
        if seat.who.key_id not in self._covered and asked_at < self._hears_since and self._stream is not None:
            # Its key may have changed just before the cloud listened for us: ask again, with it.
            self._stream.cancel()
            self._stream = None
        if self.values.epoch:
            seat.screen.begin(self._hello(), self._clock())
        seat.write(self._clock())

    def leave(self, seat: Seat) -> None:
        """A dashboard goes."""
        self.seats.discard(seat)
        self._empty_since = self._clock()

    def close(self) -> None:
        """Ends the feed; its dashboards are closed by whoever closes it."""
        if self._publishing is not None:
            self._publishing.cancel()
        for task in self._tasks:
            task.cancel()

    def _hello(self) -> bytes:
        return frame(orjson.dumps({"t": "hello", "epoch": self.values.epoch, "topics": self._kinds, "now": _now()}))

    # The cloud.

    async def _follow(self) -> None:
        pause = 0.1
        while True:
            lender = next((seat for seat in self.seats if seat.closing is None), None)
            if lender is None:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            try:
                async for message in self._messages(lender):
                    pause = 0.1
                    self._take(message)
                if self._stream is None:
                    continue
            except CallFailed as failed:
                if failed.status.code in {code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED}:
                    self._end_keys([lender.who.key_id])
                    continue
                logger.warning("dashboards_cut_off", tenant_id=lender.who.tenant_id, status=failed.status.message)
            except TimeoutError:
                logger.warning("dashboards_cut_off", tenant_id=lender.who.tenant_id, status="silent")
            except Exception:
                logger.exception("dashboards_cut_off", tenant_id=lender.who.tenant_id)
            self._turn(is_live=False)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 (spreads load, guards nothing)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _messages(self, lender: Seat) -> AsyncIterator[WatchTopicsResponse]:
        secrets = {seat.who.key_id: _secret(seat.who) for seat in self.seats if seat.closing is None}
        request = WatchTopicsRequest(epoch=self.values.epoch, have=dict(self.values.have()), passes=secrets)
        metadata = [("authorization", f"Bearer {_secret(lender.who)}"), ("x-request-id", new_id("req"))]
        if lender.address:
            metadata.append(("x-forwarded-for", lender.address))
        self._covered, self._hears_since = set(secrets), float("inf")
        stream = self._stream = self._watch(request, metadata)
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await stream.read()
                if message is None:
                    return
                assert isinstance(message, WatchTopicsResponse), "the class the call was made for"
                self._hears_since = min(self._hears_since, self._clock())
                yield message
        finally:
            stream.cancel()

    def _take(self, message: WatchTopicsResponse) -> None:
        newer = ((value.topic, value.version, value.value) for value in message.values)
        begins = self.values.stage(message.epoch, message.position, newer, message.ended_topics)
        if begins:
            self.values.publish(self._clock(), PUBLISH_SECONDS)
            hello, now = self._hello(), self._clock()
            for seat in self.seats:
                seat.screen.begin(hello, now)
                seat.write(now)
        else:
            for name in message.ended_topics:
                for seat in self.seats:
                    seat.screen.end(name)
            self._publish()
            if message.ended_topics:
                for seat in self.seats:
                    seat.write(self._clock())
        self._turn(is_live=True)
        self._end_keys(message.ended_keys)

    def _publish(self) -> None:
        """Publishes what is due; the rest when it is."""
        now = self._clock()
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        changed = self.values.publish(now, PUBLISH_SECONDS)
        if changed:
            self._tell(changed, now)
        for seat in self.seats:
            if seat.screen.is_holding and seat.screen.release(now):
                seat.write(now)
        due = self.values.next_at(PUBLISH_SECONDS)
        if due is not None:
            self._publishing = asyncio.get_running_loop().call_at(due, self._publish)

    def _tell(self, changed: list[Topic], now: float) -> None:
        for seat in self.seats:
            if seat.screen.changed(changed):
                seat.write(now)

    def _end_keys(self, key_ids: Iterable[str]) -> None:
        now = self._clock()
        for key_id in key_ids:
            self._ended_keys[key_id] = now
            for seat in self.seats:
                if seat.who.key_id == key_id:
                    seat.close(UNAUTHENTICATED, "KEY_CHANGED")

    # Time.

    def _turn(self, *, is_live: bool) -> None:
        """Dashboards hear at once that they are cut off, and that they are not any more."""
        if is_live != self.is_live:
            self.is_live = is_live
            for seat in self.seats:
                seat.beats_at = 0.0
            self._beat(self._clock())

    def heartbeat(self) -> bytes:
        """A frame that says what time it is, and whether what is shown is of now."""
        return frame(orjson.dumps({"t": "hb", "now": _now(), "live": self.is_live}))

    def _beat(self, now: float) -> None:
        heartbeat = b""
        for seat in self.seats:
            if now >= seat.beats_at:
                heartbeat = heartbeat or self.heartbeat()
                seat.beats_at = now + HEARTBEAT_SECONDS
                seat.screen.beat(heartbeat)
                seat.write(now)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._clock()
            self._beat(now)
            for seat in self.seats:
                if now >= seat.ends_at:
                    seat.close(UNAUTHENTICATED, "PASS_ENDED")
                elif _is_too_slow(seat, now):
                    seat.close(TRY_AGAIN, "TOO_SLOW")
                elif seat.screen.is_holding and seat.screen.release(now):
                    seat.write(now)
            for key_id, ended_at in list(self._ended_keys.items()):
                if now - ended_at > LINGER_SECONDS:
                    del self._ended_keys[key_id]
            if not self.seats and now - self._empty_since > LINGER_SECONDS:
                self._over(self)
                return


def _is_too_slow(seat: Seat, now: float) -> bool:
    """Whether its network takes nothing for long, or not a byte while much waits. Slow ones take their time."""
    if seat.line.stuck_since is None:
        seat.waited_bytes = 0
        return False
    before, seat.waited_bytes = seat.waited_bytes, seat.line.waiting_bytes
    stands_still = 0 < before <= seat.waited_bytes
    too_much = seat.waited_bytes + seat.screen.owed_bytes > MOST_WAITING_BYTES
    return now - seat.line.stuck_since > STUCK_SECONDS or (stands_still and too_much)


def _secret(who: DashboardPass) -> str:
    secret: str = getattr(who, "pass")  # a word of Python
    return secret


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
