"""Where the replica stands in each lane of the cloud's log, and the only way rows get into it.

Every function is meant to run inside one transaction: rows and position move together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import apsw

from edge.storage import levels, products
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Change, Changes, SnapshotPart

TENANT_LANE = "tenant"
"""The lane of the merchant's catalogue; every other lane is an outlet's, named by its id."""


@dataclass(frozen=True)
class Position:
    """A place in a lane."""

    epoch: int
    seq: int
    op_watermark: int
    """The highest operation of this till whose effects the rows contain."""


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
    """Applies a range that fits, and moves the position to its end."""
    _put(connection, changes.lane, changes.changes)
    _move(connection, changes.lane, Position(epoch=changes.epoch, seq=changes.upto_inclusive, op_watermark=changes.op_watermark))


def stage(connection: apsw.Connection, part: SnapshotPart) -> None:
    """Keeps a piece of a snapshot aside. The first piece throws away what was kept of an older one."""
    if part.index == 0:
        connection.execute("DELETE FROM staged WHERE lane = ?", (part.lane,))
    connection.execute(
        "INSERT INTO staged (lane, place, body) VALUES (?, ?, ?)", (part.lane, part.index, part.SerializeToString())
    )


def activate(connection: apsw.Connection, part: SnapshotPart) -> None:
    """Puts the pieces kept aside, of which this one is the last, in the place of the lane's old rows."""
    stage(connection, part)
    pieces = [
        SnapshotPart.FromString(blob(body))
        for (body,) in connection.execute("SELECT body FROM staged WHERE lane = ? ORDER BY place", (part.lane,)).fetchall()
    ]
    if part.lane == TENANT_LANE:
        products.clear(connection)
    else:
        levels.clear(connection, part.lane)
    for piece in pieces:
        _put(connection, part.lane, piece.changes, snapshot_seq=part.seq)
    connection.execute("DELETE FROM staged WHERE lane = ?", (part.lane,))
    connection.execute("DELETE FROM lanes WHERE lane = ?", (part.lane,))
    _move(connection, part.lane, Position(epoch=part.epoch, seq=part.seq, op_watermark=part.op_watermark))


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
