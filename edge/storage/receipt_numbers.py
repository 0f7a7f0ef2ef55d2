"""The count in receipt numbers: it goes on from what the cloud knows, and never goes back.

A number ends in the till's number and the till's count, at least five digits: "KMG-2611-200123" is number 123 of till 2.
"""

from __future__ import annotations

import re

import apsw

from edge.storage import facts
from gipos.v1.accounts_pb2 import Till

# More digits than any till will ever need are no count of ours.
_COUNT = re.compile("[0-9]{5,12}")


def count(number: str, till: Till) -> int:
    """The count in a receipt number of this till; 0 for a number that is not one."""
    tail, own = number.rpartition("-")[2], str(till.number)
    digits = tail.removeprefix(own)
    return int(digits) if tail.startswith(own) and _COUNT.fullmatch(digits) else 0


def follow(connection: apsw.Connection, number: str, till: Till) -> None:
    """Sees to it that no receipt number up to this one is given out again."""
    known = count(number, till)
    if known > facts.number(connection, facts.LAST_RECEIPT_SEQ):
        facts.put(connection, facts.LAST_RECEIPT_SEQ, known)
