"""The log: gap-free in commit order, resumable, filtered, live."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
import pytest

from cloud.events import feed
from cloud.platform import log
from cloud.sync import restores
from gipos.v1.catalog_pb2 import Product
from gipos.v1.events_pb2 import ListEventsRequest, WatchEventsRequest
from kernel.event_types import PRODUCT_CREATED

pytestmark = pytest.mark.parametrize("shop", ["over gRPC", "in process"], indirect=True)


async def test_numbers_are_dense_and_in_commit_order_under_concurrent_writers(shop: Any) -> None:
    """Each committed number must already be visible with all before it: a reader that saw n never finds a smaller one later."""
    database, tenant_id = shop.database, shop.tenant_id
    seen: list[int] = []
    writing = True

    class Rollback(Exception):
        pass

    async def writer(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(25):
            try:
                async with database.transaction(tenant_id) as tx:
                    for _ in range(chance.randint(1, 3)):
                        tx.publish(PRODUCT_CREATED, Product(name="x"), subject_id=f"prd_{seed}_{number}", version=1)
                    if chance.random() < 0.2:
                        raise Rollback
            except Rollback:
                pass

    async def reader() -> None:
        after = 0
        while True:
            done = not writing
            async with database.reading(tenant_id) as connection:
                events = await log.read(connection, tenant_id, log.TENANT_LANE, after, 1000)
            seen.extend(event.seq for event in events)
            after = seen[-1] if seen else 0
            if done and not events:
                return
            await asyncio.sleep(0)

    reading = asyncio.create_task(reader())
    await asyncio.gather(*(writer(seed) for seed in range(4)))
    writing = False
    await reading
    assert seen == list(range(1, len(seen) + 1))
    async with database.reading(tenant_id) as connection:
        assert (await log.heads(connection, tenant_id))[log.TENANT_LANE].last_seq == len(seen)


async def test_a_cursor_misses_and_repeats_nothing(shop: Any) -> None:
    for number in range(7):
        await shop.product(f"Produk {number}", stock="1")
    cursor, seen = "", []
    while True:
        page = await shop.events.ListEvents(ListEventsRequest(cursor=cursor, page_size=3), metadata=shop.auth)
        seen += [event.id for event in page.events]
        cursor = page.next_cursor
        if not page.has_more:
            break
    assert len(seen) == len(set(seen)) == 14
    assert not (await shop.events.ListEvents(ListEventsRequest(cursor=cursor), metadata=shop.auth)).events
    await shop.product("Baru")
    (event,) = (await shop.events.ListEvents(ListEventsRequest(cursor=cursor), metadata=shop.auth)).events
    assert event.type == "product.created"


async def test_a_cursor_of_a_log_that_a_restore_has_undone_is_told_so(shop: Any, sql: Any) -> None:
    for name in "abc":
        await shop.product(name)

    async def read(cursor: str) -> Any:
        return await shop.events.ListEvents(ListEventsRequest(cursor=cursor), metadata=shop.auth)

    async def refused(cursor: str) -> bool:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(cursor)
        return caught.value.code() is grpc.StatusCode.OUT_OF_RANGE and "restored" in (caught.value.details() or "")

    cursor = (await read("")).next_cursor
    older = feed.Position(shop.tenant_id, {"tenant": 3}).cursor()  # as the release before gave them
    assert not (await read(older)).events
    await sql("DELETE FROM events WHERE seq > 1")
    await sql("UPDATE log_heads SET last_seq = 1 WHERE lane = 'tenant'")
    assert await refused(cursor)
    assert await refused(older)
    await restores.raise_all(shop.database)
    for name in "de":
        await shop.product(name)
    assert await refused(cursor), "the number is reached again, by another event"
    anew = await read("")
    assert [event.sequence for event in anew.events] == [1, 2, 3]
    await shop.product("f")
    assert len((await read(anew.next_cursor)).events) == 1


async def test_a_watcher_is_told_of_a_restore(shop: Any) -> None:
    call = shop.events.WatchEvents(WatchEventsRequest(), metadata=shop.auth)
    reading = asyncio.create_task(call.read())
    while not reading.done():
        await shop.product()
        await asyncio.sleep(0.05)
    assert (await reading).cursor
    await restores.raise_all(shop.database)

    async def read_on() -> None:
        async with asyncio.timeout(10):
            while await call.read() is not grpc.aio.EOF:
                pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


async def test_a_filter_does_not_leave_pages_empty(shop: Any) -> None:
    for number in range(6):
        await shop.product(f"Produk {number}", stock="1")
    page = await shop.events.ListEvents(ListEventsRequest(types=["inventory.*"], page_size=5), metadata=shop.auth)
    assert [event.type for event in page.events] == ["inventory.updated"] * 5
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.events.ListEvents(ListEventsRequest(types=["sale.exploded"]), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watcher_hears_at_once_and_resumes_after_a_cut(shop: Any) -> None:
    await shop.product("Sebelum")
    call = shop.events.WatchEvents(WatchEventsRequest(types=["product.*"]), metadata=shop.auth)
    reading = asyncio.create_task(call.read())
    while not reading.done():  # the watch begins at some moment; what is made after it must come
        await shop.product("Sesudah")
        await asyncio.sleep(0.05)
    first = await reading
    call.cancel()
    missed = await shop.product("Terlewat")
    again = shop.events.WatchEvents(WatchEventsRequest(types=["product.*"], cursor=first.cursor), metadata=shop.auth)
    sequences = [first.event.sequence]
    async with asyncio.timeout(10):
        async for response in again:
            sequences.append(response.event.sequence)
            if response.event.subject.id == missed.id:
                break
    again.cancel()
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    data = Product()
    assert response.event.data.Unpack(data)
    assert data == missed
