"""Seats: a dashboard at its feed. A seat is the only writer of its socket and never waits: what cannot go out now goes later.

There is no task and no queue behind it. A change is written by whoever brings it, unless the network does not take it; then the
network's own word brings the newest of everything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway_rest.dashboards.lines import Line
from gateway_rest.dashboards.screens import Screen
from gipos.v1.dashboards_pb2 import DashboardPass


@dataclass(frozen=True)
class Closing:
    """Why a dashboard is closed."""

    code: int
    reason: str


@dataclass(eq=False, slots=True)
class Seat:
    """One dashboard: what it is owed, and where that goes."""

    screen: Screen
    line: Line
    who: DashboardPass
    address: str
    beats_at: float
    ends_at: float
    """On the loop's clock, both."""
    closing: Closing | None = None
    waited_bytes: int = 0
    """What waited for the network when somebody last looked."""
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """From now on the network tells it when it takes more."""
        self.line.on_drained = self.drained

    def write(self, now: float) -> None:
        """Sends what is owed at this time; the rest follows by itself, when the network takes it or its pace allows."""
        line = self.line
        if self.closing is not None or line.stuck_since is not None:
            return
        made, due = self.screen.take(now)
        while made:
            if not line.write(made):
                return
            if due is None:
                return
            made, due = self.screen.take(now)
        if due is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_time)

    def drained(self) -> None:
        """The network takes more."""
        self.write(asyncio.get_running_loop().time())

    def close(self, code: int, reason: str) -> None:
        """Ends it, whatever it is still owed; the first reason counts."""
        if self.closing is None:
            self.closing = Closing(code, reason)
            self.line.end(code, reason)

    def leave(self) -> None:
        """Nobody sits here any more."""
        self.line.on_drained = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self.drained()
