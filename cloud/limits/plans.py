"""Plans: what a merchant may use. Kept in a table and read by every charge, so a change holds from the next request on."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.limits.tables import plans
from cloud.platform.database import Transaction
from kernel.errors import NotFound

EVERYBODY = ""
"""The merchant of the rows that hold for all."""

_CHOOSE = sa.text("UPDATE tenants SET plan = :name WHERE tenant_id = :tenant_id")
_CHOSEN = sa.text("SELECT plan FROM tenants WHERE tenant_id = :tenant_id")


@dataclass(frozen=True)
class Plan:
    """What may be used."""

    name: str
    daily_limit: int | None
    """Requests a day; None for no limit."""
    requests_per_second: int
    """Of each key."""
    concurrent_limit: int
    """Requests at the same time, all keys together."""


async def choose(tx: Transaction, name: str) -> None:
    """Puts the merchant of this transaction on a plan.

    Raises:
        NotFound: there is no such plan.
    """
    known = sa.select(plans.c.name).where(plans.c.name == name, plans.c.tenant_id.in_([EVERYBODY, tx.tenant_id])).limit(1)
    if (await tx.run(known)).scalar_one_or_none() is None:
        raise NotFound(f"There is no plan {name}.", plan=name)
    await tx.run(_CHOOSE, name=name, tenant_id=tx.tenant_id)


async def agree(tx: Transaction, plan: Plan) -> None:
    """Writes down what was agreed with this merchant alone, and puts it on that plan."""
    row = {
        "daily_limit": plan.daily_limit,
        "requests_per_second": plan.requests_per_second,
        "concurrent_limit": plan.concurrent_limit,
    }
    statement = insert(plans).values(tenant_id=tx.tenant_id, name=plan.name, **row)
    await tx.run(statement.on_conflict_do_update(index_elements=["tenant_id", "name"], set_=row))
    await tx.run(_CHOOSE, name=plan.name, tenant_id=tx.tenant_id)


async def of(connection: AsyncConnection, tenant_id: str) -> Plan:
    """The plan that holds for a merchant: its own agreement, else what holds for all."""
    name = (await connection.execute(_CHOSEN, {"tenant_id": tenant_id})).scalar_one()
    statement = (
        sa.select(plans)
        .where(plans.c.name == name, plans.c.tenant_id.in_([EVERYBODY, tenant_id]))
        .order_by(plans.c.tenant_id.desc())
        .limit(1)
    )
    row = (await connection.execute(statement)).one()
    return Plan(row.name, row.daily_limit, row.requests_per_second, row.concurrent_limit)
