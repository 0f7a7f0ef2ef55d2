"""Secrets and personal data at rest: AES-256-GCM with a data key per merchant, and blind indexes to find values by.

A sealed value is bound to its merchant, table, column and row: elsewhere it does not open. Nothing here knows what it seals.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import keyring
from cloud.platform.keyring import ID_BYTES, KEY_BYTES, Keyring, KeysUnusable
from cloud.settings import Settings

VERSION = 1
_HEAD = struct.Struct(">BI12s")
"""Version, number of the data key, nonce; ciphertext and tag follow."""
INDEX_BYTES = 16
CACHED_TENANTS = 10_000
_OPTION = "gipos_vault"

_READ = sa.text("SELECT purpose, number, wrapped FROM tenant_keys WHERE tenant_id = :tenant_id ORDER BY number")
_ADD = sa.text(
    "INSERT INTO tenant_keys (tenant_id, purpose, number, wrapped) VALUES (:tenant_id, :purpose, 1, :wrapped) "
    "ON CONFLICT DO NOTHING"
)
_ALL = sa.text("SELECT tenant_id, purpose, number, wrapped FROM tenant_keys FOR UPDATE")
_REWRAP = sa.text(
    "UPDATE tenant_keys SET wrapped = :wrapped WHERE tenant_id = :tenant_id AND purpose = :purpose AND number = :number"
)
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7460121)")
_CHECKS = sa.text("SELECT key_id, value FROM key_checks")
_ADD_CHECK = sa.text("INSERT INTO key_checks (key_id, value) VALUES (:key_id, :value)")
_OTHER_KEY = (
    "This database was made with the secret key {theirs}; {ours}. Give every process the same key: set GIPOS_SECRET_KEY or "
    "GIPOS_SECRET_KEY_FILE, or copy the file secret.key from the data folder of the process that was first. After a rotation the "
    "older keys stay in GIPOS_SECRET_KEYS."
)


class SealBroken(Exception):
    """A sealed value was changed or moved, or its key is another one."""


class TenantKeys:
    """One merchant's keys, unwrapped. Sealing and opening need no database."""

    def __init__(self, tenant_id: str, data: dict[int, bytes], index: bytes) -> None:
        self._tenant_id = tenant_id
        self._ciphers = {number: AESGCM(key) for number, key in data.items()}
        self._current = max(data)
        block = index.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def seal(self, place: str, row_id: str, value: bytes) -> bytes:
        """The value for storage in a place such as "customers.personal", in this row."""
        nonce = secrets.token_bytes(12)
        head = _HEAD.pack(VERSION, self._current, nonce)
        return head + self._ciphers[self._current].encrypt(nonce, value, self._bound(place, row_id))

    def open(self, place: str, row_id: str, sealed: bytes) -> bytes:
        """The value again.

        Raises:
            SealBroken: it is not what was sealed there.
        """
        try:
            version, number, nonce = _HEAD.unpack_from(sealed)
            if version != VERSION:
                raise SealBroken(f"{place} of {row_id} has the unknown format {version}")
            return self._ciphers[number].decrypt(nonce, sealed[_HEAD.size :], self._bound(place, row_id))
        except (struct.error, KeyError, InvalidTag) as error:
            raise SealBroken(f"{place} of {row_id} cannot be opened: it was changed, moved, or its key is gone") from error

    def index(self, kind: str, value: str) -> bytes:
        """Equal for equal values of one kind and one merchant, and tells nothing else to those without the key."""
        # HMAC (RFC 2104) from its two halves, which were begun once: a name takes dozens of these.
        inner = self._inner.copy()
        inner.update(f"{kind}\x00{value}".encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:INDEX_BYTES]

    def _bound(self, place: str, row_id: str) -> bytes:
        return f"{self._tenant_id}|{place}|{row_id}".encode()


def is_sealed(value: bytes) -> bool:
    """Whether a value is sealed rather than a serialised message: no message begins with a tag of 1."""
    return value[:1] == bytes([VERSION])


