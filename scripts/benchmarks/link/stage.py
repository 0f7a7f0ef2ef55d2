"""What all parts share: one PostgreSQL with fsync on, one fleet of merchants, and the servers that a part starts for itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud import server
from cloud.platform.postgres import EmbeddedPostgres
from cloud.settings import Settings
from scripts.benchmarks.link import fleet, programs
from scripts.benchmarks.link.fleet import Merchant, Tablet
from scripts.benchmarks.link.programs import Program

LINK = "/gipos.edge.v1.EdgeLinkService/Link"
CHANGES = 35_000
PRODUCTS = 200


@dataclass(frozen=True)
class Size:
    """How much is measured. The defaults are the issue's; --quick and tests take less."""

    rounds: int = 3
    idle: int = 10_000
    crowd: int = 1_000
    updates: int = 10
    """Per round."""
    commits: int = 150
    """Per round."""
    sales: int = 3_500
    changes: int = CHANGES
    returning: int = 3_000
    settle_seconds: float = 12.0
    """Until idle memory is read: every tablet has sent its sign of life at least once."""


QUICK = Size(rounds=2, idle=1_000, crowd=300, updates=5, commits=50, sales=700, changes=7_000, returning=450, settle_seconds=3.0)
SMOKE = Size(rounds=1, idle=20, crowd=10, updates=2, commits=5, sales=20, changes=40, returning=9, settle_seconds=0.2)


@dataclass
class Stage:
    """Where everything is."""

    url: str
    folder: Path
    size: Size
    chain: Merchant
    """One merchant whose tills all hear of the same update; ten in an outlet."""
    others: list[Merchant]
    """Merchants with three outlets of ten tills. The first two sell, the third is watched on dashboards."""
    catalogue: Merchant
    """One with as many products as changes come down."""

    def tablets(self, count: int) -> list[Tablet]:
        """So many, of ordinary merchants."""
        return [one for merchant in self.others for one in merchant.tablets][:count]

    @asynccontextmanager
    async def cloud(self, *options: str) -> AsyncIterator[tuple[Program, dict[str, Any]]]:
        """A cloud process of its own, and its ports."""
        environment = {"GIPOS_DATABASE_URL": self.url, "GIPOS_DATA_DIR": str(self.folder / "data")}
        async with programs.running("served", self.folder, *options, **environment) as program:
            yield program, await program.hear()

    @asynccontextmanager
    async def echo(self, *options: str) -> AsyncIterator[tuple[Program, dict[str, Any]]]:
        """The plain server, and its port."""
        async with programs.running("echo", self.folder, *options) as program:
            yield program, await program.hear()

    @asynccontextmanager
    async def program(self, module: str) -> AsyncIterator[Program]:
        """A program of clients."""
        async with programs.running(module, self.folder) as program:
            yield program

    async def greetings(self, tablets: list[Tablet]) -> list[dict[str, Any]]:
        """What these say, see fleet."""
        return await fleet.greetings(self.url, tablets)


@asynccontextmanager
async def staged(size: Size) -> AsyncIterator[Stage]:
    """A fresh database with its fleet, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="gipos-bench-"))
    try:
        postgres = EmbeddedPostgres(folder / "postgres")
        starting = asyncio.ensure_future(asyncio.to_thread(postgres.start))
        try:
            async with on(await asyncio.shield(starting), folder, size) as stage:
                yield stage
        finally:
            # Interrupted meanwhile, it would start after it was stopped.
            await asyncio.gather(starting, return_exceptions=True)
            await asyncio.shield(asyncio.to_thread(postgres.stop))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def on(url: str, folder: Path, size: Size) -> AsyncIterator[Stage]:
    """The fleet on a database that runs."""
    chain_shops = max(5, -(-size.crowd // 10))
    others = -(-max(size.idle, size.returning, 90) // 30)
    async with server.connected(Settings(database_url=url, data_dir=folder / "data")) as (database, _):
        chain = await fleet.merchant(database, shops=chain_shops, tills=10, products=PRODUCTS)
        rest = [
            await fleet.merchant(database, shops=3, tills=10, products=PRODUCTS if number < 2 else 1) for number in range(others)
        ]
        catalogue = await fleet.merchant(database, shops=1, tills=2, products=size.changes)
    yield Stage(url, folder, size, chain, rest, catalogue)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))
