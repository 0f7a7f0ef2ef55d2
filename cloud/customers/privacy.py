"""Personal data at rest and in answers: sealed in the table, masked for callers, in clear only with a scope and a trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from cloud.customers import indexes
from cloud.customers.tables import customers
from cloud.platform import calls
from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.platform.sealing import TenantKeys, keys_of
from gipos.v1.customers_pb2 import Customer
from kernel import masking

SCOPE = "customers:pii"
PERSONAL = masking.personal_fields(Customer.DESCRIPTOR)
PLACE = "customers.personal"
_COLUMN = customers.c


def columns(keys: TenantKeys, customer: Customer) -> dict[str, Any]:
    """What the table holds of a customer's personal fields."""
    personal = Customer(**{name: getattr(customer, name) for name in PERSONAL})
    return {
        "personal": keys.seal(PLACE, customer.id, personal.SerializeToString()),
        "phone_index": indexes.of_phone(keys, customer.phone),
        "email_index": indexes.of_email(keys, customer.email),
        "name_index": indexes.of_name(keys, customer.name),
        "sound_index": indexes.of_sound(keys, customer.name),
        # The columns of the release before stay empty.
        **dict.fromkeys(PERSONAL, ""),
    }


ERASED: dict[str, Any] = {
    "personal": None,
    "phone_index": None,
    "email_index": None,
    "name_index": [],
    "sound_index": [],
    **dict.fromkeys(PERSONAL, ""),
}
"""What the table holds of them once the customer is erased."""


def opened(keys: TenantKeys, row: Any) -> Customer:
    """The personal fields of a row, in clear.

    Raises:
        SealBroken: they were changed or moved in the database.
    """
    if row.personal is not None:
        return Customer.FromString(keys.open(PLACE, row.id, row.personal))
    # A row that the release before has written while both run; none of an erased customer.
    return Customer(**{name: getattr(row, name) for name in PERSONAL})


def shown(found: Iterable[Customer], caller: Caller) -> list[Customer]:
    """Customers as the caller may see them: masked, or in clear with the scope, and then the call is noted as having seen them.

    Every answer with customers in it goes through here.
    """
    if SCOPE not in caller.scopes:
        return [masking.masked(customer) for customer in found]
    clear = list(found)
    calls.call().seen.extend(customer.id for customer in clear if any(getattr(customer, name) for name in PERSONAL))
    return clear


def kept(draft: Customer, current: Customer, names: Iterable[str]) -> set[str]:
    """The personal fields among these that a caller sent back masked, and which therefore stay as they are."""
    return {name for name in names if name in PERSONAL and getattr(current, name) and masking.is_mask(name, getattr(draft, name))}


_BATCH = 500
_PLAIN = (_COLUMN.personal.is_(None), _COLUMN.deleted_at.is_(None))


async def seal_plain(database: Database) -> int:
    """Seals what the release before has stored in clear, and empties those columns; how many customers. Safe to repeat."""
    async with database.across_tenants() as connection:
        tenants = (await connection.execute(sa.select(_COLUMN.tenant_id).where(*_PLAIN).distinct())).scalars().all()
    count = 0
    for tenant_id in tenants:
        query = sa.select(customers).where(_COLUMN.tenant_id == tenant_id, *_PLAIN).order_by(_COLUMN.id).limit(_BATCH)
        more = True
        while more:
            async with database.transaction(tenant_id) as tx:
                keys = await keys_of(tx.connection, tenant_id)
                rows = (await tx.connection.execute(query.with_for_update(skip_locked=True))).all()
                for row in rows:
                    plain = Customer(id=row.id, **{name: getattr(row, name) for name in PERSONAL})
                    mine = sa.update(customers).where(_COLUMN.tenant_id == tenant_id, _COLUMN.id == row.id)
                    await tx.connection.execute(mine.values(**columns(keys, plain)))
            count += len(rows)
            more = len(rows) == _BATCH
    return count
