"""Products of which little is left, with their names: all of them, or those among some products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# Names are the catalogue's; read here in one statement because both must be of one moment.
_READ = """
    SELECT l.outlet_id, l.product_id, p.name, p.unit, l.on_hand - l.reserved AS available
    FROM levels l JOIN products p ON p.tenant_id = l.tenant_id AND p.id = l.product_id AND p.active
    WHERE l.tenant_id = :tenant_id AND l.on_hand - l.reserved <= :at_most
"""
_ALL = sa.text(_READ)
_SOME = sa.text(f"{_READ} AND l.product_id = ANY(CAST(:product_ids AS text[]))")


@dataclass(frozen=True)
class Shortage:
    """A product in an outlet."""

    outlet_id: str
    product_id: str
    name: str
    unit: str
    available: int
    """In thousandths; may be negative."""


async def read(
    connection: AsyncConnection, tenant_id: str, at_most: int, product_ids: Sequence[str] | None = None
) -> list[Shortage]:
    """Where no more than so many thousandths are available, in no order."""
    given = {"tenant_id": tenant_id, "at_most": at_most}
    if product_ids is None:
        rows = await connection.execute(_ALL, given)
    else:
        rows = await connection.execute(_SOME, {**given, "product_ids": list(product_ids)})
    return [Shortage(*row) for row in rows]
