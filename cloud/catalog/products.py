"""The rules of products: create, read, change, archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.catalog import drafts
from cloud.catalog.tables import product_barcodes, products
from cloud.platform.database import Announcing, Transaction
from gipos.v1.catalog_pb2 import Product
from kernel.errors import AlreadyExists, Invalid, NotFound, VersionConflict, Violation
from kernel.event_types import PRODUCT_CREATED, PRODUCT_DELETED, PRODUCT_UPDATED
from kernel.ids import new_id
from kernel.money import rupiah

Row = Any
"""A row of the products table; SQLAlchemy has no type for it."""

_TABLE = products.c
_SELLABLE = sa.text(
    """
    SELECT id, name, unit, price, tax_class FROM products
    WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS text[])) AND deleted_at IS NULL
    """
)


def to_proto(row: Row) -> Product:
    """A row as the contract has it."""
    product = Product(
        id=row.id,
        name=row.name,
        sku=row.sku,
        barcodes=row.barcodes,
        category=row.category,
        unit=row.unit,
        price=rupiah(row.price),
        tax_class=row.tax_class,
        image_url=row.image_url,
        active=row.active,
        external_id=row.external_id,
        etag=str(row.version),
    )
    if row.cost is not None:
        product.cost.CopyFrom(rupiah(row.cost))
    product.create_time.FromDatetime(row.created_at)
    product.update_time.FromDatetime(row.updated_at)
    if row.deleted_at is not None:
        product.delete_time.FromDatetime(row.deleted_at)
    return product


def columns(product: Product) -> dict[str, Any]:
    """What may be written, as columns."""
    return {
        "name": product.name,
        "sku": product.sku,
        "barcodes": list(product.barcodes),
        "category": product.category,
        "unit": product.unit,
        "price": product.price.amount,
        "cost": product.cost.amount if product.HasField("cost") else None,
        "tax_class": product.tax_class,
        "image_url": product.image_url,
        "active": product.active,
        "external_id": product.external_id,
    }


async def create(tx: Transaction, draft: Product) -> Product:
    """Adds a product.

    Raises:
        Invalid: the draft breaks rules.
        AlreadyExists: another product has its SKU, external_id or one of its barcodes.
    """
    if wrong := list(drafts.violations(draft)):
        raise Invalid(wrong)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    product = drafts.normalised(draft, tax_class)
    product.id = new_id("prd")
    await refuse_taken(tx, product)
    values = {"tenant_id": tx.tenant_id, "id": product.id, "version": 1, "created_at": tx.now, "updated_at": tx.now}
    try:
        row = (await tx.connection.execute(sa.insert(products).values(**values, **columns(product)).returning(products))).one()
        await replace_barcodes(tx, product.id, product.barcodes, had=())
    except IntegrityError as error:
        raise _taken_meanwhile() from error
    created = to_proto(row)
    tx.publish(PRODUCT_CREATED, created, subject_id=created.id, version=1)
    return created


async def update(tx: Transaction, draft: Product, paths: Sequence[str], etag: str) -> Product:
    """Changes the fields named by the paths ("*" for all).

    Raises:
        NotFound, Invalid, AlreadyExists, VersionConflict: as their names say.
    """
    row = await _locked(tx, draft.id)
    current = to_proto(row)
    if row.deleted_at is not None:
        raise NotFound(f"Product {draft.id} is archived and cannot be changed.", product_id=draft.id)
    if etag and etag != current.etag:
        raise VersionConflict(
            f"Product {draft.id} changed since you read it (etag {current.etag}, you sent {etag}). Read it again, then retry.",
            product_id=draft.id,
        )
    product, wrong = drafts.merged(current, draft, paths or drafts.WRITABLE)
    wrong += drafts.violations(product)
    if wrong:
        raise Invalid(wrong)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    product = drafts.normalised(product, tax_class)
    product.id = draft.id
    if columns(product) == {name: getattr(row, name) for name in columns(product)}:
        return current
    await refuse_taken(tx, product)
    try:
        changed = to_proto(await write(tx, product, had=row.barcodes))
    except IntegrityError as error:
        raise _taken_meanwhile() from error
    tx.publish(PRODUCT_UPDATED, changed, subject_id=changed.id, version=int(changed.etag))
    return changed


async def write(tx: Transaction, product: Product, had: Collection[str]) -> Row:
    """Stores the writable fields of a product that exists; its new row."""
    statement = (
        sa.update(products)
        .where(_TABLE.tenant_id == tx.tenant_id, _TABLE.id == product.id)
        .values(**columns(product), version=_TABLE.version + 1, updated_at=tx.now)
        .returning(products)
    )
    row = (await tx.connection.execute(statement)).one()
    await replace_barcodes(tx, product.id, product.barcodes, had=had)
    return row


async def delete(tx: Transaction, product_id: str, etag: str = "") -> None:
    """Archives a product and frees its barcodes. Archiving twice changes nothing.

    Raises:
        NotFound: no such product.
        VersionConflict: it no longer has this etag.
    """
    row = await _locked(tx, product_id)
    if row.deleted_at is not None:
        return
    if etag and etag != str(row.version):
        raise VersionConflict(
            f"Product {product_id} changed since you read it (etag {row.version}, you sent {etag}). Read it again, then retry.",
            product_id=product_id,
        )
    statement = (
        sa.update(products)
        .where(_TABLE.tenant_id == tx.tenant_id, _TABLE.id == product_id)
        .values(deleted_at=tx.now, updated_at=tx.now, version=_TABLE.version + 1)
        .returning(products)
    )
    archived = to_proto((await tx.connection.execute(statement)).one())
    await replace_barcodes(tx, product_id, (), had=row.barcodes)
    tx.publish(PRODUCT_DELETED, archived, subject_id=product_id, version=int(archived.etag))


async def find(connection: AsyncConnection, tenant_id: str, product_id: str) -> Product:
    """One product, archived or not.

    Raises:
        NotFound: no such product.
    """
    found = await by_ids(connection, tenant_id, [product_id])
    if product_id not in found:
        raise NotFound(f"Product {product_id} does not exist.", product_id=product_id)
    return found[product_id]


async def by_ids(connection: AsyncConnection, tenant_id: str, product_ids: Collection[str]) -> dict[str, Product]:
    """The products with these ids, archived ones included."""
    query = sa.select(products).where(
        _TABLE.tenant_id == tenant_id, _TABLE.id == sa.any_(sa.literal(list(product_ids), _TABLE.barcodes.type))
    )
    return {row.id: to_proto(row) for row in await connection.execute(query)}


async def sellable(tx: Announcing, product_ids: Collection[str]) -> dict[str, Product]:
    """Of these products those that are not archived, with what a sale takes from them: name, unit, price and tax class."""
    return {
        product_id: Product(id=product_id, name=name, unit=unit, price=rupiah(price), tax_class=tax_class)
        for product_id, name, unit, price, tax_class in await tx.run(_SELLABLE, tenant_id=tx.tenant_id, ids=list(product_ids))
    }


async def pages(connection: AsyncConnection, tenant_id: str, size: int) -> AsyncIterator[list[Product]]:
    """All products that are not archived, so many at a time, for a snapshot: the connection must be in a transaction."""
    query = sa.select(products).where(_TABLE.tenant_id == tenant_id, _TABLE.deleted_at.is_(None)).order_by(_TABLE.id)
    async with connection.stream(query, execution_options={"yield_per": size}) as rows:
        async for page in rows.partitions():
            yield [to_proto(row) for row in page]


async def number(connection: AsyncConnection, tenant_id: str) -> int:
    """How many products there are that are not archived."""
    query = sa.select(sa.func.count()).select_from(products).where(_TABLE.tenant_id == tenant_id, _TABLE.deleted_at.is_(None))
    count: int = (await connection.execute(query)).scalar_one()
    return count


async def replace_barcodes(tx: Transaction, product_id: str, codes: Collection[str], *, had: Collection[str]) -> None:
    """Makes exactly these codes the product's."""
    if gone := [code for code in had if code not in codes]:
        await tx.connection.execute(
            sa.delete(product_barcodes).where(
                product_barcodes.c.tenant_id == tx.tenant_id,
                product_barcodes.c.product_id == product_id,
                product_barcodes.c.code == sa.any_(sa.literal(gone, _TABLE.barcodes.type)),
            )
        )
    if new := [code for code in codes if code not in had]:
        await tx.connection.execute(
            sa.insert(product_barcodes), [{"tenant_id": tx.tenant_id, "code": code, "product_id": product_id} for code in new]
        )


