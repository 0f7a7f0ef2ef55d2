"""Wake-ups reach readers of this process and of others, and a lost one costs a second, not an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from cloud.accounts import outlets
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.wakeups import Wakeups
from gipos.v1.catalog_pb2 import Product, TaxClass
from kernel.event_types import PRODUCT_CREATED

TENANT = "ten_wake"


@asynccontextmanager
async def process(url: str) -> AsyncIterator[tuple[Database, Wakeups]]:
    """What one cloud process has."""
    database = Database(url, connections=4)
    wakeups = Wakeups(database)
    database.react(before_commit=(), after_commit=(lambda tx: wakeups.touch(tx.tenant_id, tx.heads),))
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
