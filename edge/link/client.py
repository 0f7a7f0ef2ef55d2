"""The link's socket, clock and patience: keeps one stream to the cloud open, carries out what the session orders.

The only module of the till that speaks gRPC. It decides nothing about frames; that is the session's business.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import structlog
from grpc import aio

from edge import words
from edge.link import meanings, streams
from edge.link.effects import StreamOver, carry_out, new_session
from edge.link.executions import Executions
from edge.link.orders import Adopt, AdoptPolicy, ClockSample, Complain, Execute, Order, Reconnect, Refuse, Stage
from edge.link.session import Phase, Session
from edge.link.status import LinkState, LinkStatus
from edge.link.streams import Arrived, Signal, Signals, Watchdog
from edge.link.surroundings import Around
from edge.link.uploads import Pace
from edge.storage import lanes, outbox
from edge.storage.database import DAMAGE, StorageFull
from edge.storage.folder import Storage
from edge.words import Said
from gipos.edge.v1.link_pb2 import Command, CommandResult, LinkRequest, LinkResponse
from gipos.edge.v1.link_pb2_grpc import EdgeLinkServiceStub
from kernel import business_days, capabilities, retry

if TYPE_CHECKING:
    # Exists only for type checkers.
    from gipos.edge.v1.link_pb2_grpc import EdgeLinkServiceAsyncStub

_log = structlog.get_logger(__name__)

Call: TypeAlias = "aio.StreamStreamCall[LinkRequest, LinkResponse]"

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    # Also what TCP waits for an answer before it gives up (gRPC sets TCP_USER_TIMEOUT to it), and the last time it tries again by
    # itself: 6.2 s into a cut it would otherwise wait for as long once more, though the line may be back the moment after.
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 0),
    # The session waits with jitter before each stream; the channel under it should not wait much longer on its own.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # Little read-ahead: stale changes should pile up in the cloud, where they are folded, and not in a buffer.
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.http2.bdp_probe", 0),
)
DEAD_AFTER_SECONDS = 30.0
"""Without any frame for so long the stream counts as broken, whatever the transport thinks."""
REFUSED_RETRY_SECONDS = 10.0
"""How long to wait after the cloud refused the device token."""
STEADY_AFTER_SECONDS = 60.0
"""A stream that lived so long clears the count of failures."""
FIRST_WINDOW_SECONDS = 5.0
"""The longest wait before the cloud has said how long it should be."""


class Credentials(Protocol):
    """How the till shows who it is, where that is not a token."""

    def channel(self, address: str, options: Sequence[tuple[str, int]]) -> aio.Channel:
        """A channel to the cloud. Asked anew whenever the cloud did not know the till, so that a new certificate takes effect."""


class _Plain:
    """No TLS: development, and tills with a token behind somebody else's TLS."""

    def channel(self, address: str, options: Sequence[tuple[str, int]]) -> aio.Channel:
        return aio.insecure_channel(address, options=options)


