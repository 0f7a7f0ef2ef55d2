"""The till's copies of the cloud's lanes, as rules: which frame fits where, and what is said about one that does not. Pure.

States of a lane: ABSENT (no copy), FOLLOWING (a position), DISPUTED (a frame did not fit and the cloud was told), RESETTING (a
Reset was announced), STAGING (pieces of a snapshot are arriving). What each frame does in each state:

            Changes that fit   seen before   other Changes   SnapshotPart 0   next part   other part   Reset
ABSENT      gap                gap           gap             stage            gap         gap          RESETTING
FOLLOWING   apply              Applied       gap             stage            gap         gap          RESETTING
DISPUTED    apply              nothing       nothing         stage            nothing     nothing      RESETTING
RESETTING   gap                gap           gap             stage            gap         gap          RESETTING
STAGING     gap                gap           gap             stage            stage       gap          RESETTING

"gap": the lane is DISPUTED and the cloud is told (NotApplied); a cloud that does not know that frame is left, and asked for a
snapshot of the lane. The last part of a snapshot leads to FOLLOWING. "reached" in Progress fits, or does not, like Changes
without rows, but only in FOLLOWING; in any other state it means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from edge.link.orders import Apply, Order, Reconnect, Stage
from gipos.edge.v1.link_pb2 import (
    Applied,
    BegunSnapshot,
    Changes,
    LanePosition,
    LinkRequest,
    NotApplied,
    SnapshotPart,
)

GAP, FAILED, REFRESH = "GAP", "FAILED", "REFRESH"
"""Reasons of NotApplied."""
PATIENCE_BEATS = 6
"""A dispute that is not settled within so many of our heartbeats ends the stream."""


@dataclass(frozen=True)
class Place:
    """Where the till's copy of a lane stands."""

    epoch: int
    seq: int
    op_watermark: int = 0


@dataclass(frozen=True)
class Begun:
    """A snapshot of which the first pieces are kept aside."""

    snapshot_id: str
    epoch: int
    seq: int
    next_index: int


class LaneState(Enum):
    """What is expected next in a lane."""

    ABSENT = "absent"
    FOLLOWING = "following"
    DISPUTED = "disputed"
    RESETTING = "resetting"
    STAGING = "staging"


@dataclass
class _Lane:
    state: LaneState
    place: Place | None = None
    """Up to where changes were accepted for application."""
    before: Place | None = None
    """Where it stood before the last frame, in case that cannot be stored."""
    snapshot: tuple[str, int, int] = ("", 0, 0)
    """Id, epoch and seq of the snapshot that is arriving."""
    next_index: int = 0
    beats: int = 0
    """Heartbeats since the dispute began."""


