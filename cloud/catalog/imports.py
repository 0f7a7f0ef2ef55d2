"""Batch import: up to 500 products matched, created or updated with a handful of statements, each item with its own result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from cloud.accounts import outlets
from cloud.catalog import bulk, drafts, products
from cloud.platform import batches, checks
from cloud.platform.database import Transaction
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import ImportProductsResponse, Product, ProductImport, ProductImportResult, ProductImportStatus
from kernel import quantities
from kernel.errors import Violation
from kernel.ids import new_id


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
    batches.check_size("items", items)
    mine = await outlets.every(tx.connection, tx.tenant_id)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    results = [ProductImportResult() for _ in items]
    good: dict[int, Product] = {}
    for index, item in enumerate(items):
        wrong = list(_violations(item, mine))
        _fail(results[index], wrong)
        if not wrong:
            good[index] = drafts.normalised(item.product, tax_class)

    batch = _Batch(*await bulk.locked(tx, wanted=good.values()))
    for index, product in good.items():
        _fail(results[index], batch.place(items[index].product, product, results[index]))
    await bulk.create(tx, batch.created)
    await bulk.update(tx, batch.updated)

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

    def __init__(self, existing: dict[str, Product], taken: bulk.Taken) -> None:
        self._products = existing
        self._taken = taken
        self._touched: set[str] = set()
        self.created: list[Product] = []
        self.updated: list[tuple[Product, Product]] = []
        """New and old."""

    def _match(self, product: Product) -> str:
        if found := self._taken.external_ids.get(product.external_id):
            return found
        if found := self._taken.skus.get(product.sku):
            return found
        owners = [self._taken.barcodes[code] for code in product.barcodes if code in self._taken.barcodes]
        if product.external_id or product.sku:
            # A different article that carries the code of another is a conflict, not the same article, unless the other one has
            # no key of its own.
            keyless = (self._products[owner] for owner in owners if owner in self._products)
            return next((owner.id for owner in keyless if not owner.external_id and not owner.sku), "")
        return next(iter(owners), "")

    def place(self, draft: Product, product: Product, result: ProductImportResult) -> Sequence[Violation]:
        """Decides what becomes of one product: the draft as it was sent, and with defaults filled in."""
        match = self._match(product)
        if match in self._touched:
            return [Violation("product", "DUPLICATE", f"An earlier item of this batch is the same product ({match}).")]
        product.id = match or new_id("prd")
        if wrong := self._taken.conflicts(product, "product."):
            return wrong
        current = self._products.get(match)
        if current is not None:
            product = drafts.overlaid(current, draft, product)
            if len(product.barcodes) > drafts.MAX_BARCODES:
                message = f"With these, product {match} would have more than {drafts.MAX_BARCODES} barcodes."
                return [Violation("product.barcodes", "TOO_MANY", message)]
            self._taken.forget(current)
        result.product_id = product.id
        self._touched.add(product.id)
        if current is None:
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_CREATED
            self.created.append(product)
        elif products.columns(product) == products.columns(current):
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_UNCHANGED
        else:
            result.status = _STATUS.PRODUCT_IMPORT_STATUS_UPDATED
            self.updated.append((product, current))
        self._products[product.id] = product
        self._taken.note(product)
        return []


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
        batches.refuse(result, wrong)
