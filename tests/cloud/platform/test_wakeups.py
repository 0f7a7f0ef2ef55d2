"""Wake-ups reach readers of this process and of others, and a lost one costs a second, not an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.accounts import outlets
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.wakeups import A_FEW, FEW, Wakeups, _payloads
from gipos.v1.catalog_pb2 import Product, TaxClass
from kernel.event_types import PRODUCT_CREATED

TENANT = "ten_wake"


@asynccontextmanager
async def process(url: str) -> AsyncIterator[tuple[Database, Wakeups]]:
    """What one cloud process has."""
    database = Database(url, connections=4)
    wakeups = Wakeups(database)
    database.react(before_commit=(), after_commit=(wakeups.committed,))
    task = asyncio.create_task(wakeups.run())
    try:
        yield database, wakeups
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await database.close()


async def publish(database: Database, count: int = 1) -> None:
    async with database.transaction(TENANT) as tx:
        for _ in range(count):
            tx.publish(PRODUCT_CREATED, Product(name="x"), subject_id="prd_x", version=1)


@pytest.fixture
async def tenant(database: Database) -> None:
    async with database.transaction(TENANT) as tx:
        await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)


async def heard(wake: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await wake.wait()


@pytest.mark.usefixtures("tenant")
async def test_a_reader_in_another_process_is_woken(database_url: Any) -> None:
    async with process(database_url) as (writer, _), process(database_url) as (_, reading), process(database_url) as (_, third):
        with reading.waiting(TENANT) as wake, third.waiting(TENANT) as other:
            for _ in range(3):
                wake.clear()
                other.clear()
                await publish(writer)
                await heard(wake)
                await heard(other)


@pytest.mark.usefixtures("tenant")
async def test_a_few_are_woken_before_the_writer_goes_on_and_many_after(database_url: Any) -> None:
    async with process(database_url) as (database, wakeups):
        known: list[Any] = []
        database.react(
            before_commit=(), after_commit=(wakeups.committed, lambda _: known.append(wakeups.known(TENANT, "tenant")))
        )
        with ExitStack() as waiting:
            for count in (FEW, FEW + 1):
                while len(wakeups._waiting.get(TENANT, {}).get("tenant", ())) < count:
                    waiting.enter_context(wakeups.waiting(TENANT, ("tenant",)))
                bells = list(wakeups._waiting[TENANT]["tenant"])
                for bell in bells:
                    bell.clear()
                await publish(database)
                for bell in bells:
                    await heard(bell)
        assert known == [(1, 1), (1, 1)], "the second was told of later"


async def test_many_readers_hear_of_changes_that_follow_on_each_other_together(database: Any) -> None:
    wakeups = Wakeups(database)
    with ExitStack() as stack:
        many = [stack.enter_context(wakeups.waiting(TENANT, {"out_many"})) for _ in range(A_FEW + 1)]
        few = [stack.enter_context(wakeups.waiting(TENANT, {"out_few"})) for _ in range(A_FEW)]
        leaves = wakeups.waiting(TENANT, {"out_left"})
        for event in (*many, *few):
            event.clear()
        for position in range(1, 4):
            wakeups.touch(TENANT, {"out_many": position, "out_few": position})
            assert [event.is_set() for event in many] == [position == 1] * len(many), "the first at once, the others together"
            assert all(event.is_set() for event in few)
            for event in (*many, *few):
                event.clear()
            assert wakeups.may_have_more(TENANT, "out_many", position - 1), "what is known is known at once"
        for event in many:
            await heard(event)
            event.clear()
        assert not wakeups._late
        wakeups.touch(TENANT, {"out_many": 4})
        wakeups.touch(TENANT, {"out_many": 5})
        with leaves:
            pass
    assert not wakeups._late
    assert not wakeups._next


@pytest.mark.usefixtures("tenant")
async def test_the_poll_finds_what_nobody_announced(database_url: Any) -> None:
    async with process(database_url) as (silent, wakeups):
        silent.react(before_commit=(), after_commit=())  # a process that dies between commit and wake-up
        with wakeups.waiting(TENANT) as wake:
            await asyncio.sleep(0)
            wake.clear()
            await publish(silent)
            await heard(wake)


@pytest.mark.usefixtures("tenant")
async def test_a_listener_whose_connection_is_cut_hears_again(database_url: Any) -> None:
    async with process(database_url) as (writer, _), process(database_url) as (_, reading):
        with reading.waiting(TENANT) as wake:
            admin = await asyncpg.connect(database_url)
            listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            async with asyncio.timeout(10):
                while await admin.fetchval(f"SELECT count(*) {listeners}") < 2:  # the two have only just begun to connect
                    await asyncio.sleep(0.01)
            assert len(await admin.fetch(f"SELECT pg_terminate_backend(pid) {listeners}")) == 2
            await admin.close()
            wake.clear()
            await publish(writer)
            await heard(wake)


@pytest.mark.usefixtures("tenant")
async def test_heads_that_went_back_are_noticed_although_no_connection_was_lost(database_url: Any, sql: Any) -> None:
    """As when the database is put back from a backup and the connection that listens dies without a word."""
    async with process(database_url) as (writer, wakeups):
        with wakeups.waiting(TENANT) as wake:
            while not wakeups.life:
                await asyncio.sleep(0.01)
            await publish(writer, 3)
            assert wakeups.known(TENANT, log.TENANT_LANE) == (1, 3)
            life = wakeups.life
            await sql("UPDATE log_heads SET last_seq = 1")
            wake.clear()
            await heard(wake)
            assert wakeups.life > life
            async with asyncio.timeout(10):
                while wakeups.known(TENANT, log.TENANT_LANE) != (1, 1):
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("polls", "is_noticed"),
    [
        ([((1, 5), (1, 4)), ((1, 5), (1, 4))], True),
        ([((1, 5), (1, 4)), ((1, 9), (1, 5))], False),  # each was asked before what was told last was committed
        ([((1, 5), (1, 4)), ((1, 5), (1, 5)), ((1, 6), (1, 5))], False),
        ([((1, 5), (1, 4)), ((1, 9), (1, 8)), ((1, 12), (1, 9))], False),
        ([((1, 5), (1, 4)), ((1, 9), (1, 8)), ((1, 12), (1, 7))], True),
        ([((2, 3), (1, 9)), ((2, 3), (1, 9))], True),  # the copy is from before the lane began anew
        ([((1, 9), (2, 3)), ((2, 3), (2, 3))], False),
        ([((0, 9), (1, 3)), ((0, 9), (1, 3))], False),
    ],
)
async def test_a_poll_that_was_overtaken_by_a_notice_is_no_lost_history(database: Any, polls: Any, is_noticed: bool) -> None:
    wakeups, found = Wakeups(database), False
    with wakeups.waiting(TENANT):
        for known, read in polls:
            wakeups._heads[TENANT] = {"out_1": known}
            found = wakeups._has_gone_back([(TENANT, "out_1", *read)])
    assert found == is_noticed


@pytest.mark.usefixtures("tenant")
async def test_a_rollback_leaves_no_number_and_no_wakeup(database_url: Any, database: Any) -> None:
    woken: list[dict[str, int]] = []
    database.react(before_commit=(), after_commit=(lambda tx: woken.append(tx.heads),))

    async def fail() -> None:
        async with database.transaction(TENANT) as tx:
            tx.publish(PRODUCT_CREATED, Product(), subject_id="p", version=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not woken
    await publish(database, 3)
    assert woken == [{log.TENANT_LANE: 3}]


@pytest.mark.usefixtures("tenant")
async def test_only_those_who_read_a_lane_that_grew_are_woken(database_url: Any) -> None:
    async with process(database_url) as (writer, here), process(database_url) as (_, there):
        async with writer.transaction(TENANT) as tx:
            await log.add_lane(tx.connection, TENANT, "out_1")
        ends = []
        for wakeups in (here, there):
            while not wakeups.life:
                await asyncio.sleep(0.01)
            ends += [wakeups.waiting(TENANT, {"out_1"}), wakeups.waiting(TENANT, {log.TENANT_LANE, "out_1"})]
        with ends[0] as shelf, ends[1] as both, ends[2] as far_shelf, ends[3] as far_both:
            async with asyncio.timeout(10):
                while here.known(TENANT, "out_1") != (1, 0) or there.known(TENANT, "out_1") != (1, 0):
                    await asyncio.sleep(0.01)  # by the poll
            for wake in (shelf, both, far_shelf, far_both):
                wake.clear()
            await publish(writer, 3)
            await heard(both)
            await heard(far_both)
            assert not shelf.is_set()
            assert not far_shelf.is_set()
            for wakeups in (here, there):
                assert wakeups.known(TENANT, log.TENANT_LANE) == (1, 3)  # told with the wake-up: nobody need ask
                assert not wakeups.may_have_more(TENANT, log.TENANT_LANE, 3, 1)
                assert wakeups.may_have_more(TENANT, log.TENANT_LANE, 2, 1)
                assert wakeups.may_have_more(TENANT, log.TENANT_LANE, 3, 2)
                assert not wakeups.may_have_more(TENANT, "out_1", 0, 1)
            here.touch(TENANT, {})  # something that is in no lane
            for wake in (shelf, both, far_shelf, far_both):
                await heard(wake)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ([(1, 5), (1, 4)], (1, 5)),  # told late
        ([(1, 5), (2, 3)], (2, 3)),  # the log began anew
        ([(2, 3), (1, 9)], (2, 3)),  # read before it did
        ([(0, 5), (1, 4)], (1, 5)),
        ([(1, 5), (0, 7)], (1, 7)),
        ([(1, 5), (0, 3)], (1, 5)),
    ],
)
async def test_what_is_known_of_a_head_only_grows_within_an_epoch(database: Any, told: Any, known: Any) -> None:
    wakeups = Wakeups(database)
    with wakeups.waiting(TENANT):
        for epoch, seq in told:
            wakeups.learn(TENANT, "out_1", epoch, seq)
        assert wakeups.known(TENANT, "out_1") == known
    assert wakeups.known(TENANT, "out_1") is None
    wakeups.learn(TENANT, "out_1", 1, 1)
    assert wakeups.known(TENANT, "out_1") is None  # for nobody nothing is kept


_lanes = st.dictionaries(
    st.integers(0, 10**6).map("out_{:026d}".format), st.tuples(st.just(1), st.integers(0, 2**62)), max_size=200
)


@given(st.dictionaries(st.integers(0, 10**6).map("ten_{:026d}".format), _lanes, max_size=60))
def test_a_notification_fits_and_nobody_is_left_out(touched: Any) -> None:
    told: dict[str, dict[str, tuple[int, int]]] = {}
    for payload in _payloads("x" * 32, touched):
        assert len(payload) < 8000
        name, *texts = orjson.loads(payload)
        assert name == "x" * 32
        for text in texts:
            tenant_id, *words = text.split(" ")
            places = zip(words[::3], words[1::3], words[2::3], strict=True)
            told.setdefault(tenant_id, {}).update({lane: (int(epoch), int(seq)) for lane, epoch, seq in places})
    assert told == touched
