"""The one statement of a hello against the rules it stands for: the same answer, or none and nothing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.sync import hellos, uploads, watermarks
from cloud.tills import policies
from gipos.edge.v1.link_pb2 import Hello
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.devices_pb2 import OfflinePolicy
from kernel.errors import Invalid

TENANT = "ten_1"
KNOWN = {"store_epoch": 3, "forked_epoch": 0}
STORED = {"op_watermark": 20, "claimed_seq": 0}
FAR = {"op_watermark": 1020, "claimed_seq": 0}
NEW: dict[str, Any] = {"store_epoch": 3, "boot_id": "b"}

CASES: dict[str, tuple[dict[str, int] | None, dict[str, int] | None, dict[str, Any], bool]] = {
    "a till that was never here": (None, None, NEW, True),
    "a till that stands where the cloud stands": (KNOWN, STORED, {"acknowledged_op_seq": 20, "last_op_seq": 25}, True),
    "the same, and names the operation": (KNOWN, STORED, {"acknowledged_op_seq": 15, "acknowledged_op_id": "op15"}, True),
    "another operation under that number": (KNOWN, STORED, {"acknowledged_op_seq": 15, "acknowledged_op_id": "x"}, False),
    "one that is not remembered any more": (KNOWN, STORED, {"acknowledged_op_seq": 5, "acknowledged_op_id": "x"}, True),
    "a till that missed an acknowledgement": (KNOWN, STORED, {"acknowledged_op_seq": 18, "last_op_seq": 20}, True),
    "a till that missed all that can be under way": (KNOWN, FAR, {"acknowledged_op_seq": 20, "acknowledged_op_id": "op20"}, True),
    "a till that lacks more than that": (KNOWN, FAR, {"acknowledged_op_seq": 19, "acknowledged_op_id": "op19"}, False),
    "one of the first version that does": (KNOWN, FAR, {"boot_id": ""}, True),
    "a till that has given out less than is stored": (KNOWN, STORED, {"last_op_seq": 4}, False),
    "a till that was acknowledged more than is stored": (KNOWN, STORED, {"acknowledged_op_seq": 30, "last_op_seq": 30}, False),
    "the same once it is known": (KNOWN, {**STORED, "claimed_seq": 30}, {"acknowledged_op_seq": 30, "last_op_seq": 30}, True),
    "a life in which two were met": ({**KNOWN, "forked_epoch": 3}, STORED, {"acknowledged_op_seq": 18}, False),
    "the one of them that is not behind": ({**KNOWN, "forked_epoch": 3}, STORED, {"acknowledged_op_seq": 20}, True),
    "one of them before a cloud that was restored": (
        {**KNOWN, "forked_epoch": 3},
        {**STORED, "claimed_seq": 30},
        {"acknowledged_op_seq": 30, "last_op_seq": 30},
        False,
    ),
    "an older life": ({**KNOWN, "store_epoch": 4}, STORED, {}, False),
    "a newer life": ({**KNOWN, "store_epoch": 2}, None, {}, True),
    "a till of the first version": (KNOWN, STORED, {"boot_id": ""}, True),
}


@pytest.fixture
async def till(database: Database) -> Any:
    """Makes tills of one outlet in a given state; answers with the caller."""
    async with database.transaction(TENANT) as tx:
        await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)
        outlet = await outlets.create(tx, Outlet(name="Kemang", code="KMG", time_zone="Asia/Jakarta"))

    async def made(number: int, link: dict[str, int] | None, store: dict[str, int] | None) -> Caller:
        async with database.transaction(TENANT) as tx:
            one = await outlets.add_till(tx, outlet.id, f"Kasa {number}", number, f"token{number}")
            row = {"tenant_id": TENANT, "till_id": one.id, "store_epoch": 3}
            if link is not None:
                await tx.run(_LINK, **row | link)
            if store is not None:
                await tx.run(_STORE, **row | store)
                marks = b"".join(watermarks.mark(f"op{number}") for number in range(11, 21))
                await tx.run(_BATCH, **row, marks=marks)
        return Caller(TENANT, one.id, "test", frozenset(), till_id=one.id, outlet_id=outlet.id, kind="till")

    return made


_LINK = sa.text(
    "INSERT INTO till_links (tenant_id, till_id, store_epoch, session, connected_at, forked_epoch) "
    "VALUES (:tenant_id, :till_id, :store_epoch, 7, now(), :forked_epoch)"
)
_STORE = sa.text(
    "INSERT INTO till_stores (tenant_id, till_id, store_epoch, op_watermark, claimed_seq, log_seq) "
    "VALUES (:tenant_id, :till_id, :store_epoch, :op_watermark, :claimed_seq, 9)"
)
_BATCH = sa.text(
    "INSERT INTO till_batches (tenant_id, till_id, store_epoch, first_op_seq, last_op_seq, log_seq, marks) "
    "VALUES (:tenant_id, :till_id, :store_epoch, 11, 20, 9, :marks)"
)


async def test_one_statement_answers_as_the_rules_do_or_leaves_it_to_them(
    till: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    by_rules = uploads.open_session

    async def noted(*given: Any) -> uploads.Session:
        judged.append(given)
        return await by_rules(*given)

    monkeypatch.setattr(uploads, "open_session", noted)
    for place, (name, (link, store, said, is_usual)) in enumerate(CASES.items()):
        hello = Hello(**NEW | said)
        first, second = await till(2 * place + 1, link, store), await till(2 * place + 2, link, store)
        judged.clear()
        found = await hellos.said(database, first, hello)
        assert bool(judged) is not is_usual, name
        ruled = await by_rules(database, second, hello)
        assert bool(found.session.new_store_epoch) is bool(ruled.new_store_epoch), name
        # A new life is numbered by the clock.
        assert replace(found.session, new_store_epoch=ruled.new_store_epoch) == ruled, name
        assert found.outlet.tills[2 * place].id == first.till_id
        assert (found.outlet.name, set(found.heads)) == ("Kemang", {"tenant", first.outlet_id})
        if found.mark is not None and store is not None and (link or KNOWN)["store_epoch"] == hello.store_epoch:
            assert (found.mark.op_seq, found.mark.log_seq) == (store["op_watermark"], 9), name
        again = await hellos.said(database, first, hello) if is_usual else found
        assert again.session.number == found.session.number + is_usual, name


@pytest.mark.parametrize("number", [-1, 2**62, 2**63 - 1])
@pytest.mark.parametrize("name", ["store_epoch", "last_op_seq", "acknowledged_op_seq"])
async def test_numbers_that_no_till_has_counted_to_leave_nothing_behind(name: str, number: int) -> None:
    # No database is needed: it is not asked.
    with pytest.raises(Invalid, match=r"2\^62"):
        await hellos.said(cast("Any", None), Caller(TENANT, "dev_1", "test", frozenset()), Hello(**NEW | {name: number}))


async def test_the_policy_of_a_hello_is_the_one_that_holds(till: Any, database: Database) -> None:
    who = await till(1, None, None)
    for is_set in (False, True):
        if is_set:
            async with database.transaction(TENANT) as tx:
                await policies.put(tx, who.outlet_id, OfflinePolicy(longest_hours=5, tenders=["cash", "qris"]), ["$scrypt$a"])
        found = await hellos.said(database, who, Hello(store_epoch=1))
        async with database.reading(TENANT) as connection:
            assert found.policy == await policies.current(connection, TENANT, who.till_id)
        assert not found.has_mail
