"""What cashiers and the office have in common: when they work, and what counts as an answer.

Whoever gets no answer asks again with the same key until there is one, as a sensible client does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp

RETRY_SECONDS = 0.1
NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError)
AGAIN = 500
"""From this status on nobody knows what happened, or it may be tried again."""
DISK_FULL = 507
LATER = {408, 425, 429}


class Gate:
    """Lets traffic flow, or holds it until everybody stands still."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._busy = 0
        self._still = asyncio.Event()
        self._still.set()

    async def stop(self) -> None:
        """No new work; returns when what was begun is finished."""
        self.is_open.clear()
        await self._still.wait()

    def go(self) -> None:
        """Work goes on."""
        self.is_open.set()

    async def work(self, once: Callable[[], Awaitable[None]]) -> None:
        """Does one piece of work when the gate is open."""
        await self.is_open.wait()
        self._busy += 1
        self._still.clear()
        try:
            await once()
        finally:
            self._busy -= 1
            if not self._busy:
                self._still.set()
