"""The integrator's own id as the key: create the product that has it, or replace it."""

from __future__ import annotations

from cloud.catalog import listing, products
from cloud.platform.database import Transaction
from gipos.v1.catalog_pb2 import Product
from kernel.errors import Invalid, VersionConflict, Violation


async def upsert(tx: Transaction, draft: Product, etag: str) -> tuple[Product, bool]:
    """The product as it is now, and whether it was created.

    Raises:
        Invalid: the draft breaks rules, or names no external_id.
        AlreadyExists: another product has its SKU or a barcode.
        VersionConflict: an etag was given, and there is no such product or it has another one.
    """
    key = draft.external_id.strip()
    if not key:
        raise Invalid([Violation("external_id", "REQUIRED", "external_id is required: it is the key.")])
    await tx.alone(f"product {key}")  # else two first ones would both create it
    current = await listing.by_external_id(tx.connection, tx.tenant_id, key)
    if current is None:
        if etag:
            message = f"There is no product with external_id {key!r} any more, so it cannot have the etag {etag}."
            raise VersionConflict(message, external_id=key)
        return await products.create(tx, draft), True
    replacement = Product()
    replacement.CopyFrom(draft)
    replacement.id = current.id
    return await products.update(tx, replacement, ["*"], etag), False
