"""Where it is written down what was used: one statement of PostgreSQL charges all calls that wait, for all replicas exactly.

Every charge is committed before its calls are answered, so a killed process forgets none. Nobody waits for the disk: a crash of
the database server itself may forget the last fraction of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import sqlalchemy as sa

from cloud.platform.database import Database

ALIVE_SECONDS = 6.0
"""A replica that said nothing for so long is dead: its places and streams are free."""
PATIENCE_SECONDS = 3.0
"""After so long the ledger counts as unreachable."""

_SETTINGS = (
    # A charge that a crash of the whole server undoes costs the merchant nothing; waiting for the disk would cost every call.
    "SET synchronous_commit = off",
    f"SET statement_timeout = '{int(PATIENCE_SECONDS * 1000)}ms'",
    "SET plan_cache_mode = force_generic_plan",
)
_CHARGE = "SELECT * FROM charge_requests($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_OTHERS = """(
    SELECT coalesce(jsonb_object_agg(e.name, e.place), '{}') FROM jsonb_each(s.streams) AS e (name, place)
    WHERE e.name <> $1 AND (e.place -> 1)::double precision > extract(epoch FROM clock_timestamp()) - $2
)"""
_COUNT_ELSEWHERE = """(
    SELECT coalesce(sum((e.place -> 0)::integer), 0) FROM jsonb_each(s.streams) AS e (name, place)
    WHERE e.name <> $1 AND (e.place -> 1)::double precision > extract(epoch FROM clock_timestamp()) - $2
)"""
_STREAMS = f"""
    UPDATE limit_states AS s
    SET streams = {_OTHERS} || jsonb_build_object($1::text, jsonb_build_array($4::integer, extract(epoch FROM clock_timestamp())))
    WHERE s.tenant_id = $3 AND s.key_id = '' AND (s.streams <> '{{}}' OR $4 > 0)
      AND ($5::integer IS NULL OR $4 + {_COUNT_ELSEWHERE} <= $5)
    RETURNING true
"""  # noqa: S608 (constants of ours)


_AWAY = (
    sa.exc.SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a statement meets between the last words of a connection and its end
    OSError,
    TimeoutError,
)


class LedgerAway(Exception):
    """The ledger cannot be reached, or does not answer in time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one key asks for."""

    tenant_id: str
    key_id: str
    count: int
    """How many calls."""
    own_rate: int
    """The key's own requests per second; 0 for the plan's."""
    refused: int
    """How many were refused without asking."""
    debt: int
    """How many were admitted while the ledger could not be asked; charged whatever the limits say."""


@dataclass(frozen=True, slots=True)
class Place:
    """What this replica holds for one merchant."""

    tenant_id: str
    held: int
    """Calls being served."""
    till_messages: int
    """Messages from tills since the last charge."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one key got, and how things stand afterwards."""

    granted: int
    paced: int
    """How many the key's rate alone would have allowed."""
    rate: int
    """Requests per second that hold for the key."""
    left: float
    """How many the key could make at once now."""
    day_limit: int | None
    day_used: int
    at_once: int
    at_once_now: int
    """Calls of the merchant being served, in all replicas."""
    day_left: float
    """Seconds until the day ends."""


class Ledger:
    """One connection of its own. Statements go one after the other."""

    def __init__(self, database: Database, replica: str) -> None:
        self._database = database
        self._replica = replica
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[Any] | None = None
        self._release: AsyncExitStack | None = None
        self._charge: Any = None

    async def charge(self, asked: Sequence[Asked], places: Sequence[Place]) -> list[Outcome]:
        """Charges what is asked for, as far as the limits allow; an outcome for each, in their order.

        Both are in the order of their merchants, and every merchant asked for has a place.

        Raises:
            LedgerAway: it is not known whether anything was charged.
        """
        arguments = (
            [place.tenant_id for place in places],
            [place.held for place in places],
            [place.till_messages for place in places],
            [each.tenant_id for each in asked],
            [each.key_id for each in asked],
            [each.count for each in asked],
            [each.own_rate for each in asked],
            [each.refused for each in asked],
            [each.debt for each in asked],
        )
        async with self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                rows = await self._charge.fetch(self._replica, ALIVE_SECONDS, *arguments)
            except _AWAY as error:
                await self._disconnect()
                raise LedgerAway(str(error)) from error
        return [Outcome(*row) for row in rows]

    async def hold_streams(self, tenant_id: str, count: int, limit: int | None = None) -> bool:
        """Says how many streams of a merchant are open here; false when that would be more than `limit` in all replicas.

        Raises:
            LedgerAway: it could not be said.
        """
        async with self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                assert self._connection is not None
                held = await self._connection.fetchval(_STREAMS, self._replica, ALIVE_SECONDS, tenant_id, count, limit)
            except _AWAY as error:
                await self._disconnect()
                raise LedgerAway(str(error)) from error
        return bool(held)

    async def close(self) -> None:
        """Ends the connection."""
        async with self._turn:
            await self._disconnect()

    async def _connect(self) -> None:
        await self._disconnect()
        async with asyncio.timeout(PATIENCE_SECONDS):
            self._release = AsyncExitStack()
            _, driver = await self._release.enter_async_context(self._database.apart())
            for setting in _SETTINGS:
                await driver.execute(setting)
            self._charge = await driver.prepare(_CHARGE)
            self._connection = driver

    async def _disconnect(self) -> None:
        connection, release = self._connection, self._release
        self._connection = self._release = self._charge = None
        if connection is not None:
            connection.terminate()
        if release is not None:
            await release.aclose()
