"""Where the replica stands in each lane of the cloud's log, and the only way rows get into it.

Every function is meant to run inside one transaction: rows and position move together or not at all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import apsw

from edge.storage import levels, products
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Change, Changes, SnapshotPart

TENANT_LANE = "tenant"
"""The lane of the merchant's catalogue; every other lane is an outlet's, named by its id."""
MOST_UNPACKED = 64 * 1024 * 1024
"""Bytes one piece of a snapshot may have once it is unpacked."""


class OutOfPlace(Exception):
    """A range does not begin where the rows stand. Nothing was changed."""


@dataclass(frozen=True)
class Position:
    """A place in a lane."""

    epoch: int
    seq: int
    op_watermark: int
    """The highest operation of this till whose effects the rows contain."""


@dataclass(frozen=True)
class Begun:
    """A snapshot of which the first pieces are kept aside."""

    snapshot_id: str
    epoch: int
    seq: int
    next_index: int
    """The first piece that is missing."""


def positions(connection: apsw.Connection) -> dict[str, Position]:
    """Where the replica stands, by lane."""
    rows = connection.execute("SELECT lane, epoch, seq, op_watermark FROM lanes ORDER BY lane")
    return {
        text(lane): Position(epoch=whole(epoch), seq=whole(seq), op_watermark=whole(op_watermark))
        for lane, epoch, seq, op_watermark in rows
    }


def position(connection: apsw.Connection, lane: str) -> Position | None:
    """Where the replica stands in this lane; None before its first snapshot."""
    return positions(connection).get(lane)


def apply(connection: apsw.Connection, changes: Changes) -> None:
    """Applies a range that fits, and moves the position to its end.

    Raises:
        OutOfPlace: it does not fit. Whoever gave it has judged by a position the rows do not have (any more).
    """
    place = position(connection, changes.lane)
    if place is None or place.epoch != changes.epoch or not changes.from_exclusive <= place.seq <= changes.upto_inclusive:
        stands = "nowhere" if place is None else f"at {place.seq} of epoch {place.epoch}"
        raise OutOfPlace(
            f"A range ({changes.from_exclusive}, {changes.upto_inclusive}] of epoch {changes.epoch} does not fit lane"
            f" {changes.lane}, which stands {stands}."
        )
    _put(connection, changes.lane, changes.changes)
    _move(connection, changes.lane, Position(epoch=changes.epoch, seq=changes.upto_inclusive, op_watermark=changes.op_watermark))


def move_over(connection: apsw.Connection, lane: str, epoch: int, from_exclusive: int, upto_inclusive: int) -> None:
    """Moves the position over a range in which nothing concerned the till.

    Raises:
        OutOfPlace: it does not follow on where the rows stand.
    """
    apply(connection, Changes(lane=lane, epoch=epoch, from_exclusive=from_exclusive, upto_inclusive=upto_inclusive))


def stage(connection: apsw.Connection, part: SnapshotPart) -> None:
    """Keeps a piece of a snapshot aside. The first piece throws away what was kept of an older one.

    Raises:
        OutOfPlace: it is no piece of the snapshot whose pieces are kept, or not the next one.
    """
    if part.index == 0:
        connection.execute("DELETE FROM staged WHERE lane = ?", (part.lane,))
    elif begun(connection).get(part.lane) != Begun(part.snapshot_id, part.epoch, part.seq, part.index):
        raise OutOfPlace(f"Piece {part.index} of a snapshot of lane {part.lane} does not follow on what is kept of it.")
    connection.execute(
        "INSERT INTO staged (lane, place, body) VALUES (?, ?, ?)", (part.lane, part.index, part.SerializeToString())
    )


def begun(connection: apsw.Connection) -> dict[str, Begun]:
    """Snapshots of which the first pieces are kept aside, by lane."""
    rows = connection.execute(
        "SELECT s.lane, s.body, (SELECT max(place) + 1 FROM staged t WHERE t.lane = s.lane) FROM staged s WHERE s.place = 0"
    ).fetchall()
    found = {}
    for lane, body, next_index in rows:
        first = SnapshotPart.FromString(blob(body))
        found[text(lane)] = Begun(first.snapshot_id, first.epoch, first.seq, whole(next_index))
    return found


def activate(connection: apsw.Connection, part: SnapshotPart) -> None:
    """Puts the pieces kept aside, of which this one is the last, in the place of the lane's old rows.

    Raises:
        OutOfPlace: it does not follow on the pieces that are kept.
        ValueError: a piece cannot be unpacked.
    """
    stage(connection, part)
    pieces = connection.execute("SELECT body FROM staged WHERE lane = ? ORDER BY place", (part.lane,)).fetchall()
    if part.lane == TENANT_LANE:
        products.clear(connection)
    else:
        levels.clear(connection, part.lane)
    for (body,) in pieces:
        _put(connection, part.lane, _changes(SnapshotPart.FromString(blob(body))), snapshot_seq=part.seq)
    connection.execute("DELETE FROM staged WHERE lane = ?", (part.lane,))
    connection.execute("DELETE FROM lanes WHERE lane = ?", (part.lane,))
    _move(connection, part.lane, Position(epoch=part.epoch, seq=part.seq, op_watermark=part.op_watermark))


def _changes(part: SnapshotPart) -> Iterable[Change]:
    """The rows of a piece, packed or not."""
    if not part.packed:
        return part.changes
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(part.packed, MOST_UNPACKED)
    except zlib.error as error:
        raise ValueError(f"Piece {part.index} of a snapshot of lane {part.lane} is not packed as it says.") from error
    if not unpacking.eof:
        raise ValueError(
            f"Piece {part.index} of a snapshot of lane {part.lane} is incomplete, or larger than {MOST_UNPACKED} bytes."
        )
    return SnapshotPart.FromString(plain).changes


def forget(connection: apsw.Connection, lane: str = "") -> None:
    """Forgets where a lane stands (all, if none is named), so that a snapshot is asked for. Its rows serve until that is here."""
    connection.execute("DELETE FROM lanes WHERE ?1 = '' OR lane = ?1", (lane,))


def forget_watermarks(connection: apsw.Connection) -> None:
    """Own operations begin again at 1 (the till's own file is new), so what was said about the old ones means nothing."""
    connection.execute("UPDATE lanes SET op_watermark = 0")


def keep_only(connection: apsw.Connection, lanes: Iterable[str]) -> None:
    """Forgets lanes the till no longer follows, as after a move to another outlet."""
    wanted = set(lanes)
    for lane in positions(connection):
        if lane not in wanted:
            connection.execute("DELETE FROM lanes WHERE lane = ?", (lane,))
            connection.execute("DELETE FROM staged WHERE lane = ?", (lane,))
            if lane != TENANT_LANE:
                levels.clear(connection, lane)


def _move(connection: apsw.Connection, lane: str, to: Position) -> None:
    connection.execute(
        "INSERT INTO lanes (lane, epoch, seq, op_watermark) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (lane) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq,"
        # Within an epoch the watermark only rises; a frame without one must not bring old deltas back.
        " op_watermark = max(op_watermark, excluded.op_watermark)",
        (lane, to.epoch, to.seq, to.op_watermark),
    )


def _put(connection: apsw.Connection, lane: str, changes: Iterable[Change], snapshot_seq: int = 0) -> None:
    for change in changes:
        match change.WhichOneof("body"):
            case "product":
                products.put(connection, change.product, change.seq or snapshot_seq)
            case "level" if change.level.outlet_id == lane:
                levels.put(connection, change.level)
            case _:
                # A kind this version does not know, or another outlet's stock: the position moves over it.
                continue
