"""Single statements on real connections that end at an awkward moment."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from cloud.platform import statements
from cloud.platform.database import Database
from kernel.errors import Unreachable


def end(url: str, pid: int) -> None:
    """Ends a connection while nothing else of this process runs: what the server says about it waits to be read."""

    async def terminate() -> None:
        admin = await asyncpg.connect(url)
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await admin.close()

    thread = threading.Thread(target=asyncio.run, args=(terminate(),))
    thread.start()
    thread.join()
    time.sleep(0.02)


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_ends_before_a_statement_is_a_database_that_is_away(
    database: Database, database_url: str, turns: int
) -> None:
    # Between the last words of a connection and its end the driver calls a statement a fault of its own.
    ((pid,),) = await database.statements.fetch("SELECT pg_backend_pid()")
    end(database_url, pid)
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        rows: Any = await database.statements.fetch("SELECT 1")
    except Unreachable:
        rows = await database.statements.fetch("SELECT 1")
    assert [tuple(row) for row in rows] == [(1,)]


@pytest.mark.parametrize("turns", range(5))
async def test_the_same_holds_for_transactions(database: Database, database_url: str, turns: int) -> None:
    async with database.transaction("ten_1") as tx:
        pid = (await tx.connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
    end(database_url, pid)
    for _ in range(turns):
        await asyncio.sleep(0)
    for attempt in range(2):
        try:
            async with database.transaction("ten_1") as tx:
                assert (await tx.connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
            break
        except Unreachable:
            assert attempt == 0


@pytest.mark.parametrize(
    "texts",
    [[], [""], ["", ""], ["a"], ["", "a", ""], [" ", "$1", "\\", "'", "a\tb\n"], ["é", "\U0001f375"], [".", "..", "x" * 5000]],
)
async def test_packed_texts_arrive_as_they_were(database: Any, texts: list[str]) -> None:
    query = f"SELECT substr(t, 2) FROM unnest({statements.unpacked('given')}) WITH ORDINALITY AS u (t, place) ORDER BY place"
    for given, arrived in ((texts, texts), ([*texts, "a\x1fb"], [*texts, "a b"])):
        async with database.statements.transaction("ten_x") as driver:
            rows = await driver.run(sa.text(query), given=statements.packed(given))
        assert [row[0] for row in rows] == arrived


async def test_packed_numbers_arrive_as_they_were(database: Any) -> None:
    for numbers in ([], [0], [-5, 2**62, 7]):
        async with database.statements.transaction("ten_x") as driver:
            query = sa.text(f"SELECT {statements.unpacked_numbers('given')}")
            ((arrived,),) = await driver.run(query, given=statements.packed_numbers(numbers))
        assert arrived == numbers
