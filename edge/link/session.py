"""The link's rules as a pure state machine: frames in, frames and orders out. No socket, no clock, no database, no waiting.

One session is the life of one stream. Whatever it cannot make sense of is disputed or ends in an order to reconnect, never in a
guess. What is new to this version is passed over and counted.

Phases and what happens in each (lanes and their frames: lanes.py):

            open        Welcome     Drain   frames of lanes, Stored, Progress, Command, policy   unknown   beat, upload, applied…
NEW         GREETING    error       error   error                                                error     nothing
GREETING    error       LIVE/ENDED  ENDED   ENDED ("at the wrong moment")                        counted   nothing
LIVE        error       ENDED       ENDED   as their rules say                                   counted   as their rules say
ENDED       error       nothing     nothing nothing                                              nothing   nothing

"error" is a mistake of the program around it and raises. `close` leads from every phase to ENDED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from edge import words
from edge.link.lanes import Begun, Lanes, LaneState, Place
from edge.link.orders import (
    Adopt,
    AdoptPolicy,
    BeginStore,
    ClockSample,
    Complain,
    Execute,
    Order,
    Reconnect,
    Refuse,
)
from edge.link.uploads import Pace, Uploads
from gipos.edge.v1.link_pb2 import (
    Changes,
    Command,
    CommandResult,
    Drain,
    Hello,
    LinkRequest,
    LinkResponse,
    Operation,
    Ping,
    Progress,
    SnapshotPart,
    Welcome,
)
from kernel import capabilities

TILL_STATES = {"suspended": words.SUSPENDED, "retired": words.RETIRED}
HEARTBEAT_SECONDS = 10
"""When the cloud does not say."""
LONGEST_HEARTBEAT_SECONDS = 60
LIVES = 2**62
"""Lives of the store have numbers below: no cloud takes a Hello with a higher one."""
LONGEST_WAIT_MS = 300_000
"""Who is asked to stay away for longer comes back then: a mistake in a number must not keep a till from its cloud for days."""


class Phase(Enum):
    """Where the session is in its life."""

    NEW = "new"
    GREETING = "greeting"
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True)
class Standing:
    """What the till's files say when a stream begins."""

    store_epoch: int
    """Which life of the till's store this is."""
    till_id: str = ""
    """The till these files belong to; empty before the first Welcome."""
    positions: Mapping[str, Place] = field(default_factory=dict)
    """Where the copies stand, by lane; a lane left out gets a snapshot."""
    begun: Mapping[str, Begun] = field(default_factory=dict)
    """Snapshots whose download was cut off, by lane."""
    last_op_seq: int = 0
    """The highest operation number given out."""
    first_op_seq: int = 1
    """The lowest operation still kept."""
    acknowledged_op_seq: int = 0
    acknowledged_op_id: str = ""
    waiting: int = 0
    """Operations not yet acknowledged."""
    oldest_waiting_ms: int = 0
    """Since when the first of them waits; 0 for unknown."""
    boot_id: str = ""
    software_version: str = ""
    capabilities: frozenset[str] = capabilities.ALL