async def _locked(tx: Transaction, product_id: str) -> Row:
    query = sa.select(products).where(_TABLE.tenant_id == tx.tenant_id, _TABLE.id == product_id).with_for_update()
    row = (await tx.connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"Product {product_id} does not exist.", product_id=product_id)
    return row


async def refuse_taken(tx: Transaction, product: Product) -> None:
    """Says which value another product already has.

    Raises:
        AlreadyExists: a SKU, external_id or barcode.
    """
    taken = []
    for name in ("sku", "external_id"):
        value = getattr(product, name)
        if value:
            query = sa.select(_TABLE.id).where(
                _TABLE.tenant_id == tx.tenant_id, _TABLE[name] == value, _TABLE.deleted_at.is_(None), _TABLE.id != product.id
            )
            if owner := (await tx.connection.execute(query)).scalar_one_or_none():
                taken.append(Violation(name, "ALREADY_EXISTS", f"{name} {value!r} already belongs to product {owner}."))
    query = sa.select(product_barcodes).where(
        product_barcodes.c.tenant_id == tx.tenant_id,
        product_barcodes.c.code == sa.any_(sa.literal(list(product.barcodes), _TABLE.barcodes.type)),
        product_barcodes.c.product_id != product.id,
    )
    for row in await tx.connection.execute(query):
        index = list(product.barcodes).index(row.code)
        taken.append(
            Violation(
                f"barcodes[{index}]", "ALREADY_EXISTS", f"barcode {row.code!r} already belongs to product {row.product_id}."
            )
        )
    if taken:
        raise AlreadyExists(taken[0].message, taken)


def _taken_meanwhile() -> AlreadyExists:
    return AlreadyExists(
        "Another request has just used the same SKU, external_id or barcode. Read the products again, then retry."
    )
