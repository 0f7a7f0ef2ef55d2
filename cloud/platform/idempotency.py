"""Makes a repeated request harmless: its key and its answer commit together with what it did.

Kept for 30 days. A crash leaves neither the effect nor the key, or both. A request that failed leaves no key: trying again
is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from cloud.platform.database import Database, Transaction
from kernel.errors import IdempotencyMismatch, Invalid, Violation

M = TypeVar("M", bound=Message)

_CLAIM = sa.text(
    """
    INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint) VALUES (:tenant_id, :method, :key, :fingerprint)
    ON CONFLICT DO NOTHING RETURNING true
    """
)
_READ = sa.text(
    "SELECT fingerprint, answer FROM idempotency_keys WHERE tenant_id = :tenant_id AND method = :method AND key = :key"
)
_SETTLE = sa.text("UPDATE idempotency_keys SET answer = :answer WHERE tenant_id = :tenant_id AND method = :method AND key = :key")


_FORGET = sa.text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days)")
KEPT_DAYS = 30


async def forget_old(database: Database) -> int:
    """Removes keys that are older than 30 days; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET, {"days": KEPT_DAYS})).rowcount


async def once(
    tx: Transaction, method: str, key: str, request: Message, answer_type: type[M], run: Callable[[], Awaitable[M]]
) -> M:
    """The answer of `run`, or the stored one when this key was used before with the same request.

    A second request with the same key waits at the insert until the first has committed or rolled back.

    Raises:
        IdempotencyMismatch: the key was used with another request.
        Invalid: the key is longer than 255 characters.
    """
    if not key:
        return await run()
    if len(key) > 255:
        raise Invalid([Violation("request_id", "TOO_LONG", "An idempotency key has at most 255 characters.")])
    # The key itself is not part of what is compared.
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    fingerprint = hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()
    place = {"tenant_id": tx.tenant_id, "method": method, "key": key}
    claimed = (await tx.run(_CLAIM, **place, fingerprint=fingerprint)).scalar_one_or_none()
    if claimed:
        answer = await run()
        await tx.run(_SETTLE, **place, answer=answer.SerializeToString())
        return answer
    stored = (await tx.run(_READ, **place)).one()
    if stored.fingerprint != fingerprint:
        raise IdempotencyMismatch(
            "This Idempotency-Key was already used for another request. Use a new key for a new request.", key=key
        )
    answer = answer_type()
    answer.ParseFromString(stored.answer)
    return answer
