"""The rules of customers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import phonenumbers
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.customers.tables import customers
from cloud.platform import checks, paging
from cloud.platform.database import Transaction
from gipos.v1.customers_pb2 import Customer, ListCustomersRequest, ListCustomersResponse
from kernel.errors import AlreadyExists, Invalid, NotFound, VersionConflict, Violation
from kernel.event_types import CUSTOMER_CREATED, CUSTOMER_UPDATED
from kernel.ids import new_id

WRITABLE = ("name", "phone", "email", "address", "note", "external_id")
_COLUMN = customers.c
_WORD = re.compile(r"\w+")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def normal_phone(text: str) -> str:
    """A phone number as E.164, read as people in Indonesia write it.

    Raises:
        ValueError: not a phone number.
    """
    # "62 812…" and "812…" without + or 0 are common; the library reads the first only with a plus.
    digits = re.sub(r"[^\d+]", "", text)
    candidate = "+" + digits if digits.startswith("62") else digits
    try:
        number = phonenumbers.parse(candidate, "ID")
    except phonenumbers.NumberParseException as error:
        raise ValueError("is not a phone number, for example 0812-3456-7890") from error
    if not phonenumbers.is_valid_number(number):
        raise ValueError("is not a phone number, for example 0812-3456-7890")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def to_proto(row: Any) -> Customer:
    """A row as the contract has it."""
    customer = Customer(id=row.id, etag=str(row.version), **{name: getattr(row, name) for name in WRITABLE})
    customer.create_time.FromDatetime(row.created_at)
    customer.update_time.FromDatetime(row.updated_at)
    return customer


def _violations(draft: Customer) -> Iterator[Violation]:
    yield from checks.text("name", draft.name, 200, required=True)
    yield from checks.text("phone", draft.phone, 40)
    yield from checks.text("email", draft.email, 200)
    yield from checks.text("address", draft.address, 500)
    yield from checks.text("note", draft.note, 1000)
    yield from checks.text("external_id", draft.external_id, 200)
    if draft.phone:
        try:
            normal_phone(draft.phone)
        except ValueError as error:
            yield Violation("phone", "INVALID_PHONE", f"phone {error}.")
    if draft.email and _EMAIL.fullmatch(draft.email) is None:
        yield Violation("email", "INVALID_EMAIL", "email is not an e-mail address.")


def _columns(draft: Customer) -> dict[str, str]:
    if wrong := list(_violations(draft)):
        raise Invalid(wrong)
    values = {name: str(getattr(draft, name)).strip() for name in WRITABLE}
    values["phone"] = normal_phone(values["phone"]) if values["phone"] else ""
    return values


async def create(tx: Transaction, draft: Customer) -> Customer:
    """Adds a customer.

    Raises:
        Invalid: the draft breaks rules.
        AlreadyExists: another customer has its external_id.
    """
    values = _columns(draft)
    stamp = {"tenant_id": tx.tenant_id, "id": new_id("cus"), "version": 1, "created_at": tx.now, "updated_at": tx.now}
    statement = sa.insert(customers).values(**stamp, **values).returning(customers)
    customer = to_proto(await _written(tx, statement, values["external_id"]))
    tx.publish(CUSTOMER_CREATED, customer, subject_id=customer.id, version=1)
    return customer


async def update(tx: Transaction, draft: Customer, paths: Sequence[str], etag: str) -> Customer:
    """Changes the fields named by the paths ("*" for all).

    Raises:
        NotFound, Invalid, AlreadyExists, VersionConflict: as their names say.
    """
    query = sa.select(customers).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == draft.id).with_for_update()
    row = (await tx.connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(draft.id)
    current = to_proto(row)
    if etag and etag != current.etag:
        raise VersionConflict(
            f"Customer {draft.id} changed since you read it (etag {current.etag}, you sent {etag}). Read it again, then retry.",
            customer_id=draft.id,
        )
    names = WRITABLE if not paths or "*" in paths else paths
    if unknown := [path for path in names if path not in Customer.DESCRIPTOR.fields_by_name]:
        raise Invalid([Violation("update_mask", "UNKNOWN_FIELD", f"There is no field {path!r} to update.") for path in unknown])
    for name in names:
        if name in WRITABLE:
            setattr(current, name, getattr(draft, name))
    values = _columns(current)
    if values == {name: getattr(row, name) for name in WRITABLE}:
        return to_proto(row)
    statement = (
        sa.update(customers)
        .where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == draft.id)
        .values(**values, version=_COLUMN.version + 1, updated_at=tx.now)
        .returning(customers)
    )
    customer = to_proto(await _written(tx, statement, values["external_id"]))
    tx.publish(CUSTOMER_UPDATED, customer, subject_id=customer.id, version=int(customer.etag))
    return customer


async def find(connection: AsyncConnection, tenant_id: str, customer_id: str) -> Customer:
    """One customer.

    Raises:
        NotFound: no such customer.
    """
    query = sa.select(customers).where(_COLUMN.tenant_id == tenant_id, _COLUMN.id == customer_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(customer_id)
    return to_proto(row)


async def page(connection: AsyncConnection, tenant_id: str, request: ListCustomersRequest) -> ListCustomersResponse:
    """A page of customers, newest first.

    Raises:
        Invalid, CursorInvalid: a parameter is not right.
    """
    limit = paging.size(request.page_size)
    query = sa.select(customers).where(_COLUMN.tenant_id == tenant_id)
    if words := _WORD.findall(request.query.lower()):
        vector = sa.func.to_tsvector(sa.literal_column("'simple'"), _COLUMN.name, type_=TSVECTOR)
        query = query.where(vector.bool_op("@@")(sa.func.to_tsquery("simple", " & ".join(f"{word}:*" for word in words))))
    if request.phone:
        try:
            query = query.where(_COLUMN.phone == normal_phone(request.phone))
        except ValueError as error:
            raise Invalid([Violation("phone", "INVALID_PHONE", f"phone {error}.")]) from error
    if request.external_id:
        query = query.where(_COLUMN.external_id == request.external_id)
    if after := paging.position(request, request.page_token, 1):
        query = query.where(_COLUMN.id < after[0])
    rows = (await connection.execute(query.order_by(_COLUMN.id.desc()).limit(limit + 1))).all()
    answer = ListCustomersResponse(customers=[to_proto(row) for row in rows[:limit]], has_more=len(rows) > limit)
    if answer.has_more:
        answer.next_page_token = paging.next_token(request, [rows[limit - 1].id])
    return answer


async def _written(tx: Transaction, statement: Any, external_id: str) -> Any:
    try:
        return (await tx.connection.execute(statement)).one()
    except IntegrityError as error:
        message = f"external_id {external_id!r} already belongs to another customer."
        raise AlreadyExists(message, [Violation("external_id", "ALREADY_EXISTS", message)]) from error


def _missing(customer_id: str) -> NotFound:
    return NotFound(f"Customer {customer_id} does not exist.", customer_id=customer_id)
