"""Somebody stands at a counter and waits for this call; a backlog does not mind a few milliseconds. Who may wait asks here.

The calls of a process are counted at its door. Nothing is ever held back for long: who steps aside goes on after a while
even if calls never cease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

RECENT_SECONDS = 1.0
"""Calls are taken to go on for so long after the last one."""


class Precedence:
    """The calls in flight of one process."""

    def __init__(self) -> None:
        self._count = 0
        self._last_at = float("-inf")
        self._waiting: list[asyncio.Future[None]] = []

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call that somebody waits for, as long as the block runs."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._last_at = asyncio.get_running_loop().time()
                waiting, self._waiting = self._waiting, []
                for future in waiting:
                    _release(future)

    def is_wanted(self) -> bool:
        """Whether there are calls now, or were a moment ago."""
        return self._count > 0 or asyncio.get_running_loop().time() - self._last_at < RECENT_SECONDS

    async def step_aside(self, seconds: float) -> None:
        """Waits until no call is in flight, so long at most; at least it lets everybody else have a turn."""
        if not self._count:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        timer = asyncio.get_running_loop().call_later(seconds, _release, future)
        try:
            await future
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


calls = Precedence()
"""Of this process."""
