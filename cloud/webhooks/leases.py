"""The SQL of the delivery queue: claim per webhook, settle, give back. A row of `deliveries` is queue and log at once.

A webhook is served by one process at a time: claims of one webhook are serialised by locking its row, and give nothing while
another owner holds leases. So the process itself can keep to what one address may take; one that hangs holds back nobody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform.jobs import LIVING_OWNERS, Held, Lease
from cloud.platform.keyring import KeysUnusable
from cloud.platform.log import LoggedEvent
from cloud.platform.sealing import SealBroken, keys_of
from cloud.webhooks.endpoints import secret_of
from cloud.webhooks.outcomes import Outcome, judge

SHARE_OF_TENANT = 0.75
"""How much of a process's places one merchant may take, however many webhooks that hang it has."""

logger = structlog.get_logger()

_RECOVER = sa.text(
    f"""
    UPDATE deliveries SET leased_until = NULL, lease_owner = NULL
    WHERE leased_until IS NOT NULL AND status = 1 AND lease_owner NOT IN ({LIVING_OWNERS})
    """  # noqa: S608 (a constant of ours)
)

# The head of each webhook's queue first, so that one with a long queue counts as one.
_CHOOSE = sa.text(
    """
    SELECT w.tenant_id, w.id
    FROM webhooks w CROSS JOIN LATERAL (
        SELECT d.due_at FROM deliveries d
        WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.id AND d.status = 1 AND d.due_at <= now()
          AND (d.leased_until IS NULL OR d.leased_until <= now())
        ORDER BY d.due_at, d.event_id LIMIT 1
    ) head
    WHERE w.status = 1 AND (w.paused_until IS NULL OR w.paused_until <= now())
      AND w.id <> ALL(CAST(:full_webhooks AS text[])) AND w.tenant_id <> ALL(CAST(:full_tenants AS text[]))
      AND NOT EXISTS (
          SELECT FROM deliveries l WHERE l.tenant_id = w.tenant_id AND l.webhook_id = w.id
          AND l.leased_until > now() AND l.lease_owner <> :owner)
    ORDER BY head.due_at LIMIT :free
    FOR NO KEY UPDATE OF w SKIP LOCKED
    """
)

# A statement of its own: it must see what was leased up to the moment the webhook's row was locked. OFFSET 0 makes each event be
# looked up by its id: on tables without statistics the planner would rather read all events of the merchant for each.
_CLAIM = sa.text(
    """
    WITH chosen AS (
        SELECT * FROM unnest(CAST(:tenant_ids AS text[]), CAST(:webhook_ids AS text[]), CAST(:shares AS integer[]))
                      AS c (tenant_id, webhook_id, share)
    ), taken AS MATERIALIZED (
        SELECT c.tenant_id, q.id FROM chosen c CROSS JOIN LATERAL (
            SELECT d.id FROM deliveries d
            WHERE d.tenant_id = c.tenant_id AND d.webhook_id = c.webhook_id AND d.status = 1 AND d.due_at <= now()
              AND (d.leased_until IS NULL OR d.leased_until <= now())
            ORDER BY d.due_at, d.event_id
            LIMIT CASE WHEN EXISTS (
                SELECT FROM deliveries l WHERE l.tenant_id = c.tenant_id AND l.webhook_id = c.webhook_id
                AND l.leased_until > now() AND l.lease_owner <> :owner) THEN 0 ELSE c.share END
            FOR UPDATE SKIP LOCKED
        ) q
    ), leased AS (
        UPDATE deliveries d SET leased_until = now() + make_interval(secs => :seconds), lease_owner = :owner
        FROM taken WHERE d.tenant_id = taken.tenant_id AND d.id = taken.id
        RETURNING d.tenant_id, d.id, d.webhook_id, d.event_id, d.attempt_count
    )
    SELECT k.tenant_id, k.id, k.webhook_id, k.attempt_count, w.url, w.secret_sealed, w.secret,
           e.lane, e.seq, e.id, e.type, e.subject_id, e.version, e.outlet_id, e.body, e.occurred_at, e.recorded_at
    FROM leased k
    CROSS JOIN LATERAL (SELECT * FROM webhooks w WHERE w.tenant_id = k.tenant_id AND w.id = k.webhook_id OFFSET 0) w
    CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.tenant_id = k.tenant_id AND e.id = k.event_id OFFSET 0) e
    """
)

