"""Frames from a real log: shared, exact about the till's own uploads, fresh from the commit, and never with a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.platform import log
from cloud.platform.database import Announcing, Database
from cloud.platform.turns import Turns
from cloud.platform.wakeups import Wakeups
from cloud.sync import ranges
from cloud.sync.frames import Frames
from cloud.sync.ranges import Frame, Own, Place, Restart
from gipos.edge.v1.link_pb2 import Changes, LinkResponse, ResetReason
from gipos.v1.catalog_pb2 import Product, TaxClass
from gipos.v1.common_pb2 import Money
from gipos.v1.customers_pb2 import Customer
from gipos.v1.inventory_pb2 import Level
from kernel.event_types import CUSTOMER_CREATED, INVENTORY_UPDATED, PRODUCT_UPDATED

TENANT, OUTLET, LANE = "ten_1", "out_1", log.TENANT_LANE

_STORED = sa.text(
    """
    INSERT INTO till_stores (tenant_id, till_id, store_epoch, op_watermark, log_seq) VALUES (:tenant_id, :till_id, 1, :watermark,
        (SELECT last_seq FROM log_heads WHERE tenant_id = :tenant_id AND lane = :lane) + :more)
    ON CONFLICT (tenant_id, till_id, store_epoch) DO UPDATE SET op_watermark = excluded.op_watermark, log_seq = excluded.log_seq
    """
)


@dataclass
class Bench:
    """What a cloud process has for the way down, and a merchant with one outlet."""

    database: Database
    wakeups: Wakeups
    frames: Frames

    async def product(self, *names: str, cost: int = 700) -> None:
        """One transaction that changes these products."""
        async with self.database.transaction(TENANT) as tx:
            for name in names:
                product = Product(id=f"prd_{name}", name=name, cost=Money(amount=cost))
                tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=1)

    async def level(self, *on_hand: int, product: str = "prd_1", till: str = "", watermark: int = 0) -> None:
        """One transaction that changes a level so often; an upload of a till when one is named."""
        async with self.database.transaction(TENANT) as tx:
            for number in on_hand:
                level = Level(product_id=product, outlet_id=OUTLET, on_hand=str(number))
                tx.publish(INVENTORY_UPDATED, level, subject_id=product, version=1, outlet_id=OUTLET)
            if till:
                place = {"tenant_id": TENANT, "lane": OUTLET, "more": len(on_hand)}
                await tx.run(_STORED, till_id=till, watermark=watermark, **place)

    async def next(self, place: Place, own: Own | None = None) -> Frame:
        found = await self.frames.next(TENANT, place, own)
        assert isinstance(found, Frame), found
        return found


def read(frame: Frame) -> Changes:
    changes = LinkResponse.FromString(frame.data).changes
    assert (changes.lane, changes.epoch, changes.op_watermark) == (frame.lane, frame.epoch, frame.op_watermark)
    assert (changes.from_exclusive, changes.upto_inclusive) == (frame.from_exclusive, frame.upto_inclusive)
    assert len(changes.changes) == frame.changes
    return changes


@asynccontextmanager
async def process(database: Database) -> AsyncIterator[Bench]:
    wakeups = Wakeups(database)
    database.react(before_commit=(), after_commit=(wakeups.committed,))
    task = asyncio.create_task(wakeups.run())
    try:
        yield Bench(database, wakeups, Frames(database, wakeups))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    async with database.transaction(TENANT) as tx:
        await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)
        await log.add_lane(tx.connection, TENANT, OUTLET)
    async with process(database) as made:
        while not made.wakeups.life:  # its ears are on: nothing that it remembers is thrown away any more
            await asyncio.sleep(0.01)
        yield made


async def test_a_thousand_tills_at_one_place_share_one_read_and_one_serialisation(bench: Bench) -> None:
    await bench.product("a", "b")
    got = await asyncio.gather(*(bench.next(Place(LANE, 1, 0)) for _ in range(1000)))
    assert bench.frames.reads == 1
    assert len({id(frame.data) for frame in got}) == 1
    changes = read(got[0])
    assert [change.product.name for change in changes.changes] == ["a", "b"]
    assert not any(change.product.HasField("cost") for change in changes.changes)
    assert await bench.frames.next(TENANT, got[0].place) is None


async def test_one_that_leaves_does_not_take_the_read_of_the_others_along(bench: Bench) -> None:
    await bench.product("a")
    tasks = [asyncio.create_task(bench.next(Place(LANE, 1, 0))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    frames = await asyncio.gather(*tasks[1:])
    assert [frame.upto_inclusive for frame in frames] == [1, 1]
    assert bench.frames.reads == 1


async def test_what_was_just_committed_is_told_without_a_read(bench: Bench) -> None:
    await bench.product("before")
    place = (await bench.next(Place(LANE, 1, 0))).place
    with bench.wakeups.waiting(TENANT, {LANE}):
        assert await bench.frames.next(TENANT, place) is None
        reads = bench.frames.reads
        await bench.product("a", "b")
        await bench.product("a", "c", cost=0)
        first, again = await bench.next(place), await bench.next(place)
        assert bench.frames.reads == reads
        assert first.data is again.data
        changes = read(first)
        assert [(change.seq, change.product.name) for change in changes.changes] == [(3, "b"), (4, "a"), (5, "c")]
        assert not any(change.product.HasField("cost") for change in changes.changes)
        # One that stands elsewhere has the log.
        assert read(await bench.next(Place(LANE, 1, 0))).upto_inclusive == 5
        assert bench.frames.reads == reads + 1
    await bench.product("unseen")  # nobody here waits any more: nothing is remembered for nobody
    assert read(await bench.next(first.place)).changes[0].product.name == "unseen"
    assert bench.frames.reads == reads + 2


async def test_memory_and_log_say_the_same(bench: Bench) -> None:
    with bench.wakeups.waiting(TENANT, {LANE}):
        await bench.frames.next(TENANT, Place(LANE, 1, 0))
        for number in range(5):
            await bench.product(*random.choices("abcdef", k=3), cost=number)
        remembered = await bench.next(Place(LANE, 1, 0))
        assert bench.frames.reads == 1
        from_log = await Frames(bench.database, Wakeups(bench.database)).next(TENANT, Place(LANE, 1, 0))
        assert isinstance(from_log, Frame)
        assert read(remembered) == read(from_log)


async def test_whatever_is_told_is_what_the_log_says(bench: Bench, database_url: Any) -> None:
    """Random transactions: made ready during the commit, of another process, rolled back, of the till itself, across epochs."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    bench.database.meanwhile(bench.frames.prepare)
    silent = Database(database_url, connections=2)
    places = {LANE: Place(LANE, 1, 0), OUTLET: Place(OUTLET, 1, 0)}
    own, uploads, remembered = Own("till_a", 1), 0, 0

    async def change(database: Database, *, upload: bool = False, undone: bool = False) -> None:
        async with database.transaction(TENANT) as tx:
            for _ in range(rng.choice([1, 1, 2, 5, 20])):
                subject, size = rng.choice("abc"), rng.choice([1, 1, 3000])
                if upload or rng.random() < 0.3:
                    level = Level(product_id=subject, outlet_id=OUTLET, on_hand=str(rng.randrange(99)))
                    tx.publish(INVENTORY_UPDATED, level, subject_id=subject, version=1, outlet_id=OUTLET)
                elif rng.random() < 0.2:
                    tx.publish(CUSTOMER_CREATED, Customer(name="Budi"), subject_id="cus_1", version=1)
                else:
                    cost = Money(amount=7) if rng.random() < 0.7 else None
                    product = Product(id=subject, name="x" * size, cost=cost)
                    tx.publish(PRODUCT_UPDATED, product, subject_id=subject, version=1)
            if upload:
                stored = {"till_id": "till_a", "watermark": uploads, "lane": OUTLET, "more": len(tx.events)}
                await tx.run(_STORED, tenant_id=TENANT, **stored)
            if undone:  # where a COMMIT fails; the next one is given the same positions
                tx.heads, tx.epochs = await log.append(tx, TENANT, tx.events)
                bench.frames.prepare(tx)
                raise ZeroDivisionError

    async def compare(lane: str, place: Place) -> int:
        mine, asked = (own, Own("till_a", 1, own.told)) if lane == OUTLET else (None, None)
        before = bench.frames.reads
        found = await bench.frames.next(TENANT, place, mine)
        expected = await Frames(bench.database, Wakeups(bench.database)).next(TENANT, place, asked)
        # What nobody here was told of is found by the poll; until then nothing is told.
        assert found is None or found == expected, seed
        if isinstance(expected, Restart):
            places[lane] = Place(lane, expected.head.epoch, expected.head.last_seq)
        elif found is not None:
            assert isinstance(found, Frame)
            assert not any(one.product.HasField("cost") for one in read(found).changes)
            places[lane] = found.place
            own.told = max(own.told, found.op_watermark)
            return bench.frames.reads == before
        return 0

    with bench.wakeups.waiting(TENANT, {LANE, OUTLET}):
        for _ in range(80):
            kind = rng.choice(["plain", "plain", "plain", "upload", "gap", "undone", "epoch"])
            if kind == "gap":
                await change(silent)
            elif kind == "epoch":
                async with silent.transaction(TENANT) as tx:
                    await tx.run(sa.text("UPDATE log_heads SET epoch = epoch + 1 WHERE tenant_id = :tenant"), tenant=TENANT)
            elif kind == "undone":
                with pytest.raises(ZeroDivisionError):
                    await change(bench.database, undone=True)
            elif kind == "upload":
                uploads += 1
                own.uploading()
            await change(bench.database, upload=kind == "upload")
            if kind == "upload":
                own.uploading()
            for lane, place in list(places.items()):
                remembered += await compare(lane, place)
    await silent.close()
    assert remembered > 10, seed


