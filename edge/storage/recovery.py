"""Puts a sound store.db in the place of a broken one: the last copy, plus everything still readable in the broken file.

The broken file is renamed, never changed and never deleted. The new store is a new life with a number of its own: what the cloud
may not have is sent (again) from 1, and the ids of sales tell the cloud which of them it has.
"""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
import structlog

from edge.storage import carving, copies, deltas, facts, outbox, papers, receipt_numbers, remakes, repeats, salvage, schema
from edge.storage.columns import blob, text, whole
from edge.storage.database import Database
from edge.storage.salvage import CART_LINES, OPERATIONS, PRINT_JOBS, SALES, SavedStore
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale

_log = structlog.get_logger(__name__)

RECEIPTS_SKIPPED = 1_000
"""So many receipt numbers are passed over when the broken file does not say how far the count had come."""
_WORKING, _READY = "store.recovering", "store.recovered"
_PARTS = ("", "-wal", "-shm")
_FORGOTTEN = (
    "SELECT id FROM sales WHERE op_id NOT IN (SELECT op_id FROM operations) AND op_id NOT IN (SELECT op_id FROM past_operations)"
)


@dataclass(frozen=True)
class Recovery:
    """What was done, for people."""

    at_ms: int
    kept_as: str
    """The name of the broken file now."""
    from_copy: bool
    sales: int
    """In the new store."""
    salvaged: int
    """Of which only the broken file had."""
    unreadable: int
    """Rows that were in the broken file and could not be read."""
    receipts_skipped: bool


def rebuild(store: Path, now_ms: int) -> Recovery:
    """Makes a sound store out of the last copy and the broken file, and puts it in its place.

    Can be interrupted anywhere: until the new store is complete the broken one stays where it is.

    Raises:
        StorageUnusable, StorageFull: the new store cannot be written.
        OSError, apsw.Error: same.
    """
    saved = salvage.read_store(store, carves=True)
    copy = copies.sound(store)
    working = store.with_name(_WORKING)
    _remove(working)
    aside = _free_name(store, now_ms)
    try:
        if copy is not None:
            shutil.copyfile(copy, working)
        with Database(working, synchronous="full", migrations=schema.STORE, check=False) as database:
            recovery = database.write_and_wait(
                lambda connection: _merge(connection, saved, now_ms, aside.name, from_copy=copy is not None)
            )
        _complete(working)
    except BaseException:
        # On a disk without room for it, half a store takes that of the next attempt.
        _remove(working)
        raise
    working.rename(store.with_name(_READY))
    finish(store, now_ms)
    _log.error("store_recovered", **asdict(recovery))
    return recovery


def _complete(working: Path) -> None:
    """Sees to it that the one file that is renamed holds everything: closing says nothing of a log that had no room in it.

    Raises:
        OSError, apsw.Error: there is no room.
    """
    connection = apsw.Connection(str(working))
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        findings = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
    finally:
        connection.close()
    log = carving.log_of(working)
    if log.exists() and log.stat().st_size:
        raise OSError(errno.ENOSPC, "there is no room for all of the rebuilt store")
    if findings != ["ok"]:
        raise OSError(errno.EIO, f"the rebuilt store is not whole: {'; '.join(findings)}")
    copies.sync(working)


def finish(store: Path, now_ms: int) -> None:
    """Puts a rebuilt store in its place, if one is ready. Called at every start, for a rebuilding that was interrupted."""
    ready = store.with_name(_READY)
    if not ready.exists():
        return
    set_aside(store, now_ms)
    ready.rename(store)
    copies.sync(store.parent)


def is_gone(store: Path) -> bool:
    """Whether the store is missing or empty though there is something left of it: its log, or a copy."""
    if store.exists() and store.stat().st_size:
        return False
    log = carving.log_of(store)
    return (log.exists() and log.stat().st_size > carving.LOG_HEADER) or copies.sound(store) is not None


def set_aside(file: Path, now_ms: int) -> Path:
    """Renames a broken file and what belongs to it. Nothing takes the place of one that was put aside before."""
    aside = _free_name(file, now_ms)
    for suffix in _PARTS:
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _free_name(file: Path, now_ms: int) -> Path:
    """Where a broken file goes. On a tablet without a battery for its clock every start is at the same moment."""
    for count in itertools.count():
        aside = file.with_name(f"{file.name}.broken-{now_ms + count}")
        if not any(aside.with_name(aside.name + suffix).exists() for suffix in _PARTS):
            break
    return aside