class Session:
    """The rules of one stream. Call `open` once, then `receive` for each frame.

    Every order of a frame is done before the next frame is received. Frames to send collect in `outgoing`. After each call ask
    `wanted` whether operations should be read from the outbox and given to `upload`. `ticks_ms` are milliseconds of any clock
    that only goes forward.
    """

    def __init__(self, standing: Standing, pace: Pace | None = None) -> None:
        self.phase = Phase.NEW
        self.outgoing: list[LinkRequest] = []
        self.heartbeat_seconds = HEARTBEAT_SECONDS
        self.reconnect_window_ms = 0
        """Over how long the fleet spreads its return after a cut; 0 for not said."""
        self.capabilities: frozenset[str] = frozenset()
        """What both ends can do; known from Welcome on."""
        self.unknown = 0
        """Frames and fields of a newer contract that were passed over."""
        self._standing = standing
        self._lanes = Lanes(standing.positions, standing.begun, self.outgoing)
        self._uploads = Uploads(standing.last_op_seq, standing.first_op_seq, self.outgoing, pace)
        self._ping = (0, 0)
        """Number of the last ping and the tick at which it was sent."""
        self._cloud_ahead_ms: int | None = None
        """What to add to the ticks to get the cloud's time, roughly."""

    # The till's side.

    def open(self) -> None:
        """Says hello."""
        if self.phase is not Phase.NEW:
            raise RuntimeError("a session is opened once")
        self.phase = Phase.GREETING
        known = self._standing
        hello = Hello(
            store_epoch=known.store_epoch,
            positions=self._lanes.positions(),
            begun=self._lanes.begun(),
            last_op_seq=self._uploads.last,
            software_version=known.software_version,
            capabilities=sorted(known.capabilities),
            acknowledged_op_seq=known.acknowledged_op_seq,
            acknowledged_op_id=known.acknowledged_op_id,
            boot_id=known.boot_id,
            waiting_operations=known.waiting,
        )
        if known.oldest_waiting_ms:
            hello.oldest_waiting_time.FromMilliseconds(known.oldest_waiting_ms)
        self.outgoing.append(LinkRequest(hello=hello))

    def recorded(self, last_op_seq: int) -> None:
        """The till did something: operations up to this number are in the outbox."""
        self._uploads.recorded(last_op_seq)

    def wanted(self) -> tuple[int, int] | None:
        """Which operations to hand to `upload` now: from this number, at most so many. None when there is nothing to do."""
        return self._uploads.wanted() if self.phase is Phase.LIVE else None

    def upload(self, operations: Sequence[Operation], asked: tuple[int, int]) -> list[Order]:
        """Sends operations read from the outbox, or the first of them. See Uploads.upload."""
        return self._ended(self._uploads.upload(operations, asked)) if self.phase is Phase.LIVE else []

    def applied(self, changes: Changes) -> None:
        """The order Apply was carried out."""
        if self.phase is Phase.LIVE:
            self._lanes.confirm(changes.lane, changes.epoch, changes.upto_inclusive)

    def staged(self, part: SnapshotPart) -> None:
        """The order Stage was carried out."""
        if self.phase is Phase.LIVE:
            self._lanes.staged(part)

    def failed(self, what: Changes | SnapshotPart) -> list[Order]:
        """The order Apply or Stage could not be carried out; nothing was changed."""
        return self._ended(self._lanes.failed(what)) if self.phase is Phase.LIVE else []

    def renumbered(self, last_op_seq: int, first_op_seq: int) -> None:
        """The order Renumber was carried out."""
        self._uploads.renumbered(last_op_seq, first_op_seq)

    def executed(self, result: CommandResult) -> None:
        """The order Execute was carried out, now or long ago."""
        if self.phase is Phase.LIVE:
            self.outgoing.append(LinkRequest(command_result=result))

    def refresh(self, lane: str) -> list[Order]:
        """Asks for a lane anew; empty for all of them."""
        return self._ended(self._lanes.refresh(lane)) if self.phase is Phase.LIVE else []

    def resend(self, from_op_seq: int) -> None:
        """Sends what is kept of acknowledged operations once more."""
        if self.phase is Phase.LIVE:
            self._uploads.again(from_op_seq)

    def beat(self, device_time: datetime, ticks_ms: int = 0, waiting: int = 0) -> list[Order]:
        """Sends a ping. Call it every `heartbeat_seconds`."""
        if self.phase is not Phase.LIVE:
            return []
        self._ping = (self._ping[0] + 1, ticks_ms)
        ping = Ping(number=self._ping[0], waiting_operations=waiting)
        ping.device_time.FromDatetime(device_time)
        self.outgoing.append(LinkRequest(ping=ping))
        return self._ended(self._uploads.beat() or self._lanes.beat())

    def close(self) -> None:
        """The stream has ended, whatever ended it."""
        self.phase = Phase.ENDED
        self._uploads.close()

    # The cloud's side.

    def receive(self, frame: LinkResponse, ticks_ms: int = 0) -> list[Order]:
        """What a frame means, as orders to carry out one after the other."""
        kind = frame.WhichOneof("frame")
        if self.phase is Phase.NEW:
            raise RuntimeError("a session must be opened before it can receive")
        if self.phase is Phase.ENDED:
            return []
        if kind is None:
            self.unknown += 1
            return []
        self.unknown += capabilities.unknown_fields(getattr(frame, kind))
        if kind == "drain":
            return self._drain(frame.drain)
        if (kind == "welcome") != (self.phase is Phase.GREETING):
            return self._ended([Reconnect(f"the cloud sent {kind} at the wrong moment")])
        match kind:
            case "welcome":
                orders = self._welcome(frame.welcome, ticks_ms)
            case "stored":
                orders = self._uploads.stored(frame.stored)
            case "changes":
                orders = self._lanes.changes(frame.changes)
            case "reset":
                orders = self._lanes.reset(frame.reset.lane)
            case "snapshot":
                orders = self._lanes.snapshot(frame.snapshot)
            case "progress":
                orders = [*self._sample(frame.progress, ticks_ms), *self._lanes.reached(frame.progress.reached)]
            case "command":
                orders = [Execute(frame.command, is_late=self._is_late(frame.command, ticks_ms))]
            case _:
                assert kind == "policy", kind
                orders = [AdoptPolicy(frame.policy)]
        return self._ended(orders)

    def lane_states(self) -> dict[str, LaneState]:
        """What is expected next, by lane."""
        return self._lanes.states()

    @property
    def acknowledged(self) -> int:
        """The highest operation the cloud has said it stored, in this session."""
        return self._uploads.acknowledged

    def _welcome(self, welcome: Welcome, ticks_ms: int) -> list[Order]:
        if not welcome.till.id or not welcome.outlet.id:
            return [Reconnect("the cloud did not say which till this is")]
        mine = self._standing.till_id
        if mine and mine != welcome.till.id:
            return [
                Refuse(words.OTHER_TILL.filled(mine=mine, theirs=welcome.till.id)),
            ]
        if welcome.new_store_epoch and welcome.new_store_epoch != self._standing.store_epoch:
            if not 0 < welcome.new_store_epoch < LIVES:
                return [Reconnect("the cloud asks for a life whose number cannot be", message=words.ODD_NUMBERS)]
            return [
                BeginStore(welcome.new_store_epoch, welcome.op_watermark),
                Reconnect("another tablet has lived under this till's name", latest_ms=0, message=words.RENUMBERED),
            ]
        self.phase = Phase.LIVE
        self.heartbeat_seconds = min(LONGEST_HEARTBEAT_SECONDS, max(1, welcome.heartbeat_seconds or HEARTBEAT_SECONDS))
        self.reconnect_window_ms = min(LONGEST_WAIT_MS, max(0, welcome.reconnect_window_ms))
        self.capabilities = capabilities.agreed(welcome.capabilities, self._standing.capabilities)
        self._lanes.may_dispute = capabilities.NOT_APPLIED in self.capabilities
        self._lanes.confirms_parts = capabilities.PART_CREDIT in self.capabilities
        self._uploads.is_paused = welcome.till_state == "suspended"
        if welcome.HasField("server_time"):
            self._cloud_ahead_ms = welcome.server_time.ToMilliseconds() - ticks_ms
        begun = self._uploads.begin(welcome.op_watermark)
        if any(isinstance(order, Reconnect) for order in begun):
            return begun
        complaints = [Complain(TILL_STATES[welcome.till_state])] if welcome.till_state in TILL_STATES else []
        if welcome.op_watermark > self._standing.last_op_seq:
            return [*begun, Adopt(welcome), *complaints]
        return [Adopt(welcome), *begun, *complaints]

    def _sample(self, progress: Progress, ticks_ms: int) -> list[Order]:
        number, sent = self._ping
        if not progress.number or progress.number != number or not progress.HasField("received_time"):
            return []
        received, answered = progress.received_time.ToMilliseconds(), progress.server_time.ToMilliseconds()
        return [ClockSample(sent, received, answered, ticks_ms)]

    def _is_late(self, command: Command, ticks_ms: int) -> bool:
        if self._cloud_ahead_ms is None or not command.HasField("expire_time"):
            return False
        return command.expire_time.ToMilliseconds() < ticks_ms + self._cloud_ahead_ms

    def _drain(self, drain: Drain) -> list[Order]:
        earliest = min(LONGEST_WAIT_MS, max(0, drain.reconnect_earliest_ms))
        latest = min(LONGEST_WAIT_MS, max(drain.reconnect_latest_ms, earliest))
        reason = drain.reason or "the cloud is restarting"
        return self._ended([Reconnect(reason, earliest_ms=earliest, latest_ms=latest, message=words.RESTARTING)])

    def _ended(self, orders: list[Order]) -> list[Order]:
        """The orders; with one that ends the stream among them the session is over."""
        if any(isinstance(order, Reconnect | Refuse) for order in orders):
            self.phase = Phase.ENDED
        return orders
