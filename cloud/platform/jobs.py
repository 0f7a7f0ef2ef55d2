"""Durable work on PostgreSQL: due rows are leased in batches, worked on outside of any transaction, and settled in batches.

A lease ends by itself, so work survives every kind of death. While a process lives it holds an advisory lock; the leases of one
that no longer does are given back at the next look. Work is done at least once: a crash repeats what was not yet settled, which
is never more than the limit of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.database import Database

POLL_SECONDS = 1.0
"""How long due work waits at most when nobody says that it is there."""
QUIET_SECONDS = 0.02
"""A pause after a look that found nothing: many commits a second without work must not become many looks."""
GATHER_SECONDS = 0.005
"""How long the first finished job waits for others, so that they are settled in one transaction."""

_NAMESPACE = 7_460_119
"""Any number of ours; the first half of the advisory locks that stand for living processes."""

LIVING_OWNERS = f"""
    SELECT objid::bigint::integer FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_NAMESPACE} AND objsubid = 2 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 (a constant of ours)
"""SQL for the owners whose process lives. Only within the one statement that gives leases back: a list read before could lack
an owner that has taken work since."""

_LAZILY = sa.text("SET LOCAL synchronous_commit = off")
_TRY_LOCK = sa.text("SELECT pg_try_advisory_lock(:namespace, :owner)")

DATABASE_ERRORS = (sa.exc.SQLAlchemyError, OSError)
"""What a database that is away raises."""
REFUSALS = ("22", "23", "42")
"""SQLSTATE classes (data, constraints, syntax and rights) that say it is the statement or its values: trying again is no use."""

logger = structlog.get_logger()

J = TypeVar("J")
O = TypeVar("O")  # noqa: E741 (outcome; J and O are the two types of a loop)


@dataclass(frozen=True)
class Lease:
    """What to write on claimed rows."""

    owner: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Held(Generic[J]):
    """A claimed job; settling it must check that the row still carries this owner."""

    owner: int
    job: J


class Work(Protocol[J, O]):
    """One kind of job: the SQL around it and the work itself. Each connection given is a transaction across tenants."""

    async def recover(self, connection: AsyncConnection) -> None:
        """Gives back leases whose owner is not among LIVING_OWNERS."""

    async def claim(self, connection: AsyncConnection, lease: Lease, running: Collection[J], free: int) -> list[J]:
        """Leases due rows, at most `free`; `running` is what this process works on already."""

    async def perform(self, job: J) -> O | None:
        """Does the work, outside of any transaction and well within the lease. Failing is an outcome too.

        None says that nothing was done and the job is to be given back.
        """

    async def settle(self, connection: AsyncConnection, done: Sequence[tuple[Held[J], O]]) -> None:
        """Stores outcomes and ends their leases; rows that meanwhile belong to another owner stay as they are."""

    async def release(self, connection: AsyncConnection, held: Sequence[Held[J]]) -> None:
        """Gives back leases of jobs that were not done."""


