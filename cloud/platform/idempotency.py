"""Makes a repeated request harmless: its key and its answer commit together with what it did.

Kept for 30 days. A crash leaves neither the effect nor the key, or both. A request that failed leaves no key: trying again
is right. Keys are per merchant and method. A request without a key costs no statement.

Hot writes that are one statement of their own take the table, `fingerprint` and `lock_number` from here; they must claim and
settle exactly as `once` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from cloud.platform import calls, trail
from cloud.platform.database import Database, Transaction
from cloud.platform.sealing import is_sealed, keys_of
from gipos.v1.common_pb2 import DATA_CLASS_PERSONAL, DATA_CLASS_SECRET
from gipos.v1.customers_pb2 import Customer
from gipos.v1.webhooks_pb2 import Webhook
from kernel import masking
from kernel.errors import IdempotencyInProgress, IdempotencyMismatch, Invalid, Violation

M = TypeVar("M", bound=Message)

# The key is locked until the transaction ends, and never waited for: who does not get the lock and finds no answer knows that the
# same request is being worked on. An answer that is there is given without the lock: repetitions do not hinder each other.
_CLAIM = sa.text(
    """
    WITH known AS MATERIALIZED (
        SELECT fingerprint, answer FROM idempotency_keys WHERE tenant_id = :tenant_id AND method = :method AND key = :key
    ), turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(:lock) AS is_ours WHERE NOT EXISTS (SELECT FROM known)
    ), claimed AS (
        INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint)
        SELECT :tenant_id, :method, :key, :fingerprint FROM turn WHERE is_ours
        ON CONFLICT DO NOTHING RETURNING true AS is_new
    )
    SELECT (SELECT is_ours FROM turn) AS is_ours, (SELECT is_new FROM claimed) AS is_new, known.fingerprint, known.answer
    FROM (SELECT) AS one LEFT JOIN known ON true
    """
)
_FIND = sa.text(
    "SELECT fingerprint, answer FROM idempotency_keys WHERE tenant_id = :tenant_id AND method = :method AND key = :key"
)
_SETTLE = sa.text("UPDATE idempotency_keys SET answer = :answer WHERE tenant_id = :tenant_id AND method = :method AND key = :key")
_FORGET = sa.text(
    """
    DELETE FROM idempotency_keys WHERE (tenant_id, method, key) IN (
        SELECT tenant_id, method, key FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days)
        LIMIT :most FOR UPDATE SKIP LOCKED)
    """
)
# Of the methods that the release before had; no message begins with the byte that sealed values begin with.
_SEALED: dict[str, type[Message]] = {"CreateCustomer": Customer, "CreateWebhook": Webhook}
_PLAIN = sa.text(
    "SELECT tenant_id, key, answer FROM idempotency_keys "
    "WHERE method = :method AND length(answer) > 0 AND get_byte(answer, 0) <> 1"
)
KEPT_DAYS = 30
FORGOTTEN_AT_ONCE = 10_000
"""Keys in one statement: a whole day's, after a pause, would take longer than a statement may, every time anew."""
LONGEST_KEY = 255
RETRY_SECONDS = 1.0
REPLAYED = ("idempotent-replayed", "true")
PLACE = "idempotency_keys.answer"


async def forget_old(database: Database) -> int:
    """Removes keys that are older than 30 days; how many."""
    count = 0
    while True:
        async with database.across_tenants() as connection:
            gone = (await connection.execute(_FORGET, {"days": KEPT_DAYS, "most": FORGOTTEN_AT_ONCE})).rowcount
        count += gone
        if gone < FORGOTTEN_AT_ONCE:
            return count