async def test_what_was_made_ready_is_told_only_of_the_very_events_that_were_committed(bench: Bench) -> None:
    with bench.wakeups.waiting(TENANT, {LANE}):
        assert await bench.frames.next(TENANT, Place(LANE, 1, 0)) is None
        failing = Announcing(TENANT, datetime.now(UTC))
        failing.publish(PRODUCT_UPDATED, Product(id="prd_a", name="undone"), subject_id="prd_a", version=1)
        failing.heads, failing.epochs = {LANE: 1}, {LANE: 1}
        bench.frames.prepare(failing)
        await bench.product("done")
        assert [change.product.name for change in read(await bench.next(Place(LANE, 1, 0))).changes] == ["done"]
        bench.database.meanwhile(bench.frames.prepare)
        await bench.product("ready")
        ready = bench.frames._prepared[TENANT, LANE].shared
        assert (await bench.next(Place(LANE, 1, 1))).data is ready.data
        assert not bench.frames._prepared
        assert bench.frames.reads == 1
        await bench.product(*"abcdefghijklmnopqrstuvwxyz")
        assert not bench.frames._prepared, "what is large is left to who reads it"
    await bench.product("nobody waits")
    assert not bench.frames._prepared
    with bench.wakeups.waiting(TENANT, {LANE, OUTLET}):
        async with bench.database.transaction(TENANT) as tx:
            for number, outlet_id in enumerate(["", OUTLET, "", OUTLET, ""]):
                body: Any = Level(product_id="prd_1", on_hand=str(number)) if outlet_id else Product(id="prd_1", name=str(number))
                kind: Any = INVENTORY_UPDATED if outlet_id else PRODUCT_UPDATED
                tx.publish(kind, body, subject_id="prd_1", version=1, outlet_id=outlet_id)
        made = {lane: prepared for (_, lane), prepared in bench.frames._prepared.items()}
        assert {lane: (one.place.seq, one.shared.upto) for lane, one in made.items()} == {LANE: (29, 32), OUTLET: (0, 2)}
        for prepared in made.values():
            assert (await bench.next(prepared.place)).data is prepared.shared.data
        assert bench.frames.reads == 1


