"""Batch import: up to 500 products matched, created or updated with a handful of statements, each item with its own result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from cloud.accounts import outlets
from cloud.catalog import drafts, products
from cloud.catalog.tables import product_barcodes
from cloud.catalog.tables import products as rows
from cloud.platform import checks
from cloud.platform.database import Transaction
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import ImportProductsResponse, Product, ProductImport, ProductImportResult, ProductImportStatus
from kernel import quantities
from kernel.errors import AlreadyExists, Invalid, Violation
from kernel.event_types import PRODUCT_CREATED, PRODUCT_UPDATED
from kernel.ids import new_id

MAX_ITEMS = 500


@dataclass(frozen=True)
class Opening:
    """Stock that a product begins with in an outlet."""

    outlet_id: str
    product_id: str
    quantity: int
    """Thousandths."""


OpenStock = Callable[[Transaction, Sequence[Opening]], Awaitable[int]]
"""Sets opening stock where there is no level yet. Belongs to the inventory, which lies above the catalogue and is handed in."""

_STATUS = ProductImportStatus


async def run(tx: Transaction, items: Sequence[ProductImport], open_stock: OpenStock) -> ImportProductsResponse:
    """Imports a batch.

    Raises:
        Invalid: no items, or more than 500.
        AlreadyExists: another request took a code of this batch in the meantime; sending it again is right.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise Invalid([Violation("items", "OUT_OF_RANGE", f"items must hold 1 to {MAX_ITEMS} products; these are {len(items)}.")])
    mine = await outlets.every(tx.connection, tx.tenant_id)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    results = [ProductImportResult() for _ in items]
    good: dict[int, Product] = {}
    for index, item in enumerate(items):
        wrong = list(_violations(item, mine))
        _fail(results[index], wrong)
        if not wrong:
            good[index] = drafts.normalised(item.product, tax_class)

    existing, owners = await _existing(tx, list(good.values()))
    batch = _Batch(existing, owners)
    for index, product in good.items():
        _fail(results[index], list(batch.place(items[index].product, product, results[index])))
    try:
        await _store(tx, batch)
    except IntegrityError as error:
        raise AlreadyExists("Another request has just used a code of this batch. Nothing was imported; send it again.") from error

    openings = []
    for index, item in enumerate(items):
        if item.opening_stock and results[index].status != _STATUS.PRODUCT_IMPORT_STATUS_FAILED:
            outlet_id = item.outlet_id or mine[0].id
            openings.append(Opening(outlet_id, results[index].product_id, quantities.parse(item.opening_stock)))
    if openings:
        await open_stock(tx, openings)

    def count(status: ProductImportStatus.ValueType) -> int:
        return sum(result.status == status for result in results)

    return ImportProductsResponse(
        results=results,
        created=count(_STATUS.PRODUCT_IMPORT_STATUS_CREATED),
        updated=count(_STATUS.PRODUCT_IMPORT_STATUS_UPDATED),
        unchanged=count(_STATUS.PRODUCT_IMPORT_STATUS_UNCHANGED),
        failed=count(_STATUS.PRODUCT_IMPORT_STATUS_FAILED),
    )


class _Batch:
    """Decides item by item, so that later items see what earlier ones of the same batch took."""

    def __init__(self, existing: list[Product], owners: dict[str, str]) -> None:
        self._products = {product.id: product for product in existing}
        self._by_external = {product.external_id: product.id for product in existing if product.external_id}
        self._by_sku = {product.sku: product.id for product in existing if product.sku}
        self._owners = owners
        self._touched: set[str] = set()
        self.created: list[Product] = []
        self.updated: list[tuple[Product, Product]] = []
        """New and old."""

    def _match(self, product: Product) -> str:
        if found := self._by_external.get(product.external_id):
            return found
        if found := self._by_sku.get(product.sku):
            return found
        if product.external_id or product.sku:
            # A different article that carries the code of another is a conflict, not the same article, unless the other one has
            # no key of its own.
            for code in product.barcodes:
                owner = self._products.get(self._owners.get(code, ""))
                if owner is not None and not owner.external_id and not owner.sku:
                    return owner.id
            return ""
        return next((self._owners[code] for code in product.barcodes if code in self._owners), "")

    def place(self, draft: Product, product: Product, result: ProductImportResult) -> Iterator[Violation]:
        """Decides what becomes of one product: the draft as it was sent, and with defaults filled in."""
        match = self._match(product)
        if match in self._touched:
            yield Violation("product", "DUPLICATE", f"An earlier item of this batch is the same product ({match}).")
            return
        for index, code in enumerate(product.barcodes):
            owner = self._owners.get(code, match)
            if owner != match:
                message = f"barcode {code!r} already belongs to product {owner}."
                yield Violation(f"product.barcodes[{index}]", "ALREADY_EXISTS", message)
                return
        for field, taken in (("external_id", self._by_external), ("sku", self._by_sku)):
            value = getattr(product, field)
            if value and taken.get(value, match) != match:
                yield Violation(
                    f"product.{field}", "ALREADY_EXISTS", f"{field} {value!r} already belongs to product {taken[value]}."
                )
                return
        product.id = match or new_id("prd")
        result.product_id = product.id
        self._touched.add(product.id)
        current = self._products.get(match)
        if current is not None:
            product = drafts.overlaid(current, draft, product)
            if len(product.barcodes) > drafts.MAX_BARCODES:
                message = f"With these, product {match} would have more than {drafts.MAX_BARCODES} barcodes."
                yield Violation("product.barcodes", "TOO_MANY", message)
                return
        if current is None:
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_CREATED
            self.created.append(product)
        elif products.columns(product) == products.columns(current):
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_UNCHANGED
        else:
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_UPDATED
            self.updated.append((product, current))
        self._products[product.id] = product
        self._owners.update(dict.fromkeys(product.barcodes, product.id))
        if product.external_id:
            self._by_external[product.external_id] = product.id
        if product.sku:
            self._by_sku[product.sku] = product.id