def fingerprint(request: Message) -> bytes:
    """What a repeated request is compared by: all of it but the key."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()


def lock_number(tenant_id: str, method: str, key: str) -> int:
    """The advisory lock (bigint) that stands for a key while its request is being worked on."""
    digest = hashlib.sha256(f"{tenant_id}\x00{method}\x00{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def check(key: str) -> None:
    """Refuses what cannot be a key.

    Raises:
        Invalid: it is too long.
    """
    if len(key) > LONGEST_KEY:
        raise Invalid([Violation("request_id", "TOO_LONG", f"An idempotency key has at most {LONGEST_KEY} characters.")])


def mismatch(key: str) -> IdempotencyMismatch:
    """The key belongs to another request."""
    return IdempotencyMismatch(
        "This Idempotency-Key was already used for another request. Use a new key for a new request.", key=key
    )


def in_progress(key: str) -> IdempotencyInProgress:
    """The first request with the key has not ended."""
    error = IdempotencyInProgress(
        "A request with this Idempotency-Key is still being worked on. Send it again in a second to get its answer.", key=key
    )
    error.retry_seconds = RETRY_SECONDS
    return error


def note_replay() -> None:
    """Tells the caller that the answer is a stored one."""
    calls.call().headers.append(REPLAYED)


async def perform(
    database: Database,
    request: Any,
    answer_type: type[M],
    change: Callable[[Transaction], Awaitable[M]],
    *,
    tenant_id: str = "",
    by: str = "",
) -> M:
    """The answer of a change, made in a transaction of its own and once for each key; raises as `once`.

    Args:
        database: Where it is made.
        request: Its request_id is the key, and its type names the method.
        answer_type: What the change answers.
        change: Makes it.
        tenant_id: Of the transaction, where it is not the caller's.
        by: Whose keys these are, where those of one caller are not another's: the stored answer may hold a secret.
    """
    method = request.DESCRIPTOR.name.removesuffix("Request") + (f" by {by}" if by else "")
    async with database.transaction(tenant_id or calls.caller().tenant_id) as tx:
        return await once(tx, method, request.request_id, request, answer_type, lambda: change(tx))


async def once(
    tx: Transaction, method: str, key: str, request: Message, answer_type: type[M], run: Callable[[], Awaitable[M]]
) -> M:
    """The answer of `run`, or the stored one when this key was used before with the same request.

    Raises:
        IdempotencyMismatch: the key was used with another request.
        IdempotencyInProgress: the first request with this key is still being worked on.
        Invalid: the key is longer than 255 characters.
    """
    if not key:
        return await run()
    check(key)
    mark = fingerprint(request)
    place = {"tenant_id": tx.tenant_id, "method": method, "key": key}
    stored = (await tx.run(_CLAIM, **place, fingerprint=mark, lock=lock_number(tx.tenant_id, method, key))).one()
    if stored.is_new:
        answer = await run()
        await tx.run(_SETTLE, **place, answer=await _stored(tx, f"{method}/{key}", answer))
        return answer
    if stored.fingerprint is None:
        if not stored.is_ours:
            raise in_progress(key)
        # It was committed after our statement began to look.
        stored = (await tx.run(_FIND, **place)).one()
    if stored.fingerprint != mark:
        raise mismatch(key)
    answer = await _read(tx, f"{method}/{key}", answer_type, stored.answer)
    trail.repeated(getattr(answer, "id", ""))
    note_replay()
    return answer


async def _stored(tx: Transaction, place: str, answer: Message) -> bytes:
    """Answers that hold secrets or personal data are kept sealed, like those themselves."""
    body = answer.SerializeToString()
    if not masking.holds(answer.DESCRIPTOR, DATA_CLASS_PERSONAL, DATA_CLASS_SECRET):
        return body
    return (await keys_of(tx.connection, tx.tenant_id)).seal(PLACE, place, body)


async def _read(tx: Transaction, place: str, answer_type: type[M], body: bytes) -> M:
    if is_sealed(body):
        body = (await keys_of(tx.connection, tx.tenant_id)).open(PLACE, place, body)
    answer = answer_type()
    answer.ParseFromString(body)
    return answer


async def seal_plain(database: Database) -> int:
    """Seals stored answers of the release before that hold secrets or personal data; how many."""
    count = 0
    for method, answer_type in _SEALED.items():
        async with database.across_tenants() as connection:
            rows = (await connection.execute(_PLAIN, {"method": method})).all()
        for row in rows:
            async with database.transaction(row.tenant_id) as tx:
                answer = answer_type.FromString(row.answer)
                sealed = await _stored(tx, f"{method}/{row.key}", answer)
                await tx.run(_SETTLE, tenant_id=row.tenant_id, method=method, key=row.key, answer=sealed)
            count += 1
    return count
