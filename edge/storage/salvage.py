"""Reads what can still be read out of a broken file, row by row. It writes nothing and doubts every row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from google.protobuf.message import DecodeError

from edge.storage import carving, facts, papers
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale

MISSES = 10_000
"""So many rows in a row that cannot be found mean the end of a table whose length is not known."""
_COUNTS = (facts.STORE_EPOCH, facts.LAST_OP_SEQ, facts.LAST_RECEIPT_SEQ)
"""They only grow, so the highest that stands anywhere is the newest."""
Row = tuple[object, ...]


@dataclass
class SavedStore:
    """What was read of a broken store.db."""

    facts: dict[str, str] = field(default_factory=dict)
    papers: dict[str, bytes] = field(default_factory=dict)
    operations: dict[str, Row] = field(default_factory=dict)
    """op_seq, op_id, body, created_at, acknowledged_at, quarantine_reason, quarantine_message by op_id."""
    sales: dict[str, Row] = field(default_factory=dict)
    """id, number, op_id, body, sold_at, request_key, request_hash by id."""
    print_jobs: dict[str, Row] = field(default_factory=dict)
    cart_lines: list[Row] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    """Sales that surely have no operation any more: the cloud acknowledged them long ago."""
    unreadable: int = 0
    """Rows that were there and could not be read."""
    knows_counts: bool = False
    """Whether the file said how far receipts were counted, and nothing newer can have been lost."""


OPERATIONS = "op_seq, op_id, body, created_at, acknowledged_at, quarantine_reason, quarantine_message"
OPERATION_WIDTH = SALE_WIDTH = 7
SALES = "id, number, op_id, body, sold_at, request_key, request_hash"
PRINT_JOBS = "key, sale_id, copy, kind, data, state, problem, attempt, bytes_sent, confirmed, created_at, updated_at"
CART_LINES = "product_id, place, quantity, product"


def read_store(path: Path, *, carves: bool = False) -> SavedStore:
    """Everything readable in a store. An empty result for a file nothing can be read of.

    What SQLite cannot find is searched for in the bytes of the file and of its log, if it is known (`carves`) or turns out here
    that the file is broken.
    """
    saved = SavedStore()
    is_open = _read(path, saved)
    if carves or not is_open or saved.unreadable:
        _carve(path, saved)
    return saved


def _read(path: Path, saved: SavedStore) -> bool:
    with _open(path) as connection:
        if connection is None:
            return False
        saved.facts = {text(name): text(value) for name, value in _by_key(connection, "facts", "name, value", "name")}
        saved.papers = {text(name): blob(body) for name, body in _by_key(connection, "papers", "name, body", "name")}
        saved.cart_lines = list(_by_key(connection, "cart_lines", CART_LINES, "product_id"))
        last = int(saved.facts.get(facts.LAST_OP_SEQ, "0")) if saved.facts.get(facts.LAST_OP_SEQ, "0").isdigit() else 0
        for row in _by_number(connection, "operations", OPERATIONS, "op_seq", last, saved):
            if _is_operation(row):
                saved.operations[text(row[1])] = row
            else:
                saved.unreadable += 1
        for row in _by_number(connection, "sales", SALES, "rowid", 0, saved):
            if _is_sale(row):
                saved.sales[text(row[0])] = row
            else:
                saved.unreadable += 1
        for row in _by_number(connection, "print_jobs", PRINT_JOBS, "rowid", 0, saved):
            if isinstance(row[0], str) and isinstance(row[5], str):
                saved.print_jobs[row[0]] = row
        if saved.unreadable == 0 and _is_dense(saved, last):
            past = {op_id for (op_id,) in _by_key(connection, "past_operations", "op_id", "op_id")}
            saved.forgotten = {sale_id for sale_id in saved.sales if sale_id not in saved.operations and sale_id not in past}
        saved.knows_counts = facts.LAST_RECEIPT_SEQ in saved.facts and not carving.is_cut_short(path, log_frames(connection))
    return True


def _is_dense(saved: SavedStore, last: int) -> bool:
    """Whether all operations that were kept have been read: numbers are missing only below the lowest."""
    numbers = {whole(row[0]) for row in saved.operations.values()}
    return bool(numbers) and max(numbers) == last and last - min(numbers) + 1 == len(numbers)


def log_frames(connection: apsw.Connection) -> int:
    """How many frames of the log SQLite can use. The connection must have read something."""
    return max(0, connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])


def _carve(path: Path, saved: SavedStore) -> None:
    """Adds what stands in the bytes, as it once was: what the cloud has acknowledged since is sent once more, and known there."""
    counted = {name: _count(saved, name) for name in _COUNTS}
    operations: dict[str, Row] = {}
    sales: dict[str, Row] = {}
    for rowid, values in carving.records(path):
        match values:
            case (None, str() as op_id, bytes(), *_) if len(values) >= OPERATION_WIDTH:
                row: Row = (rowid, *values[1:OPERATION_WIDTH])
                was = operations.get(op_id)
                if _is_operation(row) and (was is None or was[4] is None or row[4] is not None):
                    operations[op_id] = row
            case (str() as sale_id, str(), str(), bytes(), *_) if len(values) >= SALE_WIDTH and _is_sale(values[:SALE_WIDTH]):
                sales[sale_id] = values[:SALE_WIDTH]
            case (str() as name, bytes() as body) if name in papers.NAMES:
                saved.papers.setdefault(name, body)
            case (str() as name, str() as value) if name in _COUNTS and value.isdigit():
                counted[name] = max(counted[name], int(value))
            case (str() as name, str() as value) if name == facts.TILL_ID:
                saved.facts.setdefault(name, value)
    saved.facts.update({name: str(count) for name, count in counted.items() if count})
    found = [op_id for op_id in operations if op_id not in saved.operations] + [each for each in sales if each not in saved.sales]
    saved.unreadable = max(0, saved.unreadable - len(found))
    for op_id, row in operations.items():
        kept = saved.operations.get(op_id)
        if kept is None or (kept[4] is None and row[4] is not None):
            saved.operations[op_id] = row
    saved.sales = {**sales, **saved.sales}


def _count(saved: SavedStore, name: str) -> int:
    value = saved.facts.get(name, "0")
    return int(value) if value.isdigit() else 0


@dataclass
class SavedReplica:
    """What was read of a broken replica.db."""

    products: list[tuple[Product, int]] = field(default_factory=list)
    """With their places in the log."""
    levels: list[Level] = field(default_factory=list)


def read_replica(path: Path) -> SavedReplica:
    """The catalogue and the stock, as far as they can be read: better old prices than none."""
    saved = SavedReplica()
    with _open(path) as connection:
        if connection is None:
            return saved
        for product_id, seq, body in _by_key(connection, "products", "id, seq, body", "id"):
            try:
                product = Product.FromString(blob(body))
            except (DecodeError, TypeError):
                continue
            if product.id == product_id and product.name:
                saved.products.append((product, whole(seq)))
        for _, _, body in _by_key(connection, "levels", "outlet_id, product_id, body", "outlet_id, product_id"):
            try:
                saved.levels.append(Level.FromString(blob(body)))
            except (DecodeError, TypeError):
                continue
    return saved


class _open:  # noqa: N801 (used like a function)
    """The broken file, read-only; None if nothing can be read of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> apsw.Connection | None:
        if not self._path.exists() or self._path.stat().st_size == 0:
            return None  # SQLite would delete the log beside it
        try:
            self._connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.Error:
            return None
        return self._connection

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()


