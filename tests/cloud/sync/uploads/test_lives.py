"""Lives of tills: clones are noticed and kept apart, and a cloud that lost history gets it back from the tills."""

from __future__ import annotations

import asyncio
import copy
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.sync import restores, uploads, watermarks
from gipos.edge.v1.link_pb2 import LanePosition, Operation
from kernel.errors import Invalid, PermissionDenied, TillChanged


async def forks(market: Any) -> int:
    return int(await market.value("SELECT count(*) FROM events WHERE type = 'device.forked'"))


async def in_a_new_life(till: Any, waiting: list[Any], **hello: Any) -> None:
    """The till is given one at its hello, and sends there all that waits."""
    session = await till.hello(boot_id="b", **hello)
    assert session.new_store_epoch > 1
    assert session.is_closed
    for number, operation in enumerate(waiting, start=1):
        operation.op_seq = number
    await till.hello(store_epoch=session.new_store_epoch, last_op_seq=len(waiting), boot_id="b")
    assert (await till.send(*waiting)).op_watermark == len(waiting)
    stored = set(await till.market.stored())
    assert stored.issuperset(operation.op_id for operation in waiting)


async def test_a_till_that_names_another_operation_gets_a_new_life(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    await till.send(*[till.sale((coffee, "1")) for _ in range(5)])
    older = till.session
    session = await till.hello(acknowledged_op_seq=4, acknowledged_op_id="sal_of_another", last_op_seq=9, boot_id="b")
    assert session.new_store_epoch > 1
    assert session.is_closed
    life = session.new_store_epoch
    with pytest.raises(TillChanged):
        await till.send(till.sale((coffee, "1")))
    till.session = older
    with pytest.raises(PermissionDenied):
        await till.send(till.sale((coffee, "1")))
    assert await forks(market) == 1
    assert await market.value("SELECT forked_at IS NOT NULL FROM till_presences WHERE till_id = $1", till.caller.till_id)
    session = await till.hello(store_epoch=life, acknowledged_op_seq=0, boot_id="b")
    assert (session.new_store_epoch, session.op_watermark) == (0, 0)
    assert (await till.send(till.sale((coffee, "1"), seq=1))).op_watermark == 1
    assert await market.on_hand(coffee) == 94


async def test_a_till_that_names_the_right_operation_goes_on(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(5)]
    await till.send(*sent)
    for number in (5, 3):
        session = await till.hello(
            acknowledged_op_seq=number, acknowledged_op_id=sent[number - 1].op_id, last_op_seq=5, boot_id="b"
        )
        # What it was not told of it may send again, so that it can be compared.
        assert (session.op_watermark, session.new_store_epoch) == (number, 0)
        assert (await till.send(*sent[number - 1 :])).op_watermark == 5
    assert await forks(market) == 0


async def test_the_copy_of_a_tablet_is_noticed_by_what_it_sends_and_loses_nothing(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    shared = [till.sale((coffee, "1")) for _ in range(3)]
    await till.send(*shared)
    clone = copy.copy(till)
    clone.made = []
    await till.send(till.sale((coffee, "1")), till.sale((coffee, "1")))
    theirs = [clone.sale((coffee, "1")) for _ in range(4)]
    assert [operation.op_seq for operation in theirs] == [4, 5, 6, 7]
    hello = {"acknowledged_op_seq": 3, "acknowledged_op_id": shared[2].op_id, "last_op_seq": 7, "boot_id": "b"}
    session = await clone.hello(**hello)
    assert (session.op_watermark, session.new_store_epoch) == (3, 0)
    with pytest.raises(TillChanged):
        await clone.send(*theirs)
    session = await clone.hello(**hello)
    assert session.new_store_epoch > 1
    for number, operation in enumerate(theirs, start=1):
        operation.op_seq = number
    await clone.hello(store_epoch=session.new_store_epoch, last_op_seq=4, boot_id="b")
    assert (await clone.send(*theirs)).op_watermark == 4
    assert len(await market.stored()) == 9
    assert await market.on_hand(coffee) == 91
    # The first tablet comes back: its life is an older one. The owner was told already, and both may go on.
    session = await till.hello(acknowledged_op_seq=5, acknowledged_op_id=till.made[-1].op_id, last_op_seq=5, boot_id="a")
    assert (session.new_store_epoch, session.op_watermark) == (0, 5)
    assert (await till.send(till.sale((coffee, "1")))).op_watermark == 6
    assert await forks(market) == 1
    await market.check()


async def test_a_copy_of_an_old_version_has_its_sales_stored_although_their_numbers_are_taken(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    clone = copy.copy(till)
    clone.made = []
    await till.send(till.sale((coffee, "1")), till.sale((coffee, "1")))
    await clone.hello()
    outcome = await clone.send(clone.sale((coffee, "5")), clone.sale((coffee, "5")), clone.sale((coffee, "5")))
    assert outcome.op_watermark == 3
    assert await market.on_hand(coffee) == 83
    assert await forks(market) == 1
    await market.check()


@pytest.mark.parametrize("number", [0, -1])
async def test_operations_are_numbered_from_one(market: Any, number: int) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    wrong = till.sale((coffee, "1"), seq=1)
    wrong.op_seq = number
    with pytest.raises(Invalid) as caught:
        await till.send(wrong, till.sale((coffee, "1")))
    assert [one.field for one in caught.value.violations] == ["operations.op_seq"]
    assert await market.stored() == []


async def test_a_life_that_goes_backwards_is_a_second_tablet(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    await till.hello(store_epoch=7, boot_id="b")
    await till.send(till.sale((coffee, "1")))
    session = await till.hello(store_epoch=6, boot_id="b", last_op_seq=2)
    assert session.new_store_epoch > 7
    assert await forks(market) == 1


async def test_a_life_of_which_a_restored_cloud_knows_less_goes_on_under_its_old_numbers(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    hello = {"store_epoch": 6, "boot_id": "b"}
    await till.hello(**hello)
    sent = [till.sale((coffee, "1")) for _ in range(4)]
    await till.send(*sent[:2])
    await till.hello(store_epoch=7, boot_id="c")  # another tablet has lived under this name since
    hello |= {"acknowledged_op_seq": 4, "acknowledged_op_id": sent[3].op_id, "last_op_seq": 4}
    session = await till.hello(**hello)
    assert (session.new_store_epoch, session.lost_history, session.is_closed) == (0, True, False)
    assert (await till.send(*sent)).op_watermark == 4
    assert sorted(await market.stored()) == sorted(each.op_id for each in sent)
    await market.check()


async def test_the_copy_of_a_tablet_that_sends_what_both_share_hears_only_of_that(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    shared = [till.sale((coffee, "1")) for _ in range(4)]
    clone = copy.copy(till)
    clone.made = []
    theirs = [clone.sale((coffee, "1")) for _ in range(5)]
    await till.hello(boot_id="a", last_op_seq=7)
    await till.send(*shared)
    await till.send(*[till.sale((coffee, "1")) for _ in range(3)])
    assert (await clone.hello(boot_id="b", last_op_seq=9)).op_watermark == 0
    outcome = await clone.send(*shared)
    assert (outcome.op_watermark, outcome.expected_op_seq) == (4, 0), "of 5 to 7 it has sent nothing yet"
    for batch in (theirs, [Operation(op_seq=5, sale_recorded=theirs[0].sale_recorded)]):  # with its name, and without
        with pytest.raises(TillChanged):
            await clone.send(*batch)
    await in_a_new_life(clone, theirs, acknowledged_op_seq=4, acknowledged_op_id=shared[3].op_id, last_op_seq=9)
    assert await market.on_hand(coffee) == 100 - 4 - 3 - 5
    assert await forks(market) == 1
    await market.check()


async def test_the_copy_of_a_tablet_that_comes_back_after_long_gets_a_new_life_at_once(
    market: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uploads.MOST_UNTOLD < watermarks.KEPT, "whatever a till may send again is compared"
    monkeypatch.setattr(uploads, "MOST_UNTOLD", 20)
    monkeypatch.setattr(watermarks, "KEPT", 30)
    monkeypatch.setattr(watermarks, "TRIM_EVERY", 10)
    coffee = await market.product(200)
    till = market.tills[0]
    shared = [till.sale((coffee, "1")) for _ in range(3)]
    await till.send(*shared)
    clone = copy.copy(till)
    clone.made = []
    theirs = [clone.sale((coffee, "1")) for _ in range(60)]
    for _ in range(5):
        await till.send(*[till.sale((coffee, "1")) for _ in range(10)])
    assert await market.value("SELECT min(first_op_seq) FROM till_batches") > 4, "what tells them apart is forgotten"
    # A tablet of the first version could begin none: it is welcomed as ever.
    old = await till.hello()
    assert (old.op_watermark, old.new_store_epoch) == (53, 0)
    older = {"acknowledged_op_seq": 3, "acknowledged_op_id": shared[2].op_id, "last_op_seq": 63}
    await in_a_new_life(clone, theirs, **older)
    assert await market.on_hand(coffee) == 200 - 53 - 60
    assert await forks(market) == 1
    await market.check()


async def test_what_cannot_be_compared_any_more_is_not_taken_for_the_same(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermarks, "KEPT", 20)
    monkeypatch.setattr(watermarks, "TRIM_EVERY", 10)
    coffee = await market.product(100)
    till = market.tills[0]
    shared = [till.sale((coffee, "1")) for _ in range(5)]
    await till.hello(boot_id="a", last_op_seq=5)
    await till.send(*shared)
    clone = copy.copy(till)
    clone.made = []
    theirs = [clone.sale((coffee, "1")) for _ in range(50)]
    for _ in range(4):
        await till.send(*[till.sale((coffee, "1")) for _ in range(10)])
    # Whoever sent them in this session has them acknowledged already, and may be asked for them.
    assert (await till.send(*shared)).op_watermark == 5
    assert await forks(market) == 0
    hello = {"acknowledged_op_seq": 5, "acknowledged_op_id": shared[4].op_id, "last_op_seq": 55}
    assert (await clone.hello(boot_id="b", **hello)).op_watermark == 5
    with pytest.raises(TillChanged):
        await clone.send(*theirs[:10])
    await in_a_new_life(clone, theirs, **hello)
    assert await market.on_hand(coffee) == 100 - 45 - 50
    assert await forks(market) == 1
    await market.check()


async def test_a_tablet_that_has_given_out_less_than_is_stored_is_an_image(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(3)]
    await till.send(*sent)
    session = await till.hello(acknowledged_op_seq=2, acknowledged_op_id=sent[1].op_id, last_op_seq=2, boot_id="b")
    assert session.new_store_epoch > 1


async def test_a_till_that_was_acknowledged_more_proves_a_restore_once(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(4)]
    await till.send(*sent[:2])
    before = dict(await market.rows("SELECT lane, epoch FROM log_heads"))
    hello = {"acknowledged_op_seq": 4, "acknowledged_op_id": sent[3].op_id, "last_op_seq": 4, "boot_id": "b"}
    session = await till.hello(**hello)
    assert (session.lost_history, session.new_store_epoch, session.op_watermark) == (True, 0, 1)
    after = dict(await market.rows("SELECT lane, epoch FROM log_heads"))
    assert all(after[lane] > epoch for lane, epoch in before.items())
    assert not (await till.hello(**hello)).lost_history
    assert (await till.send(*sent[1:])).op_watermark == 4
    assert await market.on_hand(coffee) == 96
    assert dict(await market.rows("SELECT lane, epoch FROM log_heads")) == after
    await market.check()


async def test_of_all_tills_that_prove_the_same_restore_only_the_first_raises(market: Any) -> None:
    coffee = await market.product(100)
    tills = market.tills[:3]
    for till in tills:
        await till.send(till.sale((coffee, "1")))
    before = dict(await market.rows("SELECT lane, epoch FROM log_heads"))

    async def come_back(till: Any, epochs: dict[str, int]) -> bool:
        positions = [LanePosition(lane=lane, epoch=epoch, seq=1) for lane, epoch in epochs.items()]
        last = till.sale((coffee, "1"))
        hello = {"acknowledged_op_seq": 9, "acknowledged_op_id": last.op_id, "last_op_seq": 9, "boot_id": "b"}
        return bool((await till.hello(**hello, positions=positions)).lost_history)

    with capture_logs() as logs:
        assert await asyncio.gather(*(come_back(till, before) for till in tills[:2])) == [True, True]
    assert [entry["event"] for entry in logs].count("log_lost_history") == 1, "who was second found that it was noticed"
    after = dict(await market.rows("SELECT lane, epoch FROM log_heads"))
    assert all(after[lane] > epoch for lane, epoch in before.items())
    assert await come_back(tills[2], after), "its copies are of the present epoch: the loss is a new one"
    assert dict(await market.rows("SELECT lane, epoch FROM log_heads")) != after


async def test_a_cloud_restored_from_an_older_copy_gets_everything_again(
    market: Any, database_url: str, secret_key: bytes, reopen: Any
) -> None:
    coffee = await market.product(100)
    for till in market.tills[:2]:
        await till.send(*[till.sale((coffee, "1")) for _ in range(3)])
    assert await restores.check_origin(market.database) is False
    await market.database.close()
    name = urlsplit(database_url).path[1:]
    admin = await asyncpg.connect(database_url.replace(f"/{name}?", "/postgres?"))
    copied = f"{name}_older"
    try:
        await admin.execute(f"CREATE DATABASE {copied} TEMPLATE {name} STRATEGY file_copy")
        again = Database(database_url, connections=4, keyring=Keyring([secret_key]))
        later = reopen(market, again)
        for till in later.tills[:2]:
            await till.send(*[till.sale((coffee, "1")) for _ in range(30)])
        await again.close()

        older = Database(database_url.replace(f"/{name}?", f"/{copied}?"), connections=4, keyring=Keyring([secret_key]))
        restored = reopen(market, older)
        assert await restores.check_origin(older) is True
        assert await restores.check_origin(older) is False
        assert min(row[0] for row in await restored.rows("SELECT epoch FROM log_heads")) > 1
        # One till sells before the other comes back; both send what they keep, the one in odd pieces.
        for till, from_the_other in zip(restored.tills[:2], later.tills[:2], strict=True):
            made = from_the_other.made
            last = made[-1]
            session = await till.hello(acknowledged_op_seq=33, acknowledged_op_id=last.op_id, last_op_seq=33, boot_id="b")
            assert session.op_watermark == 2  # one more than needed is sent again, to be compared
            for start in range(2, 33, 7):
                outcome = await till.send(*made[start : start + 7])
            assert outcome.op_watermark == 33
        assert sorted(await restored.stored()) == sorted(each.op_id for till in restored.tills[:2] for each in till.made)
        assert await restored.on_hand(coffee) == 100 - 66
        await restored.check()
        await older.close()
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {copied} WITH (FORCE)")
        await admin.close()


async def test_an_operator_can_say_that_the_cloud_was_restored(market: Any) -> None:
    lanes = await market.value("SELECT count(*) FROM log_heads")
    assert await restores.raise_all(market.database) >= lanes
    first = await market.value("SELECT min(epoch) FROM log_heads")
    await asyncio.gather(restores.raise_all(market.database), restores.lost_history(market.database, market.tenant_id, {}))
    assert await market.value("SELECT min(epoch) FROM log_heads") > first
