"""Batches of customers: each item is decided on its own, and what is good is stored with one statement."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from cloud.customers import duplicates, privacy
from cloud.customers.customers import WRITABLE, normalised, violations
from cloud.customers.tables import customers
from cloud.platform import trail
from cloud.platform.database import Transaction
from gipos.v1.customers_pb2 import BatchCreateCustomersResponse, BatchCustomerResult, Customer
from kernel import masking
from kernel.errors import AlreadyExists, Invalid, Violation
from kernel.event_types import CUSTOMER_CREATED
from kernel.ids import new_id

MAX_ITEMS = 500


async def create(tx: Transaction, items: Sequence[Customer], *, allow_duplicates: bool) -> BatchCreateCustomersResponse:
    """Adds up to 500 customers; in clear.

    Raises:
        Invalid: no items, or more than 500.
        AlreadyExists: another request took an external_id of this batch in the meantime; sending it again is right.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        message = f"customers must hold 1 to {MAX_ITEMS} items; these are {len(items)}."
        raise Invalid([Violation("customers", "REQUIRED" if not items else "TOO_MANY", message)])
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
    if made:
        await _store(tx, list(made.values()), owners)
    response = BatchCreateCustomersResponse(succeeded=len(made), failed=len(problems))
    for index in range(len(items)):
        result = BatchCustomerResult(customer=made.get(index))
        for violation in problems.get(index, ()):
            result.errors.add(field=violation.field, reason=violation.reason, message=violation.message)
        response.results.append(result)
    return response


async def _store(tx: Transaction, made: Sequence[Customer], owners: duplicates.Owners) -> None:
    stamp = {"tenant_id": tx.tenant_id, "version": 1, "created_at": tx.now, "updated_at": tx.now}
    rows = [
        {**stamp, "id": customer.id, "external_id": customer.external_id, **privacy.columns(owners.keys, customer)}
        for customer in made
    ]
    try:
        await tx.connection.execute(sa.insert(customers), rows)
    except IntegrityError as error:
        raise AlreadyExists(
            "Another request has just used an external_id of this batch. Nothing was added; send it again."
        ) from error
    for customer in made:
        customer.etag = "1"
        customer.create_time.FromDatetime(tx.now)
        customer.update_time.FromDatetime(tx.now)
        trail.about(customer.id, [name for name in WRITABLE if getattr(customer, name)])
        tx.publish(CUSTOMER_CREATED, masking.masked(customer), subject_id=customer.id, version=1)
