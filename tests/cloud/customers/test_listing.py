"""Lists of customers: found although nothing of them is readable in the database."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1.customers_pb2 import (
    CreateCustomerRequest,
    Customer,
    DeleteCustomerRequest,
    GetCustomerRequest,
    ListCustomersRequest,
    UpdateCustomerRequest,
    UpsertCustomerRequest,
)


def violations(error: Any) -> dict[str, str]:
    """Field to reason."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.reason for violation in bad.field_violations})
    return found


async def added(shop: Any, name: str, **fields: Any) -> Customer:
    request = CreateCustomerRequest(customer=Customer(name=name, **fields))
    made: Customer = await shop.customers.CreateCustomer(request, metadata=shop.auth)
    return made


async def listed(shop: Any, **fields: Any) -> list[str]:
    page = await shop.customers.ListCustomers(ListCustomersRequest(**fields), metadata=shop.auth)
    return [customer.id for customer in page.customers]


async def test_customers_are_found_by_what_is_sealed(shop: Any) -> None:
    siti = await added(shop, "Siti Rahayu", phone="0812-3456-7890", email="Siti@contoh.id", external_id="crm-1")
    budi = await added(shop, "Budi Santoso")
    assert await listed(shop) == [budi.id, siti.id]
    assert await listed(shop, query="rah sit") == [siti.id]
    assert await listed(shop, query="ahayu") == []
    assert await listed(shop, query="'%") == []
    assert await listed(shop, phone="+62 812 3456 7890") == [siti.id]
    assert await listed(shop, email="SITI@contoh.id") == [siti.id]
    assert await listed(shop, external_id="crm-1") == [siti.id]
    assert await listed(shop, external_id="crm-1", query="budi") == []
    assert await listed(shop, order_by="create_time") == [siti.id, budi.id]
    counted = await shop.customers.ListCustomers(ListCustomersRequest(page_size=1, show_total_size=True), metadata=shop.auth)
    assert (counted.total_size, counted.has_more) == (2, True)
    request = ListCustomersRequest(page_size=1, show_total_size=True, page_token=counted.next_page_token)
    assert [one.id for one in (await shop.customers.ListCustomers(request, metadata=shop.auth)).customers] == [siti.id]


async def test_a_poller_by_change_sees_updates_and_erasures(shop: Any) -> None:
    siti, budi = await added(shop, "Siti"), await added(shop, "Budi")
    assert await listed(shop, updated_since=siti.create_time) == [siti.id, budi.id]
    request = UpdateCustomerRequest(customer=Customer(id=siti.id, name="Siti R"))
    await shop.customers.UpdateCustomer(request, metadata=shop.auth)
    assert await listed(shop, updated_since=siti.create_time) == [budi.id, siti.id]
    await shop.customers.DeleteCustomer(DeleteCustomerRequest(id=budi.id), metadata=shop.auth)
    assert await listed(shop) == [siti.id]
    assert await listed(shop, show_deleted=True) == [budi.id, siti.id]
    page = await shop.customers.ListCustomers(ListCustomersRequest(updated_since=siti.create_time), metadata=shop.auth)
    assert [(one.id, one.HasField("delete_time")) for one in page.customers] == [(siti.id, False), (budi.id, True)]
    assert page.customers[1].name == ""


async def test_everything_that_is_wrong_is_said_at_once(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(shop, page_size=-1, phone="12", order_by="name", updated_since=Timestamp(seconds=10**15), query="\0")
    assert violations(caught.value) == {
        "page_size": "OUT_OF_RANGE",
        "phone": "INVALID_PHONE",
        "order_by": "INVALID",
        "updated_since": "INVALID_TIME",
        "query": "INVALID_CHARACTER",
    }


async def test_the_integrators_id_is_a_key(shop: Any) -> None:
    def put(name: str, etag: str = "") -> UpsertCustomerRequest:
        return UpsertCustomerRequest(customer=Customer(name=name, external_id="crm-1"), etag=etag)

    call = shop.customers.UpsertCustomer(put("Siti"), metadata=shop.auth)
    made = await call
    assert dict(await call.initial_metadata())["x-http-code"] == "201"
    call = shop.customers.UpsertCustomer(put("Siti R", etag=made.etag), metadata=shop.auth)
    replaced = await call
    assert "x-http-code" not in dict(await call.initial_metadata())
    assert (replaced.id, replaced.etag) == (made.id, "2")
    found = await shop.customers.GetCustomer(GetCustomerRequest(external_id="crm-1"), metadata=shop.auth)
    assert (found.id, found.etag) == (made.id, "2")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.customers.UpsertCustomer(put("Siti", etag="1"), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
