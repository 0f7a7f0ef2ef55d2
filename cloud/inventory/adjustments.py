"""Adjustments: what came, broke, got lost or moved. They add and take, so that two at once never lose one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.catalog.batches import check_size
from cloud.inventory import levels, movements
from cloud.inventory.movements import Change
from cloud.platform import checks
from cloud.platform.database import Transaction
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import (
    AdjustInventoryRequest,
    AdjustmentResult,
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
    wrong = list(_violations(request))
    outlet = Outlet()
    try:
        outlet = await outlets.meant(tx.connection, tx.tenant_id, request.outlet_id)
    except Invalid as error:
        wrong += error.violations
    if wrong:
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
    check_size("adjustments", items)
    mine = {outlet.id: outlet for outlet in await outlets.every(tx.connection, tx.tenant_id)}
    askable = {item.product_id for item in items if "\0" not in item.product_id}
    known = await products.by_ids(tx.connection, tx.tenant_id, askable)
    problems = [list(_problems(item, mine, known)) for item in items]
    only = next(iter(mine), "")
    changes = [_change(item, item.outlet_id or only) for item, wrong in zip(items, problems, strict=True) if not wrong]
    after = await movements.apply(tx, changes)
    response = BatchAdjustInventoryResponse(succeeded=len(changes), failed=len(items) - len(changes))
    for item, wrong in zip(items, problems, strict=True):
        result = AdjustmentResult(level=None if wrong else after[item.outlet_id or only, item.product_id])
        for violation in wrong:
            result.errors.add(field=violation.field, reason=violation.reason, message=violation.message)
        response.results.append(result)
    return response


def _problems(item: AdjustInventoryRequest, mine: Mapping[str, Outlet], known: Mapping[str, Product]) -> Iterator[Violation]:
    yield from _violations(item)
    if item.product_id not in known:
        reason = "NOT_FOUND" if item.product_id else "REQUIRED"
        yield Violation("product_id", reason, f"There is no product {item.product_id or '(empty)'}.")
    if item.outlet_id and item.outlet_id not in mine:
        yield Violation("outlet_id", "NOT_FOUND", f"There is no outlet {item.outlet_id}. GET /api/v1/outlets lists yours.")
    if not item.outlet_id and len(mine) != 1:
        yield Violation("outlet_id", "REQUIRED", f"outlet_id is required: you have {len(mine)} outlets.")


def _change(request: AdjustInventoryRequest, outlet_id: str) -> Change:
    return Change(outlet_id, request.product_id, quantities.parse(request.quantity), request.reason, note=request.note)
