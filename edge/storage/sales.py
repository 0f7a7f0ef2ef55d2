"""Sales this till made. They are written once and never changed."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage.columns import blob, text, whole
from gipos.v1.sales_pb2 import Sale

_COLUMNS = (
    "SELECT s.body, coalesce(o.op_seq, 0), o.op_id IS NULL OR o.acknowledged_at IS NOT NULL, coalesce(o.quarantine_reason, '')"
    " FROM sales s LEFT JOIN operations o ON o.op_id = s.op_id "
)


@dataclass(frozen=True)
class RecordedSale:
    """A sale and how far its upload is."""

    sale: Sale
    op_seq: int
    """0 once its operation was pruned, long after it was acknowledged."""
    uploaded: bool
    quarantine_reason: str
    """Why the cloud put it aside; normally empty."""


def insert(connection: apsw.Connection, sale: Sale, *, sold_at_ms: int, request_key: str | None, request_hash: bytes) -> None:
    """Writes a sale. Its id is also the id of its operation.

    Raises:
        apsw.ConstraintError: a sale with this id, number or request key exists.
    """
    connection.execute(
        "INSERT INTO sales (id, number, op_id, body, sold_at, request_key, request_hash) VALUES (?1, ?2, ?1, ?3, ?4, ?5, ?6)",
        (sale.id, sale.number, sale.SerializeToString(), sold_at_ms, request_key, request_hash),
    )


def find(connection: apsw.Connection, sale_id: str) -> RecordedSale | None:
    """The sale with this id."""
    return _one(connection.execute(_COLUMNS + "WHERE s.id = ?", (sale_id,)))


def find_by_request(connection: apsw.Connection, request_key: str) -> tuple[RecordedSale, bytes] | None:
    """The sale made under this request key, and the fingerprint of that request."""
    found = _one(connection.execute(_COLUMNS + "WHERE s.request_key = ?", (request_key,)))
    if found is None:
        return None
    fingerprint = blob(connection.execute("SELECT request_hash FROM sales WHERE request_key = ?", (request_key,)).get)
    return found, fingerprint


def newest(connection: apsw.Connection, limit: int) -> list[RecordedSale]:
    """The latest sales, newest first."""
    return _read(connection.execute(_COLUMNS + "ORDER BY s.sold_at DESC, s.id DESC LIMIT ?", (limit,)))


def count(connection: apsw.Connection) -> int:
    """How many sales this till ever made."""
    return whole(connection.execute("SELECT count(*) FROM sales").get)


def _read(cursor: apsw.Cursor) -> list[RecordedSale]:
    return [
        RecordedSale(
            sale=Sale.FromString(blob(body)), op_seq=whole(op_seq), uploaded=bool(whole(uploaded)), quarantine_reason=text(reason)
        )
        for body, op_seq, uploaded, reason in cursor
    ]


def _one(cursor: apsw.Cursor) -> RecordedSale | None:
    found = _read(cursor)
    return found[0] if found else None
