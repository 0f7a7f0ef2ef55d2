"""Brings a database to the newest schema. Several processes may try at once: one works, the others wait and find it done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from cloud.platform.database import driver_url

logger = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
STARTING_SECONDS = 60.0
PAUSE_SECONDS = 0.5
_STARTING = "57P03"
_LOCK = 7_460_118
"""Any number of ours; it names the advisory lock that migrations hold."""


def newest() -> str:
    """The revision the code needs. The files are named by it, so that a start need not load Alembic to see that all is well."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]


async def migrate(url: str) -> bool:
    """Runs what is missing; whether there was anything to do. Waits for a server that is starting, a minute at most."""
    deadline = asyncio.get_running_loop().time() + STARTING_SECONDS
    while True:
        try:
            return await _migrate(url)
        except (DBAPIError, asyncpg.CannotConnectNowError) as error:
            state = getattr(getattr(error, "orig", error), "sqlstate", "")
            if state != _STARTING or asyncio.get_running_loop().time() > deadline:
                raise
        logger.info("database_is_starting")
        await asyncio.sleep(PAUSE_SECONDS)  # a server tells nobody when it is ready


async def _migrate(url: str) -> bool:
    engine = create_async_engine(driver_url(url), pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            exists = (await connection.execute(sa.text("SELECT to_regclass('alembic_version')"))).scalar_one()
            if exists is not None:
                current = (await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
                # A database that is newer than the code stays as it is: the release before must run on it.
                if current is not None and current >= newest():
                    return False
            await connection.run_sync(_upgrade)
            return True
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
