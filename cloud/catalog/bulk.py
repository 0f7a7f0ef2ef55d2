"""Many products in a few statements: who owns which codes, adding, changing. Knows no rules; those are in products and drafts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from cloud.catalog import products
from cloud.catalog.tables import product_barcodes
from cloud.catalog.tables import products as rows
from cloud.platform.database import Transaction
from gipos.v1.catalog_pb2 import Product
from kernel.errors import AlreadyExists, Violation
from kernel.event_types import PRODUCT_CREATED, PRODUCT_UPDATED

_ARRAY = rows.c.barcodes.type

_GIVEN = """json_to_recordset(CAST(:rows AS json)) AS r (
        id text, name text, sku text, barcodes text[], category text, unit text, price bigint, cost bigint, tax_class smallint,
        image_url text, active boolean, external_id text)"""

_INSERT = sa.text(
    f"""
    INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, cost, tax_class, image_url, active,
                          external_id, version, created_at, updated_at)
    SELECT :tenant_id, r.id, r.name, r.sku, r.barcodes, r.category, r.unit, r.price, r.cost, r.tax_class, r.image_url, r.active,
           r.external_id, 1, :now, :now
    FROM {_GIVEN}
    """  # noqa: S608 (both pieces are constants of this file)
)
_UPDATE = sa.text(
    f"""
    UPDATE products AS p SET name = r.name, sku = r.sku, barcodes = r.barcodes, category = r.category, unit = r.unit,
        price = r.price, cost = r.cost, tax_class = r.tax_class, image_url = r.image_url, active = r.active,
        external_id = r.external_id, version = p.version + 1, updated_at = :now
    FROM {_GIVEN} WHERE p.tenant_id = :tenant_id AND p.id = r.id RETURNING p.*
    """  # noqa: S608 (both pieces are constants of this file)
)
# Unique values that move from one product of a batch to another: PostgreSQL checks them row by row, so they are put down first.
_PUT_DOWN = sa.text(
    "UPDATE products SET sku = '', external_id = '' WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS text[]))"
)
_FREE = sa.text(
    """
    DELETE FROM product_barcodes AS b USING unnest(CAST(:codes AS text[]), CAST(:ids AS text[])) AS gone (code, product_id)
    WHERE b.tenant_id = :tenant_id AND b.code = gone.code AND b.product_id = gone.product_id
    """
)
_TAKE = sa.text(
    """
    INSERT INTO product_barcodes (tenant_id, code, product_id)
    SELECT :tenant_id, b.code, b.product_id FROM unnest(CAST(:codes AS text[]), CAST(:ids AS text[])) AS b (code, product_id)
    ORDER BY b.code
    """
)


@dataclass
class Taken:
    """Which product has which unique value. Kept up to date while a batch is decided, item by item."""

    barcodes: dict[str, str] = field(default_factory=dict)
    skus: dict[str, str] = field(default_factory=dict)
    external_ids: dict[str, str] = field(default_factory=dict)

    def note(self, product: Product) -> None:
        """The product has its values now."""
        self.barcodes.update(dict.fromkeys(product.barcodes, product.id))
        if product.sku:
            self.skus[product.sku] = product.id
        if product.external_id:
            self.external_ids[product.external_id] = product.id

    def forget(self, product: Product) -> None:
        """The product no longer has these values."""
        for code in product.barcodes:
            self.barcodes.pop(code, None)
        self.skus.pop(product.sku, None)
        self.external_ids.pop(product.external_id, None)

    def conflicts(self, product: Product, path: str = "") -> list[Violation]:
        """What of the product's values another one has."""
        found = []
        for name, owners in (("sku", self.skus), ("external_id", self.external_ids)):
            value = getattr(product, name)
            if value and owners.get(value, product.id) != product.id:
                message = f"{name} {value!r} already belongs to product {owners[value]}."
                found.append(Violation(f"{path}{name}", "ALREADY_EXISTS", message))
        for index, code in enumerate(product.barcodes):
            owner = self.barcodes.get(code, product.id)
            if owner != product.id:
                message = f"barcode {code!r} already belongs to product {owner}."
                found.append(Violation(f"{path}barcodes[{index}]", "ALREADY_EXISTS", message))
        return found