class Lanes:
    """All lanes of one stream. What is to be sent is appended to `outgoing`."""

    def __init__(self, positions: Mapping[str, Place], begun: Mapping[str, Begun], outgoing: list[LinkRequest]) -> None:
        self.may_dispute = False
        """Whether the cloud understands NotApplied."""
        self.confirms_parts = False
        """Whether it wants to hear of pieces."""
        self._outgoing = outgoing
        self._lanes = {lane: _Lane(LaneState.FOLLOWING, place) for lane, place in positions.items()}
        for name, one in begun.items():
            if name not in self._lanes:
                lane = _Lane(LaneState.STAGING, snapshot=(one.snapshot_id, one.epoch, one.seq), next_index=one.next_index)
                self._lanes[name] = lane

    def states(self) -> dict[str, LaneState]:
        """What is expected next, by lane."""
        return {name: lane.state for name, lane in self._lanes.items()}

    def positions(self) -> list[LanePosition]:
        """For Hello: where the copies stand."""
        return [
            LanePosition(lane=name, epoch=lane.place.epoch, seq=lane.place.seq)
            for name, lane in self._lanes.items()
            if lane.place is not None
        ]

    def begun(self) -> list[BegunSnapshot]:
        """For Hello: which downloads were cut off."""
        return [
            BegunSnapshot(lane=name, snapshot_id=lane.snapshot[0], next_index=lane.next_index)
            for name, lane in self._lanes.items()
            if lane.state is LaneState.STAGING
        ]

    def reset(self, name: str) -> list[Order]:
        """A Reset: a snapshot will follow, from its first piece."""
        lane = self._lane(name)
        lane.state, lane.beats = LaneState.RESETTING, 0
        return []

    def changes(self, changes: Changes) -> list[Order]:
        """A range."""
        lane = self._lane(changes.lane)
        place = lane.place
        if place is None or lane.state not in {LaneState.FOLLOWING, LaneState.DISPUTED} or changes.epoch != place.epoch:
            return self._gap(changes.lane, "changes without a copy to apply them to")
        if changes.upto_inclusive < changes.from_exclusive:
            return self._gap(changes.lane, "a range that ends before it begins")
        if changes.upto_inclusive <= place.seq:
            return self._seen(changes, lane, place)
        if changes.from_exclusive != place.seq:
            return self._gap(changes.lane, f"a range from {changes.from_exclusive}, the copy stands at {place.seq}")
        watermark = max(place.op_watermark, changes.op_watermark)
        return self._moved(lane, Place(changes.epoch, changes.upto_inclusive, watermark), changes)

    def _seen(self, changes: Changes, lane: _Lane, place: Place) -> list[Order]:
        if changes.upto_inclusive == place.seq and changes.op_watermark > place.op_watermark and not changes.changes:
            # Nothing moved but what the rows are known to contain.
            return self._moved(lane, replace(place, op_watermark=changes.op_watermark), changes)
        if lane.state is LaneState.FOLLOWING:
            self.confirm(changes.lane, place.epoch, place.seq)
        return []

    def _moved(self, lane: _Lane, to: Place, changes: Changes) -> list[Order]:
        lane.before, lane.place, lane.state = lane.place, to, LaneState.FOLLOWING
        return [Apply(changes)]

    def snapshot(self, part: SnapshotPart) -> list[Order]:
        """A piece of a snapshot."""
        lane = self._lane(part.lane)
        names = (part.snapshot_id, part.epoch, part.seq)
        continues = lane.state is LaneState.STAGING and part.index == lane.next_index and lane.snapshot == names
        if part.index != 0 and not continues:
            return self._gap(part.lane, "pieces of a snapshot out of order")
        lane.snapshot, lane.next_index = names, part.index + 1
        lane.state, lane.place, lane.before = LaneState.STAGING, None, None
        if part.last:
            lane.state, lane.place = LaneState.FOLLOWING, Place(part.epoch, part.seq, part.op_watermark)
        return [Stage(part)]

    def reached(self, places: Iterable[LanePosition]) -> list[Order]:
        """What Progress says was sent: it moves copies over what did not concern this till."""
        orders: list[Order] = []
        for place in places:
            lane = self._lanes.get(place.lane)
            if lane is None or lane.state is not LaneState.FOLLOWING or lane.place is None or lane.place.epoch != place.epoch:
                continue
            if place.seq > lane.place.seq:
                orders += self.changes(
                    Changes(lane=place.lane, epoch=place.epoch, from_exclusive=place.from_exclusive, upto_inclusive=place.seq)
                )
        return orders

    def confirm(self, name: str, epoch: int, seq: int, parts: int = 0) -> None:
        """Says what is stored. This is the credit for more."""
        self._outgoing.append(LinkRequest(applied=Applied(lane=name, epoch=epoch, upto=seq, parts=parts)))

    def staged(self, part: SnapshotPart) -> None:
        """A piece is kept, or the last one has put all in place."""
        if part.last:
            self.confirm(part.lane, part.epoch, part.seq)
        elif self.confirms_parts:
            self.confirm(part.lane, part.epoch, part.seq, part.index + 1)

    def failed(self, what: Changes | SnapshotPart) -> list[Order]:
        """It could not be stored; the copy is as it was before."""
        lane = self._lane(what.lane)
        lane.place, lane.before = (lane.before if isinstance(what, Changes) else None), None
        return self._dispute(what.lane, FAILED, "what could not be stored")

    def refresh(self, name: str) -> list[Order]:
        """Asks for a lane anew (empty: for all). The old copy is used until the new one is here."""
        orders: list[Order] = []
        for each in [name] if name else list(self._lanes):
            orders += self._dispute(each, REFRESH, "what is to be fetched anew")
        return orders

    def beat(self) -> list[Order]:
        """A heartbeat: a dispute must not last for ever."""
        for name, lane in self._lanes.items():
            lane.beats = lane.beats + 1 if lane.state is LaneState.DISPUTED else 0
            if lane.beats >= PATIENCE_BEATS:
                return [Reconnect("the cloud does not answer a complaint", snapshot_lane=name)]
        return []

    def _gap(self, name: str, what: str) -> list[Order]:
        if self._lane(name).state is LaneState.DISPUTED:
            return []  # it was on its way when the cloud was told
        return self._dispute(name, GAP, what)

    def _dispute(self, name: str, reason: str, what: str) -> list[Order]:
        if not self.may_dispute:
            return [Reconnect(f"the cloud sent {what}", snapshot_lane=name)]
        lane = self._lane(name)
        lane.state, lane.beats = LaneState.DISPUTED, 0
        place = lane.place or Place(0, 0)
        told = NotApplied(lane=name, epoch=place.epoch, from_exclusive=place.seq, reason=reason)
        self._outgoing.append(LinkRequest(not_applied=told))
        return []

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane(LaneState.ABSENT))