def _merge(connection: apsw.Connection, saved: SavedStore, now_ms: int, kept_as: str, *, from_copy: bool) -> Recovery:
    before = {text(sale_id) for (sale_id,) in connection.execute("SELECT id FROM sales")}
    # The copy is whole: what has no operation in it had been acknowledged for a month when it was made.
    forgotten = saved.forgotten | {text(sale_id) for (sale_id,) in connection.execute(_FORGOTTEN)}
    # What was queued when the copy was made may have been printed since.
    connection.execute("UPDATE print_jobs SET state = 'unknown', problem = 'interrupted' WHERE state IN ('queued', 'blocked')")
    connection.execute("DELETE FROM cart_lines")
    _put_all(connection, "print_jobs", PRINT_JOBS, saved.print_jobs.values(), replaces=True)
    _put_all(connection, "cart_lines", CART_LINES, saved.cart_lines, replaces=True)
    for name, body in saved.papers.items():
        connection.execute("INSERT OR REPLACE INTO papers (name, body) VALUES (?, ?)", (name, body))
    counter = facts.number(connection, facts.LAST_RECEIPT_SEQ)
    epoch = facts.number(connection, facts.STORE_EPOCH)
    for name, value in saved.facts.items():
        facts.put(connection, name, value)
    if facts.REPEATS not in saved.facts:
        facts.put(connection, facts.REPEATS, "")  # the copy's numbers are not those of the queue that is made here
    epoch = max(epoch, _number(saved, facts.STORE_EPOCH))
    _merge_operations(connection, saved)
    last = whole(connection.execute("SELECT coalesce(max(op_seq), 0) FROM operations").get)
    facts.put(connection, facts.LAST_OP_SEQ, last)
    _merge_sales(connection, saved, forgotten, now_ms)
    # Nobody knows whether the cloud has these; a till that mended itself is not stopped for them.
    repeats.add(connection, last + 1, outbox.last_op_seq(connection))
    # What waits again in this life is not to be done twice when the cloud asks for earlier ones.
    connection.execute("DELETE FROM past_operations WHERE op_id IN (SELECT op_id FROM operations)")
    facts.put(connection, facts.LAST_RECEIPT_SEQ, max(counter, _number(saved, facts.LAST_RECEIPT_SEQ)))
    _follow_receipts(connection)
    skips = not saved.knows_counts and facts.number(connection, facts.LAST_RECEIPT_SEQ) > 0
    if skips:
        facts.advance(connection, facts.LAST_RECEIPT_SEQ, RECEIPTS_SKIPPED)
    if epoch:
        outbox.begin_epoch(connection, max(now_ms, epoch + 1))
    sales = {text(sale_id) for (sale_id,) in connection.execute("SELECT id FROM sales")}
    recovery = Recovery(
        at_ms=now_ms,
        kept_as=kept_as,
        from_copy=from_copy,
        sales=len(sales),
        salvaged=len(sales - before),
        unreadable=saved.unreadable,
        receipts_skipped=skips,
    )
    facts.put(connection, facts.RECOVERY, json.dumps(asdict(recovery)))
    return recovery


def _merge_operations(connection: apsw.Connection, saved: SavedStore) -> None:
    """Rows of the broken file are newer than the copy's. A number that is taken by another operation is given anew, above all."""
    for op_id, row in saved.operations.items():
        connection.execute("DELETE FROM operations WHERE op_id = ?", (op_id,))
        taken = connection.execute("SELECT 1 FROM operations WHERE op_seq = ?", (row[0],)).get is not None
        number = connection.execute("SELECT max(op_seq) + 1 FROM operations").get if taken else row[0]
        _put_all(connection, "operations", OPERATIONS, [(number, *row[1:])], replaces=False)
        operation = Operation.FromString(blob(row[2]))
        connection.execute(
            "UPDATE operations SET kind = ?, amount = ? WHERE op_id = ?",
            (operation.WhichOneof("body"), operation.sale_recorded.total.amount, op_id),
        )
        if row[4] is None:
            operation.op_seq = whole(number)
            outbox.show(connection, operation, deltas.of(operation))


def _merge_sales(connection: apsw.Connection, saved: SavedStore, forgotten: Collection[str], now_ms: int) -> None:
    _put_all(connection, "sales", SALES, saved.sales.values(), replaces=False)
    # A sale that was only readable as an operation, and the other way round.
    for op_id, row in saved.operations.items():
        sale = Operation.FromString(blob(row[2])).sale_recorded
        if sale.id == op_id:
            one = (sale.id, sale.number, op_id, sale.SerializeToString(), row[3], None, b"")
            _put_all(connection, "sales", SALES, [one], replaces=False)
    for sale_id, row in saved.sales.items():
        known = connection.execute("SELECT 1 FROM operations WHERE op_id = ?", (sale_id,)).get is not None
        # However old it is: it may have waited for longer than a month, and here the time is not known.
        if not known and sale_id not in forgotten:
            remakes.queue(connection, Sale.FromString(blob(row[3])), whole(row[4]))
    # Whoever asks for a sale's receipt must find a job; whether it was printed nobody knows.
    connection.execute(
        "INSERT OR IGNORE INTO print_jobs (key, sale_id, copy, kind, state, problem, created_at, updated_at)"
        " SELECT id || '-1', id, 1, 'receipt', 'unknown', 'interrupted', sold_at, ?1 FROM sales"
        " WHERE id NOT IN (SELECT sale_id FROM print_jobs)",
        (now_ms,),
    )


def _follow_receipts(connection: apsw.Connection) -> None:
    identity = papers.find_identity(connection)
    if identity is None:
        return
    for (number,) in connection.execute("SELECT number FROM sales").fetchall():
        receipt_numbers.follow(connection, text(number), identity.till)


def _put_all(connection: apsw.Connection, table: str, columns: str, rows: object, *, replaces: bool) -> None:
    assert hasattr(rows, "__iter__")
    places = ", ".join("?" for _ in columns.split(","))
    verb = "REPLACE" if replaces else "IGNORE"
    for row in rows:
        connection.execute(f"INSERT OR {verb} INTO {table} ({columns}) VALUES ({places})", row)  # noqa: S608 (own names)


def _number(saved: SavedStore, name: str) -> int:
    value = saved.facts.get(name, "0")
    return int(value) if value.isdigit() else 0


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.unlink()


def last(connection: apsw.Connection) -> Recovery | None:
    """The last recovery of this store, if there was one; for people."""
    kept = facts.text(connection, facts.RECOVERY)
    return Recovery(**json.loads(kept)) if kept else None
