"""Whose turn it is when many want the same few places: merchants one after the other, whatever the length of each one's queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A number of places, handed out round robin by key.

    Args:
        places: How many may be taken at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """In the order of their next turns."""

    @asynccontextmanager
    async def taken(self, key: str) -> AsyncIterator[None]:
        """A place for as long as the block runs."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._hand_on()

    async def _wait(self, key: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()  # the place came in the same moment
            raise

    def _hand_on(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            mine = self._waiting.pop(key)
            turn = mine.popleft()
            if mine:
                self._waiting[key] = mine  # the others of this key wait behind the other keys
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
