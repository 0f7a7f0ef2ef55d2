"""What the supervisor needs to know about a program, as plain data, and how one is started so that it cannot outlive us."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)  # looked up before any fork


def last_words(output: str) -> str:
    """The last thing a program wrote: the error of a traceback, else its last line, without the wrapping of structured logs."""
    before, traceback, after = output.rpartition("Traceback (most recent call last):\n")
    if traceback:
        # Libraries add hints below the error, so it is not always the last line; the frames above it are indented.
        output = next((line for line in after.splitlines() if line.strip() and not line[0].isspace()), before)
    lines = [line for line in output.splitlines() if line.strip()]
    if not lines:
        return "it left no message"
    with contextlib.suppress(ValueError, AttributeError):
        record = json.loads(lines[-1])
        words = [str(record[key]) for key in ("event", "error", "exception") if record.get(key)]
        return ": ".join(words).strip().splitlines()[-1] or lines[-1]
    return lines[-1].strip()


@dataclass(frozen=True)
class Program:
    """One program of the stack."""

    name: str
    command: tuple[str, ...]
    log: Path
    is_healthy: Callable[[], Awaitable[bool]]
    stop_order: int
    """Programs with a lower number are stopped earlier; equal ones together."""
    after: str | None = None
    """Name of a program that has to be healthy before this one is started for the first time."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    stop_signal: signal.Signals = signal.SIGTERM
    explain: Callable[[str], str] = last_words
    """Turns what it wrote before it ended into a sentence."""


class Child:
    """A started program. Its whole session can be killed, and the kernel ends it when we die, however we die."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, log_position: int) -> None:
        self.program = program
        self.pid = process.pid
        self._process = process
        self._log_position = log_position

    @classmethod
    async def start(cls, program: Program) -> Child:
        """Starts the program, its output appended to its log. To be called in the main thread: the kernel watches the thread."""
        parent = os.getpid()
        stop_signal = int(program.stop_signal)

        def tie_to_parent() -> None:
            _LIBC.prctl(PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
            if os.getppid() != parent:  # we died between fork and prctl
                os._exit(1)

        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as output:
            position = output.tell()
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **program.environment},
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, which stops in order
                preexec_fn=tie_to_parent,  # two system calls, nothing that could wait for a lock
            )
        return cls(program, process, position)

    async def wait(self) -> int:
        """Waits for its end and returns the exit code, or minus the number of the signal that ended it."""
        return await self._process.wait()

    def output(self, size: int = 20_000) -> str:
        """What it wrote since it was started, at most the last `size` bytes."""
        try:
            with self.program.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(min(self._log_position, end), end - size))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    async def stop(self, seconds: float) -> None:
        """Asks it to stop, and kills its session when it has not after so many seconds."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            # Also what it may have started itself.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
