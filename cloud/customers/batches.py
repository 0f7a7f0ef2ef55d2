"""Batches of customers: each item is decided on its own, and what is good is stored with one statement."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError

from cloud.customers import customers, duplicates
from cloud.customers.customers import normalised, violations
from cloud.platform import batches
from cloud.platform.database import Transaction
from gipos.v1.customers_pb2 import BatchCreateCustomersResponse, Customer
from kernel.errors import AlreadyExists
from kernel.ids import new_id


async def create(tx: Transaction, items: Sequence[Customer], *, allow_duplicates: bool) -> BatchCreateCustomersResponse:
    """Adds up to 500 customers; in clear.

    Raises:
        Invalid: no items, or more than 500.
        AlreadyExists: another request took an external_id of this batch in the meantime; sending it again is right.
    """
    batches.check_size("customers", items)
    problems = {index: wrong for index, item in enumerate(items) if (wrong := list(violations(item)))}
    good = {index: normalised(item) for index, item in enumerate(items) if index not in problems}
    owners = await duplicates.owners_of(tx, good.values())
    made: dict[int, Customer] = {}
    for index, customer in good.items():
        if wrong := list(owners.conflicts(customer, allow_duplicate=allow_duplicates)):
            problems[index] = wrong
            continue
        customer.id = new_id("cus")
        owners.note(customer)
        made[index] = customer
    try:
        await customers.add(tx, list(made.values()))
    except IntegrityError as error:
        raise AlreadyExists(
            "Another request has just used an external_id of this batch. Nothing was added; send it again."
        ) from error
    return batches.told(BatchCreateCustomersResponse(), "customer", made, problems)
