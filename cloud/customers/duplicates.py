"""The same person twice: who has this phone number or e-mail address already, and whose name reads alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.customers import indexes, names
from cloud.customers.customers import normal_phone, phone_violations, to_proto
from cloud.customers.tables import customers
from cloud.platform import checks
from cloud.platform.database import Transaction
from cloud.platform.sealing import TenantKeys, keys_of
from gipos.v1.customers_pb2 import (
    Customer,
    DuplicateCandidate,
    FindDuplicateCustomersRequest,
    FindDuplicateCustomersResponse,
)
from kernel.errors import AlreadyExists, Invalid, Violation

MAX_CANDIDATES = 20
ALIKE = 0.85
"""Names whose letters agree this far read alike; difflib's ratio, 1 for the same."""

_COLUMN = customers.c
_BYTES = _COLUMN.name_index.type
_LOOKED_AT = 500
"""Names to open and compare at most: a name of only the commonest words must not open the whole table."""


@dataclass
class Owners:
    """Which customer has which unique or telling value. Kept up to date while a batch is decided, item by item."""

    keys: TenantKeys
    phones: dict[bytes, str] = field(default_factory=dict)
    emails: dict[bytes, str] = field(default_factory=dict)
    external_ids: dict[str, str] = field(default_factory=dict)

    def note(self, customer: Customer) -> None:
        """The customer (normalised) has its values now."""
        if (phone := indexes.of_phone(self.keys, customer.phone)) is not None:
            self.phones.setdefault(phone, customer.id)
        if (email := indexes.of_email(self.keys, customer.email)) is not None:
            self.emails.setdefault(email, customer.id)
        if customer.external_id:
            self.external_ids[customer.external_id] = customer.id

    def conflicts(self, customer: Customer, *, allow_duplicate: bool) -> Iterator[Violation]:
        """What of a normalised customer's values somebody else has."""
        pairs = [("external_id", self.external_ids.get(customer.external_id))]
        if not allow_duplicate:
            pairs.append(("phone", self.phones.get(indexes.of_phone(self.keys, customer.phone) or b"")))
            pairs.append(("email", self.emails.get(indexes.of_email(self.keys, customer.email) or b"")))
        for name, owner in pairs:
            if owner:
                hint = "" if name == "external_id" else " Send allow_duplicate to add this one all the same."
                yield Violation(name, "ALREADY_EXISTS", f"This {name} already belongs to customer {owner}.{hint}")


async def owners_of(tx: Transaction, wanted: Iterable[Customer]) -> Owners:
    """Who has a value of these normalised customers; nobody else can take one until the transaction ends."""
    keys = await keys_of(tx.connection, tx.tenant_id)
    wanted = list(wanted)
    phones = {index for customer in wanted if (index := indexes.of_phone(keys, customer.phone))}
    emails = {index for customer in wanted if (index := indexes.of_email(keys, customer.email))}
    externals = {customer.external_id for customer in wanted if customer.external_id}
    locks = [*(index.hex() for index in (*phones, *emails)), *(_external(value) for value in externals)]
    await tx.alone(*(f"customer {lock}" for lock in locks))
    query = sa.select(_COLUMN.id, _COLUMN.phone_index, _COLUMN.email_index, _COLUMN.external_id).where(
        _COLUMN.tenant_id == tx.tenant_id,
        sa.or_(
            _COLUMN.phone_index == sa.any_(sa.literal(sorted(phones), _BYTES)),
            _COLUMN.email_index == sa.any_(sa.literal(sorted(emails), _BYTES)),
            _COLUMN.external_id == sa.any_(sa.literal(sorted(externals), sa.ARRAY(sa.Text))),
        ),
    )
    owners = Owners(keys)
    for row in await tx.connection.execute(query.order_by(_COLUMN.id)):
        if row.phone_index is not None:
            owners.phones.setdefault(row.phone_index, row.id)
        if row.email_index is not None:
            owners.emails.setdefault(row.email_index, row.id)
        owners.external_ids[row.external_id] = row.id
    owners.external_ids.pop("", None)
    return owners


def _external(external_id: str) -> str:
    return f"external {external_id}"


