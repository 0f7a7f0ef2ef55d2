"""What a merchant looks up when something did not arrive: deliveries, and every attempt with its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.webhooks.tables import deliveries, delivery_attempts
from gipos.v1.webhooks_pb2 import Delivery, DeliveryStatus

SHOWN_ATTEMPTS = 20
KEPT_DAYS = 30
_FORGOTTEN_AT_ONCE = 1000

# Deliveries settled long ago and those of webhooks that are gone, with their attempts. Limited, so that it never takes long.
_FORGET = sa.text(
    """
    WITH old AS (
        DELETE FROM deliveries WHERE (tenant_id, id) IN (
            SELECT d.tenant_id, d.id FROM deliveries d
            WHERE d.leased_until IS NULL AND (
                d.settled_at < now() - make_interval(days => :days)
                OR d.created_at < now() - interval '1 hour'
                   AND NOT EXISTS (SELECT FROM webhooks w WHERE w.tenant_id = d.tenant_id AND w.id = d.webhook_id))
            LIMIT :limit FOR UPDATE OF d SKIP LOCKED)
        RETURNING tenant_id, id
    ), gone AS (
        DELETE FROM delivery_attempts a USING old WHERE a.tenant_id = old.tenant_id AND a.delivery_id = old.id
    )
    SELECT count(*) FROM old
    """
)

# A publisher that saw the webhook active can commit after it was turned off; nobody would ever look at that row again.
_GIVE_UP = sa.text(
    """
    UPDATE deliveries d SET status = 3, settled_at = now()
    FROM webhooks w WHERE w.tenant_id = d.tenant_id AND w.id = d.webhook_id AND w.status = 2
      AND d.status = 1 AND d.leased_until IS NULL
    """
)

_NEEDED = sa.text(
    """
    SELECT e.id FROM unnest(CAST(:event_ids AS text[])) AS e (id)
    WHERE EXISTS (
        SELECT FROM webhooks w
        JOIN deliveries d ON d.tenant_id = w.tenant_id AND d.webhook_id = w.id AND d.event_id = e.id
        WHERE w.tenant_id = :tenant_id)
    """
)


async def needed(connection: AsyncConnection, tenant_id: str, event_ids: Sequence[str]) -> set[str]:
    """Those of the events that deliveries still point to: what a delivery sends, now or again, is the event itself."""
    rows = await connection.execute(_NEEDED, {"tenant_id": tenant_id, "event_ids": list(event_ids)})
    return {row.id for row in rows}


async def deliveries_of(
    connection: AsyncConnection,
    tenant_id: str,
    webhook_id: str,
    *,
    status: DeliveryStatus.ValueType = DeliveryStatus.DELIVERY_STATUS_UNSPECIFIED,
    before: str = "",
    limit: int,
) -> list[Delivery]:
    """The deliveries of a webhook with their newest attempts, newest event first, beginning after the event `before`.

    Event ids are ordered by time and a webhook gets an event once, so the event is the position.
    """
    query = sa.select(deliveries).where(deliveries.c.tenant_id == tenant_id, deliveries.c.webhook_id == webhook_id)
    if status != DeliveryStatus.DELIVERY_STATUS_UNSPECIFIED:
        # Written out, not bound: only then does the planner see that the index of failed or pending ones fits.
        query = query.where(deliveries.c.status == sa.literal_column(str(int(status))))
    if before:
        query = query.where(deliveries.c.event_id < before)
    rows = (await connection.execute(query.order_by(deliveries.c.event_id.desc()).limit(limit))).all()
    found = {row.id: _to_proto(row) for row in rows}
    for attempt in await _attempts(connection, tenant_id, found):
        shown = found[attempt.delivery_id].attempts.add(
            response_status=attempt.response_status,
            result=attempt.result,
            duration_ms=attempt.duration_ms,
            response_body=attempt.response_body,
        )
        shown.create_time.FromDatetime(attempt.created_at)
    return list(found.values())


async def _attempts(connection: AsyncConnection, tenant_id: str, delivery_ids: Iterable[str]) -> list[Any]:
    place = sa.func.row_number().over(partition_by=delivery_attempts.c.delivery_id, order_by=delivery_attempts.c.number.desc())
    ranked = (
        sa.select(delivery_attempts, place.label("place"))
        .where(delivery_attempts.c.tenant_id == tenant_id, delivery_attempts.c.delivery_id.in_(list(delivery_ids)))
        .subquery()
    )
    newest = sa.select(ranked).where(ranked.c.place <= SHOWN_ATTEMPTS).order_by(ranked.c.delivery_id, ranked.c.place)
    return list((await connection.execute(newest)).all())


def _to_proto(row: sa.Row[Any]) -> Delivery:
    delivery = Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_id=row.event_id,
        event_type=row.event_type,
        status=row.status,
        attempt_count=row.attempt_count,
    )
    if row.status == DeliveryStatus.DELIVERY_STATUS_PENDING:
        delivery.next_attempt_time.FromDatetime(row.due_at)
    delivery.create_time.FromDatetime(row.created_at)
    return delivery


async def tidy(connection: AsyncConnection) -> bool:
    """Forgets deliveries after 30 days and those of deleted webhooks, gives up those of disabled ones; whether there is more."""
    await connection.execute(_GIVE_UP)
    forgotten = await connection.execute(_FORGET, {"days": KEPT_DAYS, "limit": _FORGOTTEN_AT_ONCE})
    return bool(forgotten.scalar_one() == _FORGOTTEN_AT_ONCE)
