"""The lease loop with a kind of work that a test can look into; the database, its locks and connections are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.database import Database
from cloud.platform.jobs import LIVING_OWNERS, Held, Lease, LeaseLoop


class Errands:
    """Jobs are numbers; what is due, done and given back is kept in lists."""

    def __init__(self, due: Sequence[int] = ()) -> None:
        self.due = list(due)
        self.done: list[int] = []
        self.given_back: list[int] = []
        self.owners: list[int] = []
        self.looks = 0
        self.at_once = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.changed = asyncio.Event()
        self.settle_failures = 0

    async def recover(self, connection: AsyncConnection) -> None:
        rows = await connection.execute(sa.text(LIVING_OWNERS))
        self.living = [row[0] for row in rows]

    async def claim(self, connection: AsyncConnection, lease: Lease, running: Collection[int], free: int) -> list[int]:
        await connection.execute(sa.text("SELECT 1"))
        self.looks += 1
        self.owners.append(lease.owner)
        taken, self.due = self.due[:free], self.due[free:]
        self.at_once = len(running) + len(taken)
        self.most = max(self.most, self.at_once)
        self.changed.set()
        return taken

    async def perform(self, job: int) -> str:
        await self.gate.wait()
        if job < 0:
            raise RuntimeError("a job with a fault")
        return f"did {job}"

    async def settle(self, connection: AsyncConnection, done: Sequence[tuple[Held[int], str]]) -> None:
        if self.settle_failures:
            self.settle_failures -= 1
            await connection.execute(sa.text("DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$"))
        if any(held.job == 1313 for held, _ in done):
            await connection.execute(sa.text("SELECT 1 / 0"))
        assert all(outcome == f"did {held.job}" for held, outcome in done)
        self.done += [held.job for held, _ in done]
        self.changed.set()

    async def release(self, connection: AsyncConnection, held: Sequence[Held[int]]) -> None:
        await connection.execute(sa.text("SELECT 1"))
        self.given_back += [each.job for each in held]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(loop: LeaseLoop[int, str]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(loop.run())
    try:
        yield task
    finally:
        await loop.stop(2)
        await asyncio.gather(task, return_exceptions=True)


async def test_everything_due_is_done_once_and_the_limit_holds(database: Database) -> None:
    errands = Errands(range(100))
    async with running(LeaseLoop(database, errands, name="errands", limit=7)):
        await errands.until(lambda: len(errands.done) == 100)
    assert sorted(errands.done) == list(range(100))
    assert errands.most == 7


async def test_one_job_that_breaks_does_not_end_the_others(database: Database) -> None:
    errands = Errands([1, -1, 2])
    loop = LeaseLoop(database, errands, name="errands", limit=2)
    async with running(loop):
        await errands.until(lambda: len(errands.done) == 2)
        errands.due = [3]
        loop.wake()
        await errands.until(lambda: len(errands.done) == 3)
    assert sorted(errands.done) == [1, 2, 3]


async def test_outcomes_are_kept_until_the_database_takes_them(database: Database) -> None:
    errands = Errands([1, 2, 3])
    errands.settle_failures = 2
    async with running(LeaseLoop(database, errands, name="errands")):
        await errands.until(lambda: len(errands.done) == 3)
    assert sorted(errands.done) == [1, 2, 3]


async def test_an_outcome_the_database_refuses_does_not_hold_up_the_others(database: Database) -> None:
    errands = Errands([11, 12, 1313, 14, 15])
    loop = LeaseLoop(database, errands, name="errands")
    async with running(loop):
        await errands.until(lambda: len(errands.done) == 4)
        errands.due = [16]
        loop.wake()
        await errands.until(lambda: len(errands.done) == 5)
    assert sorted(errands.done) == [11, 12, 14, 15, 16]


async def test_many_commits_without_work_are_few_looks(database: Database) -> None:
    errands = Errands()
    loop = LeaseLoop(database, errands, name="errands")
    async with running(loop):
        await errands.until(lambda: errands.looks == 1)
        for _ in range(2000):
            loop.wake()
            await asyncio.sleep(0)
        seen = errands.looks
    assert seen < 100


async def test_a_database_that_is_away_is_not_asked_as_fast_as_it_refuses() -> None:
    class Away:
        """Refuses every connection."""

        asked = 0

        @asynccontextmanager
        async def apart(self) -> AsyncIterator[tuple[AsyncConnection, Any]]:
            self.asked += 1
            await asyncio.sleep(0)
            raise ConnectionRefusedError
            yield

    away: Any = Away()
    loop = LeaseLoop(away, Errands(), name="errands")
    loop.wake()
    async with running(loop):
        for _ in range(2000):
            await asyncio.sleep(0)
        assert 1 <= away.asked < 10


async def test_a_wake_is_not_waited_for_by_the_poll(database: Database) -> None:
    errands = Errands()
    loop = LeaseLoop(database, errands, name="errands")
    async with running(loop):
        await errands.until(lambda: errands.looks == 1)
        errands.due = [1]
        loop.wake()
        await errands.until(lambda: errands.done == [1])
        assert errands.looks <= 3


async def test_a_running_loop_is_among_the_living_and_a_cancelled_one_is_not(database: Database) -> None:
    first, second = Errands(), Errands()
    async with running(LeaseLoop(database, first, name="first")) as task:
        await first.until(lambda: first.owners)
        async with running(LeaseLoop(database, second, name="second")):
            await second.until(lambda: second.looks == 1)
            assert set(first.owners) | set(second.owners) <= set(second.living)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(20):
                while set(first.owners) & set(second.living):
                    await asyncio.sleep(0.05)
            assert set(second.owners) <= set(second.living)


async def test_after_a_lost_connection_the_loop_goes_on_under_its_number(database: Database, database_url: str) -> None:
    errands = Errands()
    async with running(LeaseLoop(database, errands, name="errands")):
        await errands.until(lambda: errands.looks == 1)
        admin = await asyncpg.connect(database_url)
        here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ended = await admin.fetch(
            f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND {here}"
        )
        await admin.close()
        assert [tuple(row) for row in ended] == [(True,)]
        looks = errands.looks
        await errands.until(lambda: errands.looks > looks + 1)
        errands.due = [1]
        await errands.until(lambda: errands.done == [1])
        await errands.until(lambda: set(errands.owners) <= set(errands.living))
    assert len(set(errands.owners)) == 1


async def test_a_stop_gives_back_what_hangs_and_keeps_what_is_done(database: Database) -> None:
    errands = Errands([1])
    loop = LeaseLoop(database, errands, name="errands")
    async with running(loop) as task:
        await errands.until(lambda: errands.done == [1])
        errands.gate.clear()
        errands.due = [2, 3]
        loop.wake()
        await errands.until(lambda: errands.at_once == 2)
        await loop.stop(0.05)
        await task
    assert (errands.done, sorted(errands.given_back)) == ([1], [2, 3])


async def test_no_lock_is_left_in_the_pool(database: Database) -> None:
    errands = Errands()
    async with running(LeaseLoop(database, errands, name="errands")):
        await errands.until(lambda: errands.looks == 1)
    async with asyncio.timeout(20):
        while True:
            async with database.across_tenants() as connection:
                left = (
                    await connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
                ).scalar_one()
            if left == 0:
                break
            await asyncio.sleep(0.02)
