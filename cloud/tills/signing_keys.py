"""The platform's own keys, of which every process on a database has the same: sealed in the database, opened in memory only.

A key says from when on it signs. A new one is made long before, so that whoever checks its signatures has heard of it by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.keyring import ID_BYTES, Keyring
from cloud.platform.sealing import SealBroken
from cloud.tills.tables import signing_keys

AUTHORITY, POLICY = "authority", "policy"
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7460122)")


@dataclass(frozen=True)
class SigningKey:
    """One of them."""

    id: str
    signs_from: datetime
    ends_at: datetime
    """Nothing it signed is believed after this."""
    public: bytes
    """What others check with: a certificate in DER, or a public key."""
    private: bytes


@dataclass(frozen=True)
class Draft:
    """A key that is about to be stored."""

    id: str
    ends_at: datetime
    public: bytes
    private: bytes


async def lock(connection: AsyncConnection) -> None:
    """Until the transaction ends nobody else makes keys: two processes that start at once must not make two."""
    await connection.execute(_LOCK)


async def every(connection: AsyncConnection, ring: Keyring, kind: str, now: datetime) -> list[SigningKey]:
    """The keys of a kind that are not over, the one that signs now first, then the others, newest first.

    Raises:
        SealBroken: a row was changed.
        KeysUnusable: the master key it is sealed with is missing.
    """
    query = sa.select(signing_keys).where(signing_keys.c.kind == kind, signing_keys.c.ends_at > now)
    found = [
        SigningKey(row.id, row.signs_from, row.ends_at, row.public, _open(ring, row.sealed, kind, row.id))
        for row in await connection.execute(query.order_by(signing_keys.c.signs_from.desc(), signing_keys.c.id.desc()))
    ]
    return sorted(
        found, key=lambda key: key.signs_from > now
    )  # stable: those that may sign come first, newest of them at the top


async def add(connection: AsyncConnection, ring: Keyring, kind: str, draft: Draft, now: datetime, signs_from: datetime) -> None:
    """Stores a key."""
    sealed = ring.current.wrap(draft.private, _place(kind, draft.id))
    row = {"kind": kind, "id": draft.id, "created_at": now, "signs_from": signs_from, "ends_at": draft.ends_at}
    await connection.execute(sa.insert(signing_keys).values(**row, public=draft.public, sealed=sealed))


async def rewrap(connection: AsyncConnection, ring: Keyring) -> int:
    """Seals every key with the current master key; how many were sealed with another one."""
    count = 0
    for row in (await connection.execute(sa.select(signing_keys).with_for_update())).all():
        if row.sealed[:ID_BYTES] != ring.current.id:
            sealed = ring.current.wrap(_open(ring, row.sealed, row.kind, row.id), _place(row.kind, row.id))
            where = sa.and_(signing_keys.c.kind == row.kind, signing_keys.c.id == row.id)
            await connection.execute(sa.update(signing_keys).where(where).values(sealed=sealed))
            count += 1
    return count


async def ensure(
    connection: AsyncConnection,
    ring: Keyring,
    kind: str,
    now: datetime,
    make: Callable[[], Draft],
    successor_from: Callable[[Sequence[SigningKey]], datetime | None],
) -> list[SigningKey]:
    """As `every`; makes the first key, and the next one when `successor_from` names the moment from which it is to sign."""
    found = await every(connection, ring, kind, now)
    if found and successor_from(found) is None:
        return found
    await lock(connection)
    found = await every(connection, ring, kind, now)
    signs_from = successor_from(found) if found else now
    if signs_from is None:
        return found
    await add(connection, ring, kind, make(), now, signs_from)
    return await every(connection, ring, kind, now)


def _open(ring: Keyring, sealed: bytes, kind: str, key_id: str) -> bytes:
    try:
        return ring.of(sealed[:ID_BYTES]).unwrap(sealed, _place(kind, key_id))
    except InvalidTag as error:
        raise SealBroken(f"The signing key {key_id} cannot be opened: it was changed or moved") from error


def _place(kind: str, key_id: str) -> bytes:
    return f"signing_keys|{kind}|{key_id}".encode()
