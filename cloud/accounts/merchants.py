"""A merchant's two halves: live data and test data are two tenants that never see each other (docs/decisions/0008).

The second half is made when its first key is, with the same outlets and nothing in them. A live key may manage test keys; a test
key knows nothing of the live half.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.accounts.tables import tenants
from cloud.platform.database import Database
from kernel.errors import NotFound, PermissionDenied
from kernel.ids import new_id

LIVE, TEST = "live", "test"
MODES = (TEST, LIVE)


async def reach(connection: AsyncConnection, tenant_id: str) -> list[str]:
    """The tenants whose keys a key of this one may manage: its own, and of a live one also the test half."""
    row = (await connection.execute(sa.select(tenants).where(tenants.c.tenant_id == tenant_id))).one()
    return [tenant_id, row.sibling_id] if row.mode == LIVE and row.sibling_id else [tenant_id]


async def half(database: Database, tenant_id: str, mode: str, *, by_operator: bool = False) -> str:
    """The tenant that holds the merchant's data of a mode; made now if there is none yet.

    Raises:
        NotFound: no such merchant.
        PermissionDenied: from the test half nobody gets into the live one but an operator.
    """
    async with database.reading(tenant_id) as connection:
        row = (await connection.execute(sa.select(tenants).where(tenants.c.tenant_id == tenant_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no merchant {tenant_id}.", tenant_id=tenant_id)
    if row.mode == mode:
        return tenant_id
    if row.mode == TEST and not by_operator:
        raise PermissionDenied("A test key sees test data only and cannot make live keys. Use a live key for that.")
    return await _other(database, tenant_id, mode)


async def _other(database: Database, tenant_id: str, mode: str) -> str:
    mine = tenants.c.tenant_id == tenant_id
    async with database.transaction(tenant_id) as tx:
        # Whoever comes first names it. Everybody goes on under that name, also after a crash between the two transactions.
        await tx.run(sa.update(tenants).where(mine, tenants.c.sibling_id == "").values(sibling_id=new_id("ten")))
        row = (await tx.run(sa.select(tenants).where(mine))).one()
        drafts = await outlets.every(tx.connection, tenant_id)
    sibling_id: str = row.sibling_id
    async with database.transaction(sibling_id) as tx:
        await tx.alone("tenant")
        made = (await tx.run(sa.select(tenants.c.tenant_id).where(tenants.c.tenant_id == sibling_id))).one_or_none()
        if made is None:
            await outlets.create_tenant(tx, row.name, row.tax_class, mode)
            await tx.run(sa.update(tenants).where(tenants.c.tenant_id == sibling_id).values(sibling_id=tenant_id))
            for draft in drafts:
                await outlets.create(tx, draft)
    return sibling_id
