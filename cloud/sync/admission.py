"""How many tills may say hello per second in this process, and when those come back that were turned away. Pure.

After a cut every till of a region comes back in the same second. Letting them all in at once would make all of them wait, and
those who are connected as well; telling each one its time costs next to nothing.
"""

from __future__ import annotations

SHORTEST_WINDOW_MS = 2_000


class Admission:
    """A bucket of tokens, and a line behind it.

    Args:
        per_second: Hellos that are looked at.
        burst: Hellos that may come at once after a quiet time.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = burst
        self._tokens = burst
        self._line = 0.0
        """Tills that were turned away and have not had their turn."""
        self._at = 0.0

    def refused(self, now: float) -> tuple[int, int] | None:
        """None if one more may come in; else the times, in milliseconds from now, between which it should come back.

        Those turned away come back in the order in which they came, spread as thinly as they can be let in.
        """
        passed = max(0.0, now - self._at) * self._rate
        self._at = max(now, self._at)
        self._line = max(0.0, self._line - passed)
        self._tokens = min(self._burst, self._tokens + passed)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return None
        self._line += 1.0
        earliest = round(self._line / self._rate * 1000)
        return earliest, earliest + SHORTEST_WINDOW_MS

    def window_ms(self, connected: int) -> int:
        """Over how long so many tills should spread their return after a cut: twice the time that letting them in takes."""
        return max(SHORTEST_WINDOW_MS, round(2000 * connected / self._rate))
