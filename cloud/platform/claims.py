"""Idempotency keys of several requests at once, claimed and answered in one statement. The rules are those of idempotency.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cloud.platform.database import SharedTransaction
from cloud.platform.idempotency import lock_number

# As _CLAIM there, for several keys; the answers are known already, so nothing has to be settled afterwards. A key that is not
# answered here was used before or is being worked on: its request goes the general way, which finds out which.
_CLAIM = sa.text(
    """
    WITH asked AS MATERIALIZED (
        SELECT a.key, a.fingerprint, a.answer, a.lock
        FROM unnest(CAST(:keys AS text[]), CAST(:fingerprints AS bytea[]), CAST(:answers AS bytea[]), CAST(:locks AS bigint[]))
             AS a (key, fingerprint, answer, lock)
    ), turn AS MATERIALIZED (
        SELECT asked.key, asked.fingerprint, asked.answer, pg_try_advisory_xact_lock(asked.lock) AS is_ours FROM asked
        WHERE NOT EXISTS (
            SELECT FROM idempotency_keys k WHERE k.tenant_id = :tenant_id AND k.method = :method AND k.key = asked.key
        )
    )
    INSERT INTO idempotency_keys (tenant_id, method, key, fingerprint, answer)
    SELECT :tenant_id, :method, key, fingerprint, answer FROM turn WHERE is_ours
    ON CONFLICT DO NOTHING RETURNING key
    """
)


@dataclass(slots=True)
class Claim:
    """A key, what its request is compared by, and the answer to keep."""

    key: str
    fingerprint: bytes
    answer: bytes


async def claim(tx: SharedTransaction, method: str, claims: Sequence[Claim]) -> set[str]:
    """The keys that are ours now, each stored with its answer. The others are not to be worked on here."""
    if not claims:
        return set()
    rows = await tx.run(
        _CLAIM,
        tenant_id=tx.tenant_id,
        method=method,
        keys=[claim.key for claim in claims],
        fingerprints=[claim.fingerprint for claim in claims],
        answers=[claim.answer for claim in claims],
        locks=[lock_number(tx.tenant_id, method, claim.key) for claim in claims],
    )
    return {row[0] for row in rows}
