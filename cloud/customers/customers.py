"""The rules of customers: create, read, change, erase. Values pass through here in clear; whoever answers a call masks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import phonenumbers
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.customers import privacy
from cloud.customers.tables import customers
from cloud.platform import checks, trail
from cloud.platform.database import Transaction
from cloud.platform.sealing import TenantKeys, keys_of
from gipos.v1.customers_pb2 import Customer
from kernel import masking
from kernel.errors import AlreadyExists, Invalid, NotFound, VersionConflict, Violation
from kernel.event_types import CUSTOMER_CREATED, CUSTOMER_DELETED, CUSTOMER_UPDATED
from kernel.ids import new_id

WRITABLE = (*privacy.PERSONAL, "external_id")
_COLUMN = customers.c
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


def phone_violations(text: str) -> Iterator[Violation]:
    """Empty, or a phone number."""
    if wrong := list(checks.text("phone", text, 40)):
        yield from wrong  # and not looked at any closer: it may be megabytes
        return
    if not text:
        return
    try:
        normal_phone(text)
    except ValueError as error:
        yield Violation("phone", "INVALID_PHONE", f"phone {error}.")


def to_proto(row: Any, keys: TenantKeys) -> Customer:
    """A row as the contract has it, in clear."""
    customer = privacy.opened(keys, row)
    customer.id, customer.external_id, customer.etag = row.id, row.external_id, str(row.version)
    customer.create_time.FromDatetime(row.created_at)
    customer.update_time.FromDatetime(row.updated_at)
    if row.deleted_at is not None:
        customer.delete_time.FromDatetime(row.deleted_at)
    return customer


def violations(draft: Customer) -> Iterator[Violation]:
    """What is wrong with a customer as a caller wrote it."""
    yield from checks.text("name", draft.name, 200, required=True)
    yield from checks.text("email", draft.email, 200)
    yield from checks.text("address", draft.address, 500)
    yield from checks.text("note", draft.note, 1000)
    yield from checks.text("external_id", draft.external_id, 200)
    hidden = [name for name in privacy.PERSONAL if getattr(draft, name) and masking.is_mask(name, getattr(draft, name))]
    for name in hidden:
        yield Violation(name, "MASKED_VALUE", f"{name} is masked. Send the whole value, or leave it out.")
    if "phone" not in hidden:
        yield from phone_violations(draft.phone)
    if draft.email and "email" not in hidden and _EMAIL.fullmatch(draft.email) is None:
        yield Violation("email", "INVALID_EMAIL", "email is not an e-mail address.")


def normalised(draft: Customer) -> Customer:
    """What is stored of a customer as a caller wrote it.

    Raises:
        Invalid: the draft breaks rules.
    """
    if wrong := list(violations(draft)):
        raise Invalid(wrong)
    customer = Customer(**{name: getattr(draft, name).strip() for name in WRITABLE})
    customer.phone = normal_phone(customer.phone) if customer.phone else ""
    return customer


async def create(tx: Transaction, draft: Customer) -> Customer:
    """Adds a customer; in clear.

    Raises:
        Invalid: the draft breaks rules.
        AlreadyExists: another customer has its external_id.
    """
    customer = normalised(draft)
    customer.id = new_id("cus")
    try:
        await add(tx, [customer])
    except IntegrityError as error:
        raise _taken(customer) from error
    return customer


async def add(tx: Transaction, made: Sequence[Customer]) -> None:
    """Stores normalised customers that have ids, sets their etag and times, and announces them.

    Raises:
        IntegrityError: another customer has one's external_id.
    """
    if not made:
        return
    keys = await keys_of(tx.connection, tx.tenant_id)
    stamp = {"tenant_id": tx.tenant_id, "version": 1, "created_at": tx.now, "updated_at": tx.now}
    rows = [
        {**stamp, "id": customer.id, "external_id": customer.external_id, **privacy.columns(keys, customer)} for customer in made
    ]
    await tx.connection.execute(sa.insert(customers), rows)
    for customer in made:
        customer.etag = "1"
        customer.create_time.FromDatetime(tx.now)
        customer.update_time.FromDatetime(tx.now)
        trail.about(customer.id, [name for name in WRITABLE if getattr(customer, name)])
        tx.publish(CUSTOMER_CREATED, masking.masked(customer), subject_id=customer.id, version=1)


async def update(tx: Transaction, draft: Customer, paths: Sequence[str], etag: str) -> Customer:
    """Changes the fields named by the paths ("*" for all); masked values that come back change nothing. In clear.

    Raises:
        NotFound, Invalid, AlreadyExists, VersionConflict: as their names say.
    """
    query = sa.select(customers).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == draft.id).with_for_update()
    row = (await tx.connection.execute(query)).one_or_none()
    return await _change(tx, row, draft, paths, etag)


async def upsert(tx: Transaction, draft: Customer, etag: str) -> tuple[Customer, bool]:
    """Replaces the customer with the draft's external_id, or adds it; in clear, and whether it was added.

    Raises:
        Invalid, AlreadyExists, VersionConflict: as their names say.
    """
    key = draft.external_id.strip()
    if not key:
        raise Invalid([Violation("customer.external_id", "REQUIRED", "customer.external_id is required: it is the key.")])
    query = sa.select(customers).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.external_id == key)
    row = (await tx.connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        if etag:
            raise VersionConflict("There is no customer with this external_id. Leave out If-Match to add it.")
        return await create(tx, draft), True
    return await _change(tx, row, draft, (), etag), False


async def delete(tx: Transaction, customer_id: str) -> None:
    """Erases a customer: the id stays, the person is gone. Erasing twice changes nothing.

    Raises:
        NotFound: no such customer.
    """
    mine = (_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == customer_id)
    row = (await tx.connection.execute(sa.select(customers).where(*mine).with_for_update())).one_or_none()
    if row is None:
        raise _missing(customer_id)
    trail.about(customer_id)
    if row.deleted_at is not None:
        return
    version = row.version + 1
    gone = sa.update(customers).where(*mine).values(**privacy.ERASED, external_id="", version=version)
    await tx.connection.execute(gone.values(deleted_at=tx.now, updated_at=tx.now))
    customer = Customer(id=customer_id, etag=str(version), masked=True)
    customer.create_time.FromDatetime(row.created_at)
    customer.update_time.FromDatetime(tx.now)
    customer.delete_time.FromDatetime(tx.now)
    tx.publish(CUSTOMER_DELETED, customer, subject_id=customer_id, version=version)


async def find(connection: AsyncConnection, tenant_id: str, customer_id: str, external_id: str = "") -> Customer:
    """One customer by id or else external_id, erased or not; in clear.

    Raises:
        NotFound: no such customer.
    """
    key = _COLUMN.id == customer_id if customer_id else _COLUMN.external_id == external_id
    if customer_id or external_id:
        row = (await connection.execute(sa.select(customers).where(_COLUMN.tenant_id == tenant_id, key))).one_or_none()
        if row is not None:
            return to_proto(row, await keys_of(connection, tenant_id))
    if external_id and not customer_id:
        raise NotFound(f"There is no customer with external_id {external_id!r}.", external_id=external_id)
    raise _missing(customer_id)


async def _change(tx: Transaction, row: Any, draft: Customer, paths: Sequence[str], etag: str) -> Customer:
    if row is None or row.deleted_at is not None:
        raise _missing(draft.id if row is None else row.id, erased=row is not None)
    keys = await keys_of(tx.connection, tx.tenant_id)
    current = to_proto(row, keys)
    if etag and etag != current.etag:
        raise VersionConflict(
            f"Customer {row.id} changed since you read it (etag {current.etag}, you sent {etag}). Read it again, then retry.",
            customer_id=row.id,
        )
    if wrong := list(checks.mask(paths)):
        raise Invalid(wrong)
    names = WRITABLE if not paths or "*" in paths else paths
    if unknown := [path for path in names if path not in Customer.DESCRIPTOR.fields_by_name]:
        raise Invalid([Violation("update_mask", "UNKNOWN_FIELD", f"There is no field {path!r} to update.") for path in unknown])
    wanted = Customer(**{name: getattr(current, name) for name in WRITABLE})
    sent_back = privacy.kept(draft, current, names)
    for name in names:
        if name in WRITABLE and name not in sent_back:
            setattr(wanted, name, getattr(draft, name))
    customer = normalised(wanted)
    changed = [name for name in WRITABLE if getattr(customer, name) != getattr(current, name)]
    trail.about(row.id, changed)
    if not changed:
        return current
    customer.id = row.id
    values: dict[str, Any] = {"external_id": customer.external_id, "version": row.version + 1, "updated_at": tx.now}
    if changed != ["external_id"]:
        values |= privacy.columns(keys, customer)
    statement = sa.update(customers).where(_COLUMN.tenant_id == tx.tenant_id, _COLUMN.id == row.id).values(**values)
    try:
        await tx.connection.execute(statement)
    except IntegrityError as error:
        raise _taken(customer) from error
    customer.etag = str(row.version + 1)
    customer.create_time.CopyFrom(current.create_time)
    customer.update_time.FromDatetime(tx.now)
    tx.publish(CUSTOMER_UPDATED, masking.masked(customer), subject_id=customer.id, version=row.version + 1)
    return customer


def _taken(customer: Customer) -> AlreadyExists:
    message = f"external_id {customer.external_id!r} already belongs to another customer."
    return AlreadyExists(message, [Violation("external_id", "ALREADY_EXISTS", message)])


def _missing(customer_id: str, *, erased: bool = False) -> NotFound:
    if erased:
        return NotFound(f"Customer {customer_id} was erased and cannot be changed.", customer_id=customer_id)
    return NotFound(f"Customer {customer_id} does not exist.", customer_id=customer_id)
