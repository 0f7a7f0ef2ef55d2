"""Adjustments: what came, broke, got lost or moved. They add and take, so that two at once never lose one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.inventory import levels, movements
from cloud.inventory.movements import Change
from cloud.platform import batches, checks
from cloud.platform.database import Transaction
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import (
    AdjustInventoryRequest,
    BatchAdjustInventoryRequest,
    BatchAdjustInventoryResponse,
    Inventory,
)
from kernel import quantities
from kernel.errors import Invalid, Violation

REASONS = ("received", "damaged", "lost", "found", "returned", "transferred", "correction", "other")


def _violations(request: AdjustInventoryRequest) -> Iterator[Violation]:
    yield from checks.quantity("quantity", request.quantity)
    try:
        if quantities.parse(request.quantity) == 0:
            yield Violation("quantity", "OUT_OF_RANGE", "quantity must not be 0: it is what is added, or taken when negative.")
    except ValueError:
        pass  # said above
    if request.reason not in REASONS:
        message = f"reason must be one of {', '.join(REASONS)}."
        yield Violation("reason", "INVALID" if request.reason else "REQUIRED", message)
    yield from checks.text("note", request.note, 500)


async def adjust(tx: Transaction, request: AdjustInventoryRequest) -> Inventory:
    """Adds to the stock of a product in an outlet, or takes from it.

    Raises:
        Invalid: quantity, reason, note or outlet is not right.
        NotFound: no such product.
    """
    outlet, unclear = outlets.among(await outlets.every(tx.connection, tx.tenant_id), request.outlet_id)
    if wrong := [*_violations(request), *unclear]:
        raise Invalid(wrong)
    await products.find(tx.connection, tx.tenant_id, request.product_id)
    await movements.apply(tx, [_change(request, outlet.id)])
    return await levels.find(tx.connection, tx.tenant_id, request.product_id, "")


async def adjust_many(tx: Transaction, request: BatchAdjustInventoryRequest) -> BatchAdjustInventoryResponse:
    """Adjusts up to 500 levels with a handful of statements; each item has a result of its own.

    Several items of one level are all applied, a movement each; their results show the level after all of them.

    Raises:
        Invalid: no items, or more than 500.
    """
    items = request.adjustments
    batches.check_size("adjustments", items)
    mine = await outlets.every(tx.connection, tx.tenant_id)
    askable = {item.product_id for item in items if "\0" not in item.product_id}
    known = await products.by_ids(tx.connection, tx.tenant_id, askable)
    problems: dict[int, list[Violation]] = {}
    changes: dict[int, Change] = {}
    for index, item in enumerate(items):
        outlet, unclear = outlets.among(mine, item.outlet_id)
        if wrong := [*_violations(item), *_product_violations(item, known), *unclear]:
            problems[index] = wrong
        else:
            changes[index] = _change(item, outlet.id)
    after = await movements.apply(tx, list(changes.values()))
    levels_after = {index: after[change.outlet_id, change.product_id] for index, change in changes.items()}
    return batches.told(BatchAdjustInventoryResponse(), "level", levels_after, problems)


def _product_violations(item: AdjustInventoryRequest, known: Mapping[str, Product]) -> Iterator[Violation]:
    if not item.product_id:
        yield Violation("product_id", "REQUIRED", "product_id is required.")
    elif item.product_id not in known:
        yield Violation("product_id", "NOT_FOUND", f"There is no product {item.product_id}.")


def _change(request: AdjustInventoryRequest, outlet_id: str) -> Change:
    return Change(outlet_id, request.product_id, quantities.parse(request.quantity), request.reason, note=request.note)
