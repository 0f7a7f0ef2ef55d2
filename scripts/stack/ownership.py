"""Who runs the stack of a data folder: one supervisor at a time, and what an earlier one that was killed left running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from cloud.platform.postgres import EmbeddedPostgres
from scripts.stack.arguments import Layout

PATIENCE: Final = 6.0  # seconds for programs that were told to end when their supervisor died
MARK: Final = b"GIPOS_STACK="


class AlreadyRuns(Exception):
    """Another supervisor holds the folder."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


@contextlib.contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Holds the data folder. Raises AlreadyRuns, or OSError when the folder cannot be used."""
    layout.data.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as file:
        if not _try_lock(file):
            raise AlreadyRuns(supervisor(layout))
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the file stays: removing it could take it from under the next holder


def supervisor(layout: Layout) -> int | None:
    """Process id of the supervisor that holds the folder, None when there is none."""
    try:
        with layout.lock.open("r") as file:
            if _try_lock(file):
                return None
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    except FileNotFoundError:
        return None


def wait_for_end(pid: int, seconds: float) -> bool:
    """Waits until the process is gone; False when it is not after so many seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def clear_leftovers(layout: Layout, seconds: float = PATIENCE) -> int:
    """Ends programs whose supervisor was killed and removes its state file; returns how many there were.

    The kernel has told them to end already (see `programs`), so they usually need nothing but a moment.
    """
    found = list(_leftovers(layout))
    deadline = time.monotonic() + seconds
    for pid in found:
        if not wait_for_end(pid, max(0.0, deadline - time.monotonic())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pid, PATIENCE)
    database = EmbeddedPostgres(layout.postgres)  # its environment has no mark of ours, but its folder tells
    if database.pid is not None:
        found.append(database.pid)
        database.stop()
    layout.up.unlink(missing_ok=True)
    return len(found)


def _leftovers(layout: Layout) -> Iterator[int]:
    mark = MARK + os.fsencode(layout.data)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
