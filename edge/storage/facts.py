"""Single values in store.db that must survive a restart: who this till is, its counters, the cashier's offline switch."""

from __future__ import annotations

import apsw

STORE_EPOCH = "store_epoch"
TILL_ID = "till_id"
LAST_OP_SEQ = "last_op_seq"
LAST_RECEIPT_SEQ = "last_receipt_seq"
LINK_ENABLED = "link_enabled"
NEXT_PLACE = "next_place"
CLOCK = "clock"
CLOUD_EPOCH = "cloud_epoch"
RESTORED_IN = "restored_in_epoch"
REPEATS = "repeats"
ACKNOWLEDGED_SEQ = "acknowledged_op_seq"
ACKNOWLEDGED_ID = "acknowledged_op_id"
RECOVERY = "recovery"
OVERRIDE = "override"
ATTEMPTS = "pin_attempts"
REMARKS = "remarks"


def text(connection: apsw.Connection, name: str, default: str = "") -> str:
    """The value, or the default."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else default


def number(connection: apsw.Connection, name: str, default: int = 0) -> int:
    """The value as a whole number, or the default."""
    return int(text(connection, name, str(default)))


def put(connection: apsw.Connection, name: str, value: str | int) -> None:
    """Sets the value."""
    connection.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(value)),
    )


def advance(connection: apsw.Connection, name: str, step: int = 1) -> int:
    """Adds to a counter and returns it. A rollback gives the number back, so counters have no gaps."""
    value = number(connection, name) + step
    put(connection, name, value)
    return value
