"""What the till did and the cloud must learn: operations with dense numbers, kept 30 days after they were acknowledged.

They are kept because a cloud restored from a backup asks again for what it had acknowledged before. What was not acknowledged is
never removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import apsw

from edge.storage import facts, remakes, repeats
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Operation, ProductEdited

KEEP_MS = 30 * 24 * 3600 * 1000
KEEP_AT_LEAST = 50_000
"""So many of the newest are kept when the disk runs short and older ones go before their time."""
SALE, EDIT = "sale_recorded", "product_edited"
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
    acknowledged_op_seq: int = 0
    """The highest number the cloud ever acknowledged in this life of the store."""
    acknowledged_op_id: str = ""
    """What that was."""
    oldest_waiting_ms: int = 0
    """When the oldest that waits was made, milliseconds since 1970; 0 for none."""


@dataclass(frozen=True)
class Unsent:
    """Sales the cloud does not have."""

    sales: int
    amount: int
    """Rupiah."""


def append(connection: apsw.Connection, operation: Operation, deltas: Mapping[str, int], now_ms: int) -> int:
    """Stores an operation under the next number, with what it changes of the stock (thousandths by product)."""
    operation.op_seq = facts.advance(connection, facts.LAST_OP_SEQ)
    kind = operation.WhichOneof("body") or SALE
    connection.execute(
        "INSERT INTO operations (op_seq, op_id, body, created_at, kind, amount) VALUES (?, ?, ?, ?, ?, ?)",
        (
            operation.op_seq,
            operation.op_id,
            operation.SerializeToString(),
            now_ms,
            kind,
            operation.sale_recorded.total.amount if kind == SALE else 0,
        ),
    )
    show(connection, operation, deltas)
    return operation.op_seq


def show(connection: apsw.Connection, operation: Operation, deltas: Mapping[str, int]) -> None:
    """Notes what a stored operation changes here at once, before the cloud has it: the stock, or a product."""
    connection.executemany(
        "INSERT INTO pending_deltas (op_seq, product_id, delta) VALUES (?, ?, ?)",
        [(operation.op_seq, product_id, delta) for product_id, delta in deltas.items()],
    )
    if operation.WhichOneof("body") == EDIT:
        connection.execute(
            "INSERT INTO pending_edits (op_seq, product_id, body) VALUES (?, ?, ?)",
            (operation.op_seq, operation.product_edited.product.id, operation.product_edited.SerializeToString()),
        )


def standing(connection: apsw.Connection) -> Standing:
    """Where the outbox stands."""
    last = last_op_seq(connection)
    first = whole(connection.execute("SELECT coalesce(min(op_seq), ?) FROM operations", (last + 1,)).get)
    oldest = connection.execute("SELECT created_at FROM operations WHERE acknowledged_at IS NULL ORDER BY op_seq LIMIT 1").get
    return Standing(
        last_op_seq=last,
        first_op_seq=first,
        waiting=waiting(connection),
        acknowledged_op_seq=facts.number(connection, facts.ACKNOWLEDGED_SEQ),
        acknowledged_op_id=facts.text(connection, facts.ACKNOWLEDGED_ID),
        oldest_waiting_ms=0 if oldest is None else whole(oldest),
    )


def last_op_seq(connection: apsw.Connection) -> int:
    """The highest number given out; 0 before the first."""
    return facts.number(connection, facts.LAST_OP_SEQ)


def waiting(connection: apsw.Connection) -> int:
    """How many operations the cloud has not acknowledged."""
    return whole(connection.execute("SELECT operations FROM unsent").get)


def unsent(connection: apsw.Connection) -> Unsent:
    """The sales that wait, and their worth."""
    row = connection.execute("SELECT sales, amount FROM unsent").fetchone()
    assert row is not None
    return Unsent(whole(row[0]), whole(row[1]))


def fresh(connection: apsw.Connection) -> Unsent:
    """As `unsent`, without what the cloud had acknowledged before it was restored: no till was offline because of that."""
    row = connection.execute(
        "SELECT sales, amount, (SELECT value FROM facts WHERE name = ?) FROM unsent", (facts.REPEATS,)
    ).fetchone()
    assert row is not None
    again = repeats.parse(text(row[2] or ""))
    return Unsent(max(0, whole(row[0]) - again.sales), max(0, whole(row[1]) - again.amount))


def batch(connection: apsw.Connection, from_op_seq: int, limit: int) -> list[Operation]:
    """Operations from this number on, in order, at most so many and about 256 KiB, but at least one if there is one."""
    operations: list[Operation] = []
    size = 0
    rows = connection.execute(
        "SELECT op_seq, op_id, body FROM operations WHERE op_seq >= ? ORDER BY op_seq LIMIT ?", (from_op_seq, limit)
    )
    for op_seq, op_id, body in rows:
        operation = remakes.read(connection, text(op_id), body)
        size += operation.ByteSize()
        if operations and size > BATCH_BYTES:
            break
        # The column is the truth: numbers move when the store fell behind the cloud.
        operation.op_seq = whole(op_seq)
        operations.append(operation)
    return operations


def settle(connection: apsw.Connection, watermark: int, now_ms: int) -> None:
    """Takes the cloud's word for what it has: acknowledged up to here, and (after a restore) nothing above.

    A cloud that has lost what it had acknowledged has also lost what it acknowledged before a fork; that is sent again, too.
    """
    acknowledge(connection, watermark, now_ms)
    take_back(connection, watermark)


def take_back(connection: apsw.Connection, watermark: int) -> None:
    """What is above this number the cloud does not have, whatever it acknowledged: it waits again, and earlier lives with it."""
    lost = connection.execute(
        "SELECT min(op_seq), max(op_seq) FROM operations WHERE op_seq > ? AND acknowledged_at IS NOT NULL", (watermark,)
    ).fetchone()
    assert lost is not None
    if lost[0] is not None:
        connection.execute(
            "UPDATE operations SET acknowledged_at = NULL WHERE op_seq > ? AND acknowledged_at IS NOT NULL", (watermark,)
        )
        repeats.add(connection, whole(lost[0]), whole(lost[1]))
        revive(connection)


def met(connection: apsw.Connection, epoch: int) -> bool:
    """Notes the epoch of the merchant's lane, 0 for not said; whether it is another than when the cloud was met last.

    Then the cloud was restored from a backup since.
    """
    known = facts.number(connection, facts.CLOUD_EPOCH)
    if not epoch or known == epoch:
        return False
    facts.put(connection, facts.CLOUD_EPOCH, epoch)
    return known != 0


def acknowledge(connection: apsw.Connection, watermark: int, now_ms: int) -> None:
    """Marks operations up to here as stored by the cloud, and remembers the last of them."""
    connection.execute(
        "UPDATE operations SET acknowledged_at = ? WHERE op_seq <= ? AND acknowledged_at IS NULL", (now_ms, watermark)
    )
    repeats.acknowledged(connection, watermark)
    if watermark > facts.number(connection, facts.ACKNOWLEDGED_SEQ):
        op_id = connection.execute("SELECT op_id FROM operations WHERE op_seq = ?", (watermark,)).get
        if op_id is not None:
            facts.put(connection, facts.ACKNOWLEDGED_SEQ, watermark)
            facts.put(connection, facts.ACKNOWLEDGED_ID, text(op_id))


def begin_epoch(connection: apsw.Connection, epoch: int) -> Standing:
    """Begins a new life of the store under this number, because another till has lived under this name.

    What waits gets new numbers from 1 and keeps its order, its ids and its receipt numbers. What was acknowledged is kept aside
    for the rest of its 30 days. If the cloud was restored during the life that ends, that waits, too: the numbers up to which the
    restored cloud says it has everything may be those of the other till.
    """
    before = facts.number(connection, facts.STORE_EPOCH)
    # A restored cloud may have given out the number of a life again. What is kept of the first then stands before this one.
    kept = whole(connection.execute("SELECT coalesce(max(op_seq), 0) FROM past_operations WHERE store_epoch = ?", (before,)).get)
    connection.execute(
        "INSERT INTO past_operations (store_epoch, op_seq, op_id, body, kind, amount, created_at, acknowledged_at)"
        " SELECT ?, op_seq + ?, op_id, body, kind, amount, created_at, acknowledged_at FROM operations"
        " WHERE acknowledged_at IS NOT NULL ON CONFLICT (op_id) DO NOTHING",
        (before, kept),
    )
    connection.execute("DELETE FROM operations WHERE acknowledged_at IS NOT NULL")
    moving = [whole(op_seq) for (op_seq,) in connection.execute("SELECT op_seq FROM operations ORDER BY op_seq").fetchall()]
    # From the bottom up: a new number is never above the old one, so it was freed or never taken.
    connection.executemany(
        "UPDATE operations SET op_seq = ? WHERE op_seq = ?",
        [(number, old) for number, old in enumerate(moving, 1) if number != old],
    )
    repeats.moved(connection, {old: number for number, old in enumerate(moving, 1)})
    facts.put(connection, facts.STORE_EPOCH, epoch)
    facts.put(connection, facts.LAST_OP_SEQ, len(moving))
    facts.put(connection, facts.ACKNOWLEDGED_SEQ, 0)
    facts.put(connection, facts.ACKNOWLEDGED_ID, "")
    if facts.number(connection, facts.RESTORED_IN, -1) == before:
        _queue_past(connection)
    return standing(connection)


def revive(connection: apsw.Connection) -> None:
    """The cloud was restored: puts what was done in earlier lives at the end of the queue. Its ids tell which of it is there.

    Changes of products that were changed again since stay out: at the end of the queue they would undo the newer ones.
    """
    facts.put(connection, facts.RESTORED_IN, facts.number(connection, facts.STORE_EPOCH))
    _queue_past(connection)


def recall(connection: apsw.Connection, wanted: int) -> None:
    """The cloud asks for operations from this number on that are no longer kept: it was restored from a backup of long ago.

    All that is kept from there on waits again, what was done in earlier lives with it, and of what is missing the sales, which a
    till never forgets. They get numbers at the end of the queue, so what follows must be a new life.
    """
    missing = standing(connection).first_op_seq - wanted
    take_back(connection, wanted - 1)
    revive(connection)
    before = last_op_seq(connection)
    remakes.queue_forgotten(connection, max(0, missing))
    repeats.add(connection, before + 1, last_op_seq(connection))


def _queue_past(connection: apsw.Connection) -> None:
    before = last_op_seq(connection)
    newer: set[tuple[str, str]] = set()
    for (stored,) in connection.execute("SELECT body FROM operations WHERE kind = ?", (EDIT,)).fetchall():
        edited = (remakes.parse(stored) or Operation()).product_edited
        newer |= {(edited.product.id, field) for field in edited.fields}
    rows = connection.execute(
        # A store that was mended may know some of them as operations of this life, too.
        "SELECT op_id, body, kind, amount, created_at FROM past_operations"
        " WHERE op_id NOT IN (SELECT op_id FROM operations) ORDER BY store_epoch, op_seq"
    ).fetchall()
    for op_id, stored, kind, amount, created_at in rows:
        change = remakes.parse(stored) if kind == EDIT else None
        body = blob(stored) if change is None else _without(change, newer)
        if body:
            connection.execute(
                "INSERT INTO operations (op_seq, op_id, body, created_at, kind, amount) VALUES (?, ?, ?, ?, ?, ?)",
                (facts.advance(connection, facts.LAST_OP_SEQ), op_id, body, created_at, kind, amount),
            )
    connection.execute("DELETE FROM past_operations")
    repeats.add(connection, before + 1, last_op_seq(connection))


def _without(operation: Operation, newer: Collection[tuple[str, str]]) -> bytes:
    """A change of a product, serialised, without the fields that have a newer value; empty when nothing is left of it."""
    edited = operation.product_edited
    left = [field for field in edited.fields if (edited.product.id, field) not in newer]
    del edited.fields[:]
    edited.fields.extend(left)
    return operation.SerializeToString() if left else b""


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
    rows = connection.execute("SELECT op_seq FROM operations WHERE acknowledged_at IS NULL ORDER BY op_seq").fetchall()
    moving = {whole(op_seq): number for number, (op_seq,) in enumerate(rows, above + 1)}
    # From the top down, so that no number is met twice on the way.
    connection.executemany(
        "UPDATE operations SET op_seq = ? WHERE op_seq = ?", [(number, old) for old, number in reversed(moving.items())]
    )
    repeats.moved(connection, moving)
    facts.put(connection, facts.LAST_OP_SEQ, above + len(moving))
    facts.advance(connection, facts.LAST_RECEIPT_SEQ, shift)
    return standing(connection)


def prune(connection: apsw.Connection, now_ms: int, *, pressed: bool = False) -> int:
    """Removes operations acknowledged more than 30 days ago, only from the low end, and returns how many.

    Args:
        connection: of store.db.
        now_ms: milliseconds since 1970.
        pressed: the disk runs short: of the acknowledged ones only the newest 50,000 are kept, however young the others are.
    """
    row = connection.execute(
        "SELECT coalesce((SELECT min(op_seq) FROM operations WHERE acknowledged_at IS NULL OR acknowledged_at > ?),"
        " (SELECT max(op_seq) + 1 FROM operations)),"
        " coalesce((SELECT min(op_seq) FROM operations WHERE acknowledged_at IS NULL), ?)",
        (now_ms - KEEP_MS, last_op_seq(connection) + 1),
    ).fetchone()
    assert row is not None
    first_kept, first_waiting = row
    connection.execute("DELETE FROM past_operations WHERE acknowledged_at <= ?", (now_ms - KEEP_MS,))
    if first_kept is None:
        return 0
    if pressed:
        first_kept = min(whole(first_waiting), max(whole(first_kept), last_op_seq(connection) + 1 - KEEP_AT_LEAST))
    connection.execute("DELETE FROM operations WHERE op_seq < ?", (first_kept,))
    return connection.changes()


def pending(connection: apsw.Connection, product_ids: Iterable[str], watermark: int | None) -> dict[str, int]:
    """What own operations above the watermark change of the stock, in thousandths by product.

    Without one (the rows are those of a copy whose place is not known) those count that the cloud has not acknowledged: nearly
    all that it has is in the rows, which were its own once.
    """
    if watermark is None:
        question = (
            "SELECT coalesce(sum(d.delta), 0) FROM pending_deltas d JOIN operations o ON o.op_seq = d.op_seq"
            " WHERE d.product_id = ? AND d.op_seq > ? AND o.acknowledged_at IS NULL"
        )
    else:
        question = "SELECT coalesce(sum(delta), 0) FROM pending_deltas WHERE product_id = ? AND op_seq > ?"
    return {product_id: whole(connection.execute(question, (product_id, watermark or 0)).get) for product_id in product_ids}


def quarantined(connection: apsw.Connection) -> list[tuple[int, str, str, str]]:
    """Operations the cloud put aside: number, op_id, reason, message; newest first, at most 100."""
    rows = connection.execute(
        "SELECT op_seq, op_id, quarantine_reason, coalesce(quarantine_message, '') FROM operations"
        " WHERE quarantine_reason IS NOT NULL ORDER BY op_seq DESC LIMIT 100"
    )
    return [(whole(op_seq), text(op_id), text(reason), text(message)) for op_seq, op_id, reason, message in rows]


def edits(connection: apsw.Connection, product_id: str, since_ms: int) -> list[tuple[ProductEdited, bool]]:
    """Changes of a product that the catalogue may not contain yet, oldest first, and whether the cloud has them.

    Those put aside are left out, and those acknowledged before `since_ms`: their effect has come down by then, or was refused.
    """
    rows = connection.execute(
        "SELECT e.body, o.acknowledged_at IS NOT NULL FROM pending_edits e JOIN operations o ON o.op_seq = e.op_seq"
        " WHERE e.product_id = ? AND o.quarantine_reason IS NULL AND coalesce(o.acknowledged_at, ?2) >= ?2 ORDER BY e.op_seq",
        (product_id, since_ms),
    )
    return [(ProductEdited.FromString(blob(body)), bool(whole(acknowledged))) for body, acknowledged in rows]


def edited_products(connection: apsw.Connection, since_ms: int) -> list[str]:
    """Products with such changes."""
    rows = connection.execute(
        "SELECT DISTINCT e.product_id FROM pending_edits e JOIN operations o ON o.op_seq = e.op_seq"
        " WHERE o.quarantine_reason IS NULL AND coalesce(o.acknowledged_at, ?1) >= ?1",
        (since_ms,),
    )
    return [text(product_id) for (product_id,) in rows]
