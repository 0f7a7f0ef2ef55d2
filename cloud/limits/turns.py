"""Who runs when several merchants want to: each has as many places in this process as the others. A crowd waits for itself.

A merchant who is alone has no bound here; that is the business of the limits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

RECENT_SECONDS = 1.0
"""Who called within this time counts as present."""
LEAST = 3
"""However many merchants are present, so many calls of each may run."""


class Turns:
    """Places of running calls, per merchant.

    Args:
        places: What is shared among those present. Half as many as the database has connections: more running calls of a crowd
            make nothing quicker in one process (measured), and each is one more that a newcomer's every step waits behind.
        clock: Seconds that only grow.
    """

    def __init__(self, places: int, clock: Callable[[], float]) -> None:
        self._places = places
        self._clock = clock
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._seen: dict[str, float] = {}
        self._share = 0
        self._counted_at = -RECENT_SECONDS

    def share(self, tenant_id: str) -> int:
        """How many calls of this merchant may run now; 0 for as many as there are."""
        now = self._clock()
        is_new = tenant_id not in self._seen
        self._seen[tenant_id] = now
        if is_new or now - self._counted_at > RECENT_SECONDS / 4:
            self._counted_at = now
            self._seen = {tenant: seen for tenant, seen in self._seen.items() if now - seen < RECENT_SECONDS}
            present = len(self._seen)
            self._share = 0 if present < 2 else max(LEAST, self._places // present)
        return self._share

    def running(self, tenant_id: str) -> int:
        """How many calls of this merchant run."""
        return self._running.get(tenant_id, 0)

    def enter(self, tenant_id: str) -> bool:
        """Takes a place if there is one at once. `leave` gives it back."""
        share = self.share(tenant_id)
        running = self._running.get(tenant_id, 0)
        if share and running >= share:
            return False
        self._running[tenant_id] = running + 1
        return True

    async def wait(self, tenant_id: str) -> None:
        """Takes the place that becomes free for this merchant, first come first served."""
        queue = self._waiting.setdefault(tenant_id, deque())
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.leave(tenant_id)  # it was given in the very moment we left
            raise

    def leave(self, tenant_id: str) -> None:
        """Gives the place back; whoever waits gets it."""
        running = self._running[tenant_id] - 1
        queue = self._waiting.get(tenant_id)
        if queue:
            share = self.share(tenant_id)
            while queue and (not share or running < share):
                following = queue.popleft()
                if not following.done():
                    running += 1
                    following.set_result(None)
            if not queue:
                del self._waiting[tenant_id]
        if running:
            self._running[tenant_id] = running
        else:
            del self._running[tenant_id]
