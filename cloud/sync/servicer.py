"""EdgeLinkService: one stream per till. One task reads what comes up, one generator writes what goes down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import structlog

from cloud.accounts import outlets
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.rpc import Caller, caller
from cloud.platform.wakeups import Wakeups
from cloud.sync import feed, uploads
from gipos.edge.v1 import link_pb2, link_pb2_grpc
from gipos.edge.v1.link_pb2 import LinkRequest, LinkResponse
from kernel import business_days
from kernel.errors import Busy, Invalid, PermissionDenied, Violation

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

HEARTBEAT_SECONDS = 10
DEAD_AFTER_SECONDS = 45
CREDIT = 2
RECONNECT_WINDOW_MS = 2000
MAX_BATCH = 500
SNAPSHOTS_AT_ONCE = 2
"""Snapshots being built per process: after a long outage every till wants one."""

CountMessages = Callable[[str, int], None]
"""Told how many messages the tills of a merchant have sent."""

logger = structlog.get_logger()


def _uncounted(_tenant_id: str, _count: int) -> None:
    """For a link whose messages nobody counts."""


class _Link:
    """One open stream."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        gate: asyncio.Semaphore,
        who: Caller,
        session: uploads.Session,
        lanes: dict[str, feed.Lane | None],
        count: CountMessages,
    ) -> None:
        self.database = database
        self.wakeups = wakeups
        self.gate = gate
        self.who = who
        self.session = session
        self.lanes = lanes
        """Lanes and where the till stands in them; None until the snapshot was sent."""
        self.count = count
        self.answers: asyncio.Queue[LinkResponse] = asyncio.Queue()
        """What reading produced: Stored and Progress."""
        self.stored = session.op_watermark
        """The highest of the till's operations that are stored."""
        self.ended = False
        self.failure: Exception | None = None

    async def read(self, requests: AsyncIterator[LinkRequest], wake: asyncio.Event) -> None:
        """Takes frames until the till stops or falls silent."""
        try:
            while True:
                async with asyncio.timeout(DEAD_AFTER_SECONDS):
                    request = await anext(requests)
                await self._take(request)
                wake.set()
        except StopAsyncIteration:
            pass
        except TimeoutError:
            logger.info("till_silent", till_id=self.who.till_id)
        except Exception as error:  # noqa: BLE001 (handed to the generator, which raises it through the door)
            self.failure = error
        finally:
            self.ended = True
            wake.set()

    async def _take(self, request: LinkRequest) -> None:
        kind = request.WhichOneof("frame")
        if kind == "operations":
            operations = request.operations.operations
            if len(operations) > MAX_BATCH:
                raise Invalid([Violation("operations", "TOO_MANY", f"A batch has at most {MAX_BATCH} operations.")])
            self.count(self.who.tenant_id, len(operations))
            outcome = await uploads.store(self.database, self.who, self.session, operations)
            self.stored = max(self.stored, outcome.op_watermark)
            stored = link_pb2.Stored(
                op_watermark=outcome.op_watermark,
                quarantined=outcome.quarantined,
                expected_op_seq=outcome.expected_op_seq,
            )
            await self.answers.put(LinkResponse(stored=stored))
        elif kind == "applied":
            lane = self.lanes.get(request.applied.lane)
            if lane is not None:
                lane.unconfirmed = max(0, lane.unconfirmed - 1)
        elif kind == "ping":
            progress = link_pb2.Progress()
            progress.server_time.FromDatetime(business_days.now())
            await self.answers.put(LinkResponse(progress=progress))

    def _may_have_more(self, lane: feed.Lane) -> bool:
        own = lane.name == self.who.outlet_id and lane.op_watermark < self.stored
        return own or self.wakeups.may_have_more(self.who.tenant_id, lane.name, lane.seq)

    async def write(self, wake: asyncio.Event, draining: asyncio.Event) -> AsyncIterator[LinkResponse]:
        """Yields frames: answers first, then resets with their snapshots, then the tails of the lanes while there is credit."""
        while True:
            wake.clear()
            if draining.is_set():
                yield LinkResponse(drain=link_pb2.Drain(reconnect_latest_ms=RECONNECT_WINDOW_MS, reason="The cloud restarts."))
                return
            while not self.answers.empty():
                yield self.answers.get_nowait()
            if self.failure is not None:
                raise self.failure
            if self.ended:
                return
            progressed = False
            for name, lane in self.lanes.items():
                if lane is None:
                    async for part in feed.snapshot(self.database, self.gate, self.who, self.session.store_epoch, name):
                        if part.last:  # known before it is sent, so that its confirmation finds it
                            self.lanes[name] = feed.Lane(name, part.epoch, part.seq, 1, part.op_watermark)
                        yield LinkResponse(snapshot=part)
                    progressed = True
                elif lane.unconfirmed < CREDIT and self._may_have_more(lane):
                    frame = await feed.tail(self.database, self.who, self.session.store_epoch, lane)
                    if frame is not None:
                        lane.seq = frame.upto_inclusive
                        lane.op_watermark = max(lane.op_watermark, frame.op_watermark)
                        lane.unconfirmed += 1
                        progressed = True
                        yield LinkResponse(changes=frame)
            if not progressed:
                await wake.wait()


