"""What the tills of an outlet may do without the internet: set by the owner, signed for each till. Tills enforce it, not we.

PINs are hashed on the way in and never shown again, not even hashed, except to the tills that check them.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets, till_credentials
from cloud.platform import sealing, trail
from cloud.platform.database import Database, Transaction
from cloud.platform.sealing import Vault
from cloud.tills import authorities
from cloud.tills.tables import offline_policies
from gipos.edge.v1 import link_pb2
from gipos.v1.devices_pb2 import OfflinePolicy
from kernel import business_days
from kernel.errors import Invalid, Violation
from kernel.money import LIMIT

LONGEST_HOURS = 72
TENDERS = ("cash",)
OVERRIDE_MINUTES = 60
MOST_PINS = 20
MOST_TENDERS = 20
SHORTEST_PIN, LONGEST_PIN = 4, 8
HIGHEST = {"longest_hours": 720, "most_sales": 2**31 - 1, "most_amount": LIMIT, "override_minutes": 1440}
FIRST_VERSION = 1
"""Of the usual policy, before anything was set."""
CONTEXT = b"gipos offline policy\0"
LOG_N, BLOCK, PARALLEL = 14, 8, 1
"""scrypt (RFC 7914) of a PIN: 16 MiB and some 40 ms, so that all of 10,000 short ones take minutes and not a blink."""

_signers: WeakKeyDictionary[Vault, tuple[float, str, Ed25519PrivateKey]] = WeakKeyDictionary()
"""By database: when it was looked up, the id of the key that signs, and the key."""
_signing: WeakKeyDictionary[Database, tuple[float, str, Ed25519PrivateKey]] = WeakKeyDictionary()
"""The same, for who has no connection."""


class Terms(NamedTuple):
    """What was set for an outlet, as stored."""

    version: int
    longest_hours: int
    most_sales: int
    most_amount: int
    tenders: Sequence[str]
    override_minutes: int
    supervisor_pins: Sequence[str]
    updated_at: datetime


async def find(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> OfflinePolicy:
    """An outlet's policy; the usual one when none was set.

    Raises:
        NotFound: no such outlet.
    """
    await outlets.find(connection, tenant_id, outlet_id)
    return _shown(outlet_id, await _row(connection, tenant_id, outlet_id))


async def hashed_pins(draft: OfflinePolicy) -> Sequence[str]:
    """The hashes of the PINs of a draft: before the transaction, because they are slow on purpose.

    Raises:
        Invalid: a PIN or a tender is none.
    """
    violations = _violations(draft)
    if violations:
        raise Invalid(violations)
    return [await asyncio.to_thread(hash_pin, pin) for pin in dict.fromkeys(draft.supervisor_pins)]


async def put(tx: Transaction, outlet_id: str, draft: OfflinePolicy, pins: Sequence[str]) -> OfflinePolicy:
    """Sets an outlet's policy, with PINs as `hashed_pins` made them. Without any, those there are stay.

    Raises:
        NotFound: no such outlet.
    """
    await outlets.find(tx.connection, tx.tenant_id, outlet_id)
    values: dict[str, Any] = {
        "longest_hours": draft.longest_hours or LONGEST_HOURS,
        "most_sales": draft.most_sales,
        "most_amount": draft.most_amount,
        "tenders": list(dict.fromkeys(draft.tenders)) or list(TENDERS),
        "override_minutes": draft.override_minutes if draft.HasField("override_minutes") else OVERRIDE_MINUTES,
        "updated_at": tx.now,
    }
    # By the clock, too: a cloud that was restored must not give a version out again that it does not remember. Tills keep what
    # they have rather than take what is no newer.
    by_clock = int(tx.now.timestamp() * 1000)
    statement = insert(offline_policies).values(
        **values, tenant_id=tx.tenant_id, outlet_id=outlet_id, version=by_clock, supervisor_pins=pins
    )
    if pins:
        values["supervisor_pins"] = pins
    values["version"] = sa.func.greatest(offline_policies.c.version + 1, by_clock)
    await tx.run(statement.on_conflict_do_update(index_elements=["tenant_id", "outlet_id"], set_=values))
    trail.about(outlet_id)
    return _shown(outlet_id, await _row(tx.connection, tx.tenant_id, outlet_id))


async def current(connection: AsyncConnection, tenant_id: str, till_id: str) -> link_pb2.OfflinePolicy | None:
    """The policy that holds for a till, signed; None when there is no such till.

    The same bytes until it is changed, so that whoever sends it can tell whether it was sent.
    """
    found = await till_credentials.rows(connection, tenant_id, till_id=till_id)
    if not found:
        return None
    row = await _row(connection, tenant_id, found[0].outlet_id)
    return _sealed(tenant_id, till_id, row, await _signer(connection))


async def signed(database: Database, tenant_id: str, till_id: str, terms: Terms | None) -> link_pb2.OfflinePolicy:
    """As `current`, for who has read the terms already: None when none were set."""
    known = _signing.get(database)
    if known is None or asyncio.get_running_loop().time() - known[0] > authorities.LOOK_SECONDS:
        async with database.reading(tenant_id) as connection:
            await _signer(connection)
            known = _signing[database] = _signers[sealing.vault_of(connection)]
    return _sealed(tenant_id, till_id, terms, (known[1], known[2]))


def _sealed(
    tenant_id: str, till_id: str, row: sa.Row[Any] | Terms | None, signer: tuple[str, Ed25519PrivateKey]
) -> link_pb2.OfflinePolicy:
    rules = link_pb2.OfflineRules(
        tenant_id=tenant_id,
        till_id=till_id,
        version=row.version if row is not None else FIRST_VERSION,
        longest_hours=row.longest_hours if row is not None else LONGEST_HOURS,
        most_sales=row.most_sales if row is not None else 0,
        most_amount=row.most_amount if row is not None else 0,
        tenders=row.tenders if row is not None else TENDERS,
        override_minutes=row.override_minutes if row is not None else OVERRIDE_MINUTES,
        supervisor_pins=row.supervisor_pins if row is not None else (),
    )
    if row is not None:
        rules.issue_time.FromDatetime(row.updated_at)
    content = rules.SerializeToString(deterministic=True)
    key_id, key = signer
    return link_pb2.OfflinePolicy(rules=content, signature=key.sign(CONTEXT + content), key_id=key_id)


async def version(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> int:
    """The version of an outlet's policy, 1 before one was set: cheaper than `current`, to see whether it changed."""
    mine = sa.and_(offline_policies.c.tenant_id == tenant_id, offline_policies.c.outlet_id == outlet_id)
    return (await connection.execute(sa.select(offline_policies.c.version).where(mine))).scalar_one_or_none() or FIRST_VERSION


