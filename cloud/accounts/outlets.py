"""Outlets, their tills, and which outlet is meant when a caller names none."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts.tables import outlets, tenants, tills
from cloud.platform import log
from cloud.platform.database import Announcing, Transaction
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import TaxClass
from kernel.business_days import TIME_ZONES
from kernel.errors import Invalid, NotFound, Violation
from kernel.ids import new_id
from kernel.signatures import fingerprint

_SHOPS = sa.text("SELECT id, time_zone, prices_include_tax FROM outlets WHERE tenant_id = :tenant_id")
_TAX_CLASS = sa.text("SELECT tax_class FROM tenants WHERE tenant_id = :tenant_id")


async def create(tx: Transaction, draft: Outlet) -> Outlet:
    """Adds an outlet and opens its lane in the log.

    Raises:
        Invalid: the time zone is not one of Indonesia's.
    """
    if draft.time_zone not in TIME_ZONES:
        raise Invalid([Violation("time_zone", "INVALID", f"time_zone must be one of {', '.join(TIME_ZONES)}.")])
    outlet_id = new_id("out")
    await tx.connection.execute(
        sa.insert(outlets).values(
            tenant_id=tx.tenant_id,
            id=outlet_id,
            name=draft.name,
            code=draft.code,
            address=draft.address,
            time_zone=draft.time_zone,
            tax_number=draft.tax_number,
            prices_include_tax=draft.prices_include_tax,
            receipt_footer=draft.receipt_footer,
            created_at=tx.now,
        )
    )
    await log.add_lane(tx.connection, tx.tenant_id, outlet_id)
    return await find(tx.connection, tx.tenant_id, outlet_id)


async def add_till(tx: Transaction, outlet_id: str, name: str, number: int, token: str) -> Till:
    """Adds a till that authenticates with this device token."""
    till = Till(id=new_id("dev"), name=name, number=number, outlet_id=outlet_id)
    await tx.connection.execute(
        sa.insert(tills).values(
            tenant_id=tx.tenant_id,
            id=till.id,
            outlet_id=outlet_id,
            name=name,
            number=number,
            token_fingerprint=fingerprint(token),
        )
    )
    return till


async def every(connection: AsyncConnection, tenant_id: str) -> list[Outlet]:
    """The outlets of the merchant with their tills, oldest first."""
    by_id = {}
    rows = await connection.execute(
        sa.select(outlets).where(outlets.c.tenant_id == tenant_id).order_by(outlets.c.created_at, outlets.c.id)
    )
    for row in rows:
        outlet = Outlet(
            id=row.id,
            name=row.name,
            code=row.code,
            address=row.address,
            time_zone=row.time_zone,
            tax_number=row.tax_number,
            prices_include_tax=row.prices_include_tax,
            receipt_footer=row.receipt_footer,
        )
        outlet.create_time.FromDatetime(row.created_at)
        by_id[row.id] = outlet
    for row in await connection.execute(sa.select(tills).where(tills.c.tenant_id == tenant_id).order_by(tills.c.number)):
        if row.outlet_id in by_id:
            by_id[row.outlet_id].tills.add(id=row.id, name=row.name, number=row.number, outlet_id=row.outlet_id)
    return list(by_id.values())


async def find(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> Outlet:
    """One outlet.

    Raises:
        NotFound: no such outlet.
    """
    for outlet in await every(connection, tenant_id):
        if outlet.id == outlet_id:
            return outlet
    raise NotFound(f"Outlet {outlet_id} does not exist. GET /api/v1/outlets lists yours.", outlet_id=outlet_id)


async def meant(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> Outlet:
    """The outlet a request is about: the one named, or the only one there is.

    Raises:
        Invalid: none is named and there are several, or the one named does not exist.
    """
    outlet, wrong = among(await every(connection, tenant_id), outlet_id)
    if wrong:
        raise Invalid(wrong)
    return outlet


def among(mine: Sequence[Outlet], outlet_id: str) -> tuple[Outlet, list[Violation]]:
    """Which of these a request is about, as `meant`; or an empty outlet and what is wrong, for who has more to say about it."""
    if not outlet_id and len(mine) == 1:
        return mine[0], []
    if not outlet_id:
        message = f"outlet_id is required: you have {len(mine)} outlets. GET /api/v1/outlets lists them."
        return Outlet(), [Violation("outlet_id", "REQUIRED", message)]
    found = next((outlet for outlet in mine if outlet.id == outlet_id), None)
    if found is None:
        message = f"There is no outlet {outlet_id}. GET /api/v1/outlets lists yours."
        return Outlet(), [Violation("outlet_id", "NOT_FOUND", message)]
    return found, []


async def tenant(connection: AsyncConnection, tenant_id: str) -> tuple[str, TaxClass.ValueType]:
    """The merchant's name and the tax class of products that name none."""
    row = (await connection.execute(sa.select(tenants).where(tenants.c.tenant_id == tenant_id))).one()
    return row.name, row.tax_class


async def shops(tx: Announcing) -> dict[str, Outlet]:
    """The outlets by id, with what a sale takes from them: time zone and whether prices include tax. No tills."""
    return {
        outlet_id: Outlet(id=outlet_id, time_zone=time_zone, prices_include_tax=prices_include_tax)
        for outlet_id, time_zone, prices_include_tax in await tx.run(_SHOPS, tenant_id=tx.tenant_id)
    }


async def tax_class(tx: Announcing) -> TaxClass.ValueType:
    """The tax class of products that name none."""
    ((value,),) = await tx.run(_TAX_CLASS, tenant_id=tx.tenant_id)
    return value  # type: ignore[no-any-return]  # a small number of that enum


async def create_tenant(tx: Transaction, name: str, tax_class: TaxClass.ValueType, mode: str = "test") -> None:
    """Adds the merchant this transaction belongs to, for test or live data, and opens its lane in the log."""
    row = {"tenant_id": tx.tenant_id, "name": name, "tax_class": tax_class, "mode": mode}
    await tx.connection.execute(sa.insert(tenants).values(row))
    await log.add_lane(tx.connection, tx.tenant_id, log.TENANT_LANE)
