"""Starts programs, waits until they are healthy, starts them again when they die, stops them in order. Knows none of them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from scripts.stack.programs import Child, Program, last_words

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 8.0
HEALTH_INTERVAL: Final = 0.04
# Pause before the next start, by how often the program died lately; the first restart is immediate.
PAUSES: Final = (0.0, 0.2, 0.5, 1.0)
SLOW_PAUSE: Final = 10.0
MANY_DEATHS: Final = 5
LATELY_SECONDS: Final = 30.0
LOG_INTERVAL: Final = 30.0
LOG_LIMIT: Final = 20_000_000  # bytes


class StartFailed(Exception):
    """Something cannot start; the text is one sentence for the person at the keyboard."""


class Supervisor:
    """Keeps programs alive.

    Args:
        say: Receives one line for a person when something happens to a program.
        on_change: Called when a process id changes after everything was started.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        on_change: Callable[[], None] = lambda: None,
        *,
        start_seconds: float = START_SECONDS,
        stop_seconds: float = STOP_SECONDS,
        slow_pause: float = SLOW_PAUSE,
    ) -> None:
        self._say = say
        self._on_change = on_change
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._slow_pause = slow_pause
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._logs: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._healthy: collections.defaultdict[str, asyncio.Event] = collections.defaultdict(asyncio.Event)

    def processes(self) -> list[tuple[str, int]]:
        """Name and process id of everything that runs, in the order of starting."""
        return [(name, child.pid) for name, child in self._children.items()]

    async def launch(self, programs: Sequence[Program]) -> None:
        """Starts programs side by side and returns when all are healthy; from then on they are kept alive.

        Raises:
            StartFailed: one of them ended or did not become healthy in time. The others still run: call `stop`.
        """
        if self._logs is None:
            self._logs = asyncio.create_task(self._trim_logs())
        starts = [asyncio.create_task(self._start(program)) for program in programs]
        try:
            for done in asyncio.as_completed(starts):
                await done
        finally:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def stop(self) -> None:
        """Stops everything in order; what does not stop in time is killed. Can be called twice, and after a failed start."""
        self._stopping.set()
        tasks = [*self._keepers.values(), *([self._logs] if self._logs else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ordered = sorted(self._children.values(), key=lambda child: child.program.stop_order)
        for _, group in groupby(ordered, key=lambda child: child.program.stop_order):
            await asyncio.gather(*(child.stop(self._stop_seconds) for child in group))
        self._children.clear()

    async def _start(self, program: Program) -> None:
        if program.after is not None:
            await self._healthy[program.after].wait()
        child = await self._spawn(program)
        ended = asyncio.create_task(child.wait())
        healthy = asyncio.create_task(self._until_healthy(program))
        try:
            async with asyncio.timeout(self._start_seconds):
                await asyncio.wait((ended, healthy), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise StartFailed(
                f"{program.name} did not become healthy within {self._start_seconds:.0f} s "
                f"(last words: {last_words(child.output())}); its log is {program.log}"
            ) from None
        finally:
            healthy.cancel()
            ended.cancel()
            await asyncio.gather(healthy, ended, return_exceptions=True)
        if ended.done() and not ended.cancelled():
            del self._children[program.name]
            reason = program.explain(child.output())
            raise StartFailed(reason if program.explain is not last_words else f"{program.name} cannot start: {reason}")
        self._healthy[program.name].set()
        self._keepers[program.name] = asyncio.create_task(self._keep(program, child))

    async def _keep(self, program: Program, child: Child) -> None:
        deaths: collections.deque[float] = collections.deque(maxlen=MANY_DEATHS)
        while True:
            code = await child.wait()
            now = time.monotonic()
            deaths.append(now)
            recent = sum(1 for moment in deaths if now - moment < LATELY_SECONDS)
            if recent >= MANY_DEATHS:
                pause = self._slow_pause
                self._say(f"{program.name} ended {recent} times within {LATELY_SECONDS:.0f} s; trying again every {pause:.0f} s.")
                self._say(f"  its log is {program.log} and ends with:")
                for line in child.output().splitlines()[-5:]:
                    self._say(f"  | {line}")
            else:
                pause = PAUSES[min(recent - 1, len(PAUSES) - 1)]
                self._say(f"{program.name} ended ({_describe(code)}); starting it again")
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
            child = await self._spawn(program)
            self._on_change()
            ended = asyncio.create_task(child.wait())
            healthy = asyncio.create_task(self._until_healthy(program))
            try:
                await asyncio.wait((ended, healthy), return_when=asyncio.FIRST_COMPLETED)
                if healthy.done():
                    self._say(f"{program.name} is back after {time.monotonic() - now:.1f} s (process {child.pid})")
            finally:
                healthy.cancel()
                ended.cancel()
                await asyncio.gather(healthy, ended, return_exceptions=True)

    async def _spawn(self, program: Program) -> Child:
        child = await Child.start(program)
        self._children[program.name] = child
        return child

    @staticmethod
    async def _until_healthy(program: Program) -> None:
        while not await program.is_healthy():  # noqa: ASYNC110 (another process has no event to wait for)
            await asyncio.sleep(HEALTH_INTERVAL)

    async def _trim_logs(self) -> None:
        """Keeps one earlier file per log. Programs append, hence go on at the beginning of a file that was emptied."""
        while True:
            await asyncio.sleep(LOG_INTERVAL)
            for folder in {child.program.log.parent for child in self._children.values()}:
                for log in [*folder.glob("*.log"), *folder.glob("*.jsonl")]:
                    if log.stat().st_size > LOG_LIMIT:
                        await asyncio.to_thread(shutil.copyfile, log, log.with_name(log.name + ".1"))
                        os.truncate(log, 0)


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