class Vault:
    """Every merchant's keys, each read once per process.

    They are read and made on a connection of their own: a key made within a transaction that is then rolled back would be
    remembered here and lost there.
    """

    def __init__(self, ring: Keyring, across_tenants: Callable[[], AbstractAsyncContextManager[AsyncConnection]]) -> None:
        self.ring = ring
        self.across_tenants = across_tenants
        self._known: OrderedDict[str, TenantKeys] = OrderedDict()

    async def keys(self, tenant_id: str) -> TenantKeys:
        """The merchant's keys; made when there are none."""
        if known := self._known.get(tenant_id):
            self._known.move_to_end(tenant_id)
            return known
        async with self.across_tenants() as connection:
            rows = (await connection.execute(_READ, {"tenant_id": tenant_id})).all()
            if {row.purpose for row in rows} != {"data", "index"}:
                current = self.ring.current
                for purpose in ("data", "index"):
                    wrapped = current.wrap(secrets.token_bytes(KEY_BYTES), _place(tenant_id, purpose, 1))
                    await connection.execute(_ADD, {"tenant_id": tenant_id, "purpose": purpose, "wrapped": wrapped})
                rows = (await connection.execute(_READ, {"tenant_id": tenant_id})).all()
        data, index = {}, b""
        for row in rows:
            key = _unwrapped(self.ring, row.wrapped, _place(tenant_id, row.purpose, row.number))
            if row.purpose == "data":
                data[row.number] = key
            else:
                index = key
        known = self._known[tenant_id] = TenantKeys(tenant_id, data, index)
        if len(self._known) > CACHED_TENANTS:
            self._known.popitem(last=False)
        return known

    def options(self) -> dict[str, object]:
        """Execution options that make `keys_of` find this vault."""
        return {_OPTION: self}


async def keys_of(connection: AsyncConnection, tenant_id: str) -> TenantKeys:
    """A merchant's keys, for whoever holds a connection of a Database."""
    return await vault_of(connection).keys(tenant_id)


def vault_of(connection: AsyncConnection) -> Vault:
    """The vault of the Database that a connection is of."""
    assert connection.sync_connection is not None, "only open connections are handed out"
    vault: Vault | None = connection.sync_connection.get_execution_options().get(_OPTION)
    if vault is None:
        raise KeysUnusable("This database was opened without keys, so nothing can be sealed or opened.")
    return vault


async def unlocked(connection: AsyncConnection, settings: Settings) -> Keyring:
    """The keys that belong to this database. The first process that ever opens it makes them, unless they are given.

    Raises:
        KeysUnusable: they are missing, or the database was used with others.
    """
    await connection.execute(_LOCK)  # two processes that start at once must not each bring a key of their own
    checks = {row.key_id: row.value for row in await connection.execute(_CHECKS)}
    ring = keyring.find(settings)
    if ring is None:
        if checks:
            raise KeysUnusable(_OTHER_KEY.format(theirs=_names(checks), ours="there is none here"))
        ring = keyring.create(settings)
    here = {key.id: key.check for key in ring.keys}
    missing = [key_id for key_id, value in checks.items() if not hmac.compare_digest(here.get(key_id, b""), value)]
    if missing:
        raise KeysUnusable(_OTHER_KEY.format(theirs=_names(missing), ours=f"here is {_names(here)}"))
    if ring.current.id not in checks:
        await connection.execute(_ADD_CHECK, {"key_id": ring.current.id, "value": ring.current.check})
    return ring


def _names(key_ids: Iterable[bytes]) -> str:
    return ", ".join(sorted(key_id.hex() for key_id in key_ids))


async def rewrap(connection: AsyncConnection, ring: Keyring) -> int:
    """Wraps every merchant's keys with the current master key; how many were wrapped with another one."""
    count = 0
    for row in (await connection.execute(_ALL)).all():
        if row.wrapped[:ID_BYTES] == ring.current.id:
            continue
        place = _place(row.tenant_id, row.purpose, row.number)
        wrapped = ring.current.wrap(_unwrapped(ring, row.wrapped, place), place)
        where = {"tenant_id": row.tenant_id, "purpose": row.purpose, "number": row.number}
        await connection.execute(_REWRAP, {**where, "wrapped": wrapped})
        count += 1
    return count


def _place(tenant_id: str, purpose: str, number: int) -> bytes:
    return f"tenant_keys|{tenant_id}|{purpose}|{number}".encode()


def _unwrapped(ring: Keyring, wrapped: bytes, place: bytes) -> bytes:
    try:
        return ring.of(wrapped[:ID_BYTES]).unwrap(wrapped, place)
    except InvalidTag as error:
        raise SealBroken(f"{place.decode()} cannot be opened: it was changed or moved") from error
