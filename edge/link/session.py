"""The link's rules as a pure state machine: frames in, frames and orders out. No socket, no clock, no database, no waiting.

One session is the life of one stream. Whatever it cannot make sense of ends in an order to reconnect, never in a guess.

States of the session: NEW -open-> GREETING -Welcome-> LIVE -Drain, violation, trouble-> ENDED. States of a lane: ABSENT (no
copy), FOLLOWING (a position), RESETTING (a Reset was announced), STAGING (pieces of a snapshot are arriving). What each frame
does in each state of a lane:

            Changes that fit   seen before   other Changes   SnapshotPart 0   next part   other part   Reset
ABSENT      gap                gap           gap             stage            gap         gap          RESETTING
FOLLOWING   apply              Applied       gap             stage            gap         gap          RESETTING
RESETTING   gap                gap           gap             stage            gap         gap          RESETTING
STAGING     gap                gap           gap             stage            stage       gap          RESETTING

"gap": reconnect and ask for a snapshot of that lane. The last part of a snapshot leads to FOLLOWING.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from gipos.edge.v1.link_pb2 import (
    Applied,
    Changes,
    Drain,
    Hello,
    LanePosition,
    LinkRequest,
    LinkResponse,
    Operation,
    OperationBatch,
    Ping,
    Quarantined,
    SnapshotPart,
    Stored,
    Welcome,
)

BATCH_OPERATIONS = 200
"""Operations in one batch at most."""
BATCHES_UNDER_WAY = 2
"""Batches sent and not yet acknowledged at most."""
PATIENCE_BEATS = 6
"""A batch that stays unacknowledged for so many of our heartbeats means that the cloud is stuck."""
REWINDS = 5
"""The cloud may ask so often to begin again without storing anything in between."""


@dataclass(frozen=True)
class Place:
    """Where the till's copy of a lane stands."""

    epoch: int
    seq: int
    op_watermark: int = 0


class Phase(Enum):
    """Where the session is in its life."""

    NEW = "new"
    GREETING = "greeting"
    LIVE = "live"
    ENDED = "ended"


class LaneState(Enum):
    """What the session expects next in a lane."""

    ABSENT = "absent"
    FOLLOWING = "following"
    RESETTING = "resetting"
    STAGING = "staging"


@dataclass(frozen=True)
class Adopt:
    """Remember whose till this is, and take the cloud's word for which operations it has."""

    welcome: Welcome


@dataclass(frozen=True)
class Acknowledge:
    """Operations up to here are stored by the cloud; some may have been put aside."""

    op_watermark: int
    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True)
class Renumber:
    """The cloud has operations this store does not know: give the unacknowledged ones numbers above, then call `renumbered`."""

    above: int


@dataclass(frozen=True)
class Apply:
    """Apply this range in one transaction with its position, then call `applied`."""

    changes: Changes


@dataclass(frozen=True)
class Stage:
    """Keep this piece of a snapshot aside; if it is the last, put all in the lane's place and call `applied`."""

    part: SnapshotPart


@dataclass(frozen=True)
class Complain:
    """Show this to people; the link goes on."""

    message: str


@dataclass(frozen=True)
class Reconnect:
    """End this stream and come back, within the window if there is one; `snapshot_lane` is a lane to ask for anew."""

    reason: str
    snapshot_lane: str = ""
    earliest_ms: int = 0
    latest_ms: int | None = None


@dataclass(frozen=True)
class Refuse:
    """End this stream: it cannot work until a person does something."""

    message: str


Order = Adopt | Acknowledge | Renumber | Apply | Stage | Complain | Reconnect | Refuse


@dataclass
class _Lane:
    state: LaneState
    place: Place | None = None
    """Up to where changes were accepted for application."""
    snapshot: tuple[int, int] = (0, 0)
    """Epoch and seq of the snapshot that is arriving."""
    next_index: int = 0


