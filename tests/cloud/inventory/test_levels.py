"""Counts: set what was found, once, whatever happens beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from gipos.v1.inventory_pb2 import GetInventoryRequest, ListLevelsRequest, ListMovementsRequest, SetInventoryRequest


async def test_two_first_counts_at_once_do_not_add_up(shop: Any) -> None:
    for _ in range(8):
        product = await shop.product()
        count = SetInventoryRequest(product_id=product.id, outlet_id=shop.outlets[0], on_hand="10")
        await asyncio.gather(*(shop.inventory.SetInventory(count, metadata=shop.auth) for _ in range(4)))
        stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=product.id), metadata=shop.auth)
        assert stock.on_hand == "10"
        ledger = await shop.inventory.ListMovements(ListMovementsRequest(product_id=product.id), metadata=shop.auth)
        assert [movement.quantity for movement in ledger.movements] == ["10"]


async def test_only_one_of_two_conditional_first_counts_wins(shop: Any) -> None:
    product = await shop.product()
    count = SetInventoryRequest(product_id=product.id, outlet_id=shop.outlets[0], on_hand="4", expected_version=0)
    answers = await asyncio.gather(
        *(shop.inventory.SetInventory(count, metadata=shop.auth) for _ in range(3)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert [error.code() for error in refused] == [grpc.StatusCode.ABORTED] * 2


async def test_a_count_of_nothing_makes_a_level(shop: Any) -> None:
    product = await shop.product()
    count = SetInventoryRequest(product_id=product.id, outlet_id=shop.outlets[0], on_hand="0")
    await shop.inventory.SetInventory(count, metadata=shop.auth)
    levels = (await shop.inventory.ListLevels(ListLevelsRequest(product_id=product.id), metadata=shop.auth)).levels
    assert [(level.on_hand, level.version) for level in levels] == [("0", 1)]


@pytest.mark.parametrize("on_hand", ["", "x", "1.2345", "1e3"])
async def test_what_is_no_quantity_is_refused(shop: Any, on_hand: str) -> None:
    product = await shop.product()
    count = SetInventoryRequest(product_id=product.id, outlet_id=shop.outlets[0], on_hand=on_hand)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.SetInventory(count, metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
