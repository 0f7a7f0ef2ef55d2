"""The log as integrators read it: one cursor over all lanes, in order within each lane, nothing missed and nothing repeated."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.platform import log, paging
from kernel.errors import CursorExpired, CursorInvalid, Invalid, Violation
from kernel.event_types import EVENT_TYPES, is_pattern, selected

SMALLEST_STEP = 200
_KIND = "events"
_EPOCH = "@"
"""Behind the name of a lane in a cursor: its epoch. Among the places, where the release before passes it over."""


@dataclass(frozen=True)
class Filter:
    """What a reader wants to see."""

    types: frozenset[str]
    outlet_id: str

    def wants(self, event: log.LoggedEvent) -> bool:
        """Whether the reader wants this event."""
        return event.type in self.types and (not self.outlet_id or event.outlet_id in {"", self.outlet_id})


async def checked(connection: AsyncConnection, tenant_id: str, types: Sequence[str], outlet_id: str) -> Filter:
    """The filter of a request.

    Raises:
        Invalid: an unknown event type or outlet.
    """
    wrong = [
        Violation(
            f"types[{index}]", "UNKNOWN_EVENT_TYPE", f"There is no event type {pattern!r}. There are: {', '.join(EVENT_TYPES)}."
        )
        for index, pattern in enumerate(types)
        if not is_pattern(pattern)
    ]
    if wrong:
        raise Invalid(wrong)
    if outlet_id:
        await outlets.meant(connection, tenant_id, outlet_id)
    return Filter(selected(types or ["*"]), outlet_id)


class Position:
    """A place in every lane of a merchant, and the epoch of each that was read: of another one a place says nothing."""

    def __init__(self, tenant_id: str, places: dict[str, int], epochs: dict[str, int] | None = None) -> None:
        self._tenant_id = tenant_id
        self.places = places
        self.epochs = epochs or {}

    @classmethod
    def read(cls, tenant_id: str, cursor: str) -> Position:
        """The position of a cursor; the beginning for none.

        Raises:
            CursorInvalid: not one of this merchant's cursors.
        """
        if not cursor:
            return cls(tenant_id, {})
        value = paging.unpack(_KIND, cursor, "cursor")
        if (
            isinstance(value, list)
            and len(value) == 2
            and value[0] == tenant_id
            and isinstance(value[1], dict)
            and all(isinstance(seq, int) for seq in value[1].values())
        ):
            numbers = {str(name): int(number) for name, number in value[1].items()}
            places = {lane: seq for lane, seq in numbers.items() if not lane.endswith(_EPOCH)}
            epochs = {name.removesuffix(_EPOCH): epoch for name, epoch in numbers.items() if name.endswith(_EPOCH)}
            return cls(tenant_id, places, epochs)
        message = "cursor is not one that this merchant was given. Use next_cursor as it came, or leave it out to start again."
        raise CursorInvalid(message, [Violation("cursor", "CURSOR_INVALID", message)])

    @classmethod
    async def end(cls, connection: AsyncConnection, tenant_id: str) -> Position:
        """The position after everything there is."""
        heads = await log.heads(connection, tenant_id)
        epochs = {lane: head.epoch for lane, head in heads.items()}
        return cls(tenant_id, {lane: head.last_seq for lane, head in heads.items()}, epochs)

    def cursor(self) -> str:
        """The text that `read` reads."""
        return paging.pack(_KIND, [self._tenant_id, self.places | {lane + _EPOCH: epoch for lane, epoch in self.epochs.items()}])


async def read(
    connection: AsyncConnection, tenant_id: str, position: Position, wanted: Filter, limit: int
) -> tuple[list[log.LoggedEvent], bool]:
    """The next events after the position, which moves along (over unwanted ones too); and whether there may be more.

    Raises:
        CursorExpired: the position lies before the oldest event that is kept, or in a log that a restore has undone.
    """
    heads = await log.heads(connection, tenant_id)
    lanes: list[list[log.LoggedEvent]] = []
    full = set()
    for lane, head in sorted(heads.items()):
        after = position.places.get(lane, head.floor_seq - 1)
        if after < head.floor_seq - 1:
            raise CursorExpired("The cursor is older than the events that are kept. Leave it out to start with the oldest one.")
        # Numbers that were lost are given out again: whoever went on behind them would miss the events that have them now. How
        # much of what a reader has had is in the new log as well nobody can say for sure, so it begins again.
        if after > head.last_seq or position.epochs.get(lane, head.epoch) != head.epoch:
            raise CursorExpired(
                "The log was restored from a backup, and what follows the cursor now is not what followed it then. Leave it out"
                " to start with the oldest event. Some of what you have read before may be gone."
            )
        position.places.setdefault(lane, after)
        position.epochs[lane] = head.epoch
        if head.last_seq > after:
            step = max(limit, SMALLEST_STEP)  # a small page with a rare filter must not crawl through the log
            events = await log.read(connection, tenant_id, lane, after, step + 1)
            lanes.append(events)
            if len(events) > step:
                full.add(lane)
    chosen: list[log.LoggedEvent] = []
    for event in _merged(lanes):
        if len(chosen) == limit:
            return chosen, True
        position.places[event.lane] = event.seq
        if wanted.wants(event):
            chosen.append(event)
    return chosen, bool(full)


def _merged(lanes: Sequence[Sequence[log.LoggedEvent]]) -> Iterator[log.LoggedEvent]:
    """All lanes by time of recording. The order within a lane is the log's own, even where clocks say otherwise."""
    heap: list[tuple[datetime, int, int]] = [(lane[0].recorded_at, index, 0) for index, lane in enumerate(lanes) if lane]
    heapq.heapify(heap)
    while heap:
        _, index, place = heapq.heappop(heap)
        yield lanes[index][place]
        if place + 1 < len(lanes[index]):
            heapq.heappush(heap, (lanes[index][place + 1].recorded_at, index, place + 1))
