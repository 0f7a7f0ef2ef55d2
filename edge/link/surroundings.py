"""The rest of the till as the link sees it: whom it tells what, and whom it asks. Nothing here does anything."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from edge.link.executions import Carry
from gipos.edge.v1.link_pb2 import OfflinePolicy


def _ticks_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _unheard(*_: object) -> None:
    """For those who do not want to know."""


async def _unwanted(_policy: OfflinePolicy) -> None:
    """As above."""


@dataclass(frozen=True)
class Around:
    """What the link tells the rest of the till, and what it may ask of it. None of the callables may raise."""

    adopted: Callable[[], Awaitable[None]] | None = None
    """Awaited whenever the cloud has said whose till this is, once that is stored."""
    policy: Callable[[OfflinePolicy], Awaitable[None]] = _unwanted
    """Given what the till may do without the cloud. Whoever takes it checks its signature."""
    measured: Callable[[int, int, int, int], None] = _unheard
    """Given each measurement of the clocks, see ClockSample."""
    heard: Callable[[], None] = _unheard
    """The cloud has said something."""
    ticks_ms: Callable[[], int] = _ticks_ms
    """Milliseconds of a clock that only goes forward."""
    boot_id: str = ""
    abilities: Mapping[str, Carry] = field(default_factory=dict)
    """What to do for a command, by its field name: "reprint", "open_drawer", "test_print"."""
