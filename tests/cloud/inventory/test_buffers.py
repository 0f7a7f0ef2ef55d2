"""Buffers: how much is held back from online channels while tills are silent, and who hears of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from cloud.inventory import buffers, silences
from cloud.inventory.buffers import Rate, Rules
from cloud.platform import log
from gipos.v1.inventory_pb2 import (
    AdjustInventoryRequest,
    CreateReservationRequest,
    GetInventoryRequest,
    Level,
    ListLevelsRequest,
    ReservationLine,
)
from gipos.v1.inventory_pb2_grpc import ReservationServiceStub

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIMIT = 3 * DAY
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NEVER = Rate(0, 28 * DAY)
DAILY = Rate(28_000, 28 * DAY)
"""One piece a day."""
BRISK = Rate(28 * 240_000, 28 * DAY)
"""Ten pieces an hour."""


@pytest.mark.parametrize(
    ("on_hand", "rate", "silent", "held"),
    [
        # Live, or nearly: nothing.
        (50, BRISK, 0 * SECOND, 0),
        (50, BRISK, 59 * SECOND, 0),
        # At least the floor, whatever sells.
        (50, NEVER, 60 * SECOND, 1),
        (50, NEVER, 2 * DAY, 1),
        (50, DAILY, MINUTE, 1),
        # Then what is sold meanwhile, with room for a busy day: 10 and twice the root of 10, 40 and twice the root of 40.
        (500, BRISK, HOUR, 16.324),
        (500, BRISK, 4 * HOUR, 52.648),
        (500, DAILY, DAY, 3),
        # Never more than there is.
        (9, BRISK, HOUR, 9),
        (0, BRISK, HOUR, 0),
        (-3, BRISK, HOUR, 0),
        # Past the offline limit all of what may be gone, but not all of what lasts for weeks.
        (5, NEVER, LIMIT, 5),
        (6, NEVER, LIMIT, 1),
        (13, DAILY, LIMIT, 13),
        (14, DAILY, LIMIT, 6.464),
        (13, DAILY, LIMIT - SECOND, 6.464),
    ],
)
def test_so_much_is_held_back(on_hand: int, rate: Rate, silent: timedelta, held: float) -> None:
    assert buffers.held_back(1000 * on_hand, rate, silent, LIMIT, Rules()) == round(1000 * held)


@given(
    on_hand=st.integers(-(10**6), 10**9),
    sold=st.integers(0, 10**9),
    silent=st.timedeltas(timedelta(0), timedelta(days=60)),
    longer=st.timedeltas(timedelta(0), timedelta(days=60)),
    floor=st.integers(0, 10**5),
)
def test_a_buffer_is_never_more_than_there_is_and_never_shrinks_while_the_silence_lasts(
    on_hand: int, sold: int, silent: timedelta, longer: timedelta, floor: int
) -> None:
    rate, rules = Rate(sold, 28 * DAY), Rules(floor=floor)
    now = buffers.held_back(on_hand, rate, silent, LIMIT, rules)
    later = buffers.held_back(on_hand, rate, silent + longer, LIMIT, rules)
    assert 0 <= now <= later <= max(on_hand, 0)


@pytest.mark.parametrize(
    ("number", "oldest", "latest_sale", "over"),
    [
        (0, None, None, 28 * DAY),
        (30, NOW - 90 * DAY, NOW - 2 * DAY, 27 * DAY),  # four weeks, but for the day of silence
        (30, NOW - 90 * DAY, NOW - HOUR, 28 * DAY),  # another till of the outlet goes on
        (3, NOW - 2 * DAY, NOW - 2 * DAY, 7 * DAY),  # new
        (buffers.SAMPLE, NOW - 3 * DAY, NOW - DAY, 2 * DAY),  # so brisk that the sample covers two days
        (buffers.SAMPLE, NOW - DAY, NOW - DAY, HOUR),
    ],
)
def test_a_rate_is_over_the_time_that_was_seen(
    number: int, oldest: datetime | None, latest_sale: datetime | None, over: timedelta
) -> None:
    assert buffers.rate_of(5000, number, oldest, latest_sale, since=NOW - DAY, now=NOW).over == over


@pytest.mark.parametrize(
    ("before", "after", "worth"),
    [
        *((5000, 5000, False), (100_000, 99_000, False), (100_000, 90_000, True), (5000, 4000, True)),
        *((1, 0, True), (0, 1, True), (0, 0, False), (90_000, 100_000, True)),
    ],
)
def test_a_step_is_worth_telling_when_it_is_a_tenth_or_the_end(before: int, after: int, worth: bool) -> None:
    assert silences.is_worth_telling(before, after) is worth


class Outlet:
    """An outlet whose tills are as the test says."""

    def __init__(self, shop: Any) -> None:
        self.shop = shop
        self.id: str = shop.outlets[0]

    async def run(self, text: str, **values: Any) -> list[Any]:
        async with self.shop.database.across_tenants() as connection:
            result = await connection.execute(sa.text(text), {"tenant_id": self.shop.tenant_id, **values})
            return list(result) if result.returns_rows else []

    async def till(self, number: int, *, heard: timedelta, online: bool = False, waiting: int = 0) -> None:
        """A till was heard so long ago, is connected or not, and has so many operations to upload."""
        await self.run(
            """
            INSERT INTO till_presences AS p
                (tenant_id, till_id, connection, is_online, since_at, heard_at, waiting_operations)
            SELECT :tenant_id, :till_id, '1', :online, at.heard, at.heard, :waiting
            FROM (SELECT now() - CAST(:heard AS interval) AS heard) AS at WHERE true
            ON CONFLICT (tenant_id, till_id) DO UPDATE SET is_online = excluded.is_online, heard_at = excluded.heard_at,
                since_at = excluded.since_at, waiting_operations = excluded.waiting_operations
            """,
            till_id=self.shop.tills[number]["id"], online=online, heard=heard, waiting=waiting,
        )  # fmt: skip

    async def sold(self, product: Any, quantity: str, ago: timedelta) -> None:
        """So much was sold at a till at that moment."""
        request = AdjustInventoryRequest(product_id=product.id, outlet_id=self.id, quantity=f"-{quantity}", reason="other")
        await self.shop.inventory.AdjustInventory(request, metadata=self.shop.auth)
        await self.run(
            """
            UPDATE movements SET reason = 'sale', created_at = now() - CAST(:ago AS interval)
            WHERE product_id = :product_id AND reason = 'other'
            """,
            product_id=product.id, ago=ago,
        )  # fmt: skip

    async def level(self, product: Any) -> tuple[str, str, str]:
        """Available, held back, available online; the same by both ways of asking."""
        found = await self.shop.inventory.GetInventory(GetInventoryRequest(product_id=product.id), metadata=self.shop.auth)
        listed = await self.shop.inventory.ListLevels(ListLevelsRequest(product_id=product.id), metadata=self.shop.auth)
        (level,) = found.levels
        (other,) = listed.levels
        assert (level.buffer, level.available_online) == (other.buffer, other.available_online)
        assert found.available_online == level.available_online
        return level.available, level.buffer, level.available_online

    async def told(self, product: Any) -> list[tuple[str, str]]:
        """What channels were told of a product: held back, available online. Turns the clock of what was told on by a minute."""
        await silences.tell(self.shop.database)
        await self.run("UPDATE told_buffers SET told_at = told_at - interval '1 minute'")
        await self.run("UPDATE outlet_silences SET next_at = next_at - interval '30 days'")
        rows = await self.run(
            "SELECT body FROM events WHERE subject_id = :id AND lane = :lane AND type = 'inventory.updated' ORDER BY seq",
            id=product.id, lane=log.TENANT_LANE,
        )  # fmt: skip
        levels = [Level.FromString(row.body) for row in rows]
        return [(level.buffer, level.available_online) for level in levels]


@pytest.fixture
def outlet(shop: Any) -> Outlet:
    return Outlet(shop)


async def test_nothing_is_held_back_while_all_tills_are_live(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="20")
    assert await outlet.level(product) == ("20", "0", "20")
    await outlet.till(0, heard=50 * SECOND, online=True)
    await outlet.till(1, heard=30 * SECOND)
    assert await outlet.level(product) == ("20", "0", "20")


async def test_one_silent_till_of_two_is_enough(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="20")
    await outlet.till(0, heard=SECOND, online=True)
    await outlet.till(1, heard=5 * MINUTE)
    assert await outlet.level(product) == ("20", "1", "19")


async def test_what_sells_more_is_held_back_more_and_everything_past_the_limit(outlet: Outlet) -> None:
    slow, fast = await outlet.shop.product("Payung", stock="20"), await outlet.shop.product("Roti", stock="300")
    await outlet.run("UPDATE movements SET created_at = now() - interval '40 days'")
    await outlet.sold(fast, "280", 10 * DAY)  # ten a day, over four weeks
    await outlet.till(0, heard=12 * HOUR)
    available, _, online = await outlet.level(fast)
    assert available == "20"
    assert 10 < float(online) < 11  # 5 are expected, 9.5 held back, a little more because the silence does not count
    assert await outlet.level(slow) == ("20", "1", "19")
    await outlet.till(0, heard=73 * HOUR)
    assert await outlet.level(fast) == ("20", "20", "0")
    assert await outlet.level(slow) == ("20", "1", "19")


async def test_a_till_that_is_back_counts_as_silent_until_it_has_uploaded_everything(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="3")
    await outlet.till(0, heard=80 * HOUR)
    assert await outlet.level(product) == ("3", "3", "0")
    await outlet.till(0, heard=0 * SECOND, online=True, waiting=3500)
    assert await outlet.level(product) == ("3", "3", "0")
    await outlet.till(0, heard=0 * SECOND, online=True, waiting=0)
    assert await outlet.level(product) == ("3", "0", "3")


async def test_a_till_that_was_locked_out_holds_nothing_back(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="3")
    await outlet.till(0, heard=HOUR)
    await outlet.run("UPDATE tills SET state = 'revoked' WHERE id = :id", id=outlet.shop.tills[0]["id"])
    assert await outlet.level(product) == ("3", "0", "3")


async def test_online_orders_get_what_is_not_held_back_and_the_counter_everything(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="3")
    await outlet.till(0, heard=HOUR)
    stub = ReservationServiceStub(outlet.shop.way)

    def reserve(quantity: str) -> Any:
        lines = [ReservationLine(product_id=product.id, quantity=quantity)]
        return stub.CreateReservation(CreateReservationRequest(outlet_id=outlet.id, lines=lines), metadata=outlet.shop.auth)

    with pytest.raises(grpc.aio.AioRpcError, match="Only 2 of product"):
        await reserve("3")
    answers = await asyncio.gather(*(reserve("1") for _ in range(6)), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 2
    assert await outlet.level(product) == ("1", "1", "0")
    await outlet.sold(product, "3", 0 * SECOND)
    assert await outlet.level(product) == ("-2", "0", "0")


async def test_channels_are_told_of_steps_once_and_that_the_outlet_is_back(outlet: Outlet) -> None:
    scarce, plenty = await outlet.shop.product("Jarang", stock="3"), await outlet.shop.product("Banyak", stock="200")
    assert await outlet.told(scarce) == []
    await outlet.till(0, heard=2 * MINUTE)
    assert await outlet.told(scarce) == [("1", "2")]
    assert await outlet.told(scarce) == [("1", "2")]
    await outlet.till(0, heard=73 * HOUR)
    assert await outlet.told(scarce) == [("1", "2"), ("3", "0")]
    await outlet.till(0, heard=0 * SECOND, online=True)
    assert await outlet.told(scarce) == [("1", "2"), ("3", "0"), ("0", "3")]
    assert await outlet.told(scarce) == [("1", "2"), ("3", "0"), ("0", "3")]
    assert await outlet.told(plenty) == []
    assert await outlet.run("SELECT 1 FROM told_buffers UNION ALL SELECT 1 FROM outlet_silences") == []


async def test_two_processes_tell_it_once(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="3")
    await outlet.till(0, heard=2 * MINUTE)
    await asyncio.gather(*(silences.tell(outlet.shop.database) for _ in range(4)))
    assert len(await outlet.told(product)) == 1


async def test_silence_is_no_news_for_the_tills_of_the_outlet(outlet: Outlet) -> None:
    product = await outlet.shop.product(stock="3")
    await outlet.till(0, heard=2 * MINUTE)
    await outlet.told(product)
    rows = await outlet.run("SELECT body FROM events WHERE subject_id = :id AND lane = :lane", id=product.id, lane=outlet.id)
    assert [Level.FromString(row.body).HasField("buffer") for row in rows] == [False]
