"""What time it is, as far as a till can know: a pure core over readings of clocks. No system call, no file.

Three sources: the wall clock, which may be wrong by years; the ticks since the tablet started, which only go forward; and what
the cloud has said, measured against the ticks, so that no jump of the wall clock can spoil a measurement. All in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gipos.edge.v1.link_pb2 import ClockReading, ClockState

EARLIEST_MS = 1_767_225_600_000
"""The first moment of 2026, before which no till was ever sold with this program. UTC."""
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, the last a timestamp can hold."""
SLACK_MS = 120_000
"""So far behind the last moment seen a wall clock may be and still be believed: people and NTP correct clocks by a little."""
ABSURD_MS = 366 * 24 * 3600 * 1000
"""So far ahead of the last moment seen a wall clock is not believed."""
DRIFT_PER_MILLION = 100
"""How far a tablet's crystal may run away: about 9 seconds a day, twice what cheap ones are sold with."""
SAMPLES = 8


@dataclass(frozen=True)
class Now:
    """The till's own clocks at one moment."""

    wall_ms: int
    ticks_ms: int
    """Since the tablet started, sleep included (CLOCK_BOOTTIME)."""
    boot_id: str
    """Ticks of two boots cannot be compared."""


@dataclass(frozen=True)
class Sample:
    """One question to the cloud: sent and arrived in ticks, received and answered by the cloud's clock."""

    sent_ms: int
    received_ms: int
    answered_ms: int
    arrived_ms: int

    @property
    def round_trip_ms(self) -> int:
        """How long the question and its answer were on the way."""
        return (self.arrived_ms - self.sent_ms) - (self.answered_ms - self.received_ms)

    @property
    def base_ms(self) -> int:
        """What to add to the ticks to get the cloud's time: ((t2 - t1) + (t3 - t4)) / 2."""
        return ((self.received_ms - self.sent_ms) + (self.answered_ms - self.arrived_ms)) // 2

    def is_sane(self) -> bool:
        """Whether it can have happened: answers come after questions, and the cloud does not live before its program."""
        return self.round_trip_ms >= 0 and LATEST_MS > self.answered_ms >= self.received_ms >= EARLIEST_MS


@dataclass(frozen=True)
class Anchor:
    """A good measurement: the cloud's time at a tick of one boot."""

    boot_id: str
    ticks_ms: int
    true_ms: int
    uncertainty_ms: int


@dataclass(frozen=True)
class Floor:
    """A moment that has surely passed, with the tick at which that was so."""

    boot_id: str
    ticks_ms: int
    ms: int


@dataclass(frozen=True)
class Known:
    """What survives a restart."""

    anchor: Anchor | None = None
    floor: Floor | None = None
    heard: Floor | None = None
    """When the cloud was last heard. None: never."""


@dataclass(frozen=True)
class Reading:
    """What time it is and how far that may be believed."""

    now_ms: int
    device_ms: int
    """The wall clock, however wrong."""
    uncertainty_ms: int
    state: ClockState.ValueType

    @property
    def offset_ms(self) -> int:
        """What was added to the wall clock."""
        return self.now_ms - self.device_ms

    def to_message(self) -> ClockReading:
        """As an operation carries it. A wall clock no timestamp can hold is said to be at its limit."""
        reading = ClockReading(offset_ms=self.offset_ms, uncertainty_ms=self.uncertainty_ms, state=self.state)
        reading.device_time.FromMilliseconds(min(max(self.device_ms, -62_135_596_800_000), LATEST_MS))
        return reading


def best(samples: Iterable[Sample], boot_id: str, ticks_ms: int = 0) -> Anchor | None:
    """The measurement with the smallest error now: a short round trip is good, and worth less with every hour since."""
    sane = [sample for sample in samples if sample.is_sane()]
    if not sane:
        return None
    chosen = min(sane, key=lambda sample: sample.round_trip_ms / 2 + _drift(ticks_ms - sample.arrived_ms))
    # Ticks are cut to whole milliseconds on both ends.
    uncertainty = (chosen.round_trip_ms + 1) // 2 + 1
    return Anchor(boot_id, chosen.arrived_ms, chosen.arrived_ms + chosen.base_ms, uncertainty)


def _drift(elapsed_ms: int) -> int:
    return max(0, elapsed_ms) * DRIFT_PER_MILLION // 1_000_000


def surely_passed(floor: Floor | None, now: Now) -> int:
    """The earliest moment it can be now. After a restart the time the tablet was off is not known; the ticks since are."""
    if floor is None:
        return EARLIEST_MS
    since = now.ticks_ms - floor.ticks_ms if floor.boot_id == now.boot_id else now.ticks_ms
    return floor.ms + max(0, since)


def surely_told(now: Now, known: Known) -> int:
    """The earliest moment it can be now by what the cloud has said, whatever a wall clock has claimed in the meantime."""
    anchor = known.anchor
    if anchor is None:
        return EARLIEST_MS
    since = now.ticks_ms - anchor.ticks_ms if anchor.boot_id == now.boot_id else now.ticks_ms
    return anchor.true_ms + max(0, since)


def read(now: Now, known: Known) -> Reading:
    """What time it is.

    SYNCED while the tablet has not restarted since the cloud was asked: the cloud's time plus the ticks since. UNVERIFIED after a
    restart: the wall clock, if it can be right. WRONG if it cannot: the last moment seen, and the ticks since.
    """
    anchor = known.anchor
    if anchor is not None and anchor.boot_id == now.boot_id:
        elapsed = max(0, now.ticks_ms - anchor.ticks_ms)
        uncertainty = anchor.uncertainty_ms + _drift(elapsed)
        return Reading(anchor.true_ms + elapsed, now.wall_ms, uncertainty, ClockState.CLOCK_STATE_SYNCED)
    passed = surely_passed(known.floor, now)
    # A till that has never seen a moment has only the program's own year to compare with.
    latest = passed + (ABSURD_MS if known.floor is not None else 10 * ABSURD_MS)
    if now.wall_ms < passed - SLACK_MS or now.wall_ms > latest:
        return Reading(passed, now.wall_ms, ABSURD_MS, ClockState.CLOCK_STATE_WRONG)
    # Never before a moment that was on a receipt already.
    shown = max(now.wall_ms, passed)
    return Reading(shown, now.wall_ms, SLACK_MS + shown - passed, ClockState.CLOCK_STATE_UNVERIFIED)


def seen(now: Now, known: Known) -> Known:
    """Moves the floor to the present moment. What the cloud says also takes it back, from a time only a wrong clock had seen."""
    reading = read(now, known)
    return replace(known, floor=Floor(now.boot_id, now.ticks_ms, reading.now_ms))


def since_ms(moment: Floor, now: Now, known: Known) -> int:
    """How long ago a moment was. Within one boot no clock can be set to change that; after a restart at least the ticks count."""
    if moment.boot_id == now.boot_id:
        return max(0, now.ticks_ms - moment.ticks_ms)
    # A moment noted by a clock that was far ahead lies in the future of one that is right; the ticks go on all the same.
    return max(0, now.ticks_ms, read(now, known).now_ms - moment.ms)