class LeaseLoop(Generic[J, O]):
    """Runs one kind of work in this process. `limit` bounds what is claimed and not yet settled."""

    def __init__(self, database: Database, work: Work[J, O], *, name: str, limit: int = 64, lease_seconds: float = 60.0) -> None:
        self._database = database
        self._work = work
        self._name = name
        self._limit = limit
        self._lease_seconds = lease_seconds
        self._held: dict[Held[J], asyncio.Task[None]] = {}
        self._done: list[tuple[Held[J], O | None]] = []
        self._finished = asyncio.Event()
        self._woken = asyncio.Event()
        self._owner = _new_owner()
        self._stopping = False
        self._drain_seconds = 0.0
        self._ended = asyncio.Event()
        self._ended.set()

    def wake(self) -> None:
        """Says that there may be something to do."""
        self._woken.set()

    async def stop(self, seconds: float = 5.0) -> None:
        """Lets `run` return: what is under way may take so many seconds to finish, then it is given back."""
        self._drain_seconds = seconds
        self._stopping = True
        self._woken.set()
        await self._ended.wait()

    async def run(self) -> None:
        """Works until stopped or cancelled. A database that is away is waited for."""
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                settling = tasks.create_task(self._settle_as_they_finish())
                while not self._stopping:
                    try:
                        async with _presence(self._database, self._owner, self._woken) as (self._owner, lost):
                            await self._claim(tasks, Lease(self._owner, self._lease_seconds), lost)
                            if self._stopping:
                                await self._finish(settling)  # while the lock still says that our leases are in good hands
                    except DATABASE_ERRORS as error:
                        logger.warning("jobs_interrupted", jobs=self._name, error=_reason(error))
                        # Whoever woke us before, the lost connection itself included, is heard at the next look anyway. Left
                        # set, it would make us ask a database that is away as fast as it can refuse.
                        self._woken.clear()
                        if not self._stopping:
                            await self._wait(POLL_SECONDS)
                await self._finish(settling)
                settling.cancel()
        finally:
            self._ended.set()

    async def _claim(self, tasks: asyncio.TaskGroup, lease: Lease, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        next_recovery = loop.time()
        while not self._stopping and not lost.is_set():
            self._woken.clear()
            if loop.time() >= next_recovery:
                async with self._database.across_tenants() as connection:
                    await self._work.recover(connection)
                next_recovery = loop.time() + POLL_SECONDS
            free = self._limit - len(self._held)
            jobs: list[J] = []
            if free > 0:
                async with self._database.across_tenants() as connection:
                    # A lease that a crash of the database undoes is simply taken again; waiting for the disk would buy nothing.
                    await connection.execute(_LAZILY)
                    jobs = await self._work.claim(connection, lease, [held.job for held in self._held], free)
            for job in jobs:
                held = Held(lease.owner, job)
                self._held[held] = tasks.create_task(self._perform(held))
            if not jobs:
                await asyncio.sleep(QUIET_SECONDS)
            await self._wait(POLL_SECONDS)

    async def _perform(self, held: Held[J]) -> None:
        try:
            outcome = await self._work.perform(held.job)
        except Exception:
            # One job must not end them all; it is tried again when its lease ends.
            logger.exception("job_failed", jobs=self._name, job=str(held.job))
            del self._held[held]
        else:
            self._done.append((held, outcome))
        self._finished.set()

    async def _settle_as_they_finish(self) -> None:
        while True:
            await self._finished.wait()
            if len(self._done) < len(self._held):
                await asyncio.sleep(GATHER_SECONDS)  # others are under way
            self._finished.clear()
            try:
                await self._settle()
            except DATABASE_ERRORS as error:
                logger.warning("jobs_not_settled", jobs=self._name, count=len(self._done), error=_reason(error))
                await asyncio.sleep(POLL_SECONDS)
                self._finished.set()  # the outcomes are kept; their places stay taken until the database has them

    async def _settle(self) -> None:
        batch = self._done[:]
        try:
            await self._store(batch)
        except sa.exc.DBAPIError as error:
            if not _is_refusal(error):
                raise
            for each in batch:
                await self._store_alone(each)
        del self._done[: len(batch)]
        for held, _ in batch:
            del self._held[held]
        self._woken.set()

    async def _store_alone(self, each: tuple[Held[J], O | None]) -> None:
        try:
            await self._store([each])
        except sa.exc.DBAPIError as error:
            if not _is_refusal(error):
                raise
            # Its lease will end and it will be done again; it must not keep the others from being settled.
            logger.error("job_not_settled", jobs=self._name, job=str(each[0].job), error=_reason(error))  # noqa: TRY400 (no values)

    async def _store(self, batch: Sequence[tuple[Held[J], O | None]]) -> None:
        done = [(held, outcome) for held, outcome in batch if outcome is not None]
        undone = [held for held, outcome in batch if outcome is None]
        async with self._database.across_tenants() as connection:
            if done:
                await self._work.settle(connection, done)
            if undone:
                await self._work.release(connection, undone)

    async def _finish(self, settling: asyncio.Task[None]) -> None:
        """Waits for what is under way, then gives the rest back."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                while self._held:
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            unfinished = [task for task in self._held.values() if not task.done()]
            for task in [settling, *unfinished]:
                task.cancel()
            await asyncio.gather(settling, *unfinished, return_exceptions=True)
            try:
                await self._settle()
                async with self._database.across_tenants() as connection:
                    await self._work.release(connection, list(self._held))
                logger.info("jobs_given_back", jobs=self._name, count=len(self._held))
            except DATABASE_ERRORS as error:
                # Nothing is lost: the leases end with our lock, and the work is done again.
                logger.warning("jobs_not_given_back", jobs=self._name, count=len(self._held), error=_reason(error))
            self._held.clear()

    async def _wait(self, seconds: float) -> None:
        """Until woken, or until it is time to look anyway."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


@asynccontextmanager
async def _presence(database: Database, owner: int, woken: asyncio.Event) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A number that stands for this loop, locked on a connection of its own; the event is set when that is lost.

    After a lost connection it is the same number again, if it can be had: what this loop still works on stays its own.
    """
    async with database.apart() as (connection, driver):
        lost = asyncio.Event()

        def note(_connection: object) -> None:
            lost.set()
            woken.set()

        driver.add_termination_listener(note)
        while not (await connection.execute(_TRY_LOCK, {"namespace": _NAMESPACE, "owner": owner})).scalar_one():
            owner = _new_owner()
        yield owner, lost


def _reason(error: Exception) -> str:
    """Without the statement and its values, which do not belong in a log."""
    return str(getattr(error, "orig", None) or error)


def _is_refusal(error: sa.exc.DBAPIError) -> bool:
    return str(getattr(error.orig, "sqlstate", None) or "")[:2] in REFUSALS


def _new_owner() -> int:
    return 1 + secrets.randbelow(2**31 - 1)