class EdgeLinkServicer(link_pb2_grpc.EdgeLinkServiceServicer):
    """Answers EdgeLinkService."""

    def __init__(self, database: Database, wakeups: Wakeups, count: CountMessages = _uncounted) -> None:
        self._database = database
        self._wakeups = wakeups
        self._count = count
        self._gate = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)
        self._draining = asyncio.Event()
        self._wakes: set[asyncio.Event] = set()

    def drain(self) -> None:
        """Tells every till to come back in a moment, and ends the streams."""
        self._draining.set()
        for wake in self._wakes:
            wake.set()

    async def Link(self, request_iterator: AsyncIterator[LinkRequest], context: Context) -> AsyncIterator[LinkResponse]:
        """See link.proto."""
        who = caller()
        requests = aiter(request_iterator)
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                first = await anext(requests)
        except (StopAsyncIteration, TimeoutError):
            return
        if first.WhichOneof("frame") != "hello":
            raise Invalid([Violation("hello", "REQUIRED", "The first frame of a link must be Hello.")])
        hello = first.hello
        session = await uploads.open_session(self._database, who, hello.store_epoch)
        link, welcome, resets = await self._welcome(who, session, hello)
        yield LinkResponse(welcome=welcome)
        for reset in resets:
            yield LinkResponse(reset=reset)
        with self._wakeups.waiting(who.tenant_id) as wake:
            self._wakes.add(wake)
            reader = asyncio.create_task(link.read(requests, wake))
            try:
                async for frame in link.write(wake, self._draining):
                    yield frame
            except Busy:
                # The till keeps what was not acknowledged; ending the stream makes it come back and send it again.
                logger.warning("link_busy", till_id=who.till_id)
                raise
            except PermissionDenied:
                logger.warning("link_fenced", till_id=who.till_id, session=session.number)
                raise
            finally:
                self._wakes.discard(wake)
                reader.cancel()

    async def _welcome(
        self, who: Caller, session: uploads.Session, hello: link_pb2.Hello
    ) -> tuple[_Link, link_pb2.Welcome, list[link_pb2.Reset]]:
        async with self._database.reading(who.tenant_id) as connection:
            heads = await log.heads(connection, who.tenant_id)
            outlet = await outlets.find(connection, who.tenant_id, who.outlet_id)
        given = {place.lane: feed.Lane(place.lane, place.epoch, place.seq) for place in hello.positions}
        lanes: dict[str, feed.Lane | None] = {}
        resets = []
        for name in (log.TENANT_LANE, who.outlet_id):
            reason = feed.reset_reason(heads[name], given.get(name))
            lanes[name] = given[name] if reason is None else None
            if reason is not None:
                resets.append(link_pb2.Reset(lane=name, reason=reason))
                if reason == link_pb2.RESET_REASON_AHEAD:
                    logger.error("till_ahead_of_cloud", till_id=who.till_id, lane=name)
        welcome = link_pb2.Welcome(
            op_watermark=session.op_watermark,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            reconnect_window_ms=RECONNECT_WINDOW_MS,
            tenant_id=who.tenant_id,
            outlet=outlet,
            till=next(till for till in outlet.tills if till.id == who.till_id),
            credit=CREDIT,
            last_sale_number=session.last_sale_number,
        )
        welcome.server_time.FromDatetime(business_days.now())
        return _Link(self._database, self._wakeups, self._gate, who, session, lanes, self._count), welcome, resets
