"""The gate against a real ledger, with two gates on one database: what replicas do to each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from cloud.limits import charges, ledger
from cloud.platform.calls import NOBODY, Call, Caller
from kernel.errors import QuotaExceeded, TooManyConcurrent

READ = "/gipos.v1.ProductService/GetProduct"


async def test_a_daily_quota_admits_exactly_itself_in_two_replicas(bench: Any) -> None:
    await bench.merchant(daily=100)
    kinds = ("/gipos.v1.ProductService/GetProduct", "/gipos.v1.ProductService/CreateProduct")
    calls = [bench.call(key_id=f"key_{number % 3}", method=kinds[number % 2]) for number in range(130)]
    assert Counter(await bench.crowd(calls)) == {"ok": 100, "QUOTA_EXCEEDED": 30}
    await bench.told()
    assert await bench.used() == (100, 30)
    per_key = [await bench.used(key_id=f"key_{number}") for number in range(3)]
    assert [sum(column) for column in zip(*per_key, strict=True)] == [100, 30]


async def test_a_rate_admits_a_second_worth_at_once_and_no_more_in_two_replicas(bench: Any) -> None:
    await bench.merchant(rate=7)
    began = await bench.clock()
    outcomes = Counter(await bench.crowd([bench.call() for _ in range(40)]))
    # However slow the machine is: a token comes back every 143 ms.
    most = 7 + 7 * (await bench.clock() - began)
    await bench.told()
    ((tat, now),) = await bench.rows("SELECT tat, extract(epoch FROM clock_timestamp()) FROM limit_states WHERE key_id = 'key_a'")
    assert outcomes["ok"] + outcomes["RATE_LIMITED"] == 40
    assert 7 <= outcomes["ok"] <= most
    assert tat - float(now) <= 1.0  # never more than a second's worth ahead
    assert (await bench.used())[0] == outcomes["ok"]


async def test_each_key_has_its_own_rate_and_a_lower_one_of_its_own_counts(bench: Any) -> None:
    await bench.merchant(rate=50)
    calls = [bench.call(key_id="slow", own_rate=2) for _ in range(60)] + [bench.call(key_id="other") for _ in range(20)]
    began = await bench.clock()
    outcomes = await bench.crowd(calls)
    # What comes back while the machine is at it counts too; the plan's 50 would let all of them pass after a fifth of a second.
    assert 2 <= outcomes[:60].count("ok") <= 2 + 2 * (await bench.clock() - began)
    assert outcomes[60:] == ["ok"] * 20
    # A key cannot give itself more than the plan does.
    began = await bench.clock()
    outcomes = await bench.crowd([bench.call(key_id="greedy", own_rate=10_000) for _ in range(600)])
    assert 50 <= outcomes.count("ok") <= 50 + 50 * (await bench.clock() - began)


async def test_places_at_once_are_counted_over_all_replicas(bench: Any) -> None:
    await bench.merchant(at_once=10)
    release = asyncio.Event()
    running = 0

    async def hold() -> str:
        nonlocal running
        running += 1
        await release.wait()
        return "ok"

    held = [asyncio.create_task(bench.pass_(bench.call(), hold, number % 2)) for number in range(10)]
    async with asyncio.timeout(10):
        while running < 10:
            await asyncio.sleep(0.001)
    # Ten run, five in each; neither replica knows more than its own five, both refuse the eleventh.
    assert await bench.pass_(bench.call(), hold, 0) == "CONCURRENCY_LIMITED"
    assert await bench.pass_(bench.call(), hold, 1) == "CONCURRENCY_LIMITED"
    release.set()
    assert await asyncio.gather(*held) == ["ok"] * 10
    await bench.told()
    assert await bench.crowd([bench.call() for _ in range(10)]) == ["ok"] * 10
    assert await bench.used() == (20, 2)


async def test_places_of_a_dead_replica_become_free(bench: Any) -> None:
    await bench.merchant(at_once=3)
    assert await bench.crowd([bench.call(), bench.call()]) == ["ok", "ok"]
    await bench.told()
    never = asyncio.Event()
    held = [asyncio.create_task(bench.pass_(bench.call(), never.wait, 0)) for _ in range(3)]
    async with asyncio.timeout(10):
        while bench.gates[0]._charges.merchant("ten_a").held < 3:
            await asyncio.sleep(0.001)
        assert await bench.pass_(bench.call(), gate=1) == "CONCURRENCY_LIMITED"
        # Its heart does not beat (nobody runs it), as that of a killed process; its last word becomes too old.
        await bench.rows(
            "UPDATE limit_states SET slots = (SELECT jsonb_object_agg("
            "name, jsonb_build_array(place -> 0, (place -> 1)::float8 - :old))"
            " FROM jsonb_each(slots) AS e (name, place)) WHERE key_id = ''",
            old=ledger.ALIVE_SECONDS,
        )
        while await bench.pass_(bench.call(), gate=1) != "ok":
            await asyncio.sleep(0.05)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_calls_that_are_cut_off_give_their_places_back(bench: Any) -> None:
    await bench.merchant(at_once=4)
    never = asyncio.Event()
    for _ in range(3):
        tasks = [asyncio.create_task(bench.pass_(bench.call(), never.wait)) for _ in range(4)]
        await asyncio.sleep(0)  # some before their charge was asked for
        tasks[0].cancel()
        await asyncio.sleep(0.05)  # the others, as a rule, after it was answered
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    merchant = bench.gates[0]._charges.merchant("ten_a")
    async with asyncio.timeout(10):
        while bench.gates[0]._charges._flushing is not None:
            await asyncio.sleep(0.001)
    assert (merchant.held, merchant.inside) == (0, 0)
    await bench.told()
    ((slots,),) = await bench.rows("SELECT slots FROM limit_states WHERE key_id = ''")
    assert [count for count, _ in slots.values()] == [0]


async def test_a_read_that_began_early_is_not_answered_when_it_is_refused(bench: Any) -> None:
    await bench.merchant(daily=3)
    began = []

    async def read() -> str:
        began.append(1)
        return "ok"

    for gate in (0, 1):  # both have heard that two are left, then one
        assert await bench.pass_(bench.call(method=READ), read, gate) == "ok"
    outcomes = await asyncio.gather(*(bench.pass_(bench.call(method=READ), read, gate) for gate in (0, 1)))
    assert sorted(outcomes) == ["QUOTA_EXCEEDED", "ok"]
    assert len(began) == 4  # both began in the belief that one is left
    assert await bench.pass_(bench.call(method=READ), read) == "QUOTA_EXCEEDED"
    assert len(began) <= 5


async def test_a_change_that_is_refused_never_begins(bench: Any) -> None:
    await bench.merchant(daily=2)
    began = []

    async def write() -> str:
        began.append(1)
        return "ok"

    outcomes = await bench.crowd([bench.call() for _ in range(10)], write)
    assert outcomes.count("ok") == len(began) == 2


async def test_tills_and_callers_without_a_merchant_pass_uncounted(bench: Any) -> None:
    await bench.merchant(daily=1, rate=1, at_once=1)
    till = Caller("ten_a", "dev_1", "live", frozenset(), till_id="dev_1", kind="till")
    assert await bench.pass_(bench.call()) == "ok"
    for who in (till, NOBODY):
        for _ in range(5):
            call = Call("/gipos.edge.v1.EdgeLinkService/Link", {}, "", "req_1", who)
            assert await bench.pass_(call) == "ok"
            assert bench.gates[0].stream(call) is None
            assert call.headers == []
    await bench.told()
    assert await bench.used() == (1, 0)


async def test_messages_of_tills_are_counted_apart(bench: Any) -> None:
    await bench.merchant()
    for gate in bench.gates:
        gate.count_till_messages("ten_a", 40)
        gate.count_till_messages("ten_a", 2)
    await bench.told()
    rows = await bench.rows("SELECT used, till_messages FROM limit_states WHERE tenant_id = 'ten_a' AND key_id = ''")
    assert rows == [(0, 84)]


async def test_every_answer_and_every_refusal_tells_how_things_stand(bench: Any) -> None:
    await bench.merchant(daily=2, rate=50, at_once=9)
    policy = '"per-second";q=50;w=1, "daily";q=2;w=86400, "concurrent";q=9;qu="concurrent-requests"'
    left = []
    for _ in range(4):
        call = bench.call()
        await bench.pass_(call)
        told = dict(call.headers)
        assert len(told) == len(call.headers) == 5
        assert told["ratelimit-policy"] == policy
        assert told["x-ratelimit-limit"] == "2"
        left.append(told["x-ratelimit-remaining"])
        assert f'"daily";r={left[-1]};t={told["x-ratelimit-reset"]}' in told["ratelimit"]
        assert 0 < int(told["x-ratelimit-reset"]) <= 86_400
    assert left == ["1", "0", "0", "0"]


async def test_errors_of_the_service_are_charged_and_carry_the_headers(bench: Any) -> None:
    await bench.merchant(daily=10)

    async def fail() -> str:
        raise TooManyConcurrent("of the service itself")

    for method in (READ, "/gipos.v1.SaleService/CreateSale", READ):
        call = bench.call(method=method)
        assert await bench.pass_(call, fail) == "CONCURRENCY_LIMITED"
        assert dict(call.headers)["x-ratelimit-limit"] == "10"
    assert await bench.used() == (3, 0)


async def test_a_flood_beyond_the_rate_reaches_neither_the_ledger_nor_the_service(bench: Any) -> None:
    await bench.merchant(rate=1)
    asked = 0
    charge = bench.gates[0]._charges.ledger.charge

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await charge(*arguments)

    bench.gates[0]._charges.ledger.charge = counted
    assert await bench.pass_(bench.call()) == "ok"
    before = asked
    outcomes = await asyncio.gather(*(bench.pass_(bench.call()) for _ in range(50)))
    assert outcomes.count("RATE_LIMITED") >= 48
    # All but those that came when the next second's worth was there were refused on the spot: they are told together later.
    assert asked - before <= 4
    await bench.told()
    assert sum(await bench.used()) == 51


@asynccontextmanager
async def ledger_broken(bench: Any) -> AsyncIterator[None]:
    """The ledger cannot charge, while the rest of the database works."""
    await bench.rows("ALTER FUNCTION charge_requests RENAME TO charge_requests_hidden")
    try:
        yield
    finally:
        await bench.rows("ALTER FUNCTION charge_requests_hidden RENAME TO charge_requests")


@pytest.fixture
async def owner(database_url: str, bench: Any) -> Any:
    """The bench, with the rights to change functions."""
    engine = create_async_engine(database_url.replace("postgresql:", "postgresql+asyncpg:"))

    async def rows(text: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(sa.text(text))

    bench.owner_rows, everyday = rows, bench.rows
    bench.rows = lambda text, **values: rows(text) if text.startswith("ALTER") else everyday(text, **values)
    yield bench
    await engine.dispose()


async def test_a_ledger_that_is_away_stops_nobody_and_is_told_later(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charges, "AWAY_SECONDS", 0.1)
    await owner.merchant()
    await owner.merchant("ten_b", daily=2000)
    assert await owner.crowd([owner.call(), owner.call("ten_b")]) == ["ok", "ok"]
    assert await owner.pass_(owner.call("ten_b")) == "ok"
    async with ledger_broken(owner):
        # No daily limit: all of them. A daily limit: five percent of it, then nobody can say any more whether the quota is left.
        outcomes = [await owner.pass_(owner.call()) for _ in range(120)]
        assert outcomes == ["ok"] * 120
        outcomes = [await owner.pass_(owner.call("ten_b")) for _ in range(120)]
        assert outcomes == ["ok"] * 100 + ["BUSY"] * 20
    await asyncio.sleep(0.11)
    await owner.told()
    assert (await owner.used())[0] == 121
    assert (await owner.used("ten_b"))[0] == 102
    assert await owner.pass_(owner.call("ten_b")) == "ok"


async def test_streams_have_a_bound_of_their_own_over_all_replicas(bench: Any) -> None:
    await bench.merchant(at_once=3)
    opened = []
    for number in range(3):
        stream = bench.gates[number % 2].stream(bench.call(method="/gipos.v1.EventService/WatchEvents"))
        await stream.__aenter__()
        opened.append(stream)
    for gate in bench.gates:
        with pytest.raises(TooManyConcurrent, match="3 streams"):
            async with gate.stream(bench.call()):
                pass
    # They take no places of calls.
    assert await bench.crowd([bench.call() for _ in range(3)]) == ["ok"] * 3
    for stream in opened:
        await stream.__aexit__(None, None, None)
    await bench.told()
    async with bench.gates[0].stream(bench.call()):
        pass


async def test_opening_a_stream_is_a_request(bench: Any) -> None:
    await bench.merchant(daily=1)
    async with bench.gates[0].stream(bench.call()):
        pass
    with pytest.raises(QuotaExceeded):
        async with bench.gates[0].stream(bench.call()):
            pass
    await bench.told()
    assert await bench.used() == (1, 1)


async def test_a_new_day_begins_at_nothing_and_the_old_one_is_kept(bench: Any) -> None:
    await bench.merchant(daily=3)
    assert Counter(await bench.crowd([bench.call() for _ in range(5)])) == {"ok": 3, "QUOTA_EXCEEDED": 2}
    bench.gates[0].count_till_messages("ten_a", 9)
    await bench.told()
    await bench.rows("UPDATE limit_states SET day = day - 1")
    for gate in bench.gates:  # as if midnight had come
        gate._charges.merchant("ten_a").used_up_until = 0.0
    assert Counter(await bench.crowd([bench.call() for _ in range(5)])) == {"ok": 3, "QUOTA_EXCEEDED": 2}
    await bench.told()
    assert await bench.used() == (3, 2)
    kept = await bench.rows("SELECT key_id, used, refused, till_messages FROM usage_days ORDER BY key_id")
    assert kept == [("", 3, 2, 9), ("key_a", 3, 2, 0)]


async def test_a_changed_plan_holds_from_the_next_charge_on(bench: Any) -> None:
    await bench.merchant(daily=1)
    assert await bench.crowd([bench.call(), bench.call()]) in (["ok", "QUOTA_EXCEEDED"], ["QUOTA_EXCEEDED", "ok"])
    await bench.rows("UPDATE plans SET daily_limit = 5 WHERE tenant_id = 'ten_a'")
    async with asyncio.timeout(10):  # a used-up day is believed for a second
        while await bench.pass_(bench.call()) != "ok":
            await asyncio.sleep(0.05)
    await bench.rows("UPDATE tenants SET plan = 'basic'")
    call = bench.call()
    assert await bench.pass_(call) == "ok"
    assert dict(call.headers)["ratelimit-policy"].startswith('"per-second";q=5;w=1, "daily";q=1000;')
