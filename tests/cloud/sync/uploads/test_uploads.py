"""Uploads: exactly once, in order, many at a time; what one till does wrong is not another's trouble."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from cloud.sales import sales
from cloud.sync import batches, facts, troubles
from cloud.sync.facts import Place
from cloud.webhooks import endpoints
from gipos.edge.v1.link_pb2 import ClockReading, ClockState, Operation
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.common_pb2 import Money
from gipos.v1.sales_pb2 import Discount, Sale, SaleLine
from gipos.v1.webhooks_pb2 import Webhook
from kernel import pricing
from kernel.errors import PermissionDenied, TillChanged, TillRevoked, Unreachable


async def test_five_hundred_sales_are_one_transaction(market: Any) -> None:
    till, coffee, tea = market.tills[0], await market.product(5000), await market.product(5000)
    sent = [till.sale((coffee, "2"), (tea, "1"), (coffee, "1")) for _ in range(500)]
    before = await market.head()
    outcome = await till.send(*sent)
    assert (outcome.op_watermark, list(outcome.quarantined)) == (500, [])
    assert await market.value("SELECT count(DISTINCT xmin::text) FROM sales") == 1
    assert (await market.on_hand(coffee), await market.on_hand(tea)) == (3500, 4500)
    assert await market.head() == before + 1000 + 2  # two events a sale, one a level
    assert await market.stored() == [operation.op_id for operation in sent]
    assert (await till.send(*sent)).op_watermark == 500
    await market.check()


async def test_tills_that_upload_at_the_same_moment_share_transactions(market: Any) -> None:
    coffee = await market.product(1000)
    first, second = market.tills[0], market.tills[1]
    for till in market.tills:
        await till.hello()
    work = [till.send(*[till.sale((coffee, "1")) for _ in range(7)]) for till in market.tills for _ in range(3)]
    outcomes = await asyncio.gather(*work)
    assert {outcome.op_watermark for outcome in outcomes} == {7, 14, 21}
    assert first.caller.outlet_id == second.caller.outlet_id
    transactions = await market.value("SELECT count(DISTINCT xmin::text) FROM sales")
    assert transactions < 3 * len(market.tills)
    pairs = await market.rows("SELECT op_watermark, log_seq FROM till_stores")
    assert [pair[0] for pair in pairs] == [21] * len(market.tills)
    await market.check()


async def test_the_position_of_a_watermark_is_that_of_its_last_effect(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    for _ in range(3):
        await till.send(till.sale((coffee, "1")), till.sale((coffee, "1")))
        assert (
            await market.value("SELECT log_seq FROM till_stores WHERE till_id = $1", till.caller.till_id) == await market.head()
        )


async def test_the_next_batch_of_a_till_may_come_before_the_last_is_stored_and_overtakes_nothing(market: Any) -> None:
    coffee, till = await market.product(100), market.tills[0]
    await till.hello()
    # The second of three has to be looked at alone, and the third is short: each would be ready before the one it follows.
    long = [till.sale((coffee, "1")) for _ in range(40)]
    odd, short = [till.count(coffee, "7", 0)], [till.sale((coffee, "1"))]
    outcomes = await asyncio.gather(till.send(*long), till.send(*odd), till.send(*short))
    assert [(outcome.op_watermark, outcome.expected_op_seq) for outcome in outcomes] == [(40, 0), (41, 0), (42, 0)]
    positions = [outcome.log_seq for outcome in outcomes]
    assert positions == sorted(positions)
    assert positions[-1] == await market.value("SELECT log_seq FROM till_stores") == await market.head()
    assert await market.on_hand(coffee) == 6
    await market.check()


async def test_each_event_of_a_backlog_is_delivered_if_somebody_listens(market: Any) -> None:
    coffee, till = await market.product(100), market.tills[0]
    async with market.database.transaction(market.tenant_id) as tx:
        draft = Webhook(url="http://127.0.0.1:9/", event_types=["sale.*"])
        await endpoints.create(tx, draft, private_addresses=True)
    await till.send(*[till.sale((coffee, "1")) for _ in range(30)])
    assert await market.value("SELECT count(DISTINCT event_id) FROM deliveries") == 60


def test_what_is_already_right_is_kept_as_it_was_sent_and_the_operation_is_never_changed(market: Any) -> None:
    till = market.tills[0]
    place = Place(till.caller.till_id, till.caller.outlet_id, "Asia/Jakarta")
    for told in ({}, {"outlet_id": "out_other"}, {"review_reasons": ["PRICE_TYPED", "INVENTED"]}, {"create_time": True}):
        sent = till.sale(("prd_x", "1"))
        sale = sent.sale_recorded
        sale.till_id, sale.outlet_id, sale.status = place.till_id, told.get("outlet_id", place.outlet_id), 1
        sale.review_reasons.extend(told.get("review_reasons", ()))
        if "create_time" in told:
            sale.create_time.seconds = 5
        before = sent.SerializeToString(deterministic=True)
        (item,) = facts.understood([sent], place, datetime.now(UTC))
        assert isinstance(item.fact, facts.Sold)
        assert (item.fact.sale is sale) is (not told)
        assert sent.SerializeToString(deterministic=True) == before
        stored = Sale.FromString(item.fact.prepared.body)
        assert (stored.till_id, stored.outlet_id, stored.status) == (place.till_id, place.outlet_id, 1)
        assert not stored.HasField("create_time")
        assert list(stored.review_reasons) == (
            ["PRICE_TYPED"] if "review_reasons" in told else ["OUTLET_CHANGED"] if "outlet_id" in told else []
        )


async def test_a_bad_till_does_not_spoil_the_batch_of_another(market: Any) -> None:
    coffee = await market.product(100)
    good, bad = market.tills[0], market.tills[1]
    await asyncio.gather(good.hello(), bad.hello())
    sent = [bad.sale((coffee, "1")) for _ in range(3)]
    sent[1].sale_recorded.external_id = "".join(chr(33 + number * 7 % 90) + str(number) for number in range(9000))
    fine, worse = await asyncio.gather(good.send(good.sale((coffee, "1"))), bad.send(*sent))
    assert (fine.op_watermark, list(fine.quarantined)) == (1, [])
    assert (worse.op_watermark, [each.op_seq for each in worse.quarantined]) == (3, [2])
    assert await market.on_hand(coffee) == 97
    await market.check()


async def test_one_poison_among_five_hundred_is_found_by_halving(market: Any) -> None:
    coffee = await market.product(1000)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(100)]
    for place in (0, 41, 99):
        sent[place].sale_recorded.cashier = "\0"
    outcome = await till.send(*sent)
    assert (outcome.op_watermark, [each.op_seq for each in outcome.quarantined]) == (100, [1, 42, 100])
    assert await market.stored() == [each.op_id for place, each in enumerate(sent) if place not in {0, 41, 99}]
    assert await market.on_hand(coffee) == 1000 - 97
    await market.check()


async def test_a_sale_whose_external_id_is_taken_goes_without_it(market: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    outcome = await till.send(*[till.sale((coffee, "1"), external_id="ORDER-1") for _ in range(3)])
    assert (outcome.op_watermark, list(outcome.quarantined)) == (3, [])
    found = [Sale.FromString(row[0]) for row in await market.rows("SELECT body FROM sales ORDER BY op_seq")]
    assert [sale.external_id for sale in found] == ["ORDER-1", "", ""]
    assert [list(sale.review_reasons) for sale in found] == [[], ["EXTERNAL_ID_TAKEN"], ["EXTERNAL_ID_TAKEN"]]


async def test_what_is_begun_anew_is_marked_once(market: Any) -> None:
    till = market.tills[0]
    unknown = "prd_00000000000000000000000001"
    sent = [till.sale((unknown, "1")), till.count(unknown, "5", 0), till.sale((unknown, "1")), Operation(op_seq=4)]
    sent.append(till.sale((unknown, "1"), seq=5))
    sent[4].sale_recorded.cashier = "\0"
    outcome = await till.send(*sent)
    assert [each.op_seq for each in outcome.quarantined] == [4, 5]
    for (body,) in await market.rows("SELECT body FROM sales"):
        assert list(Sale.FromString(body).review_reasons) == ["PRODUCT_UNKNOWN"]
    assert sorted(await market.value("SELECT review_reasons FROM stock_counts")) == ["COUNT_BASE_UNKNOWN", "PRODUCT_UNKNOWN"]
    assert await market.on_hand(unknown) == 4
    await market.check()


async def test_a_change_of_a_product_is_handed_to_the_catalogue(market: Any) -> None:
    coffee = await market.product(5)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(3)]
    for operation, product_id in ((sent[1], coffee), (sent[2], "prd_00000000000000000000000001")):
        operation.product_edited.product.id = product_id
        operation.product_edited.product.name = "Kopi Tubruk"
        operation.product_edited.fields.append("name")
        operation.product_edited.base_version = 1
    outcome = await till.send(*sent)
    assert (outcome.op_watermark, [(each.op_seq, each.reason) for each in outcome.quarantined]) == (
        3,
        [(3, "RESOURCE_NOT_FOUND")],
    )
    assert await market.value("SELECT name FROM products WHERE id = $1", coffee) == "Kopi Tubruk"
    assert await market.on_hand(coffee) == 4
    await market.check()


async def test_a_sale_leaves_the_same_rows_whichever_way_it_is_stored(market: Any) -> None:
    coffee, tea = await market.product(10), await market.product(10)
    till = market.tills[0]
    sold = till.sale((coffee, "1.5"), (tea, "2"), (coffee, "1"), note="Tanpa gula", customer_id="cus_x", external_id="A-1")
    sold.sale_recorded.tenders.add(method="qris")
    looks = (
        """SELECT number, outlet_id, till_id, channel, customer_id, status, business_date, total, version, sold_at, cashier,
                  payment_methods FROM sales""",
        "SELECT outlet_id, product_id, quantity, on_hand_after, reason, note FROM movements WHERE sale_id <> '' ORDER BY id",
        """SELECT e.lane, e.type, e.version, e.outlet_id, e.occurred_at FROM events e JOIN sales s ON s.id = e.subject_id
           ORDER BY seq DESC LIMIT 2""",
    )
    found = []
    for way in ("general", "many"):
        async with market.database.transaction(market.tenant_id) as tx:
            (item,) = facts.understood([sold], Place(till.caller.till_id, till.caller.outlet_id, "Asia/Jakarta"), tx.now)
            assert isinstance(item.fact, facts.Sold)
            if way == "general":
                await sales.store(tx, [item.fact.sale])
            else:
                batch = batches.Batch(Place(till.caller.till_id, till.caller.outlet_id, "Asia/Jakarta"), 0, 0, [item])
                await batches.again(tx, batch)
        found.append([[tuple(row) for row in await market.rows(look)] for look in looks])
        body = Sale.FromString(await market.value("SELECT body FROM sales"))
        body.ClearField("create_time")
        body.ClearField("update_time")
        found[-1].append([(body.SerializeToString(deterministic=True),)])
        for text in ("DELETE FROM sales", "DELETE FROM movements WHERE sale_id <> ''"):
            await market.rows(text)
        await market.rows("UPDATE levels SET on_hand = 10000")
    assert found[0] == found[1]


async def test_a_gap_is_answered_and_stores_nothing(market: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    outcome = await till.send(till.sale((coffee, "1")), till.sale((coffee, "1"), seq=3))
    assert (outcome.op_watermark, outcome.expected_op_seq) == (0, 1)
    assert await market.stored() == []


async def test_an_older_session_and_a_till_that_is_locked_out_store_nothing(market: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    old = await till.hello()
    await till.hello()
    new, till.session = till.session, old
    with pytest.raises(PermissionDenied):
        await till.send(till.sale((coffee, "1")))
    till.session = new
    for state, error in (("suspended", TillChanged), ("revoked", TillRevoked)):
        await market.rows("UPDATE tills SET state = $1 WHERE id = $2", state, till.caller.till_id)
        with pytest.raises(error):
            await till.send(till.made[0])
    await market.rows("UPDATE tills SET state = 'retired' WHERE id = $1", till.caller.till_id)
    assert (await till.send(till.made[0])).op_watermark == 1


async def test_a_connection_that_breaks_before_the_commit_leaves_nothing_half_done(market: Any, database_url: str) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    sent = [till.sale((coffee, "1")) for _ in range(20)]
    await till.hello()
    admin = await asyncpg.connect(database_url)
    try:
        # Somebody holds the counter of the lane, so the upload waits right before its commit.
        async with admin.transaction():
            await admin.execute("SELECT 1 FROM log_heads FOR UPDATE")
            upload = asyncio.create_task(till.send(*sent))
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            while (pid := await admin.fetchval(waiting)) is None:
                await asyncio.sleep(0.01)
            await admin.fetchval("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(Unreachable):
                await upload
    finally:
        await admin.close()
    assert await market.stored() == []
    assert (await till.send(*sent)).op_watermark == 20
    assert await market.on_hand(coffee) == 80
    await market.check()


async def test_a_till_that_waits_for_a_lock_too_long_is_told_to_come_again(market: Any, database_url: str) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    await till.hello()
    admin = await asyncpg.connect(database_url)
    try:
        async with admin.transaction():
            await admin.execute("SELECT 1 FROM levels FOR UPDATE")
            with pytest.raises(Exception, match="again"):
                await till.send(till.sale((coffee, "1")))
    finally:
        await admin.close()
    assert (await till.send(*till.made)).op_watermark == 1
    assert await market.on_hand(coffee) == 99


PLACES = [("Asia/Jakarta", "2026-11-23"), ("Asia/Makassar", "2026-11-24"), ("Asia/Jayapura", "2026-11-24")]
NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)


def clocked(state: ClockState.ValueType, occurred: datetime, uncertainty: int = 50) -> Operation:
    sale = Sale(id="sal_00000000000000000000000001", business_date="1999-01-01")
    sale.lines.append(SaleLine(id="sli_00000000000000000000000001", product_id="prd_x", quantity="1"))
    operation = Operation(op_seq=1, op_id=sale.id, sale_recorded=sale)
    operation.occurred_time.FromDatetime(occurred)
    reading = ClockReading(offset_ms=-1500, uncertainty_ms=uncertainty, state=state)
    reading.device_time.FromDatetime(datetime(1970, 1, 3, tzinfo=UTC))
    operation.clock.CopyFrom(reading)
    return operation


@pytest.mark.parametrize(("zone", "day"), PLACES)
def test_the_business_day_is_that_of_the_corrected_time_in_the_outlets_zone(zone: str, day: str) -> None:
    ((item,),) = (facts.understood([clocked(ClockState.CLOCK_STATE_SYNCED, NOW)], Place("dev", "out", zone), NOW),)
    assert isinstance(item.fact, facts.Sold)
    assert (item.fact.sale.business_date, item.fact.day.isoformat()) == (day, day)
    assert list(item.fact.sale.review_reasons) == []
    assert (item.fact.clock.offset_ms, item.fact.clock.uncertainty_ms, item.fact.clock.state) == (-1500, 50, 1)


@pytest.mark.parametrize(
    ("state", "occurred", "is_doubted"),
    [
        (ClockState.CLOCK_STATE_SYNCED, NOW - timedelta(days=80), False),
        (ClockState.CLOCK_STATE_UNVERIFIED, NOW - timedelta(hours=3), False),
        (ClockState.CLOCK_STATE_UNVERIFIED, datetime(1970, 1, 3, tzinfo=UTC), True),
        (ClockState.CLOCK_STATE_UNVERIFIED, datetime(2099, 1, 3, tzinfo=UTC), True),
        (ClockState.CLOCK_STATE_SYNCED, NOW + timedelta(minutes=4), False),
        (ClockState.CLOCK_STATE_SYNCED, NOW + timedelta(minutes=6), True),
        (ClockState.CLOCK_STATE_WRONG, NOW - timedelta(minutes=1), True),
        (99, NOW, False),
    ],
)
def test_a_clock_that_cannot_be_right_dates_nothing_and_is_marked(state: Any, occurred: datetime, is_doubted: bool) -> None:
    (item,) = facts.understood([clocked(state, occurred)], Place("dev", "out", "Asia/Jakarta"), NOW)
    assert isinstance(item.fact, facts.Sold)
    assert item.fact.sold_at == (NOW if is_doubted else occurred)
    assert item.fact.sale.sale_time.ToDatetime(tzinfo=UTC) == item.fact.sold_at
    assert ("CLOCK_SUSPECT" in item.fact.sale.review_reasons) is is_doubted


def test_a_till_marks_only_what_it_alone_can_know() -> None:
    told = clocked(ClockState.CLOCK_STATE_SYNCED, NOW)
    told.sale_recorded.review_reasons.extend(
        ["PRICE_TYPED", "PRODUCT_UNKNOWN", "OFFLINE_LIMIT_LIFTED", "PRICE_TYPED", "anything"]
    )
    (item,) = facts.understood([told], Place("dev", "out", "Asia/Jakarta"), NOW)
    assert isinstance(item.fact, facts.Sold)
    assert list(item.fact.sale.review_reasons) == ["PRICE_TYPED", "OFFLINE_LIMIT_LIFTED"]


async def test_what_a_till_knew_of_the_time_is_kept_with_the_sale(market: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    sold = till.sale((coffee, "1"))
    sold.clock.CopyFrom(clocked(ClockState.CLOCK_STATE_WRONG, NOW).clock)
    sold.occurred_time.FromDatetime(datetime(1970, 1, 3, tzinfo=UTC))
    assert (await till.send(sold)).op_watermark == 1
    ((row),) = await market.rows(
        "SELECT device_clock, clock_offset_ms, clock_uncertainty_ms, clock_state, sold_at, created_at, body FROM sales"
    )
    assert tuple(row)[:4] == (datetime(1970, 1, 3, tzinfo=UTC), -1500, 50, 3)
    assert abs(row[4] - row[5]) < timedelta(minutes=1)
    assert "CLOCK_SUSPECT" in Sale.FromString(row[6]).review_reasons


amounts = st.integers(0, 10**9)


@given(
    st.lists(st.tuples(st.integers(-5000, 50_000), amounts, amounts), min_size=1, max_size=5),
    st.lists(amounts, max_size=3),
    st.integers(-200, 200),
    st.booleans(),
    st.integers(-1, 1),
)
def test_a_total_is_found_right_exactly_when_pricing_makes_it(
    lines: Any, discounts: Any, rounding: int, included: bool, off: int
) -> None:
    sale = Sale(prices_include_tax=included)
    for quantity, price, discount in lines:
        text = f"{'-' if quantity < 0 else ''}{abs(quantity) // 1000}.{abs(quantity) % 1000:03d}"
        sale.lines.append(
            SaleLine(
                quantity=text, unit_price=Money(amount=price), discount=Money(amount=discount), tax_class=TaxClass.TAX_CLASS_PPN
            )
        )
    sale.discounts.extend(Discount(amount=Money(amount=each)) for each in discounts)
    again = Sale()
    again.CopyFrom(sale)
    pricing.total_up(again, date(2026, 11, 23))
    sale.rounding.amount = rounding
    sale.total.amount = again.total.amount - again.rounding.amount + rounding + off
    assert facts.is_total_right(sale, [quantity for quantity, _, _ in lines], date(2026, 11, 23)) is (off == 0)


@pytest.mark.parametrize(
    ("error", "is_bad"),
    [
        (asyncpg.NotNullViolationError(), True),
        (asyncpg.CardinalityViolationError(), True),
        (asyncpg.StringDataRightTruncationError(), True),
        (asyncpg.ProgramLimitExceededError(), True),
        (asyncpg.DeadlockDetectedError(), False),
        (asyncpg.AdminShutdownError(), False),
        (asyncpg.DiskFullError(), False),
        (asyncpg.ConnectionDoesNotExistError(), False),
        (asyncpg.UndefinedColumnError(), False),
        (asyncpg.InterfaceError("connection is closed"), False),
        (asyncpg.DataError("invalid input for query argument $1"), True),
        (sa.exc.TimeoutError(), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (ValueError("what"), True),
    ],
)
def test_only_the_datas_own_fault_puts_an_operation_aside(error: Exception, is_bad: bool) -> None:
    assert troubles.is_bad_data(error) is is_bad
