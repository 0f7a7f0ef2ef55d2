"""How many tills may say hello at a time in this process, and when those come back that were turned away. Pure.

After a cut every till of a region comes back in the same second. Looking at all hellos at once would make everybody wait, also
those who are connected. So a few are looked at at a time, in turns; those who would wait for long are told a time of their own
instead. How long that is follows from what hellos have cost lately: nobody has to say how fast the machine is.
"""

from __future__ import annotations

AT_ONCE = 8
"""Hellos being looked at: enough to keep the database busy, few enough that live streams wait for milliseconds only."""
LONGEST_WAIT_SECONDS = 4.0
"""Who would wait for longer is told when to come back. For the others waiting is cheaper than coming again."""
SHORTEST_WINDOW_MS = 2_000
FIRST_GUESS = 200.0
SLOWEST, FASTEST = 10.0, 2_000.0
"""Hellos per second that are believed possible."""
_WEIGHT = 0.05
"""Of one hello in the average."""


class Admission:
    """Who is let in, and who is told a time. Those let in are looked at in turn, `at_once` at a time, and then `done`."""

    def __init__(self, at_once: int = AT_ONCE, per_second: float = FIRST_GUESS) -> None:
        """Begins with nobody inside and a guess at how many hellos a second are possible."""
        self.at_once = at_once
        self.per_second = per_second
        """How many hellos are looked at per second when there are enough of them, as measured."""
        self.inside = 0
        """Tills that were let in and are not done."""
        self._line = 0.0
        """Tills that were turned away and have not had their turn."""
        self._at = 0.0

    def refused(self, now: float) -> tuple[int, int] | None:
        """None if one more may come in; else the times, in milliseconds from now, between which it should come back.

        Those turned away come back in the order in which they came, spread as thinly as they can be let in.
        """
        passed = max(0.0, now - self._at) * self.per_second
        self._at = max(now, self._at)
        self._line = max(0.0, self._line - passed)
        if self.inside < max(self.at_once, self.per_second * LONGEST_WAIT_SECONDS):
            self.inside += 1
            return None
        self._line += 1.0
        earliest = round(self._line / self.per_second * 1000)
        return earliest, earliest + SHORTEST_WINDOW_MS

    def done(self, seconds: float) -> None:
        """One that was let in is through, or gone; looking at it took so long, waiting for its turn not counted; 0 if it was not.

        Only what is measured while all places are taken tells how many a second are possible: alone each is faster.
        """
        if seconds > 0.0 and self.inside >= self.at_once:
            measured = min(FASTEST, max(SLOWEST, self.at_once / seconds))
            # Of times and not of rates: one that took ten times as long counts as that.
            self.per_second = 1 / ((1 - _WEIGHT) / self.per_second + _WEIGHT / measured)
        self.inside -= 1

    def window_ms(self, connected: int) -> int:
        """Over how long so many tills should spread their return after a cut: twice the time that letting them in takes."""
        return max(SHORTEST_WINDOW_MS, round(2000 * connected / self.per_second))
