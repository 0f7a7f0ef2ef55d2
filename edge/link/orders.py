"""What the session orders: plain values, carried out by effects.py one after the other. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from edge import words
from edge.words import Said
from gipos.edge.v1.link_pb2 import Changes, Command, OfflinePolicy, Quarantined, SnapshotPart, Welcome


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
class BeginStore:
    """Another tablet has lived under this till's name: begin a new life of the store with what is not uploaded."""

    epoch: int
    op_watermark: int
    """The cloud has no more than this of the life that ends, whatever was acknowledged: it may have been restored since."""


@dataclass(frozen=True)
class BeginAnew:
    """The cloud asks for operations that are no longer kept: begin a new life of the store with what there is from here on."""

    wanted: int


@dataclass(frozen=True)
class Apply:
    """Apply this range in one transaction with its position, then call `applied`; if it cannot be, call `failed`."""

    changes: Changes


@dataclass(frozen=True)
class Stage:
    """Keep this piece of a snapshot aside; if it is the last, put all in the lane's place. Then call `staged`, or `failed`."""

    part: SnapshotPart


@dataclass(frozen=True)
class ClockSample:
    """One measurement of the clocks, in milliseconds: the first and last by the till's ticks, the others by the cloud's clock."""

    sent: int
    received: int
    answered: int
    arrived: int


@dataclass(frozen=True)
class Execute:
    """Do what somebody wants done now, unless this command is known already."""

    command: Command
    is_late: bool
    """It should have been done before now."""


@dataclass(frozen=True)
class AdoptPolicy:
    """From now on this is what the till may do without the cloud."""

    policy: OfflinePolicy


@dataclass(frozen=True)
class Complain:
    """Show this to people; the link goes on."""

    message: Said


@dataclass(frozen=True)
class Reconnect:
    """End this stream and come back, within the window if there is one; `snapshot_lane` is a lane to ask for anew."""

    reason: str
    """For the log."""
    snapshot_lane: str = ""
    earliest_ms: int = 0
    latest_ms: int | None = None
    message: Said = words.INTERRUPTED
    """For people."""


@dataclass(frozen=True)
class Refuse:
    """End this stream: it cannot work until a person does something."""

    message: Said


Order = (
    Adopt
    | Acknowledge
    | Renumber
    | BeginStore
    | BeginAnew
    | Apply
    | Stage
    | ClockSample
    | Execute
    | AdoptPolicy
    | Complain
    | Reconnect
    | Refuse
)
