"""Operations made again from the sales they were about, where the operation itself is broken or no longer kept.

They say less than the first did (nothing of the clock, nothing of what had been seen) and have the same id, by which the cloud
knows them. What was no sale cannot be made again.
"""

from __future__ import annotations

import apsw
import structlog
from google.protobuf.message import DecodeError

from edge.storage import facts
from edge.storage.columns import blob, text, whole
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale

_log = structlog.get_logger(__name__)


def parse(body: object) -> Operation | None:
    """An operation as it was stored; None for bytes that are none."""
    try:
        return Operation.FromString(blob(body))
    except DecodeError:
        return None


def read(connection: apsw.Connection, op_id: str, body: object) -> Operation:
    """The operation with this id, from its bytes, or from its sale where those are broken.

    Without either it has an id and says nothing. The cloud puts such a one aside, where people see it, and takes the next ones:
    one row that is broken must not keep back all that follow.
    """
    stored = parse(body)
    if stored is not None and stored.op_id == op_id:
        return stored
    kept = connection.execute("SELECT body FROM sales WHERE op_id = ?", (op_id,)).get
    sale = None if kept is None else _sale(kept, op_id)
    _log.error("operation_unreadable", op_id=op_id, made_from_sale=sale is not None)
    return Operation(op_id=op_id) if sale is None else _operation(sale)


def queue(connection: apsw.Connection, sale: Sale, sold_at_ms: int) -> None:
    """Puts a sale at the end of the queue. Its stock is left alone: nobody knows whether the cloud has counted it in."""
    operation = _operation(sale)
    operation.op_seq = facts.advance(connection, facts.LAST_OP_SEQ)
    connection.execute(
        "INSERT INTO operations (op_seq, op_id, body, created_at, amount) VALUES (?, ?, ?, ?, ?)",
        (operation.op_seq, sale.id, operation.SerializeToString(), sold_at_ms, sale.total.amount),
    )


def queue_forgotten(connection: apsw.Connection, most: int) -> None:
    """Puts the newest sales that are in no queue any more at its end, oldest first, at most so many."""
    forgotten = connection.execute(
        "SELECT id FROM sales WHERE op_id NOT IN (SELECT op_id FROM operations)"
        " AND op_id NOT IN (SELECT op_id FROM past_operations) ORDER BY rowid DESC LIMIT ?",
        (most,),
    ).fetchall()
    for (sale_id,) in reversed(forgotten):
        row = connection.execute("SELECT body, sold_at FROM sales WHERE id = ?", (sale_id,)).fetchone()
        assert row is not None
        sale = _sale(row[0], text(sale_id))
        if sale is not None:
            queue(connection, sale, whole(row[1]))


def _operation(sale: Sale) -> Operation:
    operation = Operation(op_id=sale.id, sale_recorded=sale)
    operation.occurred_time.CopyFrom(sale.sale_time)
    return operation


def _sale(body: object, sale_id: str) -> Sale | None:
    try:
        sale = Sale.FromString(blob(body))
    except DecodeError:
        return None
    return sale if sale.id == sale_id else None
