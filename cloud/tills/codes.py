"""Pairing codes: eight characters that a person reads from one screen and types into another. Ten minutes, one tablet.

Stored only as a keyed hash: who has a copy of the database cannot try all codes on it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets, till_credentials
from cloud.platform import checks, trail
from cloud.platform.database import Database, Transaction
from cloud.platform.keyring import Keyring, MasterKey
from cloud.tills.tables import pairing_codes
from gipos.v1.devices_pb2 import CreatePairingCodeRequest, PairingCode
from kernel.errors import Invalid, NotFound, Violation
from kernel.ids import new_id

LIFE = timedelta(minutes=10)
ALPHABET = "23456789ACDEFGHJKMNPQRTVWXY"
"""No two of these look alike: there is no 0 or O, no 1, I or L, and only one of 2 and Z, of 5 and S, of 8 and B, of U and V."""
LENGTH = 8
LONGEST_NAME = 100
_TYPED = str.maketrans({"Z": "2", "S": "5", "B": "8", "U": "V"})
"""Who types one of these has misread the other: it is in no code."""
_SEPARATORS = re.compile(r"[\s\-_.]")

_FORGET = sa.text("DELETE FROM pairing_codes WHERE ends_at < now() - interval '30 days'")


def normalised(typed: str) -> str:
    """What somebody typed as a code; empty when it cannot be one."""
    text = _SEPARATORS.sub("", typed).upper().translate(_TYPED)
    return text if len(text) == LENGTH and all(character in ALPHABET for character in text) else ""


def shown(code: str) -> str:
    """As people read it: in two halves."""
    return f"{code[:4]}-{code[4:]}"


def qr_text(code: str, address: str, authority: bytes) -> str:
    """What a tablet needs to pair without typing: code, cloud, and which authority to trust (SHA-256 of its certificate)."""
    return "gipos-pair:?" + urlencode({"v": 1, "cloud": address, "code": code, "ca": authority.hex()})


async def create(
    tx: Transaction, ring: Keyring, request: CreatePairingCodeRequest, address: str, authority: bytes
) -> PairingCode:
    """Makes a code for an outlet.

    Raises:
        Invalid: there is no such outlet, the till to replace is none of it, or the name is too long.
    """
    if wrong := list(checks.text("name", request.name, LONGEST_NAME)):
        raise Invalid(wrong)
    try:
        await outlets.find(tx.connection, tx.tenant_id, request.outlet_id)
    except NotFound:
        text = f"There is no outlet {request.outlet_id}. GET /api/v1/outlets lists yours."
        raise Invalid([Violation("outlet_id", "NOT_FOUND", text)]) from None
    if request.replaces:
        found = await till_credentials.rows(tx.connection, tx.tenant_id, till_id=request.replaces, outlet_id=request.outlet_id)
        if not found:
            text = f"The outlet has no till {request.replaces}. GET /api/v1/devices lists them."
            raise Invalid([Violation("replaces", "NOT_FOUND", text)])
    code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    row = {"tenant_id": tx.tenant_id, "id": new_id("pco"), "outlet_id": request.outlet_id, "name": request.name}
    insert = sa.insert(pairing_codes).values(**row, replaces=request.replaces, created_at=tx.now, ends_at=tx.now + LIFE)
    await tx.run(insert.values(hash=_hash(ring.current, code)))
    trail.about(request.replaces or request.outlet_id)
    made = PairingCode(code=shown(code), outlet_id=request.outlet_id, qr_text=qr_text(code, address, authority))
    digits = authority.hex()
    made.authority_fingerprint = " ".join(digits[at : at + 4] for at in range(0, 32, 4))
    made.expire_time.FromDatetime(tx.now + LIFE)
    return made


async def look_up(connection: AsyncConnection, ring: Keyring, code: str) -> sa.Row[Any] | None:
    """The row of a normalised code, of whichever merchant, used or expired as it may be."""
    hashes = [_hash(key, code) for key in ring.keys]
    row = (await connection.execute(sa.select(pairing_codes).where(pairing_codes.c.hash.in_(hashes)))).one_or_none()
    # Found through an index, by a keyed hash of which nobody outside can make a prefix. The last word is said in constant time.
    return row if row is not None and any(hmac.compare_digest(row.hash, each) for each in hashes) else None


async def locked(tx: Transaction, code_id: str) -> sa.Row[Any]:
    """The row of a code that exists; nobody else uses it until the transaction ends."""
    mine = sa.and_(pairing_codes.c.tenant_id == tx.tenant_id, pairing_codes.c.id == code_id)
    row: sa.Row[Any] = (await tx.run(sa.select(pairing_codes).where(mine).with_for_update())).one()
    return row


async def use(tx: Transaction, code_id: str, *, enrolment_id: str, till_id: str, certificate: bytes, at: datetime) -> None:
    """Notes what became of a code."""
    mine = sa.and_(pairing_codes.c.tenant_id == tx.tenant_id, pairing_codes.c.id == code_id)
    values = {"used_at": at, "enrolment_id": enrolment_id, "till_id": till_id, "certificate": certificate}
    await tx.run(sa.update(pairing_codes).where(mine).values(values))


async def forget_old(database: Database) -> int:
    """Removes codes that are long over; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET)).rowcount


def _hash(key: MasterKey, code: str) -> bytes:
    return hmac.digest(key.derived("pairing codes"), code.encode(), "sha256")