async def test_commits_that_are_told_in_another_order_are_read_in_theirs(bench: Bench) -> None:
    told: list[Any] = []
    bench.database.react(before_commit=(), after_commit=(told.append,))
    with bench.wakeups.waiting(TENANT, {LANE}):
        assert await bench.frames.next(TENANT, Place(LANE, 1, 0)) is None
        await bench.product("first")
        await bench.product("second")
        bench.wakeups.committed(told[1])
        changes = read(await bench.next(Place(LANE, 1, 0)))
        assert [change.product.name for change in changes.changes] == ["first", "second"]
        assert bench.frames.reads == 2
        bench.wakeups.committed(told[0])
        assert read(await bench.next(Place(LANE, 1, 1))).changes[0].product.name == "second"
        assert bench.frames.reads == 2


async def test_what_does_not_concern_tills_moves_the_place_and_nothing_else(bench: Bench) -> None:
    async with bench.database.transaction(TENANT) as tx:
        tx.publish(CUSTOMER_CREATED, Customer(name="Budi"), subject_id="cus_1", version=1)
    frame = await bench.next(Place(LANE, 1, 0))
    assert (frame.upto_inclusive, frame.changes) == (1, 0)
    assert b"Budi" not in frame.data


async def test_a_frame_tells_the_watermark_to_the_till_it_belongs_to_and_to_no_other(bench: Bench) -> None:
    await bench.level(9, till="till_a", watermark=4)
    mine, other = Own("till_a", 1), Own("till_b", 1)
    told = read(await bench.next(Place(OUTLET, 1, 0), mine))
    assert (told.op_watermark, told.changes[0].level.on_hand) == (4, "9")
    assert read(await bench.next(Place(OUTLET, 1, 0), other)).op_watermark == 0
    reinstalled = Own("till_a", 2)
    assert read(await bench.next(Place(OUTLET, 1, 0), reinstalled)).op_watermark == 0


