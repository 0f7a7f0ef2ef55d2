"""The same person twice: refused when it is sure, told when it is likely."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.customers import duplicates
from gipos.v1.customers_pb2 import (
    BatchCreateCustomersRequest,
    CreateCustomerRequest,
    Customer,
    FindDuplicateCustomersRequest,
    ListCustomersRequest,
)


def violations(error: Any) -> dict[str, str]:
    """Field to message."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.description for violation in bad.field_violations})
    return found


@pytest.mark.parametrize(
    ("one", "other", "is_alike"),
    [
        ("Soeharto", "Suharto", True),
        ("Siti Rahayu", "rahayu, SITI", True),
        ("Muhammad Rizky", "Muhamad Rizki", True),
        ("Tjahjadi Djoko", "Cahyadi Joko", True),
        ("Rahayu Dewi", "Siti Rahayu Dewi", True),
        ("Siti Rahayu", "Siti Aminah", False),
        ("Siti", "Siti Rahayu Dewi", False),
        ("Budi", "Dibu", False),
        ("", "", False),
        ("!", "?", False),
    ],
)
def test_names_that_read_alike(one: str, other: str, is_alike: bool) -> None:
    assert (duplicates.alike(one, other) >= duplicates.ALIKE) is is_alike
    assert duplicates.alike(one, other) == pytest.approx(duplicates.alike(other, one), abs=0.1)


async def add(shop: Any, *, allow: Any = False, **fields: Any) -> Customer:
    request = CreateCustomerRequest(customer=Customer(**fields), allow_duplicate=allow)
    made: Customer = await shop.customers.CreateCustomer(request, metadata=shop.auth)
    return made


async def test_a_number_or_address_of_somebody_else_is_refused_unless_allowed(shop: Any) -> None:
    siti = await add(shop, name="Siti", phone="081234567890", email="siti@contoh.id", external_id="1")
    same: dict[str, Any] = {"name": "Sitti", "phone": "+62 812-3456-7890", "email": "SITI@contoh.id", "external_id": "1"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(shop, **same)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    found = violations(caught.value)
    assert set(found) == {"phone", "email", "external_id"}
    assert all(siti.id in message for message in found.values())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(shop, allow=True, **same)
    assert set(violations(caught.value)) == {"external_id"}
    other = await add(shop, allow=True, **{**same, "external_id": "2"})
    assert other.id != siti.id


async def test_one_of_many_at_once_is_added(shop: Any) -> None:
    calls = [add(shop, name=f"Siti {index}", phone="081234567890") for index in range(6)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, Customer) for answer in answers) == 1
    refused = {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    assert refused == {grpc.StatusCode.ALREADY_EXISTS}


async def test_likely_duplicates_come_with_what_is_alike(shop: Any) -> None:
    phone = await add(shop, name="Budi", phone="081234567890")
    name = await add(shop, name="Soeharto Wijaya")
    both = await add(shop, name="Wijaya Suharto", email="w@contoh.id")
    await add(shop, name="Siti Wijaya")
    request = FindDuplicateCustomersRequest(phone="+6281234567890", email="W@contoh.id", name="Suharto Wijaya")
    answer = await shop.customers.FindDuplicateCustomers(request, metadata=shop.auth)
    assert [(candidate.customer.id, list(candidate.matches)) for candidate in answer.candidates] == [
        (phone.id, ["phone"]),
        (both.id, ["email", "name"]),
        (name.id, ["name"]),
    ]
    for wrong in ({}, {"phone": "12"}, {"name": "\0"}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.customers.FindDuplicateCustomers(FindDuplicateCustomersRequest(**wrong), metadata=shop.auth)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_at_most_twenty_candidates_are_given(shop: Any) -> None:
    request = BatchCreateCustomersRequest(customers=[Customer(name="Siti Rahayu") for _ in range(30)])
    await shop.customers.BatchCreateCustomers(request, metadata=shop.auth)
    wanted = FindDuplicateCustomersRequest(name="Siti Rahayu")
    assert len((await shop.customers.FindDuplicateCustomers(wanted, metadata=shop.auth)).candidates) == 20


async def test_a_batch_tells_of_each_item(shop: Any) -> None:
    await add(shop, name="Siti", phone="081234567890")
    items = [
        Customer(name="Budi", phone="081311112222", external_id="1"),
        Customer(phone="12", email="x"),
        Customer(name="Sitti", phone="0812 3456 7890"),
        Customer(name="Budi lagi", phone="+6281311112222", external_id="1"),
        Customer(name="Ani", email="ani@contoh.id"),
    ]
    request = BatchCreateCustomersRequest(customers=items, request_id="batch-1")
    answer = await shop.customers.BatchCreateCustomers(request, metadata=shop.auth)
    assert (answer.succeeded, answer.failed) == (2, 3)
    assert [{error.field: error.reason for error in result.errors} for result in answer.results] == [
        {},
        {"name": "REQUIRED", "phone": "INVALID_PHONE", "email": "INVALID_EMAIL"},
        {"phone": "ALREADY_EXISTS"},
        {"phone": "ALREADY_EXISTS", "external_id": "ALREADY_EXISTS"},
        {},
    ]
    assert await shop.customers.BatchCreateCustomers(request, metadata=shop.auth) == answer
    everybody = await shop.customers.ListCustomers(ListCustomersRequest(query="bud"), metadata=shop.auth)
    assert [customer.id for customer in everybody.customers] == [answer.results[0].customer.id]
    allowed = BatchCreateCustomersRequest(customers=[items[2]], allow_duplicates=True)
    assert (await shop.customers.BatchCreateCustomers(allowed, metadata=shop.auth)).succeeded == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.customers.BatchCreateCustomers(BatchCreateCustomersRequest(), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
