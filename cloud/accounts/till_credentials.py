"""Tills as callers: their rows, states and certificates. Who may become one is decided in cloud/tills.

A certificate that is not known here is still believed if an authority of ours signed it for a till that is: a cloud that was
restored from a backup has forgotten what was renewed since, and must not lock those tills out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts.tables import outlets, tenants, till_certificates, tills
from cloud.platform.database import Transaction

ACTIVE, SUSPENDED, RETIRED, REVOKED = "active", "suspended", "retired", "revoked"
STATES = (ACTIVE, SUSPENDED, RETIRED, REVOKED)
SCHEME = "gipos://"

_LAST_END = (
    sa.select(sa.func.max(till_certificates.c.ends_at))
    .where(
        till_certificates.c.tenant_id == tills.c.tenant_id,
        till_certificates.c.till_id == tills.c.id,
        till_certificates.c.revoked_at.is_(None),
    )
    .scalar_subquery()
)
_TILLS = sa.select(tills, _LAST_END.label("certificate_ends_at"))


@dataclass(frozen=True)
class Shown:
    """A certificate that was shown before, as it is known here."""

    tenant_id: str
    till_id: str
    outlet_id: str
    state: str
    ends_at: datetime
    is_revoked: bool


async def rows(
    connection: AsyncConnection, tenant_id: str, *, outlet_id: str = "", states: Sequence[str] = (), till_id: str = ""
) -> Sequence[sa.Row[Any]]:
    """The tills of a merchant with the end of their last certificate, by outlet and number."""
    query = _TILLS.where(tills.c.tenant_id == tenant_id)
    if outlet_id:
        query = query.where(tills.c.outlet_id == outlet_id)
    if till_id:
        query = query.where(tills.c.id == till_id)
    if states:
        query = query.where(tills.c.state.in_(states))
    return (await connection.execute(query.order_by(tills.c.outlet_id, tills.c.number))).all()


async def add(tx: Transaction, till_id: str, outlet_id: str, name: str, hardware: str) -> int:
    """Adds a till under the next number of its outlet; the number."""
    # Two tablets that are paired at once wait for each other here, else they would both take the next number.
    await tx.run(sa.select(outlets.c.id).where(outlets.c.tenant_id == tx.tenant_id, outlets.c.id == outlet_id).with_for_update())
    highest = sa.select(sa.func.coalesce(sa.func.max(tills.c.number), 0))
    number: int = (
        await tx.run(highest.where(tills.c.tenant_id == tx.tenant_id, tills.c.outlet_id == outlet_id))
    ).scalar_one() + 1
    row = {"tenant_id": tx.tenant_id, "id": till_id, "outlet_id": outlet_id, "number": number, "hardware": hardware}
    await tx.run(sa.insert(tills).values(**row, name=name or f"Kasir {number}", paired_at=tx.now, created_at=tx.now))
    return number


async def hold(tx: Transaction, till_id: str) -> None:
    """Until the transaction ends no other tablet gets this till's place."""
    await tx.run(sa.select(tills.c.id).where(tills.c.tenant_id == tx.tenant_id, tills.c.id == till_id).with_for_update(read=True))


async def replace(tx: Transaction, till_id: str, name: str, hardware: str) -> None:
    """Gives a till to another tablet: token and certificates of the one before are good no longer, and the till is active."""
    values: dict[str, Any] = {
        "token_fingerprint": None,
        "state": ACTIVE,
        "state_reason": "",
        "hardware": hardware,
        "paired_at": tx.now,
    }
    if name:
        values["name"] = name
    await tx.run(sa.update(tills).where(tills.c.tenant_id == tx.tenant_id, tills.c.id == till_id).values(values))
    of_till = sa.and_(till_certificates.c.tenant_id == tx.tenant_id, till_certificates.c.till_id == till_id)
    await tx.run(sa.update(till_certificates).where(of_till, till_certificates.c.revoked_at.is_(None)).values(revoked_at=tx.now))


async def set_state(tx: Transaction, till_id: str, state: str, reason: str) -> bool:
    """Sets the state of a till; whether there is such a till."""
    changed = await tx.run(
        sa.update(tills).where(tills.c.tenant_id == tx.tenant_id, tills.c.id == till_id).values(state=state, state_reason=reason)
    )
    return changed.rowcount == 1


async def certify(connection: AsyncConnection, tenant_id: str, till_id: str, certificate: bytes) -> None:
    """Notes a certificate, DER, that the till may show from now on. The ones before stay good until they end."""
    parsed = x509.load_der_x509_certificate(certificate)
    row = {"tenant_id": tenant_id, "fingerprint": sha256(certificate).digest(), "till_id": till_id, "certificate": certificate}
    times = {"starts_at": parsed.not_valid_before_utc, "ends_at": parsed.not_valid_after_utc}
    statement = insert(till_certificates).values(**row, **times, serial=f"{parsed.serial_number:x}")
    await connection.execute(statement.on_conflict_do_nothing())


async def shown(connection: AsyncConnection, certificate: bytes) -> Shown | None:
    """What is known of a certificate, DER; its till may have any state."""
    query = (
        sa.select(tills, till_certificates.c.ends_at, till_certificates.c.revoked_at)
        .join(tills, sa.and_(tills.c.tenant_id == till_certificates.c.tenant_id, tills.c.id == till_certificates.c.till_id))
        .where(till_certificates.c.fingerprint == sha256(certificate).digest())
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return Shown(row.tenant_id, row.id, row.outlet_id, row.state, row.ends_at, row.revoked_at is not None)


async def latest(connection: AsyncConnection, tenant_id: str, till_id: str) -> bytes | None:
    """The till's newest certificate that is not revoked, DER."""
    query = (
        sa.select(till_certificates.c.certificate)
        .where(
            till_certificates.c.tenant_id == tenant_id,
            till_certificates.c.till_id == till_id,
            till_certificates.c.revoked_at.is_(None),
        )
        .order_by(till_certificates.c.starts_at.desc(), till_certificates.c.fingerprint)
        .limit(1)
    )
    found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def mode_of(connection: AsyncConnection, tenant_id: str) -> str:
    """Whether a merchant's data are "test" or "live"."""
    query = sa.select(tenants.c.mode).where(tenants.c.tenant_id == tenant_id)
    return str((await connection.execute(query)).scalar_one())


async def adopt(connection: AsyncConnection, certificate: bytes) -> bool:
    """Notes a certificate that an authority of ours has signed, as the caller knows, and that nobody here remembers.

    Not one that is older than what is known of its till: that one would be remembered.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    till_id = str(names[0].value) if names else ""
    tenant_id = _tenant_of(parsed)
    if not till_id or not tenant_id:
        return False
    newest = sa.select(sa.func.max(till_certificates.c.starts_at)).where(
        till_certificates.c.tenant_id == tenant_id, till_certificates.c.till_id == till_id
    )
    found = await connection.execute(
        sa.select(tills.c.id, newest.scalar_subquery().label("newest")).where(
            tills.c.tenant_id == tenant_id, tills.c.id == till_id
        )
    )
    row = found.one_or_none()
    if row is None or (row.newest is not None and parsed.not_valid_before_utc <= row.newest):
        return False
    await certify(connection, tenant_id, till_id, certificate)
    return True


def _tenant_of(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(SCHEME):
            return uri.removeprefix(SCHEME).partition("/")[0]
    return ""
