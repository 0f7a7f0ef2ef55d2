"""Masks: what they show, what they never show, and that no field of the contract is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import message_factory
from hypothesis import given
from hypothesis import strategies as st

from gipos.v1 import (
    accounts_pb2,
    audit_pb2,
    catalog_pb2,
    common_pb2,
    customers_pb2,
    events_pb2,
    inventory_pb2,
    keys_pb2,
    sales_pb2,
    usage_pb2,
    webhooks_pb2,
)
from gipos.v1.customers_pb2 import BatchCreateCustomersResponse, BatchCustomerResult, Customer
from kernel import masking

FILES: tuple[Any, ...] = (
    *(accounts_pb2, audit_pb2, catalog_pb2, customers_pb2, events_pb2, inventory_pb2),
    *(keys_pb2, sales_pb2, usage_pb2, webhooks_pb2),
)
MESSAGES = [message for file in FILES for message in file.DESCRIPTOR.message_types_by_name.values()]


@pytest.mark.parametrize(
    ("field", "value", "mask"),
    [
        ("phone", "+6281234567890", "+62812••••890"),
        ("phone", "+62213456789", "+6221••••789"),
        ("phone", "+6591234567", "+659••••567"),
        ("phone", "123", "••••"),
        ("email", "siti@contoh.id", "s•••@contoh.id"),
        ("email", "no-address", "•••"),
        ("name", "Siti", "S•••"),
        ("name", "😀", "😀•••"),
        ("address", "Jl. Kemang Raya 10", "•••"),
        ("note", "alergi kacang", "•••"),
        ("note", "", ""),
    ],
)
def test_each_field_has_its_mask(field: str, value: str, mask: str) -> None:
    assert masking.of_field(field, value) == mask


@given(st.integers(min_value=3, max_value=15).flatmap(lambda size: st.text("0123456789", min_size=size, max_size=size)))
def test_at_least_four_digits_of_a_phone_number_stay_hidden(digits: str) -> None:
    number = "+" + digits
    mask = masking.phone(number)
    shown = mask.replace("•", "")
    assert len(number) - len(shown) >= 4
    assert number.startswith(mask.partition("•")[0])


@given(st.sampled_from(["name", "phone", "email", "address", "note"]), st.text(min_size=1))
def test_a_mask_is_known_as_one(field: str, value: str) -> None:
    if field == "phone":
        value = "+" + "".join(str(ord(character) % 10) for character in value)
    if field == "email":
        value = value.replace("@", "").replace(" ", "") + "@contoh.id"
    assert masking.is_mask(field, masking.of_field(field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "Siti"), ("note", "• satu • dua •••"), ("email", "siti@contoh.id"), ("phone", "+6281234567890"), ("address", "")],
)
def test_what_people_write_is_no_mask(field: str, value: str) -> None:
    assert not masking.is_mask(field, value)


def test_messages_within_messages_are_masked_and_the_original_stays() -> None:
    siti = Customer(id="cus_1", name="Siti", phone="+6281234567890", external_id="A1")
    batch = BatchCreateCustomersResponse(results=[BatchCustomerResult(customer=siti)])
    masked = masking.masked(batch).results[0].customer
    assert (masked.name, masked.phone, masked.email, masked.external_id, masked.masked) == (
        "S•••",
        "+62812••••890",
        "",
        "A1",
        True,
    )
    assert batch.results[0].customer == siti


@pytest.mark.parametrize("descriptor", [each for each in MESSAGES if masking.personal_fields(each)], ids=lambda each: each.name)
def test_every_personal_field_of_the_contract_is_masked(descriptor: Any) -> None:
    message: Any = message_factory.GetMessageClass(descriptor)()
    personal = [field.name for field in descriptor.fields if masking.data_class(field) == common_pb2.DATA_CLASS_PERSONAL]
    for name in personal:
        setattr(message, name, "rahasia-sekali@contoh.id")
    masked = masking.masked(message)
    assert personal
    assert all("rahasia" not in getattr(masked, name) and getattr(masked, name) for name in personal)


def test_what_names_a_person_in_the_contract_has_a_data_class() -> None:
    """Names and addresses of things (outlets, products, programs) are not personal; of customers everything is."""
    suspicious = {"phone", "email", "birthday", "tax_id", "customer_name", "secret", "password", "token"}
    unmarked = [
        f"{message.name}.{field.name}"
        for message in MESSAGES
        for field in message.fields
        if field.name in suspicious and not masking.data_class(field) and not message.name.endswith("Request")
    ]
    assert not unmarked


def test_secrets_only_stand_in_resources_whose_makers_answer_with_them() -> None:
    """Other methods may return the same message; tests of those services check that the field is empty there."""
    with_secrets = {
        message.name
        for message in MESSAGES
        for field in message.fields
        if masking.data_class(field) == common_pb2.DATA_CLASS_SECRET
    }
    made = set()
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            made |= {method.output_type.name for method in service.methods if method.name.startswith(("Create", "Rotate"))}
    assert with_secrets <= made
    for message in MESSAGES:
        for field in message.fields:
            if masking.data_class(field) == common_pb2.DATA_CLASS_SECRET:
                assert field.GetOptions().Extensions[common_pb2.output_only], field.full_name
