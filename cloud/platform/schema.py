"""Brings a database to the newest schema. Several processes may try at once: one works, the others wait and find it done."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from cloud.platform.database import driver_url

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_460_118
"""Any number of ours; it names the advisory lock that migrations hold."""


def newest() -> str:
    """The revision the code needs. The files are named by it, so that a start need not load Alembic to see that all is well."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]


async def migrate(url: str) -> bool:
    """Runs what is missing; whether there was anything to do."""
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
