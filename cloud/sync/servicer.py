"""EdgeLinkService: opens and ends streams, and keeps the time for all of them. What is said on one is the stream's business."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import count as numbers
from typing import TYPE_CHECKING

import structlog

from cloud.platform import calls, log
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from cloud.platform.turns import Turns
from cloud.platform.wakeups import Wakeups
from cloud.sync.admission import Admission
from cloud.sync.frames import Frames
from cloud.sync.processes import Link, Process
from cloud.sync.rounds import EVERY_SECONDS, Rounds
from cloud.sync.sessions import Phase
from cloud.sync.snapshots import Snapshots
from cloud.sync.streams import Stream
from cloud.sync.uploads import Intake
from cloud.tills import mail
from cloud.tills.presences import Presences
from gipos.edge.v1 import link_pb2_grpc
from gipos.edge.v1.link_pb2 import LinkRequest, LinkResponse

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

SLICES = 10
"""The streams are looked at once a second, a tenth of them at a time."""
DRAIN_SECONDS = 10.0
"""Over how long the tills of a process are asked to leave, at most."""

logger = structlog.get_logger()


def _uncounted(_tenant_id: str, _count: int) -> None:
    """For a link whose messages nobody counts."""


class EdgeLinkServicer(link_pb2_grpc.EdgeLinkServiceServicer):
    """Answers EdgeLinkService. `run` must be running: it is the streams' clock."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        snapshots: Snapshots,
        presences: Presences,
        count: Callable[[str, int], None] = _uncounted,
        admission: Admission | None = None,
    ) -> None:
        admission = admission or Admission()
        frames = Frames(database, wakeups)
        database.meanwhile(frames.prepare)
        self._process = Process(
            database,
            wakeups,
            frames,
            snapshots,
            presences,
            Intake(database),
            admission,
            Turns(admission.at_once),
            count,
            set(),
        )
        self._slices: list[set[Link]] = [set() for _ in range(SLICES)]
        self._numbers = numbers()
        self._is_draining = False
        self._gone = asyncio.Event()
        """Set whenever the last stream has ended."""

    async def run(self) -> None:
        """Tells every stream the time and goes round them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._go_round())

    async def _go_round(self) -> None:
        process = self._process
        rounds = Rounds(process.database, process.wakeups, process.streams)
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if await rounds.go():
                for stream in list(process.streams):
                    stream.ask_back()

    async def _tick(self) -> None:
        while True:
            for streams in self._slices:
                await asyncio.sleep(1 / SLICES)
                now = self._process.now()
                for stream in streams:
                    session = stream.session
                    session.tick(now)
                    if session.outgoing or session.phase is Phase.ENDED:
                        stream.wake.set()

    async def drain(self, seconds: float) -> None:
        """Asks every till to come back later, one after the other, and waits until they have left, at most so long.

        Whoever says hello meanwhile is told the same.
        """
        self._is_draining = True
        leaving = list(self._process.streams)
        window = self._process.admission.window_ms(len(leaving))
        pause = min(seconds / 2, DRAIN_SECONDS) / SLICES
        for first in range(SLICES):
            for stream in leaving[first::SLICES]:
                stream.session.drain(0, window, "The cloud restarts.")
                stream.wake.set()
            if first < SLICES - 1 and leaving[SLICES:]:
                await asyncio.sleep(pause)
        if not self._process.streams:
            return
        self._gone.clear()
        try:
            async with asyncio.timeout(seconds / 2):
                await self._gone.wait()
        except TimeoutError:
            logger.warning("tills_not_gone", count=len(self._process.streams))

    def Link(self, request_iterator: AsyncIterator[LinkRequest], context: Context) -> AsyncIterator[LinkResponse]:
        """See link.proto. What it yields is serialised already."""
        process, who = self._process, caller()
        jitter = random.random()  # noqa: S311 (spreads load, guards nothing)
        lanes = (log.TENANT_LANE, who.outlet_id, mail.box(who.till_id), mail.box(who.outlet_id))
        waiting = process.wakeups.waiting(who.tenant_id, lanes)
        stream = Stream(process, who, calls.call(), waiting, lanes[2:], jitter)
        if self._is_draining:
            stream.session.drain(0, process.admission.window_ms(len(process.streams)), "The cloud restarts.")
        ticked = self._slices[next(self._numbers) % SLICES]
        # Bytes are what the serialiser passes on, see rpc.py. One generator for all: there is one for each stream.
        return stream.serve(aiter(request_iterator), ticked, self._gone)  # type: ignore[return-value]
