"""Merchants with limits, and gates on one database as replicas have them. No transport: calls are what the door makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.limits import plans
from cloud.limits.gate import Limits
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from kernel.errors import GiposError

READ = "/gipos.v1.ProductService/GetProduct"
WRITE = "/gipos.v1.ProductService/CreateProduct"


@dataclass
class Bench:
    """What the tests of the gate work with."""

    database: Database
    gates: list[Limits]

    async def merchant(
        self, tenant_id: str = "ten_a", *, daily: int | None = None, rate: int = 100_000, at_once: int = 1000
    ) -> str:
        """A merchant with an agreement of its own."""
        async with self.database.transaction(tenant_id) as tx:
            await outlets.create_tenant(tx, "Warung", 0)  # type: ignore[arg-type]  # the tax class plays no part
            await plans.agree(tx, plans.Plan("enterprise", daily, rate, at_once))
        return tenant_id

    def call(self, tenant_id: str = "ten_a", key_id: str = "key_a", *, method: str = WRITE, own_rate: int = 0) -> Call:
        """A call of an integration."""
        caller = Caller(tenant_id, key_id, "test", frozenset(), requests_per_second=own_rate)
        return Call(method, {}, "127.0.0.1", "req_1", caller)

    async def pass_(self, call: Call, serve: Callable[[], Awaitable[Any]] | None = None, gate: int = 0) -> str:
        """Sends a call through a gate; "ok", or the reason why not."""
        try:
            return str(await self.gates[gate].unary(call, serve or served))
        except GiposError as error:
            return error.reason

    async def crowd(self, calls: list[Call], serve: Callable[[], Awaitable[Any]] | None = None) -> list[str]:
        """Sends calls through all gates in turn, all at once."""
        sent = (self.pass_(call, serve, number % len(self.gates)) for number, call in enumerate(calls))
        return list(await asyncio.gather(*sent))

    async def told(self) -> None:
        """Until the ledger knows what the gates know."""
        for gate in self.gates:
            await gate._charges.beat()
            while gate._charges._flushing is not None or gate._charges._timer is not None:
                await asyncio.sleep(0.001)

    async def rows(self, text: str, **parameters: object) -> list[sa.Row[tuple[object, ...]]]:
        """What is in the database."""
        async with self.database.across_tenants() as connection:
            result = await connection.execute(sa.text(text), parameters)
            return list(result.all()) if result.returns_rows else []

    async def clock(self) -> float:
        """What time it is for the ledger."""
        ((now,),) = await self.rows("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(str(now))

    async def used(self, tenant_id: str = "ten_a", key_id: str = "") -> tuple[int, int]:
        """Used and refused today."""
        rows: list[Any] = await self.rows(
            "SELECT used, refused FROM limit_states WHERE tenant_id = :tenant AND key_id = :key", tenant=tenant_id, key=key_id
        )
        return rows[0].used, rows[0].refused


async def served() -> str:
    return "ok"


@pytest.fixture
async def bench(noon: None, database_url: str) -> AsyncIterator[Bench]:
    """Two gates; it is noon."""
    databases = [Database(database_url, connections=4) for _ in range(2)]
    bench = Bench(databases[0], [Limits(database, connections=8) for database in databases])
    yield bench
    for gate in bench.gates:
        await gate.stop()
    for database in databases:
        await database.close()
