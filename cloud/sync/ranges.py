"""What a till is told of a lane, as rules: when it can be continued, what a range holds, which watermark it says.

Nothing here reads, waits or sends; frames.py and snapshots.py do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloud.platform import log
from cloud.sync import wire
from gipos.edge.v1.link_pb2 import ResetReason

SPAN = 2_000
"""Positions a frame covers at most, unless the till's own sales ask for more."""
FRAME_BYTES = 128 * 1024
"""Of changes in a frame, likewise. A till confirms whole frames, and has lanes.STALLED_SECONDS for each: these get through at
some 5 KB/s. Half as much halves what a fast line gets, for each read looks at SPAN positions."""
TOO_FAR = 20_000
"""Positions behind which a snapshot is the shorter way, whatever its size."""
FEW = 2_000
"""Positions that are never worth a snapshot."""


Row = tuple[int, str, bytes]
"""An event that concerns tills: its position, its subject, and the resource after it, serialised."""
PRODUCT_EVENTS = ("product.created", "product.updated", "product.deleted")
LEVEL_EVENTS = ("inventory.updated",)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one till stands in one lane."""

    lane: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """The highest operation of a till that is stored, and the last position that reached in the lane of the till's outlet."""

    op_seq: int
    log_seq: int


@dataclass(slots=True)
class Own:
    """What a link knows of its own till, for the lane of the till's outlet. The link keeps one for its whole life.

    Attributes:
        told: The watermark the till was told in this lane since the link began; 0 at first.
        known: The till's watermark as stored; None while that is not sure, and then it is read together with the next range.
        uploads: How often an upload began or ended.
    """

    till_id: str
    store_epoch: int
    told: int = 0
    known: Watermark | None = None
    uploads: int = 0

    def uploading(self) -> None:
        """To be called right before an upload of the till is handed to the database, and again when its outcome is known.

        In between it may be committed already: what was known of the watermark holds no more.
        """
        self.uploads += 1
        self.known = None

    def learn(self, known: Watermark, uploads: int) -> None:
        """Takes over what was read, if no upload has begun or ended since they were so many, and none is under way."""
        if uploads == self.uploads and uploads % 2 == 0:
            self.known = known


@dataclass(frozen=True, slots=True)
class Frame:
    """A range of a lane, ready to be sent: a serialised LinkResponse that is shared by all tills at the same place.

    Attributes:
        op_watermark: What it tells of the till's own operations; 0 for nothing new.
        changes: How many are in it. A frame that has none and tells no watermark need not be sent: the till may as well hear with
            the next Progress that its place is passed.
    """

    lane: str
    epoch: int
    from_exclusive: int
    upto_inclusive: int
    op_watermark: int
    changes: int
    data: bytes

    @property
    def place(self) -> Place:
        """Where the till stands once it has applied it."""
        return Place(self.lane, self.epoch, self.upto_inclusive)


@dataclass(frozen=True, slots=True)
class Restart:
    """The place cannot be continued: Reset with this reason and a snapshot must follow."""

    lane: str
    reason: ResetReason.ValueType
    head: log.Head


def types_of(lane: str) -> tuple[str, ...]:
    """The events of a lane that concern tills."""
    return PRODUCT_EVENTS if lane == log.TENANT_LANE else LEVEL_EVENTS


def restart_reason(head: log.Head, place: Place | None, *, snapshot_rows: int | None = None) -> ResetReason.ValueType | None:
    """Why a place cannot be continued; None when it can.

    `snapshot_rows` is how many rows a snapshot would have, where that is known: more than half as many changes are not worth
    sending.
    """
    if place is None:
        return ResetReason.RESET_REASON_NEW
    if place.epoch != head.epoch:
        return ResetReason.RESET_REASON_EPOCH
    behind = head.last_seq - place.seq
    if behind < 0:
        return ResetReason.RESET_REASON_AHEAD
    # floor_seq is the first position that is kept: who stands right before it still misses nothing.
    if place.seq < head.floor_seq - 1 or behind > TOO_FAR:
        return ResetReason.RESET_REASON_TOO_OLD
    if snapshot_rows is not None and behind > FEW and behind > snapshot_rows / 2:
        return ResetReason.RESET_REASON_TOO_OLD
    return None


def cut(rows: Sequence[Row], upto: int, at_least: int) -> tuple[Sequence[Row], int]:
    """The rows that fit into a frame, one at least, and where the range then ends."""
    size = 0
    for number, (seq, _, body) in enumerate(rows):
        size += len(body)
        if size > FRAME_BYTES and number and seq > at_least:
            return rows[:number], seq - 1
    return rows, upto


def folded(lane: str, rows: Iterable[Row]) -> list[bytes]:
    """Serialised changes, in order of positions: of each subject the last one only."""
    latest: dict[str, Row] = {}
    for row in rows:
        latest.pop(row[1], None)  # so that what remains is in the order of positions
        latest[row[1]] = row
    if lane == log.TENANT_LANE:
        return [wire.product_change(seq, wire.without_cost(body)) for seq, _, body in latest.values()]
    return [wire.level_change(seq, body) for seq, _, body in latest.values()]


def upto_at_least(place: Place, known: Watermark) -> int:
    """The position a range from here must reach, so that it holds all effects of the till's last upload or none of them.

    Otherwise the frame would hold some of its sales and not say which, and the till, which still counts them as waiting, would
    take them off its stock twice.
    """
    return known.log_seq if known.log_seq > place.seq else 0


def told_by(upto: int, own: Own | None, known: Watermark) -> int:
    """The watermark that a frame up to this position tells: only what it contains, and only when it is news."""
    return known.op_seq if own is not None and upto >= known.log_seq and known.op_seq > own.told else 0
