"""One PostgreSQL per test process, migrated once into a template; every test that asks gets a clone of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from cloud.platform import schema
from cloud.platform.database import Database
from cloud.platform.postgres import EmbeddedPostgres

_numbers = count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives each run a folder of its own.

    pytest's shared one is closed to other accounts again by every run that starts; under root the database, which runs under
    another account, would lose its files in the middle of a test because somebody else began to test.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="gipos-test-")
        config.option.basetemp = str(Path(folder) / "run")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server whose database `gipos` has the newest schema and no rows."""
    folder = tmp_path_factory.mktemp("server") / "postgres"
    with EmbeddedPostgres(Path(folder)) as server:
        url = server.start()
        asyncio.run(schema.migrate(url))
        yield url


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_url.replace("/gipos?", "/postgres?"))
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE gipos STRATEGY file_copy")
        yield postgres_url.replace("/gipos?", f"/{name}?")
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pools on a fresh database."""
    database = Database(database_url, connections=8)
    yield database
    await database.close()


@pytest.fixture
def sql(database: Database) -> object:
    """Runs SQL across tenants, for what a test wants to see."""

    async def run(text: str, **parameters: object) -> list[sa.Row[tuple[object, ...]]]:
        async with database.across_tenants() as connection:
            result = await connection.execute(sa.text(text), parameters)
            return list(result.all()) if result.returns_rows else []

    return run
