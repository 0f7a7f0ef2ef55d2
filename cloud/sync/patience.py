"""How long a stream bears that the database does not answer, and when it asks again. Knows nothing of what is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cloud.platform.wakeups import Wakeups
from kernel.errors import Busy, Unreachable

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""Longer than PostgreSQL takes to start again or to be failed over. A process that finds no database for longer may be the only
one that does not: then its tills are better off with another."""
LONGEST_PAUSE_SECONDS = 10.0
"""Between two attempts of one stream, give or take a half."""


class Patience:
    """Of one stream, from the first read that failed to one that did not. Streams that lack nothing have none.

    Args:
        wakeups: Of the process: their connection to the database is the one that tries again for all streams.
        wake: Is set when it is time to ask again.
    """

    __slots__ = ("_began_at", "_life", "_timer", "_wake", "_wakeups")

    def __init__(self, wakeups: Wakeups, wake: asyncio.Event) -> None:
        self._wakeups = wakeups
        self._wake = wake
        self._began_at = asyncio.get_running_loop().time()
        self._life = wakeups.life
        self._timer: asyncio.TimerHandle | None = None

    def put_off(self, error: Exception) -> None:
        """Has the stream ask again in a while; raises the error when it has done that for too long."""
        loop = asyncio.get_running_loop()
        away = loop.time() - self._began_at
        if away > PATIENCE_SECONDS:
            raise error
        self._life = self._wakeups.life
        # Thousands fail in the same second; each asks at a time of its own, and the less often the longer it lasts.
        pause = min(LONGEST_PAUSE_SECONDS, max(1.0, away)) * random.uniform(0.5, 1.5)  # noqa: S311 (spreads load, guards nothing)
        self.forget()
        self._timer = loop.call_later(pause, self._over)

    @property
    def is_waiting(self) -> bool:
        """Whether it is too soon to ask again. Never too soon is it once the connection of the wake-ups was made or lost."""
        return self._timer is not None and self._life == self._wakeups.life

    def forget(self) -> None:
        """It is not to ask again by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._wake.set()


async def patiently(wakeups: Wakeups, attempt: Callable[[], Awaitable[T]]) -> T:
    """What an attempt answers that may be made again, as often as patience allows.

    Raises:
        Busy, Unreachable: what the last one failed with; and whatever else an attempt raises, at once.
    """
    again = asyncio.Event()
    patience: Patience | None = None
    try:
        while True:
            try:
                return await attempt()
            except (Busy, Unreachable) as error:
                patience = patience or Patience(wakeups, again)
                patience.put_off(error)
            await again.wait()
            again.clear()
    finally:
        if patience is not None:
            patience.forget()
