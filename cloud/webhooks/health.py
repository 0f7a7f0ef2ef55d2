"""How the webhooks fare: what waits, since when, and what was given up lately. Counted up to a bound, for screens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gipos.v1.webhooks_pb2 import WebhookStatus

MOST = 1_000
"""Nobody needs to know how many thousands wait, and counting them would cost the deliveries."""

_READ = sa.text(
    """
    SELECT w.id, w.url, w.description, w.status, w.paused_until,
           (SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.id
                                  AND d.status = 1 LIMIT :most) AS waiting),
           (SELECT count(*) FROM (SELECT d.settled_at FROM deliveries d WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.id
                                  AND d.status = 3 ORDER BY d.event_id DESC LIMIT :most) AS failed WHERE settled_at > :since)
    FROM webhooks w WHERE w.tenant_id = :tenant_id ORDER BY w.id
    """
)


@dataclass(frozen=True)
class Health:
    """Of a webhook."""

    id: str
    url: str
    description: str
    is_active: bool
    paused_until: datetime | None
    waiting: int
    """Deliveries that are due or will be; MOST means so many or more."""
    failed: int
    """Deliveries given up since the moment that was asked for; as above."""


async def read(connection: AsyncConnection, tenant_id: str, since: datetime) -> list[Health]:
    """Every webhook of the merchant."""
    rows = await connection.execute(_READ, {"tenant_id": tenant_id, "since": since, "most": MOST})
    return [
        Health(webhook_id, url, description, status == WebhookStatus.WEBHOOK_STATUS_ACTIVE, *rest)
        for webhook_id, url, description, status, *rest in rows
    ]
