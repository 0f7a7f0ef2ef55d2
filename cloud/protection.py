"""A database as it is opened: its schema brought up to date, its keys and its origin checked, nothing left in clear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from cloud.customers import privacy
from cloud.platform import idempotency, paging, schema, sealing
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.settings import Settings
from cloud.sync import restores
from cloud.webhooks import endpoints

logger = structlog.get_logger()


@asynccontextmanager
async def opened(url: str, settings: Settings, *, connections: int) -> AsyncIterator[tuple[Database, Keyring]]:
    """The database and the keys it is used with.

    Raises:
        KeysUnusable: the keys are missing, or not those of this database.
    """
    await schema.migrate(url)
    keyring = await _keys(url, settings)
    # The same for every replica: the next page may be asked of another one.
    paging.seal_with([key.derived("page tokens") for key in keyring.keys])
    database = Database(url, connections=connections, keyring=keyring)
    try:
        await restores.check_origin(database)
        for seal_plain in (privacy.seal_plain, endpoints.seal_plain, idempotency.seal_plain):
            if count := await seal_plain(database):
                logger.info("sealed_what_was_plain", what=seal_plain.__module__, count=count)
        yield database, keyring
    finally:
        await database.close()


async def _keys(url: str, settings: Settings) -> Keyring:
    database = Database(url, connections=1)
    try:
        async with database.across_tenants() as connection:
            return await sealing.unlocked(connection, settings)
    finally:
        await database.close()