class Session:
    """The rules of one stream. Call `open` once, then `receive` for each frame.

    Every order of a frame is done before the next frame is received. Frames to send collect in `outgoing`. After each call ask
    `wanted` whether operations should be read from the outbox and given to `upload`.
    """

    def __init__(
        self,
        *,
        store_epoch: int,
        till_id: str,
        positions: Mapping[str, Place],
        last_op_seq: int,
        first_op_seq: int = 1,
        software_version: str = "",
    ) -> None:
        """Begins with what the till's files say.

        Args:
            store_epoch: which life of the till's store this is.
            till_id: the till these files belong to; empty before the first Welcome.
            positions: where the copy stands, by lane; a lane left out gets a snapshot.
            last_op_seq: the highest operation number given out.
            first_op_seq: the lowest operation still kept.
            software_version: for the cloud's logs.
        """
        self.phase = Phase.NEW
        self.outgoing: deque[LinkRequest] = deque()
        self.heartbeat_seconds = 10
        self.reconnect_window_ms: int | None = None
        self._store_epoch = store_epoch
        self._till_id = till_id
        self._version = software_version
        self._lanes = {lane: _Lane(LaneState.FOLLOWING, place) for lane, place in positions.items()}
        self._last = last_op_seq
        self._first = first_op_seq
        self._acknowledged = 0
        self._next = 1
        self._under_way: deque[int] = deque()
        self._beats_waited = 0
        self._rewinds = 0
        self._renumbering = False
        self._upload_blocked = False

    # The till's side.

    def open(self) -> None:
        """Says hello."""
        if self.phase is not Phase.NEW:
            raise RuntimeError("a session is opened once")
        self.phase = Phase.GREETING
        hello = Hello(store_epoch=self._store_epoch, last_op_seq=self._last, software_version=self._version)
        for name, lane in self._lanes.items():
            if lane.place is not None:
                hello.positions.append(LanePosition(lane=name, epoch=lane.place.epoch, seq=lane.place.seq))
        self.outgoing.append(LinkRequest(hello=hello))

    def recorded(self, last_op_seq: int) -> None:
        """The till did something: operations up to this number are in the outbox."""
        self._last = max(self._last, last_op_seq)

    def wanted(self) -> tuple[int, int] | None:
        """Which operations to hand to `upload` now: from this number, at most so many. None when there is nothing to do."""
        if self.phase is not Phase.LIVE or self._renumbering or self._upload_blocked:
            return None
        if len(self._under_way) >= BATCHES_UNDER_WAY or self._next > self._last:
            return None
        return self._next, min(BATCH_OPERATIONS, self._last - self._next + 1)

    def upload(self, operations: Sequence[Operation]) -> list[Order]:
        """Sends operations read from the outbox. They are passed over when a rewind has overtaken the reading."""
        want = self.wanted()
        if want is None or not operations or operations[0].op_seq != want[0]:
            return []
        numbers = [operation.op_seq for operation in operations]
        if numbers != list(range(want[0], want[0] + len(numbers))) or len(numbers) > want[1]:
            self._upload_blocked = True
            return [Complain("The till's list of sales has a hole; sales are kept but cannot be uploaded. Call support.")]
        self.outgoing.append(LinkRequest(operations=OperationBatch(operations=operations)))
        if not self._under_way:
            self._beats_waited = 0
        self._under_way.append(numbers[-1])
        self._next = numbers[-1] + 1
        return []

    def applied(self, lane: str, epoch: int, seq: int) -> None:
        """The till's copy stands here now. This is the credit for more."""
        if self.phase is Phase.LIVE:
            self.outgoing.append(LinkRequest(applied=Applied(lane=lane, epoch=epoch, upto=seq)))

    def renumbered(self, last_op_seq: int, first_op_seq: int) -> None:
        """The order Renumber was carried out."""
        self._renumbering = False
        self._last, self._first = last_op_seq, first_op_seq

    def beat(self, device_time: datetime) -> list[Order]:
        """Sends a ping. Call it every `heartbeat_seconds`."""
        if self.phase is not Phase.LIVE:
            return []
        ping = Ping()
        ping.device_time.FromDatetime(device_time)
        self.outgoing.append(LinkRequest(ping=ping))
        if self._under_way:
            self._beats_waited += 1
            if self._beats_waited >= PATIENCE_BEATS:
                return self._end(Reconnect("the cloud does not acknowledge sales"))
        return []

    # The cloud's side.

    def receive(self, frame: LinkResponse) -> list[Order]:
        """What a frame means, as orders to carry out one after the other."""
        kind = frame.WhichOneof("frame")
        if self.phase is Phase.NEW:
            raise RuntimeError("a session must be opened before it can receive")
        if self.phase is Phase.ENDED:
            return []
        if kind == "drain":
            return self._drain(frame.drain)
        if (kind == "welcome") != (self.phase is Phase.GREETING):
            return [] if kind is None else self._end(Reconnect(f"the cloud sent {kind} at the wrong moment"))
        match kind:
            case "welcome":
                return self._welcome(frame.welcome)
            case "stored":
                return self._stored(frame.stored)
            case "changes":
                return self._changes(frame.changes)
            case "reset":
                self._lane(frame.reset.lane).state = LaneState.RESETTING
                return []
            case "snapshot":
                return self._snapshot(frame.snapshot)
            case _:
                # Progress is a sign of life and no more; a frame of a later version is passed over.
                return []

    def lane_states(self) -> dict[str, LaneState]:
        """What is expected next, by lane."""
        return {name: lane.state for name, lane in self._lanes.items()}

    @property
    def acknowledged(self) -> int:
        """The highest operation the cloud has said it stored, in this session."""
        return self._acknowledged

    def _welcome(self, welcome: Welcome) -> list[Order]:
        if not welcome.till.id or not welcome.outlet.id:
            return self._end(Reconnect("the cloud did not say which till this is"))
        if self._till_id and self._till_id != welcome.till.id:
            return self._end(
                Refuse(
                    f"This data folder belongs to till {self._till_id}, but the device token is for till {welcome.till.id}."
                    " Use the right token, or another data folder."
                )
            )
        self.phase = Phase.LIVE
        self.heartbeat_seconds = max(1, welcome.heartbeat_seconds or 10)
        self.reconnect_window_ms = welcome.reconnect_window_ms or None
        if welcome.op_watermark > self._last:
            # Before anything is taken as acknowledged: the cloud's operations of these numbers are not ours.
            return [*self._fall_behind(welcome.op_watermark), Adopt(welcome)]
        self._acknowledged = welcome.op_watermark
        return [Adopt(welcome), *self._go_to(welcome.op_watermark + 1)]

    def _stored(self, stored: Stored) -> list[Order]:
        known = max(stored.op_watermark, stored.expected_op_seq - 1)
        if known > self._last:
            return self._fall_behind(known)
        orders: list[Order] = []
        advanced = stored.op_watermark > self._acknowledged
        if advanced:
            self._acknowledged = stored.op_watermark
            self._rewinds = self._beats_waited = 0
            while self._under_way and self._under_way[0] <= self._acknowledged:
                self._under_way.popleft()
            self._next = max(self._next, self._acknowledged + 1)
        if advanced or stored.quarantined:
            orders.append(Acknowledge(self._acknowledged, tuple(stored.quarantined)))
        if stored.expected_op_seq > 0:
            self._rewinds += 1
            if self._rewinds > REWINDS:
                return [*orders, *self._end(Reconnect("the cloud keeps asking for the same sales"))]
            orders += self._go_to(stored.expected_op_seq)
        return orders

    def _go_to(self, op_seq: int) -> list[Order]:
        """Sends from this operation on, whatever was sent before."""
        self._under_way.clear()
        self._next = op_seq
        if op_seq >= self._first or op_seq > self._last:
            return []
        self._upload_blocked = True
        return [
            Complain(
                f"The cloud asks for sales from operation {op_seq} on, but this till only keeps them from {self._first} on."
                " Sales are kept here but cannot be uploaded. Call support."
            )
        ]

    def _fall_behind(self, known: int) -> list[Order]:
        """The cloud knows operations this store does not: it was restored from an older copy."""
        self._under_way.clear()
        self._acknowledged, self._next = known, known + 1
        self._renumbering = True
        return [Renumber(above=known)]

    def _changes(self, changes: Changes) -> list[Order]:
        lane = self._lanes.get(changes.lane)
        if lane is None or lane.place is None or lane.state is not LaneState.FOLLOWING or changes.epoch != lane.place.epoch:
            return self._gap(changes.lane, "changes without a copy to apply them to")
        place = lane.place
        if changes.upto_inclusive < changes.from_exclusive:
            return self._gap(changes.lane, "a range that ends before it begins")
        if changes.upto_inclusive <= place.seq:
            if changes.upto_inclusive == place.seq and changes.op_watermark > place.op_watermark and not changes.changes:
                # Nothing moved but what the rows are known to contain.
                lane.place = replace(place, op_watermark=changes.op_watermark)
                return [Apply(changes)]
            self.applied(changes.lane, place.epoch, place.seq)
            return []
        if changes.from_exclusive != place.seq:
            return self._gap(changes.lane, f"a range from {changes.from_exclusive}, the copy stands at {place.seq}")
        lane.place = Place(changes.epoch, changes.upto_inclusive, max(place.op_watermark, changes.op_watermark))
        return [Apply(changes)]

    def _snapshot(self, part: SnapshotPart) -> list[Order]:
        lane = self._lane(part.lane)
        begins = part.index == 0
        continues = lane.state is LaneState.STAGING and part.index == lane.next_index and lane.snapshot == (part.epoch, part.seq)
        if not begins and not continues:
            return self._gap(part.lane, "pieces of a snapshot out of order")
        lane.snapshot, lane.next_index = (part.epoch, part.seq), part.index + 1
        lane.state, lane.place = LaneState.STAGING, None
        if part.last:
            lane.state, lane.place = LaneState.FOLLOWING, Place(part.epoch, part.seq, part.op_watermark)
        return [Stage(part)]

    def _gap(self, lane: str, what: str) -> list[Order]:
        return self._end(Reconnect(f"the cloud sent {what}", snapshot_lane=lane))

    def _drain(self, drain: Drain) -> list[Order]:
        latest = max(drain.reconnect_latest_ms, drain.reconnect_earliest_ms, 0)
        return self._end(
            Reconnect(
                drain.reason or "the cloud is restarting", earliest_ms=max(0, drain.reconnect_earliest_ms), latest_ms=latest
            )
        )

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane(LaneState.ABSENT))

    def _end(self, order: Order) -> list[Order]:
        self.phase = Phase.ENDED
        return [order]