def _violations(item: ProductImport, mine: Sequence[Outlet]) -> Iterator[Violation]:
    yield from drafts.violations(item.product, "product.")
    if item.opening_stock:
        yield from checks.quantity("opening_stock", item.opening_stock)
        if item.outlet_id and all(outlet.id != item.outlet_id for outlet in mine):
            yield Violation("outlet_id", "NOT_FOUND", f"There is no outlet {item.outlet_id}. GET /api/v1/outlets lists yours.")
        if not item.outlet_id and len(mine) != 1:
            yield Violation("outlet_id", "REQUIRED", f"outlet_id is required with opening_stock: you have {len(mine)} outlets.")


def _fail(result: ProductImportResult, wrong: Sequence[Violation]) -> None:
    if wrong:
        result.status = _STATUS.PRODUCT_IMPORT_STATUS_FAILED
        for violation in wrong:
            result.errors.add(field=violation.field, reason=violation.reason, message=violation.message)


async def _existing(tx: Transaction, wanted: Sequence[Product]) -> tuple[list[Product], dict[str, str]]:
    """The products that any item could mean, locked, and who owns the barcodes."""
    array = rows.c.barcodes.type
    codes = [code for product in wanted for code in product.barcodes]
    taken = await tx.connection.execute(
        sa.select(product_barcodes.c.code, product_barcodes.c.product_id).where(
            product_barcodes.c.tenant_id == tx.tenant_id, product_barcodes.c.code == sa.any_(sa.literal(codes, array))
        )
    )
    owners: dict[str, str] = {row.code: row.product_id for row in taken}
    candidates = sa.or_(
        rows.c.id == sa.any_(sa.literal(sorted(set(owners.values())), array)),
        rows.c.external_id == sa.any_(sa.literal([product.external_id for product in wanted if product.external_id], array)),
        rows.c.sku == sa.any_(sa.literal([product.sku for product in wanted if product.sku], array)),
    )
    query = sa.select(rows).where(rows.c.tenant_id == tx.tenant_id, rows.c.deleted_at.is_(None), candidates)
    # Locked in the order of ids, so that two imports never wait for each other.
    found = await tx.connection.execute(query.order_by(rows.c.id).with_for_update())
    return [products.to_proto(row) for row in found], owners


async def _store(tx: Transaction, batch: _Batch) -> None:
    if batch.created:
        stamp = {"tenant_id": tx.tenant_id, "version": 1, "created_at": tx.now, "updated_at": tx.now}
        # In one order for everybody, so that two imports of the same goods wait for each other instead of crossing.
        batch.created.sort(key=lambda product: (product.external_id, product.sku, sorted(product.barcodes)))
        await tx.connection.execute(
            sa.insert(rows), [{**stamp, "id": product.id, **products.columns(product)} for product in batch.created]
        )
        codes = [
            {"tenant_id": tx.tenant_id, "code": code, "product_id": product.id}
            for product in batch.created
            for code in product.barcodes
        ]
        if codes:
            await tx.connection.execute(sa.insert(product_barcodes), sorted(codes, key=itemgetter("code")))
        for product in batch.created:
            product.etag = "1"
            product.create_time.FromDatetime(tx.now)
            product.update_time.FromDatetime(tx.now)
            tx.publish(PRODUCT_CREATED, product, subject_id=product.id, version=1)
    for product, current in batch.updated:
        changed = products.to_proto(await products.write(tx, product, had=current.barcodes))
        tx.publish(PRODUCT_UPDATED, changed, subject_id=changed.id, version=int(changed.etag))
