"""Turns events into deliveries, in the publisher's transaction: a committed change always has its deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa

from cloud.platform.database import Announcing
from cloud.platform.log import NewEvent

# Matching happens in the database, on the rows as they are at this moment: a cache could miss a webhook that was just added.
# The id is made from event and webhook (time first, then a hash), so the statement needs nothing per webhook from us.
ENQUEUE = sa.text(
    """
    WITH added AS (
        INSERT INTO deliveries (tenant_id, id, webhook_id, event_id, event_type, due_at, created_at)
        SELECT w.tenant_id,
               'dlv_' || substr(e.id, 5, 10) || substr(encode(sha256(convert_to(e.id || w.id, 'UTF8')), 'hex'), 1, 16),
               w.id, e.id, e.type, now(), now()
        FROM webhooks w
        JOIN unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:patterns AS text[])) AS e (id, type, patterns)
             ON w.event_types && string_to_array(e.patterns, ' ')
        WHERE w.tenant_id = :tenant_id AND w.status = 1
        RETURNING id
    )
    SELECT EXISTS (SELECT FROM added)
    """
)


_ANY = sa.text("SELECT EXISTS (SELECT FROM webhooks WHERE tenant_id = :tenant_id AND status = 1)")
WORTH_ASKING = 50
"""Events from which it pays to ask first whether anybody listens at all: a backlog of a till brings hundreds."""

DELIVERIES = "deliveries"
"""What a transaction is due to when it made some."""


@cache
def patterns_of(event_type: str) -> list[str]:
    """Every subscription that selects this type: "sale.created" is selected by "*", "sale.*" and "sale.created"."""
    groups = event_type.split(".")
    return ["*", *(".".join(groups[:end]) + ".*" for end in range(1, len(groups))), event_type]


async def enqueue(tx: Announcing, events: Sequence[NewEvent]) -> None:
    """One delivery for each event and each active webhook that wants it. One statement or two, whatever the number of either."""
    if tx.listens is False:
        return
    if tx.listens is None and len(events) >= WORTH_ASKING:
        ((any_listens,),) = await tx.run(_ANY, tenant_id=tx.tenant_id)
        if not any_listens:
            return
    ((some,),) = await tx.run(
        ENQUEUE,
        tenant_id=tx.tenant_id,
        ids=[event.id for event in events],
        types=[event.type for event in events],
        patterns=[" ".join(patterns_of(event.type)) for event in events],
    )
    if some:
        tx.due.add(DELIVERIES)
