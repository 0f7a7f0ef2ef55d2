"""One lane of one till as the cloud sees it: up to where the till was told, what is under way, what it is owed. Pure.

States of a lane: OWED (a Reset and a snapshot), SENDING (pieces of one), FOLLOWING (ranges, one after the other). What happens:

            wanted               Applied       NotApplied that fits   NotApplied otherwise   opened    piece   last piece   range
OWED        Begin                nothing       OWED                   OWED                   SENDING   -       -            -
SENDING     Piece, with credit   more credit   OWED                   OWED                   -         sent    FOLLOWING    -
FOLLOWING   More, with credit    more credit   sent once more         OWED                   -         -       -            sent

"fits": it names a position of this epoch that was sent, and is the first dispute since something was confirmed. A refresh that
the till asks for always leads to OWED. "-": what was wanted in a state that is over (the till has disputed something while it was
being read) is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from gipos.edge.v1.link_pb2 import Applied, LanePosition, NotApplied, ResetReason

CREDIT = 2
"""Frames of changes under way, unconfirmed, at most."""
PIECES = 4
"""Pieces of a snapshot, likewise, for tills that confirm them."""
STALLED_SECONDS = 30.0
"""What stays unconfirmed for longer ends the stream."""
DISPUTES = 5
"""Snapshots begun anew because the till disputed something, at most, in one stream."""
REFRESH = "REFRESH"


class LaneState(Enum):
    """What the till gets next in a lane."""

    OWED = "owed"
    SENDING = "sending"
    FOLLOWING = "following"


@dataclass(frozen=True, slots=True)
class Begin:
    """Send Reset unless `begun` goes on, open a snapshot and call `sending`."""

    lane: str
    reason: ResetReason.ValueType
    begun: str
    next_index: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Send the next piece of the snapshot and call `piece`."""

    lane: str
    index: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class More:
    """Send what follows the position, if there is anything, and call `frame`, `passed` or `owe`."""

    lane: str
    epoch: int
    seq: int
    version: int = 0
    passed: int = 0
    """Up to where it is known that nothing more concerns the till; at least `seq`."""


Want: TypeAlias = Begin | Piece | More


@dataclass(slots=True)
class Lane:
    """One lane of one stream."""

    name: str
    state: LaneState
    epoch: int = 0
    seq: int = 0
    """Up to where the till was told."""
    passed: int = 0
    """Up to where nothing more concerned it."""
    dirty: bool = True
    """There may be something new."""
    reason: ResetReason.ValueType = ResetReason.RESET_REASON_UNSPECIFIED
    begun: str = ""
    index: int = 0
    """The next piece."""
    confirms_parts: bool = False
    disputed: bool = False
    """It has sent something once more, and nothing was confirmed since."""
    resets: int = 0
    version: int = 0
    """Rises whenever what was wanted before is not wanted any more."""
    under_way: list[tuple[int, int, float]] = field(default_factory=list)
    """Position, pieces (0 for a range or a whole snapshot) and since when, of everything unconfirmed."""

    def wanted(self, may_follow: Callable[[Lane], bool] | None = None) -> Begin | Piece | More | None:
        """What is to be done next for this lane.

        Args:
            may_follow: Whether there can be anything after `passed`, for who knows that at once. It is asked right before a
                reader would be: a lane that has not grown is clean without one.
        """
        if self.state is LaneState.OWED:
            return Begin(self.name, self.reason, self.begun, self.index, self.version)
        if self.state is LaneState.SENDING:
            has_credit = not self.confirms_parts or len(self.under_way) < PIECES
            return Piece(self.name, self.index, self.version) if has_credit else None
        if not self.dirty or len(self.under_way) >= CREDIT:
            return None
        self.dirty = False  # before anybody reads: what comes while the log is being read makes it dirty again
        if may_follow is not None and not may_follow(self):
            return None
        return More(self.name, self.epoch, self.seq, self.version, self.passed)

    @property
    def is_waiting(self) -> bool:
        """Whether there may be something to send."""
        return self.dirty or self.state is not LaneState.FOLLOWING

    def owe(self, reason: ResetReason.ValueType) -> None:
        """The lane cannot be continued."""
        self.state, self.reason = LaneState.OWED, reason
        self.version += 1
        self.begun, self.index = "", 0
        self.under_way.clear()
        self.disputed = False

    def sending(self, epoch: int, seq: int, index: int) -> None:
        """A snapshot of this position was opened; its pieces begin with this one."""
        self.state, self.epoch, self.seq, self.index = LaneState.SENDING, epoch, seq, index

    def piece(self, now: float, *, last: bool) -> None:
        """The next piece was sent."""
        self.index += 1
        if last:
            self.state, self.passed, self.dirty, self.index = LaneState.FOLLOWING, self.seq, True, 0
            self.under_way.append((self.seq, 0, now))
        elif self.confirms_parts:
            self.under_way.append((self.seq, self.index, now))

    def frame(self, upto: int, now: float) -> None:
        """A range was sent, up to this position. There may be more behind it."""
        self.seq = self.passed = upto
        self.dirty = True
        self.under_way.append((upto, 0, now))

    def pass_over(self, upto: int) -> None:
        """Nothing up to this position concerns the till."""
        self.passed = max(self.passed, upto)

    def reached(self) -> LanePosition | None:
        """What is to be told about ranges that were passed over; the till counts as told from here on."""
        if self.state is not LaneState.FOLLOWING or self.passed <= self.seq:
            return None
        place = LanePosition(lane=self.name, epoch=self.epoch, from_exclusive=self.seq, seq=self.passed)
        self.seq = self.passed
        # A range that is being read now begins where the till no longer is; it is read again from here.
        self.version += 1
        self.dirty = True
        return place

    def applied(self, applied: Applied, now: float) -> None:
        """The till has stored something: credit for more."""
        if applied.epoch != self.epoch or not self.under_way:
            return
        parts = applied.parts
        left = [item for item in self.under_way if item[0] > applied.upto or (parts and (not item[1] or item[1] > parts))]
        if len(left) < len(self.under_way):
            self.disputed = False
            if left:  # on a slow line it waited until the one before was through
                left[0] = (left[0][0], left[0][1], now)
        self.under_way[:] = left

    def not_applied(self, told: NotApplied) -> bool:
        """The till could not use what it got. False: it has had that too often."""
        if told.reason == REFRESH:
            self.owe(ResetReason.RESET_REASON_REFRESH)
            return True
        fits = self.state is LaneState.FOLLOWING and told.epoch == self.epoch and told.from_exclusive <= self.seq
        if fits and not self.disputed:
            self.seq = self.passed = told.from_exclusive
            self.version += 1
            self.under_way.clear()
            self.disputed = self.dirty = True
            return True
        self.owe(ResetReason.RESET_REASON_GAP)
        self.resets += 1
        return self.resets <= DISPUTES

    def is_stalled(self, now: float) -> bool:
        """Whether the till has left something unconfirmed for too long."""
        return bool(self.under_way) and now - self.under_way[0][2] > STALLED_SECONDS