def hash_pin(pin: str) -> str:
    """A supervisor's PIN as it is kept, in PHC string format: $scrypt$ln=14,r=8,p=1$salt$hash. Blocks for some 40 ms."""
    salt = secrets.token_bytes(16)
    made = hashlib.scrypt(pin.encode(), salt=salt, n=2**LOG_N, r=BLOCK, p=PARALLEL, dklen=32)
    texts = (b64encode(raw).decode().rstrip("=") for raw in (salt, made))
    return "$".join(("", "scrypt", f"ln={LOG_N},r={BLOCK},p={PARALLEL}", *texts))


async def _row(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> sa.Row[Any] | None:
    mine = sa.and_(offline_policies.c.tenant_id == tenant_id, offline_policies.c.outlet_id == outlet_id)
    return (await connection.execute(sa.select(offline_policies).where(mine))).one_or_none()


async def _signer(connection: AsyncConnection) -> tuple[str, Ed25519PrivateKey]:
    vault = sealing.vault_of(connection)
    now = asyncio.get_running_loop().time()
    known = _signers.get(vault)
    if known is None or now - known[0] > authorities.LOOK_SECONDS:
        # On a connection of its own: the caller's may not see the platform's keys.
        async with vault.across_tenants() as system:
            keys = await authorities.read(system, vault.ring, business_days.now())
        known = _signers[vault] = (now, keys.policy_id, keys.policy)
    return known[1], known[2]


def _shown(outlet_id: str, row: sa.Row[Any] | None) -> OfflinePolicy:
    if row is None:
        return OfflinePolicy(
            outlet_id=outlet_id,
            longest_hours=LONGEST_HOURS,
            tenders=TENDERS,
            override_minutes=OVERRIDE_MINUTES,
            version=FIRST_VERSION,
        )
    policy = OfflinePolicy(
        outlet_id=outlet_id,
        longest_hours=row.longest_hours,
        most_sales=row.most_sales,
        most_amount=row.most_amount,
        tenders=row.tenders,
        override_minutes=row.override_minutes,
        supervisor_pin_count=len(row.supervisor_pins),
        version=row.version,
    )
    policy.update_time.FromDatetime(row.updated_at)
    return policy


def _violations(draft: OfflinePolicy) -> Sequence[Violation]:
    found = []
    for name, highest in HIGHEST.items():
        if not 0 <= getattr(draft, name) <= highest:
            found.append(Violation(f"policy.{name}", "OUT_OF_RANGE", f"{name} must be between 0 and {highest}."))
    if len(draft.supervisor_pins) > MOST_PINS:
        found.append(Violation("policy.supervisor_pins", "TOO_MANY", f"supervisor_pins has at most {MOST_PINS} PINs."))
    if len(draft.tenders) > MOST_TENDERS:
        found.append(Violation("policy.tenders", "TOO_MANY", f"tenders has at most {MOST_TENDERS} names."))
    for index, pin in enumerate(draft.supervisor_pins):
        if not (pin.isascii() and pin.isdigit() and SHORTEST_PIN <= len(pin) <= LONGEST_PIN):
            text = f"A PIN has {SHORTEST_PIN} to {LONGEST_PIN} digits."
            found.append(Violation(f"policy.supervisor_pins[{index}]", "INVALID", text))
    for index, tender in enumerate(draft.tenders):
        if not tender.isascii() or not tender.replace("_", "").isalnum() or len(tender) > 30:
            text = 'A payment method is a word such as "cash" or "qris".'
            found.append(Violation(f"policy.tenders[{index}]", "INVALID", text))
    return found
