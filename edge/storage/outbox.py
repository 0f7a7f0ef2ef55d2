"""What the till did and the cloud must learn: operations with dense numbers, kept 30 days after they were acknowledged.

They are kept because a cloud restored from a backup asks again for what it had acknowledged before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apsw

from edge.storage import facts
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Operation

KEEP_MS = 30 * 24 * 3600 * 1000
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True)
class Standing:
    """Where the outbox stands."""

    last_op_seq: int
    """The highest number given out."""
    first_op_seq: int
    """The lowest number still kept; last_op_seq + 1 when there is none."""
    waiting: int
    """Operations not yet acknowledged."""


def append(connection: apsw.Connection, operation: Operation, deltas: Mapping[str, int], now_ms: int) -> int:
    """Stores an operation under the next number, with what it changes of the stock (thousandths by product)."""
    operation.op_seq = facts.advance(connection, facts.LAST_OP_SEQ)
    connection.execute(
        "INSERT INTO operations (op_seq, op_id, body, created_at) VALUES (?, ?, ?, ?)",
        (operation.op_seq, operation.op_id, operation.SerializeToString(), now_ms),
    )
    connection.executemany(
        "INSERT INTO pending_deltas (op_seq, product_id, delta) VALUES (?, ?, ?)",
        [(operation.op_seq, product_id, delta) for product_id, delta in deltas.items()],
    )
    return operation.op_seq


def standing(connection: apsw.Connection) -> Standing:
    """Where the outbox stands."""
    last = last_op_seq(connection)
    first = whole(connection.execute("SELECT coalesce(min(op_seq), ?) FROM operations", (last + 1,)).get)
    return Standing(last_op_seq=last, first_op_seq=first, waiting=waiting(connection))


def last_op_seq(connection: apsw.Connection) -> int:
    """The highest number given out; 0 before the first."""
    return facts.number(connection, facts.LAST_OP_SEQ)


def waiting(connection: apsw.Connection) -> int:
    """How many operations the cloud has not acknowledged."""
    return whole(connection.execute("SELECT count(*) FROM operations WHERE acknowledged_at IS NULL").get)


def batch(connection: apsw.Connection, from_op_seq: int, limit: int) -> list[Operation]:
    """Operations from this number on, in order, at most so many and about 256 KiB, but at least one if there is one."""
    operations: list[Operation] = []
    size = 0
    rows = connection.execute(
        "SELECT op_seq, body FROM operations WHERE op_seq >= ? ORDER BY op_seq LIMIT ?", (from_op_seq, limit)
    )
    for op_seq, body in rows:
        operation = Operation.FromString(blob(body))
        size += operation.ByteSize()
        if operations and size > BATCH_BYTES:
            break
        # The column is the truth: numbers move when the store fell behind the cloud.
        operation.op_seq = whole(op_seq)
        operations.append(operation)
    return operations


def settle(connection: apsw.Connection, watermark: int, now_ms: int) -> None:
    """Takes the cloud's word for what it has: acknowledged up to here, and (after a restore) nothing above."""
    connection.execute(
        "UPDATE operations SET acknowledged_at = ? WHERE op_seq <= ? AND acknowledged_at IS NULL", (now_ms, watermark)
    )
    connection.execute(
        "UPDATE operations SET acknowledged_at = NULL WHERE op_seq > ? AND acknowledged_at IS NOT NULL", (watermark,)
    )


def acknowledge(connection: apsw.Connection, watermark: int, now_ms: int) -> None:
    """Marks operations up to here as stored by the cloud."""
    connection.execute(
        "UPDATE operations SET acknowledged_at = ? WHERE op_seq <= ? AND acknowledged_at IS NULL", (now_ms, watermark)
    )


def quarantine(connection: apsw.Connection, notes: Iterable[tuple[int, str, str]]) -> None:
    """Remembers which operations the cloud put aside: number, reason, message."""
    connection.executemany("UPDATE operations SET quarantine_reason = ?2, quarantine_message = ?3 WHERE op_seq = ?1", list(notes))


def renumber(connection: apsw.Connection, above: int) -> Standing:
    """Moves unacknowledged operations above a number the cloud already has, and the receipt counter as far.

    Needed when this store was restored from an older copy: numbers it would give out again are taken. Each operation is one sale
    with one receipt, so the receipts the copy has forgotten are as many as the operations.
    """
    shift = above - last_op_seq(connection)
    if shift <= 0:
        return standing(connection)
    moving = connection.execute("SELECT op_seq FROM operations WHERE acknowledged_at IS NULL ORDER BY op_seq DESC").fetchall()
    next_free = above + len(moving)
    # From the top down, so that no number is met twice on the way.
    for (op_seq,) in moving:
        connection.execute("UPDATE operations SET op_seq = ? WHERE op_seq = ?", (next_free, op_seq))
        next_free -= 1
    facts.put(connection, facts.LAST_OP_SEQ, above + len(moving))
    facts.advance(connection, facts.LAST_RECEIPT_SEQ, shift)
    return standing(connection)


def prune(connection: apsw.Connection, now_ms: int) -> int:
    """Removes operations acknowledged more than 30 days ago, only from the low end, and returns how many."""
    row = connection.execute(
        "SELECT coalesce((SELECT min(op_seq) FROM operations WHERE acknowledged_at IS NULL OR acknowledged_at > ?),"
        " (SELECT max(op_seq) + 1 FROM operations))",
        (now_ms - KEEP_MS,),
    ).fetchone()
    first_kept = row[0] if row else None
    if first_kept is None:
        return 0
    connection.execute("DELETE FROM operations WHERE op_seq < ?", (first_kept,))
    return connection.changes()


def pending(connection: apsw.Connection, product_ids: Iterable[str], watermark: int) -> dict[str, int]:
    """What own operations above the watermark change of the stock, in thousandths by product."""
    question = "SELECT coalesce(sum(delta), 0) FROM pending_deltas WHERE product_id = ? AND op_seq > ?"
    return {product_id: whole(connection.execute(question, (product_id, watermark)).get) for product_id in product_ids}


def quarantined(connection: apsw.Connection) -> list[tuple[int, str, str, str]]:
    """Operations the cloud put aside: number, op_id, reason, message; newest first, at most 100."""
    rows = connection.execute(
        "SELECT op_seq, op_id, quarantine_reason, coalesce(quarantine_message, '') FROM operations"
        " WHERE quarantine_reason IS NOT NULL ORDER BY op_seq DESC LIMIT 100"
    )
    return [(whole(op_seq), text(op_id), text(reason), text(message)) for op_seq, op_id, reason, message in rows]