async def test_a_range_never_ends_within_the_tills_own_upload(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "SPAN", 2)
    await bench.level(90)
    await bench.level(*range(80, 70, -1), till="till_a", watermark=10)
    await bench.level(70)
    # Somebody else gets small steps, and what they got is not enough for the till itself.
    assert read(await bench.next(Place(OUTLET, 1, 0))).upto_inclusive == 2
    own = Own("till_a", 1)
    for _ in range(2):  # once read together with the range, once known from then
        frame = read(await bench.next(Place(OUTLET, 1, 0), own))
        assert (frame.upto_inclusive, frame.op_watermark, len(frame.changes)) == (11, 10, 1)
        assert frame.changes[0].level.on_hand == "71"
    assert own.known is not None
    assert read(await bench.next(Place(OUTLET, 1, 11), own)).changes[0].level.on_hand == "70"


async def test_an_upload_that_commits_while_the_range_is_read_is_told_by_it(database: Database, bench: Bench) -> None:
    """The range holds the sale; a watermark from before would make the till take it off twice."""
    turns = Turns(1)
    frames = Frames(database, bench.wakeups, turns=turns)
    await bench.level(10, till="till_a", watermark=1)
    own = Own("till_a", 1)
    place = Place(OUTLET, 1, 0)
    first = await frames.next(TENANT, place, own)
    assert isinstance(first, Frame)
    own.told = first.op_watermark
    await bench.level(9)  # of another till: there is something to read
    async with turns.taken("somebody else"):
        reading = asyncio.create_task(frames.next(TENANT, first.place, own))
        await asyncio.sleep(0.01)
        own.uploading()
        await bench.level(8, till="till_a", watermark=2)
    got = await reading
    assert isinstance(got, Frame)
    assert (read(got).changes[0].level.on_hand, got.op_watermark) == ("8", 2)
    assert own.known is None  # not sure before the outcome is known
    own.uploading()
    assert await frames.next(TENANT, got.place, own) is not None  # told == 1 still: the link did not send it
    own.told = 2
    assert await frames.next(TENANT, got.place, own) is None


async def test_a_watermark_that_rose_without_an_event_is_told_by_an_empty_range(bench: Bench) -> None:
    await bench.level(10)
    own = Own("till_a", 1)
    place = (await bench.next(Place(OUTLET, 1, 0), own)).place
    with bench.wakeups.waiting(TENANT):
        assert await bench.frames.next(TENANT, place, own) is None
        own.uploading()
        await bench.level(till="till_a", watermark=7)
        own.uploading()
        assert bench.frames.may_have_more(TENANT, place, own)
        for _ in range(2):
            frame = read(await bench.next(place, own))
            assert (frame.from_exclusive, frame.upto_inclusive, frame.op_watermark, len(frame.changes)) == (1, 1, 7, 0)
        own.told = 7
        assert await bench.frames.next(TENANT, place, own) is None
        assert not bench.frames.may_have_more(TENANT, place, own)


@pytest.mark.parametrize("aware", [False, True])
async def test_a_new_epoch_ends_every_place_even_of_those_who_stand_at_the_head(bench: Bench, aware: Any, sql: Any) -> None:
    """An epoch is raised without an event; the next event must not be told as if nothing had happened."""
    await bench.product("a")
    place = (await bench.next(Place(LANE, 1, 0))).place
    with bench.wakeups.waiting(TENANT, {LANE}) as wake:
        assert await bench.frames.next(TENANT, place) is None
        async with bench.database.transaction(TENANT) as tx:
            await tx.run(sa.text("UPDATE log_heads SET epoch = 7 WHERE tenant_id = :tenant_id"), tenant_id=TENANT)
        if aware:
            await bench.product("b")
        else:
            wake.clear()
            async with asyncio.timeout(10):
                await wake.wait()  # by the poll
        assert bench.frames.may_have_more(TENANT, place)
        found = await bench.frames.next(TENANT, place)
        assert isinstance(found, Restart)
        assert (found.reason, found.head.epoch) == (ResetReason.RESET_REASON_EPOCH, 7)
        again = await bench.frames.next(TENANT, Place(LANE, 1, 0))  # what was kept of the old epoch is not told either
        assert isinstance(again, Restart)


