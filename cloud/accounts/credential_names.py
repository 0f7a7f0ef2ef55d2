"""What merchants call their keys and applications: for screens and lists that know only an id."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts.tables import api_keys, oauth_clients


async def of(connection: AsyncConnection, tenant_id: str, ids: Collection[str]) -> dict[str, str]:
    """Names by id, also of what was revoked or removed."""
    found: dict[str, str] = {}
    for table in (api_keys, oauth_clients):
        rows = await connection.execute(
            sa.select(table.c.id, table.c.name).where(table.c.tenant_id == tenant_id, table.c.id.in_(ids))
        )
        found |= {row.id: row.name for row in rows}
    return found
