"""Starts the programs that are measured and those that measure, talks with them, reads what they cost, and ends them."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from scripts.benchmarks.link.lines import LONGEST
from scripts.benchmarks.platform import ROOT

ANSWER_SECONDS = 150.0
END_SECONDS = 20.0


class Program:
    """A running child of ours. Everything raises RuntimeError with what the child wrote last when it is gone or silent."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def tell(self, **command: Any) -> None:
        """Gives a command; the answer is read by `hear`."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # it has ended; what it wrote is told when its answer is missing
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            await self._process.stdin.drain()

    async def hear(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Its next answer."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise RuntimeError(f"{self.name} says nothing for {seconds:.0f} s. {self._last_words()}") from None
        if not line:
            raise RuntimeError(f"{self.name} has ended. {self._last_words()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    async def ask(self, seconds: float = ANSWER_SECONDS, **command: Any) -> Any:
        """`tell` and `hear`."""
        await self.tell(**command)
        return await self.hear(seconds)

    def cpu_seconds(self) -> float:
        """Processor time it has used, all threads together; to the nanosecond (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_kib(self) -> int:
        """Its memory, VmRSS in KiB (proc(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"{self.name} has ended. {self._last_words()}")

    def _last_words(self) -> str:
        return self._log.read_text("utf-8", "replace")[-1500:]

    async def end(self) -> None:
        """Ends its input, and it with that; after a while less gently."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for stop in (self._process.terminate, self._process.kill, lambda: None):
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    stop()
            else:
                return


@asynccontextmanager
async def running(module: str, folder: Path, *arguments: str, **environment: str) -> AsyncIterator[Program]:
    """A module of this package as a program, until the block ends."""
    log = folder / f"{module}-{time.monotonic_ns()}.log"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", f"scripts.benchmarks.link.{module}", *arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=written,
            start_new_session=True,  # Ctrl-C is for us: we end them in their order
            limit=LONGEST,
        )
    program = Program(module, process, log)
    try:
        yield program
    finally:
        await asyncio.shield(program.end())


def open_files(wanted: int) -> int:
    """Raises how many files a process may open, as far as is allowed; children inherit it. Returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with suppress(ValueError, OSError):  # only the superuser may
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
            hard = wanted
    target = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)


def free_kib() -> int:
    """Memory that can still be had on this machine, MemAvailable in KiB (proc(5))."""
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    return 0


def sync_milliseconds(folder: Path) -> float:
    """What one write of 8 KiB made durable costs on this disk: the median of 100, in milliseconds."""
    values = []
    file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for place in range(100):
            os.pwrite(file, bytes(8192), place * 8192)
            began = time.perf_counter()
            os.fdatasync(file)
            values.append(time.perf_counter() - began)
    finally:
        os.close(file)
    return round(sorted(values)[50] * 1000, 3)
