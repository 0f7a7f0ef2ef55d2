"""A printer that prints every job once: a durable queue, one worker, and honesty about what cannot be known.

    queued -> sending -> awaiting_confirm -> printed
       |         |              |
    blocked      +--------------+--> unknown      (never repeated by itself)

A job is tried again by itself only while no byte of it has left. Refuses to guess: what the printer did not confirm is unknown
until a person says what came out, unless the printer is known never to answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import structlog

from edge.hardware.printers.dialogue import SLICE, Dialogue, Timing
from edge.hardware.printers.escpos import DRAWER_PULSE, FLUSH
from edge.hardware.printers.jobs import DRAWER, RECEIPT, SETTLED, UNDER_WAY, JobState, JobStore, PrintJob
from edge.hardware.printers.status import Problem
from edge.hardware.transport import Connection, Disconnected, Unreachable

Observer = Callable[[PrintJob], None]

_MISSES_TO_LEARN = 3
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Abilities:
    """What a printer was seen to answer. None is "not known yet". Keep it with the device to spare it the learning."""

    status: bool | None = None
    fence: bool | None = None


class Printer:
    """One printer and its queue. Use it as an async context manager: jobs move only while it is open.

    Args:
        connect: Opens a fresh connection, one per attempt.
        jobs: Where jobs survive a crash.
        timing: How patient to be.
        abilities: What is known of this printer; updated in place.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
        jobs: JobStore,
        *,
        timing: Timing | None = None,
        abilities: Abilities | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.abilities = abilities or Abilities()
        self._connect = connect
        self._store = jobs
        self._timing = timing or Timing()
        self._clock = clock
        self._jobs: dict[str, PrintJob] = {}
        self._queue: deque[str] = deque()
        self._submitted: dict[str, float] = {}
        self._settled: dict[str, asyncio.Event] = {}
        self._saving: set[str] = set()
        """Jobs that are settled in memory and not in the store yet: nobody may be told."""
        self._observers: list[Observer] = []
        self._admission = asyncio.Lock()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False
        self._misses = 0
        # What an earlier life of this program left half-sent in the printer is not known.
        self._dirty = True

    async def __aenter__(self) -> Self:
        """Takes up what the store has and starts to print."""
        async with self._admission:
            for job in await self._store.unfinished():
                if job.state in UNDER_WAY:
                    interrupted = replace(job, state=JobState.UNKNOWN, problem=Problem.INTERRUPTED)
                    await self._store.save(interrupted)
                    self._tell(interrupted)
                elif job.state not in SETTLED and job.key not in self._jobs:
                    self._admit(job)
        self._stopping = False
        self._worker = asyncio.create_task(self._work(), name="printer")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Lets the job under way come to its end for a moment, then stops. Everything else stays in the store."""
        self._stopping = True
        self._wake.set()
        assert self._worker is not None
        if any(job.state in UNDER_WAY for job in self._jobs.values()):
            await asyncio.wait({self._worker}, timeout=self._timing.stop)
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._jobs.clear()
        self._queue.clear()
        self._submitted.clear()

    async def submit(self, key: str, data: bytes, kind: str = RECEIPT, *, late: bool = False) -> PrintJob:
        """Takes a job durably and returns at once; it is printed after those before it.

        A key that is known returns its job and prints nothing twice. A job the caller has already saved as queued, for example in
        the transaction of its sale, is taken up; if that is long ago or may be (`late`), it opens no drawer.
        """
        async with self._admission:
            known = await self._find(key)
            if known is not None:
                if known.state is JobState.QUEUED and key not in self._jobs:
                    if not late:
                        self._submitted[key] = self._clock()
                    self._admit(known)
                return known
            job = PrintJob(key, data, kind)
            await self._store.save(job)
            self._submitted[key] = self._clock()
            self._admit(job)
            return job

    async def wait(self, key: str, timeout: float | None = None) -> PrintJob:  # noqa: ASYNC109 - a limit, not a failure
        """The job once it is settled, durably, or as it stands after so many seconds.

        Raises:
            LookupError: no job has this key.
        """
        job = await self._known(key)
        if job.state in SETTLED and key not in self._saving:
            return job
        settled = self._settled.setdefault(key, asyncio.Event())
        try:
            async with asyncio.timeout(timeout):
                await settled.wait()
        except TimeoutError:
            pass  # the caller learns from the state
        return await self._known(key)

    async def resolve(self, key: str, *, printed: bool) -> PrintJob:
        """Notes what a person saw at the printer for an unknown job. Other jobs stay as they are.

        Raises:
            LookupError: no job has this key.
        """
        job = await self._known(key)
        if job.state is not JobState.UNKNOWN:
            return job
        if printed and job.problem is Problem.UNCONFIRMED and self.abilities.fence is None:
            # It printed, was well, and said nothing: this printer does not know the command. Do not ask again every time.
            self.abilities.fence = False
        state, problem = (JobState.PRINTED, Problem.NONE) if printed else (JobState.FAILED, Problem.NOT_PRINTED)
        resolved = replace(job, state=state, problem=problem)
        await self._store.save(resolved)
        self._tell(resolved)
        return resolved

    async def cancel(self, key: str) -> PrintJob:
        """Gives up a job of which nothing has left. Other jobs stay as they are.

        Raises:
            LookupError: no job has this key.
        """
        job = await self._known(key)
        if job.state not in {JobState.QUEUED, JobState.BLOCKED}:
            return job
        cancelled = replace(job, state=JobState.FAILED, problem=Problem.CANCELLED)
        if key in self._jobs:
            await self._move(cancelled)
            self._wake.set()
        else:
            await self._store.save(cancelled)
            self._tell(cancelled)
        return cancelled

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Calls the observer with every change of a job. Returns how to stop that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def poke(self) -> None:
        """Looks at the printer now instead of at the next retry: somebody loaded paper, or the network is back."""
        self._wake.set()

    @property
    def waiting(self) -> list[PrintJob]:
        """Jobs that are not settled, in order."""
        return [self._jobs[key] for key in self._queue if self._jobs[key].state not in SETTLED]

    def _admit(self, job: PrintJob) -> None:
        self._jobs[job.key] = job
        self._queue.append(job.key)
        self._tell(job)
        if len(self._queue) == 1:
            self._wake.set()

    async def _find(self, key: str) -> PrintJob | None:
        return self._jobs.get(key) or await self._store.load(key)

    async def _known(self, key: str) -> PrintJob:
        job = await self._find(key)
        if job is None:
            raise LookupError(f"No print job has the key {key!r}.")
        return job

    async def _work(self) -> None:
        while not self._stopping:
            if not self._queue:
                await self._wake.wait()
                self._wake.clear()
                continue
            key = self._queue[0]
            try:
                await self._attempt(self._jobs[key])
            except Exception:  # noqa: BLE001 - the worker outlives every failure of one attempt
                # A full disk must not end printing for good: look again later. Nothing that was sent is sent again.
                _log.exception("print_attempt_failed", key=key)
                await self._move_anyway(self._after_failure(self._jobs[key]))
            if self._jobs[key].state in SETTLED:
                self._queue.popleft()
                del self._jobs[key]
                self._submitted.pop(key, None)
            else:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _attempt(self, job: PrintJob) -> None:
        if job.state in SETTLED:
            return
        late = self._clock() - self._submitted.get(job.key, float("-inf")) > self._timing.drawer
        if late and job.kind == DRAWER:
            await self._move(replace(job, state=JobState.FAILED, problem=Problem.LATE))
            return
        data = job.data.removeprefix(DRAWER_PULSE) if late else job.data
        try:
            async with self._connect() as connection:
                dialogue = Dialogue(connection, self._timing)
                problem = await self._ready(dialogue) if connection.replies else Problem.NONE
                if problem is not Problem.NONE:
                    await self._block(job.key, problem)
                elif connection.replies:
                    await self._print(job.key, data, dialogue)
                    await connection.finish()
                else:
                    await self._write_out(job.key, data, dialogue, connection)
        except Unreachable:
            await self._block(job.key, Problem.OFFLINE)
        except Disconnected:
            await self._move_anyway(self._after_failure(self._jobs[job.key]))

    async def _ready(self, dialogue: Dialogue) -> Problem:
        """What must be seen to before a byte is sent."""
        if self.abilities.status is not False:
            problem = await dialogue.look()
            if problem is None and self._dirty and self._misses == 0:
                # A picture that was cut off swallows questions, too.
                await self._flush(dialogue)
                problem = await dialogue.look()
            if problem is None:
                self._misses += 1
                if self.abilities.status or self._misses < _MISSES_TO_LEARN:
                    return Problem.OFFLINE
                self.abilities.status = False
            else:
                self._misses = 0
                self.abilities.status = True
                if problem is not Problem.NONE:
                    return problem
        if self._dirty:
            await self._flush(dialogue)
        return Problem.NONE

    async def _flush(self, dialogue: Dialogue) -> None:
        for start in range(0, len(FLUSH), SLICE):
            await dialogue.write(FLUSH[start : start + SLICE])

    async def _print(self, key: str, data: bytes, dialogue: Dialogue) -> None:
        if not await self._begin(key):
            return
        self._dirty = True
        await self._send(key, data, dialogue)
        await dialogue.send_fence()
        await self._move_anyway(replace(self._jobs[key], state=JobState.AWAITING_CONFIRM))
        await self._confirm(key, dialogue, len(data))

    async def _write_out(self, key: str, data: bytes, dialogue: Dialogue, connection: Connection) -> None:
        """For devices that never answer, such as files: finished is printed, and a failure left nothing behind."""
        if not await self._begin(key):
            return
        try:
            await self._send(key, data, dialogue)
            await connection.finish()
        except Disconnected:
            _log.exception("print_file_failed", key=key)
            await self._move(replace(self._jobs[key], state=JobState.BLOCKED, problem=Problem.OFFLINE, bytes_sent=0))
        else:
            await self._move_anyway(replace(self._jobs[key], state=JobState.PRINTED, confirmed=True))

    async def _begin(self, key: str) -> bool:
        """Makes it durable that bytes may leave now. False when the job was given up meanwhile."""
        job = self._jobs[key]
        if job.state in SETTLED:
            return False
        await self._move(
            replace(job, state=JobState.SENDING, problem=Problem.NONE, attempt=job.attempt + 1, bytes_sent=0, confirmed=False)
        )
        return True

    async def _send(self, key: str, data: bytes, dialogue: Dialogue) -> None:
        for start in range(0, len(data), SLICE):
            part = data[start : start + SLICE]
            self._jobs[key] = replace(self._jobs[key], bytes_sent=start + len(part))
            await dialogue.write(part)

    async def _confirm(self, key: str, dialogue: Dialogue, size: int) -> None:
        patience = self._timing.confirm + size / self._timing.bytes_per_second
        limit = patience if self.abilities.fence is not False else self._timing.status
        while not await dialogue.passed_fence(limit):
            problem = await dialogue.look() if self.abilities.status is not False else None
            job = self._jobs[key]
            if problem:
                # It goes on from its own buffer once somebody has loaded paper, and answers then.
                await self._move_anyway(replace(job, problem=problem))
                limit = self._timing.retry
            elif job.problem:
                await self._move_anyway(replace(job, problem=Problem.NONE))
                limit = patience
            elif self.abilities.fence is False:
                await self._move_anyway(replace(job, state=JobState.PRINTED))
                return
            else:
                await self._move_anyway(replace(job, state=JobState.UNKNOWN, problem=Problem.UNCONFIRMED))
                return
        self.abilities.fence = True
        if self.abilities.status is False:
            self.abilities.status = None  # it talks after all: ask again next time
            self._misses = 0
        self._dirty = False
        await self._move_anyway(replace(self._jobs[key], state=JobState.PRINTED, problem=Problem.NONE, confirmed=True))

    def _after_failure(self, job: PrintJob) -> PrintJob:
        """Where a job goes when an attempt broke off."""
        if job.state in SETTLED:
            return job
        if job.bytes_sent:
            return replace(job, state=JobState.UNKNOWN, problem=Problem.DISCONNECTED)
        return replace(job, state=JobState.BLOCKED, problem=Problem.OFFLINE)

    async def _block(self, key: str, problem: Problem) -> None:
        job = self._jobs[key]
        if job.state not in SETTLED:
            await self._move(replace(job, state=JobState.BLOCKED, problem=problem))

    async def _move_anyway(self, job: PrintJob) -> None:
        """Moves a job even if that cannot be written now: the row then still says "sending", which a restart reads as unknown."""
        try:
            await self._move(job)
        except Exception:  # noqa: BLE001 - whatever the store raises, the paper is out already
            _log.exception("print_job_not_saved", key=job.key, state=job.state)
            self._tell(job)

    async def _move(self, job: PrintJob) -> None:
        if self._jobs.get(job.key) == job:
            return
        # In memory first, so that nothing else moves it meanwhile.
        self._jobs[job.key] = job
        if job.state in SETTLED:
            self._saving.add(job.key)
        try:
            await self._store.save(job)
        finally:
            self._saving.discard(job.key)
        self._tell(job)

    def _tell(self, job: PrintJob) -> None:
        if job.state in SETTLED:
            settled = self._settled.pop(job.key, None)
            if settled is not None:
                settled.set()
        for observer in tuple(self._observers):
            try:
                observer(job)
            except Exception:  # noqa: BLE001 - a screen that fails must not stop the printer
                _log.exception("print_observer_failed", key=job.key)
