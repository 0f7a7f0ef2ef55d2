"""The cloud's own authority: made on the first start, shared by every process through the database, replaced in good time.

Certificates of tills and of the cloud's own doors come from it. Several may be trusted at once, and one of them signs. Its key is
never shown to anybody; who has the database and not the master key cannot use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.tills import certificates, signing_keys
from cloud.tills.certificates import Issuer
from cloud.tills.signing_keys import AUTHORITY, POLICY, Draft, SigningKey
from gipos.edge.v1.enrolment_pb2 import PolicyKey
from kernel import business_days
from kernel.ids import new_id

OVERLAP = timedelta(days=100)
"""How long a new key is made known before it signs: longer than a till's certificate lives, with which it hears of new keys."""
POLICY_KEY_LIFE = timedelta(days=3650)
REPLACED_BEFORE_END = timedelta(days=730)
"""So long before its end a key gets a successor: what it signs must be believed for months yet."""
LOOK_SECONDS = 300.0
"""How often a process looks whether another one has made a key."""


@dataclass(frozen=True)
class Keys:
    """What signs and what is trusted, as of one look."""

    issuer: Issuer
    trusted: Sequence[bytes]
    """Authorities in DER, the one that signs first."""
    policy_id: str
    policy: Ed25519PrivateKey
    policy_keys: Sequence[PolicyKey]


class Authorities:
    """The keys as this process knows them. `load` before anything else."""

    def __init__(self, database: Database, ring: Keyring) -> None:
        self._database = database
        self._ring = ring
        self._keys: Keys | None = None

    @property
    def keys(self) -> Keys:
        """As of the last look."""
        assert self._keys is not None, "loaded by the composition root before anybody can ask"
        return self._keys

    async def load(self) -> Keys:
        """Looks into the database; makes what is missing or will soon be over.

        Raises:
            SealBroken: a key was changed in the database.
        """
        now = business_days.now()
        async with self._database.across_tenants() as connection:
            self._keys = await read(connection, self._ring, now)
        return self._keys


async def read(connection: AsyncConnection, ring: Keyring, now: datetime) -> Keys:
    """The keys; those that are missing are made."""
    due = partial(_due, now=now)
    authorities = await signing_keys.ensure(connection, ring, AUTHORITY, now, partial(_authority, now), due)
    policies = await signing_keys.ensure(connection, ring, POLICY, now, partial(_policy_key, now), due)
    key = serialization.load_der_private_key(authorities[0].private, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "made by _authority"
    return Keys(
        Issuer(x509.load_der_x509_certificate(authorities[0].public), key),
        [each.public for each in authorities],
        policies[0].id,
        Ed25519PrivateKey.from_private_bytes(policies[0].private),
        [PolicyKey(key_id=each.id, public_key=each.public) for each in policies],
    )


async def rotate(connection: AsyncConnection, ring: Keyring, kind: str, now: datetime, *, at_once: bool) -> datetime:
    """Makes a new key; the moment from which it signs.

    At once only when the old key is in wrong hands: tills that have not heard of the new authority cannot connect any more until
    they are paired again.
    """
    await signing_keys.lock(connection)
    signs_from = now if at_once else now + OVERLAP
    draft = _authority(now) if kind == AUTHORITY else _policy_key(now)
    await signing_keys.add(connection, ring, kind, draft, now, signs_from)
    return signs_from


def _due(keys: Sequence[SigningKey], *, now: datetime) -> datetime | None:
    last = max(keys, key=lambda key: key.signs_from)
    return max(now, last.signs_from) + OVERLAP if last.ends_at - now < REPLACED_BEFORE_END else None


def _authority(now: datetime) -> Draft:
    key_id = new_id("aut")
    made = certificates.new_authority(key_id, now)
    private = made.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Draft(key_id, made.certificate.not_valid_after_utc, certificates.der(made.certificate), private)


def _policy_key(now: datetime) -> Draft:
    key = Ed25519PrivateKey.generate()
    return Draft(new_id("pky"), now + POLICY_KEY_LIFE, key.public_key().public_bytes_raw(), key.private_bytes_raw())
