"""What a merchant is told of its usage, and that tills go on when integrations have used up the day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.accounts import outlets
from cloud.limits import plans, usage
from cloud.platform.database import Database
from gipos.edge.v1.link_pb2 import Hello, LinkRequest, Operation, OperationBatch
from gipos.v1.accounts_pb2 import GetCallerRequest
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import WatchEventsRequest
from gipos.v1.sales_pb2 import Sale, SaleLine, Tender
from gipos.v1.usage_pb2 import GetUsageRequest, Usage
from gipos.v1.usage_pb2_grpc import UsageServiceStub
from kernel.errors import NotFound
from kernel.ids import new_id
from kernel.pricing import total_up

MOMENTS = [
    pytest.param(datetime(2026, 11, 23, 5, 30, tzinfo=UTC), id="noon"),
    pytest.param(datetime(2026, 12, 31, 16, 59, 59, 999_999, tzinfo=UTC), id="the last of a year"),
    pytest.param(datetime(2028, 2, 28, 17, tzinfo=UTC), id="the first of a leap day"),
]
"""In Jakarta, where a day ends for everybody. The product is told the same one: no midnight comes between two lines of a test."""


@pytest.fixture(params=MOMENTS)
def moment(request: pytest.FixtureRequest) -> datetime:
    """When it is."""
    return cast("datetime", request.param)


@pytest.fixture
def report(database: Database, moment: datetime) -> Callable[..., Awaitable[Usage]]:
    """What the merchant is told at the moment."""

    async def told(days: int = 7) -> Usage:
        async with database.snapshot("ten_a") as connection:
            return await usage.report(connection, "ten_a", days, moment)

    return told


@pytest.fixture
async def merchant(database: Database, sql: Any, moment: datetime) -> Any:
    """A merchant without an agreement of its own; puts rows of so many days before the moment where charges put them."""
    async with database.transaction("ten_a") as tx:
        await outlets.create_tenant(tx, "Warung", 0)  # type: ignore[arg-type]  # the tax class plays no part

    async def rows(table: str, *values: tuple[object, ...]) -> None:
        for tenant, key, back, used, refused, till_messages in values:
            await sql(
                f"INSERT INTO {table} (tenant_id, key_id, day, used, refused, till_messages) VALUES (:t, :k, :d, :u, :r, :m)",
                **dict(zip("tkurm", (tenant, key, used, refused, till_messages), strict=True)),
                d=usage.day_of(moment) - timedelta(days=int(str(back))),
            )

    return rows


async def test_a_new_merchant_begins_with_basic_and_nothing_used(report: Any, merchant: Any, moment: datetime) -> None:
    found = await report()
    assert (found.plan, found.daily_limit, found.remaining_today, found.used_today) == ("basic", 1000, 1000, 0)
    assert (found.requests_per_second, found.concurrent_limit, found.concurrent_now) == (5, 100, 0)
    assert not found.HasField("exhausted_time")
    assert timedelta(0) < found.reset_time.ToDatetime(tzinfo=UTC) - moment <= timedelta(days=1)
    today = usage.day_of(moment)
    assert [day.day for day in found.days] == [(today - timedelta(days=back)).isoformat() for back in range(7)]
    assert not found.keys


@pytest.mark.parametrize(("name", "expected"), [("pro", (10_000, 20)), ("business", (50_000, 50)), ("enterprise", (None, 200))])
@pytest.mark.parametrize("moment", MOMENTS[:1], indirect=True)
async def test_plans_can_be_chosen(
    database: Database, report: Any, merchant: Any, name: str, expected: tuple[int | None, int]
) -> None:
    async with database.transaction("ten_a") as tx:
        await plans.choose(tx, name)
    found = await report()
    assert found.plan == name
    assert (found.daily_limit if found.HasField("daily_limit") else None, found.requests_per_second) == expected
    assert found.HasField("remaining_today") == found.HasField("daily_limit")


@pytest.mark.parametrize("moment", MOMENTS[:1], indirect=True)
async def test_an_agreement_comes_before_what_holds_for_all_and_binds_nobody_else(
    database: Database, report: Any, merchant: Any
) -> None:
    async with database.transaction("ten_a") as tx:
        await plans.agree(tx, plans.Plan("enterprise", 77, 3, 4))
    async with database.transaction("ten_b") as tx:
        await outlets.create_tenant(tx, "Toko", 0)  # type: ignore[arg-type]  # as above
        await plans.choose(tx, "enterprise")
        with pytest.raises(NotFound):
            await plans.choose(tx, "platinum")
        assert (await plans.of(tx.connection, "ten_b")).requests_per_second == 200
    found = await report()
    assert (found.daily_limit, found.requests_per_second, found.concurrent_limit) == (77, 3, 4)


async def test_history_and_keys_are_put_together_from_today_and_before(
    report: Any, merchant: Any, sql: Any, moment: datetime
) -> None:
    keys = [("ten_a", f"key_{number:03}", 0, number, 0, 0) for number in range(1, 121)]
    await merchant("limit_states", ("ten_a", "", 0, 900, 30, 7), *keys, ("ten_a", "key_idle", 1, 50, 0, 0))
    await merchant("limit_states", ("ten_b", "", 0, 5, 0, 0))
    await merchant(
        "usage_days",
        ("ten_a", "", 1, 800, 2, 9),
        ("ten_a", "key_001", 1, 800, 2, 0),
        ("ten_a", "", 3, 10, 0, 0),
        ("ten_b", "", 2, 4, 0, 0),
    )
    alive, dead = moment.timestamp(), moment.timestamp() - 60
    slots = f'{{"r1": [3, {alive}], "r2": [4, {alive}], "r3": [50, {dead}]}}'
    await sql("UPDATE limit_states SET slots = CAST(:slots AS jsonb) WHERE key_id = ''", slots=slots)
    found = await report(days=5)
    assert (found.used_today, found.remaining_today, found.till_messages_today, found.concurrent_now) == (900, 100, 7, 7)
    assert [(day.used, day.refused, day.till_messages) for day in found.days] == [
        (900, 30, 7),
        (800, 2, 9),
        (0, 0, 0),
        (10, 0, 0),
        (0, 0, 0),
    ]
    assert [key.used_today for key in found.keys] == list(range(120, 20, -1))


async def test_a_day_that_nobody_has_called_since_is_still_the_day_it_was(report: Any, merchant: Any) -> None:
    await merchant("limit_states", ("ten_a", "", 2, 40, 1, 0), ("ten_a", "key_1", 2, 40, 1, 0))
    found = await report(days=3)
    assert (found.used_today, found.remaining_today) == (0, 1000)
    assert [day.used for day in found.days] == [0, 0, 40]
    assert not found.keys


async def test_days_are_kept_for_four_hundred(database: Database, merchant: Any, sql: Any, moment: datetime) -> None:
    await merchant("usage_days", ("ten_a", "", 400, 1, 0, 0), ("ten_a", "", 401, 1, 0, 0))
    await merchant("limit_states", ("ten_a", "key_old", 401, 1, 0, 0), ("ten_a", "key_new", 400, 1, 0, 0))
    assert await usage.forget_old(database, moment) == 2
    assert await sql("SELECT count(*) FROM usage_days") == [(1,)]
    assert await sql("SELECT key_id FROM limit_states") == [("key_new",)]


@pytest.mark.usefixtures("noon")
async def test_tills_go_on_when_integrations_have_used_up_the_day(shop: Any) -> None:
    coffee = await shop.product()
    async with shop.database.transaction(shop.tenant_id) as tx:
        await plans.agree(tx, plans.Plan("enterprise", 5, 1000, 100))
    for _ in range(4):  # the product was the first
        await shop.accounts.GetCaller(GetCallerRequest(), metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.accounts.GetCaller(GetCallerRequest(), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    error: Any = caught.value
    status = rpc_status.from_call(error)
    assert status is not None
    details = {detail.TypeName().rpartition(".")[2]: detail for detail in status.details}
    retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    assert details["RetryInfo"].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() > timedelta(0)
    assert details["QuotaFailure"].Unpack(quota)
    assert [violation.subject for violation in quota.violations] == ["daily"]
    headers = dict(caught.value.trailing_metadata() or ())
    assert headers["x-ratelimit-remaining"] == "0"

    link = shop.link.Link(metadata=shop.till_auth(0))
    await link.write(LinkRequest(hello=Hello(store_epoch=1)))
    operations = [sale(coffee.id, seq) for seq in (1, 2, 3)]
    await link.write(LinkRequest(operations=OperationBatch(operations=operations)))
    async with asyncio.timeout(10):
        while True:
            frame = await link.read()
            if frame.WhichOneof("frame") == "stored":
                break
    assert (frame.stored.op_watermark, list(frame.stored.quarantined)) == (3, [])
    link.cancel()
    async with shop.database.transaction(shop.tenant_id) as tx:
        await plans.agree(tx, plans.Plan("enterprise", 1000, 1000, 100))
    stub = UsageServiceStub(shop.channel)
    async with asyncio.timeout(10):  # a used-up day is believed for a second; messages of tills are told within one
        while True:
            try:
                found = await stub.GetUsage(GetUsageRequest(), metadata=shop.auth)
            except grpc.aio.AioRpcError:
                continue
            if found.till_messages_today:
                break
            await asyncio.sleep(0.1)
    assert found.till_messages_today == 3
    assert found.days[0].till_messages == 3
    assert [key.name for key in found.keys] == ["Demo"]


@pytest.mark.parametrize("days", [-1, 91])
async def test_days_beyond_ninety_are_refused(shop: Any, days: int) -> None:
    stub = UsageServiceStub(shop.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetUsage(GetUsageRequest(days=days), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len((await stub.GetUsage(GetUsageRequest(days=90), metadata=shop.auth)).days) == 90


def sale(product_id: str, seq: int) -> Operation:
    made = Sale(
        id=new_id("sal"), number=f"KMG-2611-1{seq:05d}", channel="pos", prices_include_tax=True, business_date="2026-11-23"
    )
    made.lines.append(SaleLine(id=new_id("sli"), product_id=product_id, quantity="1", unit_price=Money(amount=18000)))
    made.tenders.append(Tender(method="cash", amount=Money(amount=20000)))
    made.sale_time.FromDatetime(datetime.now(UTC))
    total_up(made, datetime.now(UTC).date())
    return Operation(op_seq=seq, op_id=made.id, sale_recorded=made)


async def test_a_stream_tells_the_limits_when_it_opens(shop: Any) -> None:
    watch = shop.events.WatchEvents(WatchEventsRequest(), metadata=shop.auth)
    async with asyncio.timeout(10):
        headers = dict(await watch.initial_metadata())
    assert headers["ratelimit-policy"].startswith('"per-second";q=100000;w=1')
    await shop.product()
    async with asyncio.timeout(10):
        assert (await watch.read()).event.type == "product.created"
    watch.cancel()