# What would be tried again fails instead when its webhook was turned off meanwhile.
_SETTLE = sa.text(
    """
    WITH told AS (
        SELECT * FROM unnest(
            CAST(:tenant_ids AS text[]), CAST(:ids AS text[]), CAST(:webhook_ids AS text[]), CAST(:owners AS integer[]),
            CAST(:numbers AS integer[]), CAST(:statuses AS integer[]), CAST(:delays AS double precision[]),
            CAST(:results AS text[]), CAST(:response_statuses AS integer[]), CAST(:response_bodies AS text[]),
            CAST(:durations AS integer[]), CAST(:started AS timestamptz[])
        ) AS o (tenant_id, id, webhook_id, owner, number, status, delay, result, response_status, response_body, duration_ms,
                started_at)
    ), outcome AS (
        SELECT t.*, t.status = 1 AND EXISTS (
            SELECT FROM webhooks w WHERE w.tenant_id = t.tenant_id AND w.id = t.webhook_id AND w.status = 1) AS goes_on
        FROM told t
    ), settled AS (
        UPDATE deliveries d
        SET status = CASE WHEN o.goes_on THEN 1 WHEN o.status = 1 THEN 3 ELSE o.status END,
            due_at = CASE WHEN o.goes_on THEN now() + make_interval(secs => o.delay) ELSE d.due_at END,
            settled_at = CASE WHEN o.goes_on THEN NULL ELSE now() END,
            attempt_count = o.number, leased_until = NULL, lease_owner = NULL
        FROM outcome o
        WHERE d.tenant_id = o.tenant_id AND d.id = o.id AND d.status = 1 AND d.lease_owner = o.owner
          AND d.attempt_count = o.number - 1
        RETURNING o.*
    )
    INSERT INTO delivery_attempts
        (tenant_id, delivery_id, number, result, response_status, response_body, duration_ms, created_at)
    SELECT tenant_id, id, number, result, response_status, response_body, duration_ms, started_at FROM settled
    """
)

_PAUSE = sa.text(
    """
    UPDATE webhooks w SET paused_until = greatest(w.paused_until, now() + make_interval(secs => p.seconds))
    FROM unnest(CAST(:tenant_ids AS text[]), CAST(:webhook_ids AS text[]), CAST(:pauses AS double precision[]))
         AS p (tenant_id, webhook_id, seconds)
    WHERE w.tenant_id = p.tenant_id AND w.id = p.webhook_id
    """
)

_DISABLE = sa.text("UPDATE webhooks SET status = 2 WHERE tenant_id = :tenant_id AND id = :webhook_id AND status = 1")
_GIVE_UP = sa.text(
    """
    UPDATE deliveries SET status = 3, settled_at = now()
    WHERE tenant_id = :tenant_id AND webhook_id = :webhook_id AND status = 1 AND leased_until IS NULL
    """
)

_RELEASE = sa.text(
    """
    UPDATE deliveries d SET leased_until = NULL, lease_owner = NULL
    FROM unnest(CAST(:tenant_ids AS text[]), CAST(:ids AS text[]), CAST(:owners AS integer[])) AS h (tenant_id, id, owner)
    WHERE d.tenant_id = h.tenant_id AND d.id = h.id AND d.lease_owner = h.owner AND d.status = 1
    """
)


@dataclass(frozen=True)
class Job:
    """One attempt to make."""

    tenant_id: str
    delivery_id: str
    webhook_id: str
    attempt_count: int
    """Attempts made before."""
    url: str
    secret: str | None = field(repr=False)
    """None when what is stored cannot be opened."""
    event: LoggedEvent
    start_before: float
    """On the event loop's clock: begun later, the attempt could outlast the lease."""

    def __str__(self) -> str:
        """Without the secret: this is what gets into logs."""
        return f"{self.tenant_id}/{self.delivery_id}"


async def recover(connection: AsyncConnection) -> None:
    """Gives back what dead processes had leased."""
    await connection.execute(_RECOVER)


