"""How often somebody may fail to identify themselves, by address. In memory of one process, and bounded.

Keys cannot be guessed; this keeps those who try from costing the database anything, and tells a program that hangs in a loop with
an old key to slow down. Who is already known is never asked here, so a neighbour behind the same address goes on undisturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cloud.platform.calls import Call
from cloud.platform.peers import neighbourhood
from kernel.errors import RateLimited

_ADDRESSES = 10_000


class Attempts:
    """A bucket per address: `burst` at once, then `per_second`."""

    def __init__(self, what: str, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        self._what = what
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Address to what is left and when that was counted; the one touched last is at the end."""

    def require(self, call: Call) -> None:
        """Lets a call pass while its address has something left.

        Raises:
            RateLimited: it has not; the error says how long to wait.
        """
        left = self._left(neighbourhood(call.address))
        if left < 1:
            seconds = max(1, math.ceil((1 - left) / self._per_second))
            message = f"Too many {self._what} from this address. Wait {seconds} s; check the key your program sends."
            error = RateLimited(message, policy=self._what, seconds=str(seconds))
            error.retry_seconds = seconds
            raise error

    def count(self, call: Call, cost: float = 1.0) -> None:
        """Notes a failure (or a use, where each is counted)."""
        place = neighbourhood(call.address)
        left = self._left(place)
        self._buckets.pop(place, None)
        if len(self._buckets) >= _ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[place] = (max(0.0, left - cost), self._clock())

    def _left(self, place: str) -> float:
        left, counted_at = self._buckets.get(place, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - counted_at) * self._per_second)
