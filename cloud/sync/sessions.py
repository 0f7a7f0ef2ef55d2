"""The cloud's end of the link as a pure state machine: frames in, frames and orders out. No socket, no clock, no database.

One session is the life of one stream. There is no queue of changes: a lane is a place, a flag and a credit (lanes.py). What is
new to this version is passed over and counted.

Phases and what happens in each:

            Hello     operations, Applied, Ping, …   unknown   opened       drain, fail   tick              policy, command, touch
GREETING    OPENING   ENDED (invalid)                counted   error        ENDED         ENDED if silent   nothing
OPENING     error     error                          error     LIVE/ENDED   ENDED         nothing           nothing
LIVE        ENDED     as their rules say             counted   error        ENDED         as rules say      as rules say
ENDED       nothing   nothing                        nothing   nothing      nothing       nothing           nothing

"error" is a mistake of the program around it and raises: nothing is received while Hello is being looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TypeAlias

from cloud.sync.lanes import CREDIT, Begin, Lane, LaneState, More, Piece, Want
from gipos.edge.v1.link_pb2 import (
    Command,
    CommandResult,
    Drain,
    Hello,
    LinkRequest,
    LinkResponse,
    OfflinePolicy,
    Operation,
    Ping,
    Progress,
    Reset,
    ResetReason,
    Stored,
    Welcome,
)
from kernel import capabilities

HEARTBEAT_SECONDS = 10
"""A till pings so often; the cloud speaks so often by itself, give or take a tenth."""
DEAD_AFTER_SECONDS = 45.0
"""Without any frame for so long the till counts as gone."""
HELLO_WITHIN_SECONDS = 10.0
MAX_BATCH = 500


class Phase(Enum):
    """Where the session is in its life."""

    GREETING = "greeting"
    OPENING = "opening"
    LIVE = "live"
    ENDED = "ended"


class Ending(Enum):
    """How the stream ends, as the till is told."""

    DONE = "done"
    """Properly."""
    SLOW = "slow"
    """The till leaves things unconfirmed; it may come back."""
    NO_HELLO = "no_hello"
    """The first frame was something else."""
    TOO_MANY = "too_many"
    """Operations in one batch."""
    TWICE = "twice"
    """A second Hello."""


@dataclass(frozen=True, slots=True)
class Open:
    """A till says hello: look up what is known of it and call `opened`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Store:
    """Store these and call `stored`."""

    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Settle:
    """Note what became of a command."""

    result: CommandResult


@dataclass(frozen=True, slots=True)
class Heard:
    """The till told how it fares: how many operations wait, and its wall clock in milliseconds (None if it said nothing)."""

    waiting: int
    device_ms: int | None


@dataclass(frozen=True, slots=True)
class Disputed:
    """The till could not use a frame. Worth a line in the log; the session has dealt with it."""

    lane: str
    reason: str
    owed: bool
    """A snapshot follows."""


Order: TypeAlias = Open | Store | Settle | Heard | Disputed


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a till that said hello."""

    welcome: Welcome
    """But for the capabilities, the credit and the heartbeat, which are the session's."""
    lanes: Sequence[Lane]
    """Those the till is served, see Lane; none for a till that only uploads."""
    takes_operations: bool = True
    is_closed: bool = False
    """The till must begin a new life of its store first, as Welcome says."""


