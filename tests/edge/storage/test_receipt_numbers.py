from __future__ import annotations

import pytest

from edge.storage import facts, receipt_numbers
from edge.storage.folder import Storage
from gipos.v1.accounts_pb2 import Till

TILL = Till(id="dev_kasa2", number=2)


@pytest.mark.parametrize(
    ("number", "till_number", "expected"),
    [
        ("KMG-2611-200123", 2, 123),
        ("KMG-2611-100042", 1, 42),
        ("KMG-SEL-2611-200001", 2, 1),
        ("KMG-2611-2123456", 2, 123_456),
        ("KMG-2611-1200123", 12, 123),
        ("200007", 2, 7),
        ("", 2, 0),
        ("KMG-2611-300123", 2, 0),
        ("KMG-2611-20123", 2, 0),
        ("KMG-2611-2", 2, 0),
        ("KMG-2611-", 2, 0),
        ("KMG-2611-2001a3", 2, 0),
        ("KMG-2611-2\u0661\u0662\u0663\u0664\u0665", 2, 0),
        ("KMG-2611-2-00123", 2, 0),
        ("KMG-2611-2" + "9" * 5000, 2, 0),
    ],
)
def test_the_count_is_read_from_numbers_of_this_till_only(number: str, till_number: int, expected: int) -> None:
    assert receipt_numbers.count(number, Till(number=till_number)) == expected


@pytest.mark.parametrize(
    ("own", "number", "expected"),
    [(0, "KMG-2611-200041", 41), (50, "KMG-2611-200041", 50), (41, "KMG-2611-200041", 41), (7, "", 7), (7, "KMG-2611-900041", 7)],
)
async def test_the_counter_follows_the_cloud_up_and_never_down(storage: Storage, own: int, number: str, expected: int) -> None:
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_RECEIPT_SEQ, own))
    await storage.store.write(lambda connection: receipt_numbers.follow(connection, number, TILL))
    assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == expected
