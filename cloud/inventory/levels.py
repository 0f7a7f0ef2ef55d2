"""How much there is: reading levels, setting them after a count, and opening them with the first stock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.catalog.imports import Opening
from cloud.inventory import buffers, movements
from cloud.inventory.movements import Change, to_level
from cloud.inventory.tables import levels
from cloud.platform import checks
from cloud.platform.database import Transaction
from gipos.v1.inventory_pb2 import Inventory, Level, SetInventoryRequest
from kernel import quantities
from kernel.errors import Invalid, VersionConflict

_COLUMN = levels.c

# The first level of a product in an outlet; an existing one is never overwritten.
_OPEN = sa.text(
    """
    INSERT INTO levels (tenant_id, outlet_id, product_id, on_hand, version, updated_at)
    SELECT :tenant_id, d.outlet_id, d.product_id, 0, 0, :now
    FROM unnest(CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[])) AS d (outlet_id, product_id)
    ORDER BY d.outlet_id, d.product_id
    ON CONFLICT DO NOTHING
    RETURNING outlet_id, product_id
    """
)


async def open_stock(tx: Transaction, openings: Sequence[Opening]) -> int:
    """Gives products their first stock in an outlet; how many had none yet."""
    result = await tx.run(
        _OPEN,
        tenant_id=tx.tenant_id,
        outlet_ids=[opening.outlet_id for opening in openings],
        product_ids=[opening.product_id for opening in openings],
        now=tx.now,
    )
    fresh = {(row.outlet_id, row.product_id) for row in result}
    changes = [
        Change(opening.outlet_id, opening.product_id, opening.quantity, movements.OPENING)
        for opening in openings
        if (opening.outlet_id, opening.product_id) in fresh
    ]
    await movements.apply(tx, changes)
    return len(changes)


async def count(tx: Transaction, request: SetInventoryRequest) -> Inventory:
    """Sets what a count found; the difference becomes a movement.

    Raises:
        Invalid: quantity or outlet is not right.
        NotFound: no such product.
        VersionConflict: the level is no longer at the expected version.
    """
    outlet, unclear = outlets.among(await outlets.every(tx.connection, tx.tenant_id), request.outlet_id)
    if wrong := [*checks.quantity("on_hand", request.on_hand), *checks.text("note", request.note, 500), *unclear]:
        raise Invalid(wrong)
    await products.find(tx.connection, tx.tenant_id, request.product_id)
    # A level that is not there yet cannot be locked: it is made first, at version 0, so that two first counts do not cross.
    await tx.run(_OPEN, tenant_id=tx.tenant_id, outlet_ids=[outlet.id], product_ids=[request.product_id], now=tx.now)
    query = sa.select(levels).where(
        _COLUMN.tenant_id == tx.tenant_id, _COLUMN.outlet_id == outlet.id, _COLUMN.product_id == request.product_id
    )
    row = (await tx.connection.execute(query.with_for_update())).one()
    if request.HasField("expected_version") and request.expected_version != row.version:
        raise VersionConflict(
            f"The stock changed since you read it (version {row.version}, you expected {request.expected_version}). "
            "Read it again, then retry.",
            product_id=request.product_id,
        )
    difference = quantities.parse(request.on_hand) - row.on_hand
    if difference or row.version == 0:
        await movements.apply(tx, [Change(outlet.id, request.product_id, difference, movements.COUNT, note=request.note)])
    return await find(tx.connection, tx.tenant_id, request.product_id, "")


async def find(connection: AsyncConnection, tenant_id: str, product_id: str, outlet_id: str) -> Inventory:
    """The stock of a product, in total and per outlet.

    Raises:
        NotFound: no such product.
        Invalid: no such outlet.
    """
    await products.find(connection, tenant_id, product_id)
    query = sa.select(levels).where(_COLUMN.tenant_id == tenant_id, _COLUMN.product_id == product_id).order_by(_COLUMN.outlet_id)
    if outlet_id:
        await outlets.meant(connection, tenant_id, outlet_id)
        query = query.where(_COLUMN.outlet_id == outlet_id)
    rows = (await connection.execute(query)).all()
    on_hand = sum(row.on_hand for row in rows)
    reserved = sum(row.reserved for row in rows)
    shown = await buffers.shown(connection, tenant_id, rows)
    return Inventory(
        product_id=product_id,
        on_hand=quantities.text(on_hand),
        reserved=quantities.text(reserved),
        available=quantities.text(on_hand - reserved),
        available_online=quantities.text(sum(quantities.parse(level.available_online) for level in shown)),
        levels=shown,
    )


async def pages_of_outlet(connection: AsyncConnection, tenant_id: str, outlet_id: str, size: int) -> AsyncIterator[list[Level]]:
    """All levels of an outlet, so many at a time, for a snapshot: the connection must be in a transaction."""
    query = sa.select(levels).where(_COLUMN.tenant_id == tenant_id, _COLUMN.outlet_id == outlet_id).order_by(_COLUMN.product_id)
    async with connection.stream(query, execution_options={"yield_per": size}) as rows:
        async for page in rows.partitions():
            yield [to_level(row) for row in page]


async def number_of_outlet(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> int:
    """How many levels an outlet has."""
    query = sa.select(sa.func.count()).select_from(levels)
    count: int = (
        await connection.execute(query.where(_COLUMN.tenant_id == tenant_id, _COLUMN.outlet_id == outlet_id))
    ).scalar_one()
    return count