def _by_number(connection: apsw.Connection, table: str, columns: str, key: str, last: int, saved: SavedStore) -> Iterator[Row]:
    """Rows of a table by number: in one go up to the first broken page, then one by one over what is broken."""
    at = 0
    try:
        with closing(connection.cursor()) as cursor:
            for number, *row in cursor.execute(f"SELECT {key}, {columns} FROM {table} ORDER BY {key}"):  # noqa: S608 (own names)
                at = whole(number)
                yield tuple(row)
    except (apsw.Error, TypeError):
        pass
    else:
        return
    question = f"SELECT {columns} FROM {table} WHERE {key} = ?"  # noqa: S608 (own names)
    found_last, misses, broken = at, 0, 0
    while misses < MISSES or at < last:
        at += 1
        misses += 1
        try:
            found = connection.execute(question, (at,)).fetchone()
        except apsw.Error:
            broken += 1
            continue
        if found is not None:
            # Only what lies between rows was rows; behind the last one, nobody knows.
            saved.unreadable += broken
            found_last, misses, broken = at, 0, 0
            yield found
    saved.unreadable += max(0, last - found_last)


def _by_key(connection: apsw.Connection, table: str, columns: str, key: str) -> Iterator[Row]:
    """Rows of a table by key, from both ends up to what is broken."""
    met: set[object] = set()
    backwards = ", ".join(f"{name} DESC" for name in key.split(", "))
    width = len(key.split(", "))
    for order in (key, backwards):
        try:
            with closing(connection.cursor()) as cursor:
                for row in cursor.execute(f"SELECT {columns} FROM {table} ORDER BY {order}"):  # noqa: S608 (own names)
                    if row[:width] not in met:
                        met.add(row[:width])
                        yield row
        except (apsw.Error, TypeError):
            continue
        else:
            return


def _is_operation(row: Row) -> bool:
    try:
        operation = Operation.FromString(blob(row[2]))
        whole(row[0])
        whole(row[3])
    except (DecodeError, TypeError):
        return False
    return operation.op_id == row[1] and operation.WhichOneof("body") is not None


def _is_sale(row: Row) -> bool:
    try:
        sale = Sale.FromString(blob(row[3]))
        whole(row[4])
    except (DecodeError, TypeError):
        return False
    return sale.id == row[0] and sale.number == row[1] and bool(sale.lines)
