"""The integrator's own id as the key of a customer."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from gipos.v1.customers_pb2 import Customer, ListCustomersRequest, UpsertCustomerRequest


def put(name: str, external_id: str) -> UpsertCustomerRequest:
    return UpsertCustomerRequest(customer=Customer(name=name, external_id=external_id))


async def test_a_key_of_spaces_is_no_key(shop: Any) -> None:
    for key in ("", "  "):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.customers.UpsertCustomer(put("Siti", key), metadata=shop.auth)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not (await shop.customers.ListCustomers(ListCustomersRequest(), metadata=shop.auth)).customers


async def test_spaces_around_a_key_do_not_matter(shop: Any) -> None:
    made = await shop.customers.UpsertCustomer(put("Siti", "erp-1"), metadata=shop.auth)
    changed = await shop.customers.UpsertCustomer(put("Siti Rahayu", " erp-1 "), metadata=shop.auth)
    assert (changed.id, changed.external_id, changed.etag) == (made.id, "erp-1", "2")