async def locked(
    tx: Transaction, *, wanted: Iterable[Product], ids: Collection[str] = (), external_ids: Collection[str] = ()
) -> tuple[dict[str, Product], Taken]:
    """The products, not archived, that have a unique value of these or are named by id or external_id; who has what."""
    wanted = list(wanted)
    codes = _askable(code for product in wanted for code in product.barcodes)
    query = sa.select(product_barcodes.c.code, product_barcodes.c.product_id).where(
        product_barcodes.c.tenant_id == tx.tenant_id, product_barcodes.c.code == sa.any_(sa.literal(codes, _ARRAY))
    )
    owners: dict[str, str] = {row.code: row.product_id for row in await tx.connection.execute(query)} if codes else {}
    keys = _askable([*external_ids, *(product.external_id for product in wanted)])
    skus = _askable(product.sku for product in wanted)
    candidates = sa.or_(
        rows.c.id == sa.any_(sa.literal(_askable([*ids, *owners.values()]), _ARRAY)),
        rows.c.external_id == sa.any_(sa.literal(keys, _ARRAY)),
        rows.c.sku == sa.any_(sa.literal(skus, _ARRAY)),
    )
    found = sa.select(rows).where(rows.c.tenant_id == tx.tenant_id, rows.c.deleted_at.is_(None), candidates)
    # Locked in the order of ids, so that two batches never wait for each other.
    existing = [products.to_proto(row) for row in await tx.connection.execute(found.order_by(rows.c.id).with_for_update())]
    taken = Taken()
    for product in existing:
        taken.note(product)
    taken.barcodes.update(owners)
    return {product.id: product for product in existing}, taken


async def create(tx: Transaction, created: Sequence[Product]) -> None:
    """Adds products that have ids and everything else; sets their etag and times and announces them.

    Raises:
        AlreadyExists: another request took a code of theirs in the meantime; sending the batch again is right.
    """
    if not created:
        return
    # In one order for everybody, so that two batches of the same goods wait for each other instead of crossing.
    ordered = sorted(created, key=lambda product: (product.external_id, product.sku, sorted(product.barcodes)))
    with _each_code_once():
        await tx.run(_INSERT, tenant_id=tx.tenant_id, rows=_json(ordered), now=tx.now)
        await _take(tx, [(code, product.id) for product in created for code in product.barcodes])
    for product in created:
        product.etag = "1"
        product.create_time.FromDatetime(tx.now)
        product.update_time.FromDatetime(tx.now)
        tx.publish(PRODUCT_CREATED, product, subject_id=product.id, version=1)


async def update(tx: Transaction, changed: Sequence[tuple[Product, Product]]) -> dict[str, Product]:
    """Stores products that exist, given as new and old, and announces them; how they are now, by id.

    Raises:
        AlreadyExists: as `create`.
    """
    if not changed:
        return {}
    had = [(code, old.id) for new, old in changed for code in old.barcodes if code not in new.barcodes]
    if had:
        await tx.run(_FREE, tenant_id=tx.tenant_id, codes=[code for code, _ in had], ids=[owner for _, owner in had])
    moved = [new.id for new, old in changed if (old.sku, old.external_id) != (new.sku, new.external_id)]
    if len(moved) > 1:
        await tx.run(_PUT_DOWN, tenant_id=tx.tenant_id, ids=moved)
    with _each_code_once():
        result = await tx.run(_UPDATE, tenant_id=tx.tenant_id, rows=_json([new for new, _ in changed]), now=tx.now)
        stored = {row.id: products.to_proto(row) for row in result}
        await _take(tx, [(code, new.id) for new, old in changed for code in new.barcodes if code not in old.barcodes])
    for new, _ in changed:
        product = stored[new.id]
        tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=int(product.etag))
    return stored


@contextmanager
def _each_code_once() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise AlreadyExists("Another request has just used a code of this batch. Nothing was changed; send it again.") from error


async def _take(tx: Transaction, codes: Sequence[tuple[str, str]]) -> None:
    if codes:
        await tx.run(_TAKE, tenant_id=tx.tenant_id, codes=[code for code, _ in codes], ids=[owner for _, owner in codes])


def _askable(texts: Iterable[str]) -> list[str]:
    """The texts that can be looked up: PostgreSQL refuses a NUL, and one bad item must not stop the others."""
    return sorted({text for text in texts if text and "\0" not in text})


def _json(given: Sequence[Product]) -> str:
    return orjson.dumps([{"id": product.id, **products.columns(product)} for product in given]).decode()
