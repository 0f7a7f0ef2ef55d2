"""Programs of the product as real processes: started in a namespace, killed, stopped in the middle, started again."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.soaking.namespaces import Namespace

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class NotReady(Exception):
    """A program did not start; the text says which and what it said last."""


def _die_with_us() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def python(*words: str) -> tuple[str, ...]:
    """A command that runs a module; -P keeps the current folder out of the search, PYTHONPATH says where the product is."""
    return (sys.executable, "-P", "-m", *words)


class Program:
    """One process, or the next of the same kind.

    Args:
        name: For people.
        command: What to run.
        log: Where its words go.
        environment: Added to ours.
        namespace: Where it runs; None for where we are.
    """

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        log: Path,
        environment: Mapping[str, str],
        namespace: Namespace | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.environment = dict(environment)
        self.namespace = namespace
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.paused: list[int] = []

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it, without waiting for anything."""
        assert not self.is_running, f"{self.name} runs already"
        words = list(self.command)
        if self.namespace is not None:
            words = self.namespace.command(*words)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=_die_with_us,  # noqa: PLW1509 (it only calls prctl; nothing may outlive a soak that was killed)
            )
        self.starts += 1

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self.process is not None:
            self.resume()
            if self.process.poll() is None:
                self.process.kill()
            await self.finished()

    async def finished(self) -> int:
        """Waits for its end; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait)

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> None:
        """Asks it to end, and kills it when it does not."""
        if self.process is None:
            return
        self.resume()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            await self.kill()

    def pause(self) -> None:
        """SIGSTOP to it and to all its children."""
        self.paused = [self.pid, *children(self.pid)]
        for pid in self.paused:
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to whatever was stopped."""
        for pid in self.paused:
            _signal(pid, signal.SIGCONT)
        self.paused = []

    def words(self, size: int = 2000) -> str:
        """What it said last."""
        try:
            return self.log.read_bytes()[-size:].decode("utf-8", "replace")
        except OSError:
            return ""


def children(pid: int) -> list[int]:
    """The processes a process has started that still run."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
