"""One PostgreSQL per test process, migrated once into a template; every test that asks gets a clone of it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from cloud import demo, server
from cloud.platform import schema
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.platform.postgres import EmbeddedPostgres
from cloud.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 1_000_000_000
"""So much must be free there before the shared server's files, 150 MB or so, are put there."""
ON_ONE_PLATFORM = [f"tests/flows/test_{name}.py" for name in ("dashboard_page", "docs_page", "story", "outsider")]
"""Files whose tests use the running platform of tests/flows/conftest.py, in this order and before all others, on one worker. The
last one leaves thousands of webhooks to be delivered. A file that is not named here starts a platform of its own."""
_numbers = count(1)

# A run says something about the code, not about luck or about how busy the machine is: everybody's runs try the same examples.
# `--hypothesis-profile=search` tries new ones.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", derandomize=True, **_PATIENT)
settings.register_profile("search", derandomize=False, **_PATIENT)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives each run a folder of its own, and lets programs keep what they compile.

    pytest's shared folder is closed to other accounts again by every run that starts; under root the database, which runs under
    another account, would lose its files in the middle of a test because somebody else began to test.
    """
    # Some machines set it; each of the hundreds of programs that are started would compile all of its sources again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="gipos-test-")
        config.option.basetemp = str(Path(folder) / "run")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


class _SharedServer(EmbeddedPostgres):
    """Need not survive the machine: it is thrown away with the run. Tests about that have servers of their own."""

    def command(self) -> list[str]:
        options = ("fsync=off", "full_page_writes=off", "max_wal_size=96MB", "min_wal_size=32MB")
        return [*super().command(), *(word for option in options for word in ("-c", option))]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is one worker's, as its tests share what it starts; and so are the files that share a platform."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it comes without types

    class ByPlatform(LoadFileScheduling):  # type: ignore[misc]  # as above
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "one platform" if file in ON_ONE_PLATFORM else file

    return ByPlatform(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, or one worker would wait for it at the end."""
    places = {file: place for place, file in enumerate(ON_ONE_PLATFORM)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_collection_finish() -> None:
    """What was loaded by now stays, and is not looked through for garbage again and again: as in a cloud that serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server whose database `gipos` has the newest schema and no rows."""
    folder = tmp_path_factory.mktemp("server")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        # A clone is 300 files, made and removed for each test. ext4 takes half a second for that: it does not give out the
        # places of files that were just removed, and looks at every one of them for every new file.
        folder = Path(tempfile.mkdtemp(prefix="gipos-test-", dir=MEMORY))
    try:
        with _SharedServer(folder / "postgres") as server:
            url = server.start()
            asyncio.run(schema.migrate(url))
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
async def noon(database_url: str) -> None:
    """Puts the clock of this database at noon in Jakarta: no day ends while a test counts the requests of one.

    Requests are dated by PostgreSQL's clock, whoever charges them. A function of the same name goes before the built-in one; to
    be asked for before anything connects. It runs on from noon, and `now()` stays what it is.
    """
    connection = await asyncpg.connect(database_url)
    try:
        database = await connection.fetchval("SELECT current_database()")
        local = (await connection.fetchval("SELECT now()")).astimezone(ZoneInfo("Asia/Jakarta"))
        ahead = (local.replace(hour=12, minute=0) - local).total_seconds()
        await connection.execute(f"""
            CREATE SCHEMA clock;
            GRANT USAGE ON SCHEMA clock TO PUBLIC;
            CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                AS $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => {ahead}) $$;
            ALTER FUNCTION charge_requests SET search_path = clock, pg_catalog, public;
            ALTER DATABASE {database} SET search_path = clock, pg_catalog, public;
        """)
    finally:
        await connection.close()


@pytest.fixture
def secret_key() -> bytes:
    """The master key of the databases here, for tests whose programs need it as well."""
    return secrets.token_bytes(32)


@pytest.fixture
async def database(database_url: str, secret_key: bytes) -> AsyncIterator[Database]:
    """The pools on a fresh database."""
    database = Database(database_url, connections=8, keyring=Keyring([secret_key]))
    yield database
    await database.close()


@dataclass
class CloudProcess:
    """A cloud in a process of its own, to be killed."""

    process: asyncio.subprocess.Process
    port: int

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass
class Fleet:
    """A fresh database with the demo merchant, for clouds in processes of their own."""

    url: str
    folder: Path
    made: dict[str, Any]
    clouds: list[CloudProcess] = field(default_factory=list)

    @property
    def auth(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.made['api_key']}")]

    async def start(self) -> CloudProcess:
        """Another replica, serving."""
        environment = os.environ | {"GIPOS_DATABASE_URL": self.url, "GIPOS_DATA_DIR": str(self.folder / "data")}
        path = self.folder / f"cloud-{next(_numbers)}.log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cloud", "serve", "--port", "0"), env=environment, stderr=log, cwd=ROOT
            )
        cloud = CloudProcess(process, 0)
        self.clouds.append(cloud)
        async with asyncio.timeout(60):
            while (found := re.search(rb'^.*"cloud_serving".*$', path.read_bytes(), re.MULTILINE)) is None:
                assert process.returncode is None, path.read_text()
                await asyncio.sleep(0.05)
        cloud.port = json.loads(found[0])["port"]
        return cloud


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Real processes on one database; those that are left are killed at the end."""
    state = tmp_path / "demo.json"
    async with server.connected(Settings(database_url=database_url, data_dir=tmp_path / "data")) as (database, _):
        await demo.create(database, state, "")
    fleet = Fleet(database_url, tmp_path, json.loads(state.read_text()))
    yield fleet
    for cloud in fleet.clouds:
        await cloud.kill()


@pytest.fixture
def sql(database: Database) -> object:
    """Runs SQL across tenants, for what a test wants to see."""

    async def run(text: str, **parameters: object) -> list[sa.Row[tuple[object, ...]]]:
        async with database.across_tenants() as connection:
            result = await connection.execute(sa.text(text), parameters)
            return list(result.all()) if result.returns_rows else []

    return run
