"""Print jobs: one row per printed copy, so that a job is never forgotten and never printed twice.

How a job moves is the printer's business; here are its rows. Their states are texts of the printer's: queued, blocked, sending,
awaiting_confirm, printed, unknown, failed.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage.columns import blob, text, whole

_COLUMNS = "SELECT key, sale_id, copy, kind, data, state, problem, attempt, bytes_sent, confirmed, created_at FROM print_jobs "


@dataclass(frozen=True)
class PrintRow:
    """One copy of one receipt."""

    key: str
    sale_id: str
    copy: int
    """1 for the receipt, above for reprints."""
    kind: str
    state: str
    created_at: int
    """Milliseconds since 1970."""
    data: bytes | None = None
    """Exactly what is sent to the printer; None until it was composed."""
    problem: str = ""
    attempt: int = 0
    bytes_sent: int = 0
    confirmed: bool = False


def insert(connection: apsw.Connection, row: PrintRow) -> None:
    """Writes a new job.

    Raises:
        apsw.ConstraintError: a job with this key, or this copy of this sale, exists.
    """
    connection.execute(
        "INSERT INTO print_jobs (key, sale_id, copy, kind, data, state, problem, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?8, ?8)",
        (row.key, row.sale_id, row.copy, row.kind, row.data, row.state, row.problem, row.created_at),
    )


def update(
    connection: apsw.Connection,
    key: str,
    *,
    data: bytes,
    state: str,
    problem: str,
    attempt: int,
    bytes_sent: int,
    confirmed: bool,
    now_ms: int,
) -> bool:
    """Writes where a job is now; whether there is such a job."""
    connection.execute(
        "UPDATE print_jobs SET data = ?, state = ?, problem = ?, attempt = ?, bytes_sent = ?, confirmed = ?, updated_at = ?"
        " WHERE key = ?",
        (data, state, problem, attempt, bytes_sent, int(confirmed), now_ms, key),
    )
    return connection.changes() > 0


def find(connection: apsw.Connection, key: str) -> PrintRow | None:
    """The job with this key."""
    found = _read(connection.execute(_COLUMNS + "WHERE key = ?", (key,)))
    return found[0] if found else None


def of_sale(connection: apsw.Connection, sale_id: str) -> list[PrintRow]:
    """All copies of a sale's receipt, oldest first."""
    return _read(connection.execute(_COLUMNS + "WHERE sale_id = ? ORDER BY copy", (sale_id,)))


def unfinished(connection: apsw.Connection) -> list[PrintRow]:
    """Jobs the printer must still see to, oldest first."""
    return _read(
        connection.execute(
            _COLUMNS + "WHERE state IN ('queued', 'blocked', 'sending', 'awaiting_confirm') ORDER BY created_at, key"
        )
    )


def unknown(connection: apsw.Connection) -> list[PrintRow]:
    """Jobs somebody must look at the printer for, oldest first."""
    return _read(connection.execute(_COLUMNS + "WHERE state = 'unknown' ORDER BY created_at, key"))


def interrupt(connection: apsw.Connection, now_ms: int) -> int:
    """After a start: what was being sent when the program died is unknown, and is not sent again by itself. Returns how many."""
    connection.execute(
        "UPDATE print_jobs SET state = 'unknown', problem = 'interrupted', updated_at = ?"
        " WHERE state IN ('sending', 'awaiting_confirm')",
        (now_ms,),
    )
    return connection.changes()


def forget_data(connection: apsw.Connection, before_ms: int) -> int:
    """Drops the bytes of receipts printed (or given up) before this; a copy is composed anew from its sale. Returns how many."""
    connection.execute(
        "UPDATE print_jobs SET data = NULL WHERE data IS NOT NULL AND state IN ('printed', 'failed') AND updated_at < ?",
        (before_ms,),
    )
    return connection.changes()


def _read(cursor: apsw.Cursor) -> list[PrintRow]:
    return [
        PrintRow(
            key=text(key),
            sale_id=text(sale_id),
            copy=whole(copy),
            kind=text(kind),
            data=None if data is None else blob(data),
            state=text(state),
            problem=text(problem),
            attempt=whole(attempt),
            bytes_sent=whole(bytes_sent),
            confirmed=bool(whole(confirmed)),
            created_at=whole(created_at),
        )
        for key, sale_id, copy, kind, data, state, problem, attempt, bytes_sent, confirmed, created_at in cursor
    ]