class LinkClient:
    """Keeps the link. `run` is one task for the daemon's whole life."""

    def __init__(
        self,
        *,
        address: str,
        token: str,
        storage: Storage,
        enabled: bool,
        software_version: str,
        adopted: Callable[[], Awaitable[None]] | None = None,
        around: Around | None = None,
        credentials: Credentials | None = None,
        offered: frozenset[str] = capabilities.ALL,
        unusable: Said = words.NOTHING,
        dead_after_seconds: float = DEAD_AFTER_SECONDS,
        refused_retry_seconds: float = REFUSED_RETRY_SECONDS,
    ) -> None:
        """Prepares a link; nothing is sent before `run`.

        Args:
            address: host:port of the cloud's gRPC server.
            token: the till's device token; empty for a till with a certificate.
            storage: the till's files.
            enabled: False when the cashier switched to working offline.
            software_version: for the cloud's logs.
            adopted: as Around.adopted.
            around: the rest of the till.
            credentials: makes the channel; a plain one without.
            offered: the abilities this till tells the cloud.
            unusable: why this till cannot link at all. `run` then only waits, and people read this.
            dead_after_seconds: without a frame for so long the stream is given up.
            refused_retry_seconds: the wait after the token was refused.
        """
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._storage = storage
        self._software_version = software_version
        self._around = around or Around()
        self._adopted = adopted or self._around.adopted
        self._credentials = credentials or _Plain()
        self._offered = offered
        self._dead_after = dead_after_seconds
        self._refused_retry = refused_retry_seconds
        self._enabled = asyncio.Event()
        if enabled:
            self._enabled.set()
        self._switched = asyncio.Event()
        self._signals: Signals | None = None
        self._session: Session | None = None
        self._snapshot_lanes: set[str] = set()
        self._failures = 0
        self._window: float | None = None
        self._pace = Pace()
        self._unusable = unusable
        state, message = self._at_first(enabled=enabled)
        self._status = LinkStatus(state, _now(), message)
        own = {"refresh_lane": self._refresh, "resend": self._resend}
        self._executions = Executions(storage, {**self._around.abilities, **own}, self._tell)

    @property
    def status(self) -> LinkStatus:
        """The link as people see it."""
        return self._status

    def wake(self) -> None:
        """The outbox has something new: it is sent at once if there is a stream."""
        if self._signals is not None:
            self._signals.put_nowait(Signal.OPERATIONS)

    def switch(self, *, enabled: bool) -> None:
        """Turns the link on or off at once; a stream that is open ends."""
        if enabled == self._enabled.is_set():
            return
        if enabled:
            self._failures = 0
            self._enabled.set()
        else:
            self._enabled.clear()
        self._show(*self._at_first(enabled=enabled))
        self._switched.set()

    async def run(self) -> None:
        """Connects, and connects again, until cancelled."""
        try:
            if self._unusable != words.NOTHING:
                await asyncio.Event().wait()
            while True:
                async with self._credentials.channel(self._address, CHANNEL_OPTIONS) as channel:
                    await self._keep(EdgeLinkServiceStub(channel))
        finally:
            await self._executions.stop()

    async def _keep(self, stub: EdgeLinkServiceAsyncStub) -> None:
        """One stream after the other, until the cloud does not know the till."""
        loop = asyncio.get_running_loop()
        order: Reconnect | Refuse | None = None
        while not isinstance(order, Refuse):
            await self._enabled.wait()
            self._switched.clear()
            began = loop.time()
            # In a task of its own: on Python 3.11.0 to 3.11.2 a task group that failed leaves its task half cancelled, and
            # the next timeout in it would end the link for ever.
            try:
                order = await asyncio.create_task(self._converse(stub))
            except Exception as fault:  # noqa: BLE001 (a fault in saying why a stream ended must not end the daemon: it sells)
                _log.exception("link_fault", exc_info=fault)
                order = Reconnect("an internal fault, see the log", message=words.FAULT)
            if loop.time() - began >= STEADY_AFTER_SECONDS:
                self._failures = 0
            if not self._enabled.is_set():
                continue
            delay = self._plan(order)
            reason = order.message.english if isinstance(order, Refuse) else order.reason
            _log.info("link_waits", reason=reason, seconds=round(delay, 3), failures=self._failures)
            await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not past a turn of the cashier's switch."""
        try:
            async with asyncio.timeout(seconds):
                await self._switched.wait()
        except TimeoutError:
            return

    def _plan(self, order: Reconnect | Refuse) -> float:
        """Shows why the stream ended and returns how long to wait before the next, in seconds."""
        was_online = self._status.state is LinkState.ONLINE
        if isinstance(order, Refuse):
            self._show(LinkState.OFFLINE, order.message)
            return self._refused_retry
        self._show(LinkState.CONNECTING if was_online else LinkState.OFFLINE, order.message)
        if order.snapshot_lane:
            self._snapshot_lanes.add(order.snapshot_lane)
        if order.latest_ms is not None:
            delay = random.uniform(order.earliest_ms, order.latest_ms) / 1000  # noqa: S311 (spreads load, guards nothing)
        elif was_online and self._window is not None:
            # The whole fleet was cut at this moment: come back spread over the window the cloud has asked for.
            delay = random.uniform(0, self._window)  # noqa: S311 (same)
        else:
            delay = retry.full_jitter(self._failures, cap=self._window or FIRST_WINDOW_SECONDS)
        self._failures += 1
        # A refused connection fails in no time; without a floor the first tries would be a busy loop.
        return max(0.1, delay)

    async def _converse(self, stub: EdgeLinkServiceAsyncStub) -> Reconnect | Refuse:
        """One stream from hello to its end, whatever ends it."""
        # Before the outbox is read for the hello: a sale made from here on must ring.
        signals: Signals = asyncio.Queue()
        self._signals = signals
        order: Reconnect | Refuse = Reconnect("the connection was closed")
        call: Call | None = None
        alive = Watchdog(self._dead_after)
        frames: asyncio.Queue[LinkRequest] = asyncio.Queue()
        try:
            # Credentials that gRPC cannot read are found out here.
            call = stub.Link(metadata=self._metadata)
            session = await new_session(
                self._storage,
                snapshot_lanes=self._snapshot_lanes,
                software_version=self._software_version,
                boot_id=self._around.boot_id,
                offered=self._offered,
                pace=self._pace,
            )
            self._session = session
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(streams.read(call, signals, alive, self._around.ticks_ms, aio.AioRpcError))
                tasks.create_task(streams.write(call, frames, aio.AioRpcError))
                tasks.create_task(alive.bark())
                tasks.create_task(self._watch_switch())
                tasks.create_task(self._drive(session, signals, frames, tasks))
        except* aio.AioRpcError as failures:
            error = _leaf(failures)
            assert isinstance(error, aio.AioRpcError)
            order = meanings.of(error)
        except* StorageFull:
            order = Reconnect("the disk is full", message=words.DISK_FULL)
        except* DAMAGE as failures:
            self._storage.distrust()
            _log.exception("link_storage_damaged", exc_info=_leaf(failures))
            order = Refuse(words.DAMAGED)
        except* StreamOver as overs:
            over = _leaf(overs)
            assert isinstance(over, StreamOver)
            order = over.order
        except* Exception as faults:  # noqa: BLE001 (selling goes on whatever happens to the link; the log has all of it)
            _log.exception("link_fault", exc_info=_leaf(faults))
            order = Reconnect("an internal fault, see the log", message=words.FAULT)
        finally:
            if self._session is not None:
                self._session.close()
            self._signals = self._session = None
            if call is not None:
                call.cancel()
        return order

    async def _drive(
        self,
        session: Session,
        signals: Signals,
        frames: asyncio.Queue[LinkRequest],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Feeds the session, one signal at a time, and does what it orders."""
        session.open()
        ticks_ms = self._around.ticks_ms
        while True:
            for frame in session.outgoing:
                frames.put_nowait(frame)
            session.outgoing.clear()
            signal = await signals.get()
            greeting = session.phase is Phase.GREETING
            orders: list[Order] = []
            match signal:
                case Signal.BEAT:
                    waiting = await self._storage.store.read(outbox.waiting)
                    orders = session.beat(business_days.now(), ticks_ms(), waiting)
                case Signal.OPERATIONS:
                    session.recorded(await self._storage.store.read(outbox.last_op_seq))
                case Signal.RESULT:
                    pass  # it is among the frames to send already
                case Arrived(frame=arrived, ticks_ms=at):
                    if arrived.HasField("reset"):
                        _log.info("lane_reset", lane=arrived.reset.lane, reason=int(arrived.reset.reason))
                    orders = session.receive(arrived, at)
                    self._around.heard()
                case error:
                    raise error
            await self._carry_out(orders, session)
            if greeting and session.phase is Phase.LIVE:
                tasks.create_task(streams.beat(session.heartbeat_seconds, signals))
            await self._upload(session)

    async def _carry_out(self, orders: list[Order], session: Session) -> None:
        for order in orders:
            await carry_out(order, session, self._storage)
            match order:
                case Adopt(welcome):
                    # A cloud that was restored gets what was done in earlier lives as well: there is more in the outbox now.
                    session.recorded(await self._storage.store.read(outbox.last_op_seq))
                    self._failures = min(self._failures, 1)
                    self._window = session.reconnect_window_ms / 1000 or None
                    self._show(LinkState.ONLINE, words.NOTHING)
                    _log.info(
                        "link_online",
                        tenant_id=welcome.tenant_id,
                        till_id=welcome.till.id,
                        watermark=welcome.op_watermark,
                        capabilities=sorted(session.capabilities),
                        unknown=session.unknown,
                    )
                    if self._adopted is not None:
                        await self._adopted()
                case Stage(part) if part.last:
                    self._snapshot_lanes.discard(part.lane)
                case ClockSample(sent, received, answered, arrived):
                    self._around.measured(sent, received, answered, arrived)
                case Execute(command, is_late):
                    self._executions.begin(command, is_late=is_late)
                case AdoptPolicy(policy):
                    await self._around.policy(policy)
                case Complain(message):
                    _log.error("link_complaint", message=message.english)
                    self._show(self._status.state, message)

    def _tell(self, result: CommandResult) -> None:
        """A command is settled. Without a stream the cloud is told when it asks again."""
        if self._session is not None and self._signals is not None:
            self._session.executed(result)
            self._signals.put_nowait(Signal.RESULT)

    async def _refresh(self, command: Command) -> str:
        lane = command.refresh_lane.lane
        if self._session is None or self._session.phase is not Phase.LIVE or self._signals is None:
            await self._storage.replica.write(lambda connection: lanes.forget(connection, lane))
            return ""
        for order in self._session.refresh(lane):
            assert isinstance(order, Reconnect)
            self._signals.put_nowait(StreamOver(order))
        return ""

    async def _resend(self, command: Command) -> str:
        if self._session is not None and self._signals is not None:
            self._session.resend(command.resend.from_op_seq)
            self._signals.put_nowait(Signal.OPERATIONS)
        return ""

    async def _upload(self, session: Session) -> None:
        while (want := session.wanted()) is not None:
            batch = await self._storage.store.read(functools.partial(outbox.batch, from_op_seq=want[0], limit=want[1]))
            await self._carry_out(session.upload(batch, want), session)
            if session.wanted() == want:
                return

    async def _watch_switch(self) -> None:
        await self._switched.wait()
        raise StreamOver(Reconnect("switched off by the cashier"))

    def _at_first(self, *, enabled: bool) -> tuple[LinkState, Said]:
        """What people read before anything has happened."""
        if not enabled:
            return LinkState.SWITCHED_OFF, words.NOTHING
        return LinkState.CONNECTING if self._unusable == words.NOTHING else LinkState.OFFLINE, self._unusable

    def _show(self, state: LinkState, message: Said) -> None:
        since = self._status.since if state is self._status.state else _now()
        self._status = LinkStatus(state, since, message)


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is not itself a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _now() -> str:
    return business_days.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
