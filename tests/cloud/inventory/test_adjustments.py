"""Adjustments: nothing gets lost however many come at once, and every one has a reason."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1.events_pb2 import ListEventsRequest
from gipos.v1.inventory_pb2 import (
    AdjustInventoryRequest,
    BatchAdjustInventoryRequest,
    ListLevelsRequest,
    ListMovementsRequest,
    SetInventoryRequest,
)


def violations(error: Any) -> dict[str, str]:
    """Field to reason."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.reason for violation in bad.field_violations})
    return found


def adjustment(product_id: str, outlet_id: str, quantity: str, reason: str = "received", **fields: Any) -> AdjustInventoryRequest:
    return AdjustInventoryRequest(product_id=product_id, outlet_id=outlet_id, quantity=quantity, reason=reason, **fields)


async def test_fifty_at_once_all_count(shop: Any) -> None:
    product = await shop.product(stock="10")
    calls = [
        shop.inventory.AdjustInventory(
            adjustment(product.id, shop.outlets[0], "1.5" if index % 2 else "-0.5"), metadata=shop.auth
        )
        for index in range(50)
    ]
    answers = await asyncio.gather(*calls)
    assert max(answer.levels[0].version for answer in answers) == 51
    ledger = await shop.inventory.ListMovements(ListMovementsRequest(product_id=product.id, page_size=200), metadata=shop.auth)
    assert ledger.movements[0].on_hand_after == "35"
    assert len(ledger.movements) == 51


async def test_an_adjustment_is_recorded_announced_and_repeatable(shop: Any) -> None:
    product = await shop.product()
    request = adjustment(product.id, shop.outlets[1], "-2", "damaged", note="Jatuh", request_id="adj-1")
    first = await shop.inventory.AdjustInventory(request, metadata=shop.auth)
    assert await shop.inventory.AdjustInventory(request, metadata=shop.auth) == first
    assert (first.on_hand, first.levels[0].outlet_id) == ("-2", shop.outlets[1])
    ledger = await shop.inventory.ListMovements(ListMovementsRequest(product_id=product.id), metadata=shop.auth)
    assert [(m.reason, m.quantity, m.on_hand_after, m.note) for m in ledger.movements] == [("damaged", "-2", "-2", "Jatuh")]
    events = await shop.events.ListEvents(ListEventsRequest(outlet_id=shop.outlets[1]), metadata=shop.auth)
    assert [event.type for event in events.events if event.outlet_id] == ["inventory.updated"]


async def test_everything_that_is_wrong_is_said_at_once(shop: Any) -> None:
    product = await shop.product()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.AdjustInventory(adjustment(product.id, "", "0", "stolen", note="x" * 501), metadata=shop.auth)
    assert violations(caught.value) == {
        "quantity": "OUT_OF_RANGE",
        "reason": "INVALID",
        "note": "TOO_LONG",
        "outlet_id": "REQUIRED",
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.AdjustInventory(adjustment("prd_missing", shop.outlets[0], "1"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_batch_tells_of_each_item(shop: Any) -> None:
    coffee, tea = await shop.product(stock="5"), await shop.product("Teh")
    here, there = shop.outlets
    items = [
        adjustment(coffee.id, here, "1"),
        adjustment(coffee.id, here, "2", "found"),
        adjustment(tea.id, there, "0.25"),
        adjustment("prd_missing", here, "1"),
        adjustment(tea.id, "out_missing", "1.2345", ""),
        adjustment("\0", here, "1"),
    ]
    request = BatchAdjustInventoryRequest(adjustments=items, request_id="batch-1")
    answer = await shop.inventory.BatchAdjustInventory(request, metadata=shop.auth)
    assert (answer.succeeded, answer.failed) == (3, 3)
    assert [result.level.on_hand for result in answer.results] == ["8", "8", "0.25", "", "", ""]
    assert [{error.field: error.reason for error in result.errors} for result in answer.results[3:]] == [
        {"product_id": "NOT_FOUND"},
        {"quantity": "INVALID_DECIMAL", "reason": "REQUIRED", "outlet_id": "NOT_FOUND"},
        {"product_id": "NOT_FOUND"},
    ]
    assert await shop.inventory.BatchAdjustInventory(request, metadata=shop.auth) == answer
    ledger = await shop.inventory.ListMovements(ListMovementsRequest(product_id=coffee.id), metadata=shop.auth)
    assert [(m.reason, m.on_hand_after) for m in ledger.movements] == [("found", "8"), ("received", "6"), ("count", "5")]


async def test_levels_are_listed_by_what_runs_out_and_by_change(shop: Any) -> None:
    coffee, tea = await shop.product(stock="10"), await shop.product("Teh", stock="2.5")
    here = shop.outlets[0]

    async def listed(**fields: Any) -> list[str]:
        page = await shop.inventory.ListLevels(ListLevelsRequest(**fields), metadata=shop.auth)
        return [level.product_id for level in page.levels]

    assert await listed() == [tea.id, coffee.id]
    assert await listed(available_below="2.501") == [tea.id]
    assert await listed(available_below="2.5") == []
    assert await listed(outlet_id=shop.outlets[1]) == []
    changed = await shop.inventory.AdjustInventory(adjustment(coffee.id, here, "1"), metadata=shop.auth)
    assert await listed(updated_since=changed.levels[0].update_time) == [coffee.id]
    assert await listed(updated_since=coffee.create_time) == [tea.id, coffee.id]
    request = ListLevelsRequest(page_size=1, show_total_size=True, updated_since=coffee.create_time)
    first = await shop.inventory.ListLevels(request, metadata=shop.auth)
    assert (first.total_size, len(first.levels), first.has_more) == (2, 1, True)
    request.page_token = first.next_page_token
    second = await shop.inventory.ListLevels(request, metadata=shop.auth)
    assert [level.product_id for level in (*first.levels, *second.levels)] == [tea.id, coffee.id]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.ListLevels(
            ListLevelsRequest(page_size=-1, outlet_id="out_x", available_below="x"), metadata=shop.auth
        )
    assert set(violations(caught.value)) == {"page_size", "outlet_id", "available_below"}


async def test_movements_are_filtered_by_reason(shop: Any) -> None:
    product = await shop.product(stock="3")
    for reason in ("lost", "found", "lost"):
        await shop.inventory.AdjustInventory(adjustment(product.id, shop.outlets[0], "1", reason), metadata=shop.auth)

    async def quantities(**fields: Any) -> int:
        request = ListMovementsRequest(product_id=product.id, **fields)
        return len((await shop.inventory.ListMovements(request, metadata=shop.auth)).movements)

    assert (await quantities(reason="lost"), await quantities(reason="count"), await quantities()) == (2, 1, 4)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await quantities(reason="stolen", page_size=-1)
    assert violations(caught.value) == {"reason": "INVALID", "page_size": "OUT_OF_RANGE"}


async def test_a_count_that_expects_another_version_changes_nothing(shop: Any) -> None:
    product = await shop.product(stock="3")
    count = SetInventoryRequest(product_id=product.id, outlet_id=shop.outlets[0], on_hand="9", expected_version=7)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.SetInventory(count, metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    count.expected_version = 1
    assert (await shop.inventory.SetInventory(count, metadata=shop.auth)).on_hand == "9"
