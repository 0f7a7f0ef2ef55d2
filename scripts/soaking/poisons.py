"""Operations nobody can store, put into a tablet's outbox from outside: what a newer or a broken till could send."""

from __future__ import annotations

import random
import secrets
import time
from contextlib import closing
from pathlib import Path

import apsw

from scripts.soaking.journal import Journal, Poison
from scripts.soaking.wire import written
from scripts.soaking.world import Tablet

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SALE, _COUNT, _EDIT, _NEWER = 10, 11, 12, 99
"""Bodies in Operation of link.proto, and one it does not have."""


def _id(prefix: str) -> str:
    return f"{prefix}_0{''.join(secrets.choice(_ALPHABET) for _ in range(25))}"


def _line(product_id: str, quantity: str) -> bytes:
    return written((1, _id("sli")), (2, product_id), (3, "Racun"), (4, quantity), (6, written((1, 1000))))


def _bodies(product_id: str) -> dict[str, tuple[str, int, bytes]]:
    """What makes it poisonous: the kind in the tablet's own words, the field, and the body."""
    sale = _id("sal")
    total = written((1, 1000))
    return {
        "a kind of operation of a newer till": ("sale_recorded", _NEWER, b"\x0a\x03neu"),
        "a sale without lines": ("sale_recorded", _SALE, written((1, sale), (2, "X-1"))),
        "a sale whose number has a NUL": (
            "sale_recorded",
            _SALE,
            written((1, sale), (2, "KMG\0-1"), (10, _line(product_id, "1")), (19, total)),
        ),
        "a sale of more than numbers can hold": (
            "sale_recorded",
            _SALE,
            written((1, sale), (2, "X-2"), (10, _line(product_id, "9" * 30)), (19, total)),
        ),
        "a count of nothing that has an id": ("stock_counted", _COUNT, written((1, "teh"), (2, "3"))),
        "a count of less than nothing": ("stock_counted", _COUNT, written((1, product_id), (2, "-3"))),
        "a change of a product that does not exist": (
            "product_edited",
            _EDIT,
            written((1, written((1, _id("prd")), (2, "Hantu"))), (2, "name"), (3, 1)),
        ),
        "a change of what tills do not change": (
            "product_edited",
            _EDIT,
            written((1, written((1, product_id), (8, written((1, 5))))), (2, "cost"), (3, 1)),
        ),
    }


def let_in(journal: Journal, tablet: Tablet, product_id: str, choice: random.Random) -> bool:
    """Plants one and notes it; whether there was room for it."""
    try:
        op_id, kind = plant(tablet.folder, product_id, choice)
    except apsw.Error:
        return False
    poison = Poison(tablet.name, tablet.till_id, op_id, kind)
    journal.poisons.append(poison)
    journal.note("poison", poison)
    return True


def plant(folder: Path, product_id: str, choice: random.Random) -> tuple[str, str]:
    """Appends one to the outbox, in one transaction, as the till itself appends; its op_id and what it is.

    Raises:
        apsw.Error: the tablet's disk is full, or its file is busy for too long; nothing was appended.
    """
    name, (kind, field, body) = choice.choice(sorted(_bodies(product_id).items()))
    op_id = _id("opx")
    with closing(apsw.Connection(str(folder / "store.db"), flags=apsw.SQLITE_OPEN_READWRITE)) as store:
        store.set_busy_timeout(2000)
        store.execute("PRAGMA synchronous = FULL")
        store.execute("PRAGMA foreign_keys = ON")
        store.execute("BEGIN IMMEDIATE")
        try:
            number = 1 + int(str(store.execute("SELECT coalesce(max(value), 0) FROM facts WHERE name = 'last_op_seq'").get))
            operation = written((1, number), (2, op_id), (field, body))
            store.execute(
                "INSERT INTO operations (op_seq, op_id, body, created_at, kind, amount) VALUES (?, ?, ?, ?, ?, 0)",
                (number, op_id, operation, int(time.time() * 1000), kind),
            )
            store.execute(
                "INSERT INTO facts (name, value) VALUES ('last_op_seq', ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (str(number),),
            )
            store.execute("COMMIT")
        except apsw.Error:
            if store.in_transaction:
                store.execute("ROLLBACK")
            raise
    return op_id, name