async def test_who_stands_ahead_or_below_the_floor_or_too_far_behind_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sql: Any
) -> None:
    await bench.product(*"abcdefgh")
    reasons = []
    for place in (Place(LANE, 1, 9), Place(LANE, 2, 8)):
        found = await bench.frames.next(TENANT, place)
        assert isinstance(found, Restart)
        reasons.append(found.reason)
    assert reasons == [ResetReason.RESET_REASON_AHEAD, ResetReason.RESET_REASON_EPOCH]
    monkeypatch.setattr(ranges, "TOO_FAR", 5)
    found = await bench.frames.next(TENANT, Place(LANE, 1, 2))
    assert isinstance(found, Restart)
    assert found.reason == ResetReason.RESET_REASON_TOO_OLD
    assert (await bench.next(Place(LANE, 1, 3))).upto_inclusive == 8


async def test_frames_are_bounded_and_so_is_what_is_kept_of_them(database: Database, bench: Bench) -> None:
    frames = Frames(database, bench.wakeups, kept_bytes=100_000)
    text = "x" * 190
    async with database.transaction(TENANT) as tx:
        for number in range(1500):
            product = Product(id=f"prd_{number}", name=text)
            tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=1)
    place, sizes, names = Place(LANE, 1, 0), [], []
    while isinstance(frame := await frames.next(TENANT, place), Frame):
        sizes.append(len(frame.data))
        names += [change.product.id for change in read(frame).changes]
        place = frame.place
    assert len(names) == len(set(names)) == 1500
    assert len(sizes) == 3
    assert max(sizes) < 144 * 1024
    assert frames._size <= 100_000
    assert sum(len(kept.data) for kept in frames._kept.values()) <= 100_000


async def test_tills_at_random_places_with_random_stops_all_end_with_the_same_rows(bench: Bench) -> None:
    """Frames come from memory, from the log and from what others got; whatever the mix, ranges join and nobody misses any."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    stop = asyncio.Event()

    async def till() -> dict[str, int]:
        rows: dict[str, int] = {}
        place = Place(LANE, 1, 0)
        with bench.wakeups.waiting(TENANT, {LANE}) as wake:
            while True:
                wake.clear()
                done = stop.is_set()
                while isinstance(frame := await bench.frames.next(TENANT, place), Frame):
                    changes = read(frame)
                    assert changes.from_exclusive == place.seq
                    for change in changes.changes:
                        assert rows.get(change.product.id, 0) < change.seq
                        rows[change.product.id] = change.seq
                    place = frame.place
                    if rng.random() < 0.3:
                        await asyncio.sleep(rng.random() * 0.02)
                assert frame is None
                if done:
                    return rows
                await wake.wait()

    tills = [asyncio.create_task(till()) for _ in range(20)]
    for _ in range(60):
        await bench.product(*rng.choices("abcdefghij", k=rng.randint(1, 4)))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.01)
    stop.set()
    bench.wakeups.touch(TENANT, {})
    first, *others = await asyncio.gather(*tills)
    assert all(rows == first for rows in others), seed
    async with bench.database.reading(TENANT) as connection:
        events = await log.read(connection, TENANT, LANE, 0, 1000)
    assert first == {event.subject_id: event.seq for event in events}, seed
    assert bench.frames.reads < 20 * 60


async def test_a_till_that_is_stuck_is_nowhere_remembered(bench: Bench) -> None:
    """It holds the bytes it was given; the process keeps the same few frames with it or without it."""
    await bench.product("a")
    stuck = await bench.next(Place(LANE, 1, 0))
    with bench.wakeups.waiting(TENANT, {LANE}):
        place = stuck.place
        for number in range(50):
            await bench.product(f"p{number % 5}")
            place = (await bench.next(place)).place
        late = await bench.next(stuck.place)
        assert (late.from_exclusive, late.upto_inclusive, late.changes) == (1, 51, 5)


async def test_nothing_that_was_remembered_outlives_the_connection_to_the_database(
    bench: Bench, database_url: Any, sql: Any
) -> None:
    """Behind the same address there may be another history now, as after a restore."""
    with bench.wakeups.waiting(TENANT, {LANE}):
        assert await bench.frames.next(TENANT, Place(LANE, 1, 0)) is None
        await bench.product("old")
        kept = await bench.next(Place(LANE, 1, 0))
        body = Product(id="prd_new", name="new").SerializeToString()
        await sql("UPDATE events SET subject_id = 'prd_new', body = :body", body=body)
        assert (await bench.next(Place(LANE, 1, 0))).data is kept.data
        life = bench.wakeups.life
        admin = await asyncpg.connect(database_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        await admin.close()
        async with asyncio.timeout(10):
            while bench.wakeups.life == life:
                await asyncio.sleep(0.01)
        assert read(await bench.next(Place(LANE, 1, 0))).changes[0].product.name == "new"
