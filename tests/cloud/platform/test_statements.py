"""Single statements on real connections that end at an awkward moment."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

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


async def test_connections_that_ended_while_nobody_used_them_are_replaced_unseen(database: Database, database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    ended = (
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(3):
        async with database.transaction("ten_1") as tx, database.reading("ten_1") as reading:
            for connection in (tx.connection, reading):
                assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
        assert await admin.fetchval(ended) >= 2
        for _ in range(5):
            await asyncio.sleep(0)  # the last words are read, then the end
    await admin.close()


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


_GOODBYE = b"X\x00\x00\x00\x04"
"""The client's Terminate message."""


class LastWords:
    """A way to the database on which a connection's last words arrive, but its end only when the client says something again."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._folder = str(self._url.query["host"])
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upward, downward = await asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.{self._url.port or 5432}")
        self._tasks |= {
            asyncio.create_task(self._listen(upward, writer)),
            asyncio.create_task(self._speak(reader, downward, upward, writer)),
        }

    async def _listen(self, upward: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await upward.read(65536):
            writer.write(data)

    async def _speak(
        self,
        reader: asyncio.StreamReader,
        downward: asyncio.StreamWriter,
        upward: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while (data := await reader.read(65536)) and not upward.at_eof() and data != _GOODBYE:
            downward.write(data)
        writer.close()
        downward.close()


async def test_last_words_alone_are_the_end_of_a_connection(database_url: str) -> None:
    # The pool must not keep such a connection either: the next transaction gets a new one.
    async with LastWords(database_url) as url:
        database = Database(url, connections=1)
        async with database.transaction("ten_1") as tx:
            pid = (await tx.connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
        admin = await asyncpg.connect(database_url)
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await admin.close()
        await asyncio.sleep(0.05)  # what is written to a socket of this machine has arrived
        with pytest.raises(Unreachable):
            async with database.transaction("ten_1"):
                pass
        async with database.transaction("ten_1") as tx:
            assert (await tx.connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one() != pid
        await database.close()


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
