"""The last events that this process itself committed, by lane: a reader who stands right before them need not ask the database.

Bounded, and never a source of truth: an event that is not here is in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cloud.platform.log import NewEvent

KEPT_BYTES = 8 * 1024 * 1024
KEPT_PER_LANE = 512
"""Events of a lane. Who is further behind than this is not waiting for the last commit."""
_OVERHEAD = 400
"""Bytes an event costs beside its body."""


@dataclass
class _Lane:
    epoch: int
    events: dict[int, NewEvent] = field(default_factory=dict)
    size: int = 0


class Recent:
    """The last events by merchant and lane."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._lanes: dict[tuple[str, str], _Lane] = {}

    def add(self, tenant_id: str, lane: str, epoch: int, last_seq: int, events: Sequence[NewEvent]) -> None:
        """Remembers what was committed at once, of which the last has this position.

        Commits may be told in another order than they were made in, so an event is found by its own position and never by its
        neighbour's.
        """
        if len(events) > KEPT_PER_LANE:
            return  # an import: whoever follows reads it in pages anyway
        key = (tenant_id, lane)
        kept = self._lanes.pop(key, None)
        if kept is None or kept.epoch != epoch:
            if kept is not None:
                self._size -= kept.size
            kept = _Lane(epoch)
        self._lanes[key] = kept  # a dict keeps the order of insertion: what is written to is at its end
        for place, event in enumerate(events, start=last_seq - len(events) + 1):
            kept.events[place] = event
            self._grow(kept, len(event.body) + _OVERHEAD)
        while len(kept.events) > KEPT_PER_LANE:
            self._grow(kept, -len(kept.events.pop(next(iter(kept.events))).body) - _OVERHEAD)
        while self._size > self._limit and self._lanes:
            self._size -= self._lanes.pop(next(iter(self._lanes))).size

    def after(self, tenant_id: str, lane: str, epoch: int, seq: int) -> list[tuple[int, NewEvent]]:
        """The events right after a position, without a gap, as far as they are known; empty when the very next one is not."""
        kept = self._lanes.get((tenant_id, lane))
        found: list[tuple[int, NewEvent]] = []
        if kept is None or kept.epoch != epoch:
            return found
        while (event := kept.events.get(seq := seq + 1)) is not None:
            found.append((seq, event))
        return found

    def clear(self) -> None:
        """Forgets everything: the database may not be the one it was."""
        self._lanes.clear()
        self._size = 0

    def _grow(self, lane: _Lane, by: int) -> None:
        lane.size += by
        self._size += by
