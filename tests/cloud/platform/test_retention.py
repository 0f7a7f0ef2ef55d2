"""The log loses its oldest events and no reader loses anything: the floor says so first, and what somebody needs stays."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from cloud import schedule
from cloud.accounts import outlets
from cloud.events import feed as events
from cloud.platform import log, retention
from cloud.platform.database import Database
from cloud.platform.retention import Keeping
from cloud.platform.turns import Turns
from cloud.platform.wakeups import Wakeups
from cloud.settings import Settings
from cloud.sync import ranges
from cloud.sync.frames import Frames
from cloud.sync.ranges import Frame, Place, Restart
from cloud.webhooks import fanout
from cloud.webhooks import log as deliveries
from gipos.edge.v1.link_pb2 import LinkResponse, ResetReason
from gipos.v1.catalog_pb2 import Product, TaxClass
from kernel import business_days
from kernel.errors import CursorExpired
from kernel.event_types import PRODUCT_DELETED, PRODUCT_UPDATED

TENANT, LANE = "ten_1", log.TENANT_LANE
THIRTY_DAYS = Keeping(days=30, least=1)


@pytest.fixture
async def tenant(database: Database) -> Database:
    async with database.transaction(TENANT) as tx:
        await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)
    return database


async def publish(database: Database, count: int, *, days_ago: float = 0) -> None:
    """So many products change; every third is archived."""
    async with database.transaction(TENANT) as tx:
        for number in range(count):
            product = Product(id=f"prd_{number}", name=str(number))
            kind = PRODUCT_UPDATED
            if number % 3 == 0:
                product.delete_time.FromDatetime(tx.now)
                kind = PRODUCT_DELETED
            tx.publish(kind, product, subject_id=product.id, version=1)
    if days_ago:
        async with database.across_tenants() as connection:
            moment = business_days.now() - timedelta(days=days_ago)
            query = sa.text("UPDATE events SET recorded_at = :moment WHERE recorded_at > :moment")
            await connection.execute(query, {"moment": moment})


async def standing(database: Database) -> tuple[log.Head, list[int]]:
    async with database.reading(TENANT) as connection:
        rows = await log.read(connection, TENANT, LANE, 0, 100_000)
        return (await log.heads(connection, TENANT))[LANE], [row.seq for row in rows]


async def test_old_events_leave_and_the_floor_says_so(tenant: Database) -> None:
    await publish(tenant, 7, days_ago=31)
    await publish(tenant, 5, days_ago=29)
    assert await retention.trim(tenant, THIRTY_DAYS) == 7
    assert await standing(tenant) == (log.Head(1, 12, 8), [8, 9, 10, 11, 12])
    assert await retention.trim(tenant, THIRTY_DAYS) == 0
    await publish(tenant, 1)
    assert (await standing(tenant))[0] == log.Head(1, 13, 8)


@pytest.mark.parametrize(("least", "kept"), [(1, [7]), (3, [5, 6, 7]), (7, [1, 2, 3, 4, 5, 6, 7]), (100, [1, 2, 3, 4, 5, 6, 7])])
async def test_the_last_few_stay_whatever_their_age(tenant: Database, least: Any, kept: Any) -> None:
    await publish(tenant, 7, days_ago=90)
    await retention.trim(tenant, Keeping(days=30, least=least))
    assert await standing(tenant) == (log.Head(1, 7, kept[0]), kept)


async def test_it_works_in_small_steps_and_finishes_what_a_crash_left(tenant: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 4)
    await publish(tenant, 22, days_ago=40)
    await publish(tenant, 2)
    async with tenant.across_tenants() as connection:  # the floor was raised, and then the process died
        await connection.execute(sa.text("UPDATE log_heads SET floor_seq = 10"))
    assert await retention.trim(tenant, THIRTY_DAYS) == 22
    assert await standing(tenant) == (log.Head(1, 24, 23), [23, 24])


async def test_several_processes_at_once_do_no_harm(tenant: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 3)
    await publish(tenant, 20, days_ago=40)
    await publish(tenant, 2)
    counts = await asyncio.gather(*(retention.trim(tenant, THIRTY_DAYS) for _ in range(3)), publish(tenant, 1))
    assert sum(count or 0 for count in counts) == 20
    assert await standing(tenant) == (log.Head(1, 23, 21), [21, 22, 23])


async def test_an_event_that_a_delivery_points_to_stays_and_so_does_all_behind_it(tenant: Database) -> None:
    tenant.react(before_commit=(fanout.enqueue,), after_commit=())
    async with tenant.transaction(TENANT) as tx:
        await tx.run(
            sa.text(
                "INSERT INTO webhooks (tenant_id, id, url, event_types, description, status, secret, created_at) "
                "VALUES (:tenant_id, 'whk_1', 'https://example.com/', ARRAY['product.deleted'], '', 1, '', now())"
            ),
            tenant_id=TENANT,
        )
    await publish(tenant, 2, days_ago=40)  # 1 is a deletion
    await publish(tenant, 3, days_ago=39)  # and so is 3
    keeping = Keeping(days=30, least=1, needed=(deliveries.needed,))
    assert await retention.trim(tenant, keeping) == 0
    async with tenant.across_tenants() as connection:
        await connection.execute(sa.text("DELETE FROM deliveries WHERE event_id = (SELECT id FROM events WHERE seq = 1)"))
    assert await retention.trim(tenant, keeping) == 2
    assert (await standing(tenant))[1] == [3, 4, 5]
    async with tenant.across_tenants() as connection:
        await connection.execute(sa.text("DELETE FROM webhooks"))  # nobody will ever send those
    assert await retention.trim(tenant, keeping) == 2
    assert (await standing(tenant))[1] == [5]


async def test_every_cursor_around_the_floor_is_answered_right(tenant: Database) -> None:
    """With an archived product as the first and as the last event that is kept."""
    await publish(tenant, 9, days_ago=31)
    await publish(tenant, 7)  # 10 to 16, of which 10, 13 and 16 archive
    await retention.trim(tenant, THIRTY_DAYS)
    head, kept = await standing(tenant)
    assert (head.floor_seq, kept) == (10, list(range(10, 17)))
    frames = Frames(tenant, Wakeups(tenant))
    for seq, first in ((8, None), (9, 10), (10, 11), (11, 12)):
        found = await frames.next(TENANT, Place(LANE, 1, seq))
        wanted = events.Filter(frozenset({"product.updated", "product.deleted"}), "")
        position = events.Position(TENANT, {LANE: seq})
        async with tenant.snapshot(TENANT) as connection:
            if first is None:
                assert isinstance(found, Restart)
                assert found.reason == ResetReason.RESET_REASON_TOO_OLD
                with pytest.raises(CursorExpired):
                    await events.read(connection, TENANT, position, wanted, 50)
                continue
            listed, _ = await events.read(connection, TENANT, position, wanted, 50)
        assert isinstance(found, Frame)
        changes = LinkResponse.FromString(found.data).changes
        assert [change.seq for change in changes.changes] == [event.seq for event in listed] == list(range(first, 17))
        assert changes.changes[-1].product.HasField("delete_time")
        assert changes.changes[0].product.HasField("delete_time") is (first == 10)


async def test_a_frame_that_is_read_while_events_leave_is_whole_or_says_that_it_is_too_old(
    tenant: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two moments of a reader the log may lose what it is about to read."""
    monkeypatch.setattr(retention, "STEP", 1)
    await publish(tenant, 120, days_ago=31)
    await publish(tenant, 1)
    monkeypatch.setattr(ranges, "SPAN", 10)
    outcomes = set()
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            frames = Frames(tenant, Wakeups(tenant), turns=Turns(2))
            place = Place(LANE, 1, 0)
            while (found := await frames.next(TENANT, place)) is not None:
                if isinstance(found, Restart):
                    assert found.reason == ResetReason.RESET_REASON_TOO_OLD
                    assert found.head.floor_seq > place.seq + 1
                    outcomes.add("restart")
                    place = Place(LANE, 1, found.head.floor_seq - 1)
                    continue
                changes = LinkResponse.FromString(found.data).changes
                assert [change.seq for change in changes.changes] == list(range(place.seq + 1, found.upto_inclusive + 1))
                outcomes.add("frame")
                place = found.place

    async def trim() -> None:
        try:
            assert await retention.trim(tenant, THIRTY_DAYS) == 120
        finally:
            done.set()

    await asyncio.gather(read(), read(), trim())
    assert outcomes == {"restart", "frame"}


async def test_the_schedule_trims_by_the_settings(tenant: Database) -> None:
    await publish(tenant, 9, days_ago=5)
    job = schedule.log_retention(Settings(log_days=4, log_least=2))
    assert await job.run(tenant) == 7
    assert (await standing(tenant))[1] == [8, 9]