async def claim(
    connection: AsyncConnection, lease: Lease, running: Collection[Job], free: int, share_of: Callable[[str], int]
) -> list[Job]:
    """Leases deliveries that are due, oldest first within a webhook, and reads what is needed to make the attempts.

    `share_of` says how many a webhook may have leased. More than a few are fetched in batches, when half of them are done.
    """
    by_webhook = Counter(job.webhook_id for job in running)
    by_tenant = Counter(job.tenant_id for job in running)
    per_tenant = int((len(running) + free) * SHARE_OF_TENANT) or 1
    full = [each for each, count in by_webhook.items() if count >= share_of(each) or count > max(3, share_of(each) // 2)]
    chosen = await connection.execute(
        _CHOOSE,
        {
            "full_webhooks": full,
            "full_tenants": [tenant_id for tenant_id, count in by_tenant.items() if count >= per_tenant],
            "free": free,
            "owner": lease.owner,
        },
    )
    shares = []
    for tenant_id, webhook_id in chosen:
        share = min(share_of(webhook_id) - by_webhook[webhook_id], per_tenant - by_tenant[tenant_id], free)
        if share > 0:
            shares.append((tenant_id, webhook_id, share))
            by_tenant[tenant_id] += share
            free -= share
    if not shares:
        return []
    tenant_ids, webhook_ids, counts = (list(column) for column in zip(*shares, strict=True))
    rows = await connection.execute(
        _CLAIM,
        {
            "tenant_ids": tenant_ids,
            "webhook_ids": webhook_ids,
            "shares": counts,
            "seconds": lease.seconds,
            "owner": lease.owner,
        },
    )
    start_before = asyncio.get_running_loop().time() + lease.seconds / 2
    jobs = []
    for tenant_id, delivery_id, webhook_id, attempt_count, url, sealed, plain, *event in rows:
        try:
            secret: str | None = secret_of(await keys_of(connection, tenant_id), webhook_id, sealed, plain)
        except (SealBroken, KeysUnusable) as error:
            # One webhook's damage is its own: the attempt fails, the others go on.
            logger.error("webhook_secret_unreadable", tenant_id=tenant_id, webhook_id=webhook_id, error=str(error))  # noqa: TRY400 (no trace needed)
            secret = None
        jobs.append(Job(tenant_id, delivery_id, webhook_id, attempt_count, url, secret, LoggedEvent(*event), start_before))
    return sorted(jobs, key=lambda job: job.event.id)


async def settle(connection: AsyncConnection, done: Sequence[tuple[Held[Job], Outcome]]) -> None:
    """Stores attempts and what follows from them. An attempt whose lease was taken over meanwhile leaves no trace."""
    told = [(held, outcome, judge(outcome)) for held, outcome in done]
    # Webhooks before deliveries: the order in which deleting a webhook takes its locks.
    disabled = {(held.job.tenant_id, held.job.webhook_id): outcome.result for held, outcome, verdict in told if verdict.disable}
    for (tenant_id, webhook_id), result in sorted(disabled.items()):
        found = await connection.execute(_DISABLE, {"tenant_id": tenant_id, "webhook_id": webhook_id})
        if found.rowcount:
            logger.warning("webhook_disabled", tenant_id=tenant_id, webhook_id=webhook_id, result=result)
    pauses = {(held.job.tenant_id, held.job.webhook_id): verdict.pause for held, _, verdict in told if verdict.pause > 0}
    if pauses:
        places = sorted(pauses)
        await connection.execute(
            _PAUSE,
            {
                "tenant_ids": [tenant_id for tenant_id, _ in places],
                "webhook_ids": [webhook_id for _, webhook_id in places],
                "pauses": [pauses[place] for place in places],
            },
        )
    await connection.execute(
        _SETTLE,
        {
            "tenant_ids": [held.job.tenant_id for held, _, _ in told],
            "ids": [held.job.delivery_id for held, _, _ in told],
            "webhook_ids": [held.job.webhook_id for held, _, _ in told],
            "owners": [held.owner for held, _, _ in told],
            "numbers": [outcome.number for _, outcome, _ in told],
            "statuses": [int(verdict.status) for _, _, verdict in told],
            "delays": [verdict.delay for _, _, verdict in told],
            "results": [outcome.result for _, outcome, _ in told],
            "response_statuses": [outcome.response_status for _, outcome, _ in told],
            "response_bodies": [outcome.response_body for _, outcome, _ in told],
            "durations": [outcome.duration_ms for _, outcome, _ in told],
            "started": [outcome.started_at for _, outcome, _ in told],
        },
    )
    for tenant_id, webhook_id in sorted(disabled):
        await connection.execute(_GIVE_UP, {"tenant_id": tenant_id, "webhook_id": webhook_id})


async def release(connection: AsyncConnection, held: Sequence[Held[Job]]) -> None:
    """Gives back deliveries that were not tried to the end. They are due at once."""
    await connection.execute(
        _RELEASE,
        {
            "tenant_ids": [each.job.tenant_id for each in held],
            "ids": [each.job.delivery_id for each in held],
            "owners": [each.owner for each in held],
        },
    )
