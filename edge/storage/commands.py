"""Commands of the cloud this till has begun, so that none is carried out twice, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from edge.storage.columns import text, whole

KEEP_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class Begun:
    """A command that was begun."""

    outcome: int
    """A CommandOutcome; 0 while nobody knows: the program ended in the middle."""
    message: str


def find(connection: apsw.Connection, command_id: str) -> Begun | None:
    """What is known of this command; None if it was never begun here."""
    row = connection.execute("SELECT outcome, message FROM commands WHERE command_id = ?", (command_id,)).fetchone()
    return None if row is None else Begun(whole(row[0]), text(row[1]))


def begin(connection: apsw.Connection, command_id: str, now_ms: int) -> bool:
    """Notes, before anything is done, that this command is begun. False if it was before: then it must not be done again."""
    connection.execute("INSERT OR IGNORE INTO commands (command_id, begun_at) VALUES (?, ?)", (command_id, now_ms))
    return connection.changes() > 0


def settle(connection: apsw.Connection, command_id: str, outcome: int, message: str) -> None:
    """Notes what became of it."""
    connection.execute("UPDATE commands SET outcome = ?, message = ? WHERE command_id = ?", (outcome, message, command_id))


def prune(connection: apsw.Connection, now_ms: int) -> None:
    """Forgets commands that expired long ago: none lives longer than a day."""
    connection.execute("DELETE FROM commands WHERE begun_at < ?", (now_ms - KEEP_MS,))
