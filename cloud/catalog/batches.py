"""Batches of products: each item is decided on its own, and what is good is stored with a handful of statements."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.accounts import outlets
from cloud.catalog import bulk, drafts, products
from cloud.platform import batches
from cloud.platform.database import Transaction
from gipos.v1.catalog_pb2 import BatchProductsResponse, Product, ProductUpdate, TaxClass
from kernel.errors import Violation
from kernel.ids import new_id


async def create(tx: Transaction, items: Sequence[Product]) -> BatchProductsResponse:
    """Adds up to 500 products.

    Raises:
        Invalid: no items, or more than 500.
        AlreadyExists: another request took a code of this batch in the meantime; sending it again is right.
    """
    batches.check_size("products", items)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    problems: dict[int, list[Violation]] = {}
    good: dict[int, Product] = {}
    for index, item in enumerate(items):
        if wrong := list(drafts.violations(item)):
            problems[index] = wrong
        else:
            good[index] = drafts.normalised(item, tax_class)
    _, taken = await bulk.locked(tx, wanted=good.values())
    made: dict[int, Product] = {}
    for index, product in good.items():
        product.id = new_id("prd")
        if wrong := taken.conflicts(product):
            problems[index] = wrong
        else:
            taken.note(product)
            made[index] = product
    await bulk.create(tx, list(made.values()))
    return batches.told(BatchProductsResponse(), "product", made, problems)


async def update(tx: Transaction, items: Sequence[ProductUpdate]) -> BatchProductsResponse:
    """Changes up to 500 products. Each is named by id or external_id; fields that are not given stay.

    Raises:
        Invalid, AlreadyExists: as `create`.
    """
    batches.check_size("updates", items)
    _, tax_class = await outlets.tenant(tx.connection, tx.tenant_id)
    named = [item.product for item in items]
    # Values of drafts that are still in disorder may be looked up, too: they find nothing or name an owner.
    existing, taken = await bulk.locked(
        tx,
        wanted=[drafts.normalised(draft, tax_class) for draft in named],
        ids={draft.id for draft in named if draft.id},
        external_ids={draft.external_id for draft in named if not draft.id},
    )
    by_external = {product.external_id: product for product in existing.values() if product.external_id}
    problems: dict[int, list[Violation]] = {}
    answers: dict[int, Product] = {}
    changed: list[tuple[Product, Product]] = []
    touched: set[str] = set()
    for index, item in enumerate(items):
        current = existing.get(item.product.id) if item.product.id else by_external.get(item.product.external_id.strip())
        if current is None or current.id in touched:
            problems[index] = [_unusable(item.product, current)]
            continue
        product, wrong = _changed(item, current, tax_class)
        if not wrong:
            taken.forget(current)
            wrong = taken.conflicts(product)
            taken.note(current if wrong else product)
        if wrong:
            problems[index] = wrong
            continue
        touched.add(current.id)
        answers[index] = product
        if products.columns(product) != products.columns(current):
            changed.append((product, current))
        else:
            answers[index] = current
    stored = await bulk.update(tx, changed)
    good = {index: stored.get(product.id, product) for index, product in answers.items()}
    return batches.told(BatchProductsResponse(), "product", good, problems)


def _unusable(draft: Product, current: Product | None) -> Violation:
    if current is not None:
        return Violation("product", "DUPLICATE", f"An earlier item of this batch is the same product ({current.id}).")
    if draft.id:
        return Violation("product.id", "NOT_FOUND", f"There is no product {draft.id} that is not archived.")
    if draft.external_id:
        message = f"There is no product with external_id {draft.external_id!r} that is not archived."
        return Violation("product.external_id", "NOT_FOUND", message)
    return Violation("product.id", "REQUIRED", "product.id or product.external_id is required.")


def _changed(item: ProductUpdate, current: Product, tax_class: TaxClass.ValueType) -> tuple[Product, list[Violation]]:
    """The product after an item, and what is wrong with it. Paths are within the item."""
    if item.etag and item.etag != current.etag:
        message = f"Product {current.id} changed since you read it (etag {current.etag}, you sent {item.etag}). Read it again."
        return current, [Violation("etag", "VERSION_CONFLICT", message)]
    draft = item.product
    given = [name for name in drafts.WRITABLE if drafts.is_given(draft, name)]
    paths = item.update_mask.paths or given
    if not draft.id:
        paths = [path for path in paths if path != "external_id"]  # it names the product here
    merged, wrong = drafts.merged(current, draft, paths)
    if "*" in paths and not draft.id:
        merged.external_id = current.external_id
    wrong += drafts.violations(merged, "product.")
    if wrong:
        return current, wrong
    product = drafts.normalised(merged, tax_class)
    product.id = current.id
    return product, []