async def alone(tx: Transaction, external_id: str) -> None:
    """Waits until nobody else adds or replaces a customer with this external_id."""
    await tx.alone(f"customer {_external(external_id.strip())}")


async def refuse(tx: Transaction, customer: Customer, *, allow_duplicate: bool) -> None:
    """Lets a normalised customer pass that nobody else looks like.

    Raises:
        AlreadyExists: somebody has its external_id, or its phone number or e-mail address and that is not allowed.
    """
    found = list((await owners_of(tx, [customer])).conflicts(customer, allow_duplicate=allow_duplicate))
    if found:
        raise AlreadyExists(found[0].message, found)


def alike(one: str, other: str) -> float:
    """How alike two names read, 0 to 1. Spelling, order and doubled letters do not matter, a missing word matters a little."""
    left = sorted({names.sound(word) for word in names.words(one)})
    right = sorted({names.sound(word) for word in names.words(other)})
    if not left or not right:
        return 0.0
    if left == right:
        return 1.0
    # Rahayu Dewi and Siti Rahayu Dewi: all of the shorter name is in the longer one.
    shorter, longer = sorted((left, right), key=len)
    if len(shorter) >= 2 and set(shorter) < set(longer):
        return 0.9
    return SequenceMatcher(None, " ".join(left), " ".join(right), autojunk=False).ratio()


async def find(
    connection: AsyncConnection, tenant_id: str, request: FindDuplicateCustomersRequest
) -> FindDuplicateCustomersResponse:
    """Who may be this person, the most likely first; in clear.

    Raises:
        Invalid: nothing was given, or something of it is not right.
    """
    if wrong := list(_violations(request)):
        raise Invalid(wrong)
    keys = await keys_of(connection, tenant_id)
    phone = indexes.of_phone(keys, normal_phone(request.phone)) if request.phone else None
    email = indexes.of_email(keys, request.email)
    likely = []
    for row in await _looked_up(connection, tenant_id, phone, email, indexes.of_sound(keys, request.name)):
        customer = to_proto(row, keys)
        likeness = alike(request.name, customer.name)
        matches = [
            name for name, value in (("phone", phone), ("email", email)) if value and getattr(row, f"{name}_index") == value
        ]
        if likeness >= ALIKE:
            matches.append("name")
        if matches:
            rank = ("phone" in matches) * 4 + ("email" in matches) * 3 + (likeness if "name" in matches else 0)
            likely.append((rank, row.id, DuplicateCandidate(customer=customer, matches=matches)))
    likely.sort(key=lambda entry: (-entry[0], entry[1]))
    return FindDuplicateCustomersResponse(candidates=[candidate for _, _, candidate in likely[:MAX_CANDIDATES]])


def _violations(request: FindDuplicateCustomersRequest) -> Iterator[Violation]:
    if not (request.phone or request.email or request.name.strip()):
        yield Violation("phone", "REQUIRED", "At least one of phone, email and name is required.")
    yield from checks.text("email", request.email, 200)
    yield from checks.text("name", request.name, 200)
    yield from phone_violations(request.phone)


async def _looked_up(
    connection: AsyncConnection, tenant_id: str, phone: bytes | None, email: bytes | None, sounds: Sequence[bytes]
) -> Sequence[sa.Row[tuple[object, ...]]]:
    """Those with the number or the address, and the newest of those who share a word of the name."""
    mine = sa.select(customers).where(_COLUMN.tenant_id == tenant_id, _COLUMN.deleted_at.is_(None))
    rows: dict[str, sa.Row[tuple[object, ...]]] = {}
    same = [
        column == value for column, value in ((_COLUMN.phone_index, phone), (_COLUMN.email_index, email)) if value is not None
    ]
    if same:
        query = mine.where(sa.or_(*same)).order_by(_COLUMN.id).limit(_LOOKED_AT)
        rows.update({row.id: row for row in await connection.execute(query)})
    if sounds:
        found = sa.func.sounding_customers(sa.literal(list(sounds), _BYTES)).column_valued("found")
        query = mine.where(_COLUMN.id.in_(sa.select(found))).order_by(_COLUMN.id.desc()).limit(_LOOKED_AT)
        rows.update({row.id: row for row in await connection.execute(query)})
    return list(rows.values())
