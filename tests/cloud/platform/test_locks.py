"""Locks that stand for what is not there yet: held by one transaction of a merchant at a time, and not without end."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from cloud.platform.database import Database
from kernel.errors import Busy


async def test_one_transaction_of_a_merchant_is_alone_and_those_of_others_are_not_held_up(database: Database) -> None:
    order: list[str] = []

    async def take(tenant_id: str, name: str) -> None:
        async with database.transaction(tenant_id) as tx:
            await tx.alone("product b", "product a")
            order.append(name)

    async with database.transaction("ten_a") as tx:
        await tx.alone("product a")
        second = asyncio.create_task(take("ten_a", "the next one"))
        await take("ten_b", "another merchant")
        order.append("the first one")
    await second
    assert order == ["another merchant", "the first one", "the next one"]


async def test_a_server_without_room_for_further_locks_is_busy(database: Database, database_url: str) -> None:
    crowd = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.OutOfMemoryError):
            await crowd.execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) AS n")
        with pytest.raises(Busy):
            async with database.transaction("ten_a") as tx:
                await tx.alone(*(f"customer {number}" for number in range(1500)))
    finally:
        await crowd.close()
