"""Counts of shelves, worked out against what happened meanwhile: nothing that others sold is lost, nothing is taken twice."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.sync import restores


async def test_a_count_keeps_what_others_sold_since(market: Any) -> None:
    coffee = await market.product(20)
    one, two = market.tills[0], market.tills[1]
    seen = await market.head()
    # Till one is offline: it sells 3, counts 15 (it shows 17), sells 1 more. Till two sells 4 meanwhile, and 2 are delivered.
    sent = [one.sale((coffee, "2")), one.sale((coffee, "1")), one.count(coffee, "15", seen), one.sale((coffee, "1"))]
    await two.send(two.sale((coffee, "4")))
    await market.move(coffee, 2)
    outcome = await one.send(*sent)
    assert (outcome.op_watermark, list(outcome.quarantined)) == (4, [])
    # 15 were there; since then the others took 4 and brought 2, and till one took 1.
    assert await market.on_hand(coffee) == 15 - 4 + 2 - 1
    ((row),) = await market.rows("SELECT counted, expected, difference, review_reasons FROM stock_counts")
    assert tuple(row) == (15000, 17000, -2000, [])
    await market.check()


async def test_own_sales_that_were_uploaded_before_the_count_are_not_taken_for_others(market: Any) -> None:
    coffee = await market.product(20)
    one, two = market.tills[0], market.tills[1]
    seen = await market.head()
    await one.send(one.sale((coffee, "3")))
    await two.send(two.sale((coffee, "4")))
    await one.send(one.sale((coffee, "1")))
    await one.send(one.count(coffee, "16", seen))  # it has not heard of anything since: it shows 20 - 3 - 1
    assert await market.on_hand(coffee) == 16 - 4
    seen = await market.head()
    await one.send(one.sale((coffee, "2")))
    await one.send(one.count(coffee, "10", seen))  # it shows 12 - 2
    assert await market.on_hand(coffee) == 10
    assert [row[0] for row in await market.rows("SELECT difference FROM stock_counts ORDER BY op_seq")] == [0, 0]
    await market.check()


async def test_two_counts_of_one_product_follow_on_each_other(market: Any) -> None:
    coffee, tea = await market.product(20), await market.product(5)
    one = market.tills[0]
    seen = await market.head()
    await one.send(
        one.count(coffee, "18", seen), one.count(tea, "6", seen), one.sale((coffee, "1")), one.count(coffee, "17", seen),
        one.count(coffee, "19", seen),
    )  # fmt: skip
    assert (await market.on_hand(coffee), await market.on_hand(tea)) == (19, 6)
    rows = await market.rows("SELECT difference FROM stock_counts ORDER BY op_seq")
    assert [row[0] for row in rows] == [-2000, 1000, 0, 2000]
    # And again in batches of their own, with the same knowledge.
    await one.send(one.count(coffee, "12", seen))
    await one.send(one.count(coffee, "13", seen))
    assert await market.on_hand(coffee) == 13
    await market.check()


async def test_a_count_is_stored_once(market: Any) -> None:
    coffee = await market.product(20)
    one = market.tills[0]
    counted = one.count(coffee, "18", await market.head())
    await one.send(counted)
    await one.hello(store_epoch=2)
    await market.move(coffee, -3)
    counted.op_seq = 1
    assert (await one.send(counted)).op_watermark == 1
    assert await market.on_hand(coffee) == 15


@pytest.mark.parametrize(("seen", "floor", "reason"), [(0, 1, "COUNT_BASE_UNKNOWN"), (10**6, 1, "COUNT_BASE_UNKNOWN")])
async def test_a_count_that_saw_nothing_known_is_the_stock_of_the_moment(market: Any, seen: int, floor: int, reason: str) -> None:
    coffee = await market.product(20)
    await market.move(coffee, -4)
    one = market.tills[0]
    await one.send(one.sale((coffee, "1")), one.count(coffee, "9", seen))
    assert await market.on_hand(coffee) == 9
    assert await market.value("SELECT review_reasons FROM stock_counts") == [reason]


async def test_a_count_from_before_what_the_log_still_has_uses_the_oldest_level_there_is(market: Any) -> None:
    coffee = await market.product(20)
    one = market.tills[0]
    seen = await market.head()
    await one.send(one.sale((coffee, "2")))
    floor = await market.move(coffee, -4) + 1
    await market.move(coffee, -3)
    await market.rows("DELETE FROM events WHERE lane = $1 AND seq < $2", market.outlets[0], floor)
    await market.rows("UPDATE log_heads SET floor_seq = $2 WHERE lane = $1", market.outlets[0], floor)
    await one.send(one.count(coffee, "18", seen))
    # 14 is the oldest level known; since then 3 were taken. It counted 18, so there are 15 now.
    assert await market.on_hand(coffee) == 15
    assert await market.value("SELECT review_reasons FROM stock_counts") == ["COUNT_BASE_COMPACTED"]


async def test_a_count_of_what_was_never_there_and_one_that_makes_no_sense(market: Any) -> None:
    coffee = await market.product()
    one = market.tills[0]
    seen = await market.move(await market.product(), 1)
    bad = one.count(coffee, "-1", seen)
    none = one.count("prd_x", "1", seen)
    outcome = await one.send(bad, none, one.count(coffee, "7.5", seen))
    assert [each.op_seq for each in outcome.quarantined] == [1, 2]
    assert await market.value("SELECT on_hand FROM levels WHERE product_id = $1", coffee) == 7500
    await market.check()


async def test_a_count_of_a_log_that_a_restore_has_undone_corrects_what_its_till_showed(market: Any) -> None:
    """The till had seen position 900 of a log that was lost beyond the head. What it showed there it says itself."""
    coffee, tea, milk = [await market.product(20) for _ in range(3)]
    one, two = market.tills[0], market.tills[1]
    epoch, left = (await market.rows("SELECT epoch, last_seq FROM log_heads WHERE lane = $1", market.outlets[0]))[0]
    await restores.raise_all(market.database)
    now = await market.value("SELECT epoch FROM log_heads WHERE lane = $1", market.outlets[0])
    await two.send(two.sale((coffee, "4"), (tea, "4"), (milk, "4")))
    counts = [
        one.count(coffee, "13", left + 900, epoch=epoch, expected="15"),  # 5 were sold in what was lost, and come again
        one.count(tea, "13", left + 900, epoch=epoch),  # of a till that does not say: what was left of the log is taken
        one.count(milk, "19", left, epoch=epoch, expected="7"),  # that position was kept, and the log knows better
    ]
    await one.send(*counts, one.count(milk, "18", left + 900, epoch=now, expected="7"))
    assert [await market.on_hand(product) for product in (coffee, tea)] == [20 - 4 - 2, 13 - 4]
    rows = await market.rows("SELECT expected, difference, review_reasons FROM stock_counts ORDER BY op_seq")
    restored, unknown = ["COUNT_BASE_RESTORED"], ["COUNT_BASE_UNKNOWN"]
    assert [tuple(row) for row in rows[:3]] == [(15000, -2000, restored), (20000, -7000, restored), (20000, -1000, [])]
    assert rows[3]["review_reasons"] == unknown, "the present log does not have that position"
    await market.check()


async def test_a_count_that_is_older_than_the_log_corrects_what_its_till_showed(market: Any) -> None:
    coffee = await market.product(20)
    one = market.tills[0]
    seen = await market.head()
    await market.move(coffee, -4)
    await market.rows("UPDATE log_heads SET floor_seq = last_seq + 1 WHERE lane = $1", market.outlets[0])
    await one.send(one.count(coffee, "18", seen, expected="20"))
    assert await market.on_hand(coffee) == 18 - 4
    ((reasons,),) = await market.rows("SELECT review_reasons FROM stock_counts")
    assert reasons == ["COUNT_BASE_COMPACTED"]