class Session:
    """The rules of one stream. Give it every frame by `receive`, what orders led to, and the time by `tick`.

    Frames to send collect in `outgoing`, in order: serialised, or as messages. `now` is in seconds of a clock that only goes
    forward.
    """

    __slots__ = (
        "_due_at",
        "_heard_at",
        "_jitter",
        "_lanes",
        "_takes_operations",
        "_turn",
        "capabilities",
        "ending",
        "op_watermark",
        "outgoing",
        "phase",
        "unknown",
    )

    def __init__(self, now: float, jitter: float = 0.5) -> None:
        """Begins a session.

        Args:
            now: the time.
            jitter: 0 to 1; spreads the heartbeats of sessions that began together.
        """
        self.phase = Phase.GREETING
        self.ending = Ending.DONE
        self.outgoing: list[LinkResponse | bytes] = []
        self.capabilities: frozenset[str] = frozenset()
        self.op_watermark = 0
        """The highest of the till's operations that is stored."""
        self.unknown = 0
        """Frames and fields of a newer contract that were passed over."""
        self._jitter = 0.9 + 0.2 * jitter
        self._heard_at = now
        self._due_at = now
        self._lanes: dict[str, Lane] = {}
        self._takes_operations = True
        self._turn = 0

    # What the till says.

    def receive(self, frame: LinkRequest, now: float, received_ns: int = 0) -> list[Order]:
        """What a frame means, as orders.

        Args:
            frame: from the till.
            now: the time.
            received_ns: when it arrived by the cloud's wall clock, nanoseconds since 1970.
        """
        kind = frame.WhichOneof("frame")
        if self.phase is Phase.ENDED:
            return []
        if self.phase is Phase.OPENING:
            raise RuntimeError("nothing is received while Hello is being looked at")
        self._heard_at = now
        if kind is None:
            self.unknown += 1
            return []
        self.unknown += capabilities.unknown_fields(getattr(frame, kind))
        if self.phase is Phase.GREETING:
            if kind != "hello":
                return self._end(Ending.NO_HELLO)
            self.phase = Phase.OPENING
            return [Open(frame.hello)]
        match kind:
            case "operations":
                return self._operations(frame.operations.operations)
            case "applied":
                if (lane := self._lanes.get(frame.applied.lane)) is not None:
                    lane.applied(frame.applied, now)
                return []
            case "ping":
                ping = frame.ping
                progress = self._progress(now, number=ping.number)
                progress.received_time.FromNanoseconds(received_ns)
                return [Heard(ping.waiting_operations, _milliseconds(ping))]
            case "command_result":
                return [Settle(frame.command_result)]
            case "not_applied":
                told = frame.not_applied
                lane = self._lanes.get(told.lane)
                if lane is None:
                    return []
                if not lane.not_applied(told):
                    self._end(Ending.SLOW)
                return [Disputed(told.lane, told.reason, owed=lane.state is LaneState.OWED)]
            case _:
                return self._end(Ending.TWICE)

    def _operations(self, operations: Sequence[Operation]) -> list[Order]:
        if len(operations) > MAX_BATCH:
            return self._end(Ending.TOO_MANY)
        if not self._takes_operations:
            # The till keeps them: nothing was stored, and it is told what is.
            self.outgoing.append(LinkResponse(stored=Stored(op_watermark=self.op_watermark)))
            return []
        return [Store(operations)]

    # What orders led to.

    def opened(self, known: Opened, offered: Iterable[str], now: float) -> None:
        """Hello was looked at: the till is welcomed."""
        if self.phase is Phase.ENDED:
            return
        if self.phase is not Phase.OPENING:
            raise RuntimeError("nobody has said hello")
        self.capabilities = _shared(capabilities.agreed(offered))
        welcome = known.welcome
        welcome.heartbeat_seconds, welcome.credit = HEARTBEAT_SECONDS, CREDIT
        welcome.capabilities.extend(sorted(self.capabilities))
        self.op_watermark = welcome.op_watermark
        self.outgoing.append(LinkResponse(welcome=welcome))
        self._due_at = now + HEARTBEAT_SECONDS * self._jitter
        if known.is_closed:
            self._end(Ending.DONE)  # the till says hello again under its new number
            return
        self.phase = Phase.LIVE
        self._takes_operations = known.takes_operations
        self._lanes = {lane.name: lane for lane in known.lanes}
        for lane in known.lanes:
            lane.confirms_parts = capabilities.PART_CREDIT in self.capabilities

    def stored(self, stored: Stored) -> None:
        """The order Store was carried out."""
        if self.phase is Phase.LIVE:
            self.op_watermark = max(self.op_watermark, stored.op_watermark)
            self.outgoing.append(LinkResponse(stored=stored))
            self.touch()  # a watermark can rise without an event

    def sending(self, want: Begin, epoch: int, seq: int, index: int) -> bool:
        """A snapshot was opened, as wanted. It begins with this piece: not 0 only when the till has those before.

        As for everything that was wanted: False, and nothing happens, when it is not wanted any more.
        """
        if (lane := self._still(want)) is None:
            return False
        if not index:
            self.outgoing.append(LinkResponse(reset=Reset(lane=lane.name, reason=lane.reason)))
        lane.sending(epoch, seq, index)
        return True

    def piece(self, want: Piece, data: bytes, now: float, *, last: bool) -> bool:
        """The next piece, as wanted."""
        if (lane := self._still(want)) is None:
            return False
        lane.piece(now, last=last)
        self.outgoing.append(data)
        return True

    def frame(self, want: More, upto: int, data: bytes, now: float, *, is_empty: bool = False) -> bool:
        """A range, as wanted. An empty one is told with the next sign of life, to a till that understands that."""
        if (lane := self._still(want)) is None:
            return False
        if is_empty and capabilities.BOOKMARKS in self.capabilities:
            lane.pass_over(upto)
            return True
        lane.frame(upto, now)
        self.outgoing.append(data)
        return True

    def owe(self, want: Want, reason: ResetReason.ValueType) -> bool:
        """What was wanted cannot be: the lane cannot be continued."""
        if (lane := self._still(want)) is None:
            return False
        lane.owe(reason)
        return True

    def _still(self, want: Want) -> Lane | None:
        lane = self._lanes.get(want.lane)
        return lane if lane is not None and self.phase is Phase.LIVE and lane.version == want.version else None

    # What happens around it.

    def wanted(self, may_follow: Callable[[Lane], bool] | None = None) -> Want | None:
        """What the till is to be sent next. The lanes take turns, so that a long catalogue does not hold up the stock.

        `may_follow` is as in Lane.wanted.
        """
        if self.phase is not Phase.LIVE:
            return None
        lanes = list(self._lanes.values())
        for step in range(len(lanes)):
            place = (self._turn + step) % len(lanes)
            if (want := lanes[place].wanted(may_follow)) is not None:
                self._turn = place + 1
                return want
        return None

    def touch(self) -> None:
        """The log may have grown."""
        for lane in self._lanes.values():
            lane.dirty = True

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to send, or would be with more credit."""
        return bool(self.outgoing) or self.phase is not Phase.LIVE or any(lane.is_waiting for lane in self._lanes.values())

    def tick(self, now: float) -> None:
        """Time has passed. Call it about once a second."""
        silent = now - self._heard_at
        if self.phase is Phase.GREETING and silent > HELLO_WITHIN_SECONDS:
            self._end(Ending.DONE)
        if self.phase is not Phase.LIVE:
            return
        if silent > DEAD_AFTER_SECONDS:
            self._end(Ending.DONE)
        elif any(lane.is_stalled(now) for lane in self._lanes.values()):
            self._end(Ending.SLOW)
        elif now >= self._due_at:
            self._progress(now)

    def drain(self, earliest_ms: int, latest_ms: int, reason: str) -> None:
        """The till is asked to come back later; the stream ends."""
        if self.phase is not Phase.ENDED:
            drain = Drain(reconnect_earliest_ms=earliest_ms, reconnect_latest_ms=latest_ms, reason=reason)
            self.outgoing.append(LinkResponse(drain=drain))
            self._end(Ending.DONE)

    def fail(self) -> None:
        """The stream ends by what happened around it."""
        self._end(Ending.DONE)

    def policy(self, policy: OfflinePolicy) -> None:
        """What the till may do without the cloud."""
        if self.phase is Phase.LIVE and capabilities.POLICIES in self.capabilities:
            self.outgoing.append(LinkResponse(policy=policy))

    def command(self, command: Command) -> None:
        """Something to do now."""
        if self.phase is Phase.LIVE and capabilities.COMMANDS in self.capabilities:
            self.outgoing.append(LinkResponse(command=command))

    @property
    def epochs(self) -> dict[str, int]:
        """Of each lane the till is served."""
        return {name: lane.epoch for name, lane in self._lanes.items()}

    def lane_states(self) -> dict[str, LaneState]:
        """What the till gets next, by lane."""
        return {name: lane.state for name, lane in self._lanes.items()}

    def _progress(self, now: float, number: int = 0) -> Progress:
        """A sign of life. It goes the way of the frames, so it overtakes none that it covers. Whoever sends it sets the time."""
        self._due_at = now + HEARTBEAT_SECONDS * self._jitter
        frame = LinkResponse(progress=Progress(number=number))
        if capabilities.BOOKMARKS in self.capabilities:
            frame.progress.reached.extend(place for lane in self._lanes.values() if (place := lane.reached()) is not None)
        self.outgoing.append(frame)
        return frame.progress

    def _end(self, ending: Ending) -> list[Order]:
        if self.phase is not Phase.ENDED:
            self.phase, self.ending = Phase.ENDED, ending
        return []


def _milliseconds(ping: Ping) -> int | None:
    """The till's wall clock; None when it says nothing, or no moment: with whatever clock it has, a till is linked and sells."""
    try:
        return ping.device_time.ToMilliseconds() if ping.HasField("device_time") else None
    except ValueError:
        return None


@cache
def _shared(agreed: frozenset[str]) -> frozenset[str]:
    """The same object for all sessions; there are only as many as there are choices among our own few names."""
    return agreed
