"""Up to when changes are settled: the oldest transaction under way sets the limit, whoever else is connected does not."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import sqlalchemy as sa

from cloud.platform.changes import settled_until
from cloud.platform.database import Database


async def settled(database: Database) -> datetime:
    async with database.reading("ten_test") as connection:
        return await settled_until(connection)


async def test_a_transaction_under_way_holds_the_limit_until_it_ends(database: Database) -> None:
    before = datetime.now(UTC)
    assert await settled(database) >= before
    async with database.transaction("ten_test") as tx:
        assert await settled(database) <= tx.now
        async with database.transaction("ten_other"):
            assert await settled(database) <= tx.now
        assert await settled(database) <= tx.now
    assert await settled(database) > tx.now


async def test_the_driver_s_own_transactions_count(database: Database) -> None:
    async with database.together("ten_test") as tx:
        assert await settled(database) <= tx.now
    assert await settled(database) > tx.now


async def test_an_operator_who_left_a_transaction_open_holds_nobody_up(database: Database, database_url: str) -> None:
    operator = await asyncpg.connect(database_url)
    async with operator.transaction():
        opened_at = await operator.fetchval("SELECT now()")
        assert await settled(database) > opened_at
    await operator.close()


async def test_the_functions_that_see_past_the_fence_are_closed_to_the_public(database: Database) -> None:
    query = sa.text(
        "SELECT proname FROM pg_proc p WHERE prosecdef AND pronamespace = 'public'::regnamespace "
        "AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE a.grantee = 0)"
    )
    async with database.across_tenants() as connection:
        assert list((await connection.execute(query)).scalars()) == []
