"""The addresses a merchant wants events posted to.

Adding one calls nobody: whether a name leads to an address that is allowed is checked at each attempt.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import addresses, trail
from cloud.platform.database import Database, Transaction
from cloud.platform.sealing import TenantKeys, keys_of
from cloud.webhooks.tables import deliveries, webhooks
from gipos.v1.webhooks_pb2 import DeliveryStatus, Webhook, WebhookStatus
from kernel.errors import Invalid, LimitReached, NotFound, Violation
from kernel.event_types import EVENT_TYPES, is_pattern
from kernel.ids import is_id, new_id
from kernel.signatures import new_webhook_secret

MAX_WEBHOOKS = 100
SECRET = "webhooks.secret"  # noqa: S105 (the place it is sealed for, no secret)
MAX_PATTERNS = 50
MAX_DESCRIPTION = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def create(tx: Transaction, draft: Webhook, *, private_addresses: bool) -> Webhook:
    """Adds a webhook. The answer is the only one that holds its secret.

    Raises:
        Invalid: url, event_types or description break a rule; all that do are named.
        LimitReached: the merchant has 100 webhooks.
    """
    violations = _violations(draft, private_addresses=private_addresses)
    if violations:
        raise Invalid(violations)
    await tx.alone("webhooks")  # else two requests at once could both see room for the last one
    count = await tx.run(sa.select(sa.func.count()).select_from(webhooks).where(webhooks.c.tenant_id == tx.tenant_id))
    if count.scalar_one() >= MAX_WEBHOOKS:
        raise LimitReached(f"There are {MAX_WEBHOOKS} webhooks already. Delete one that is no longer needed, then try again.")
    webhook_id, secret = new_id("whk"), new_webhook_secret()
    keys = await keys_of(tx.connection, tx.tenant_id)
    added = await tx.run(
        sa.insert(webhooks)
        .values(
            tenant_id=tx.tenant_id,
            id=webhook_id,
            url=draft.url,
            event_types=list(dict.fromkeys(draft.event_types)),
            description=draft.description,
            status=WebhookStatus.WEBHOOK_STATUS_ACTIVE,
            secret="",  # where the release before kept it in clear
            secret_sealed=keys.seal(SECRET, webhook_id, secret.encode()),
            created_at=tx.now,
        )
        .returning(webhooks)
    )
    trail.about(webhook_id)
    webhook = _to_proto(added.one())
    webhook.secret = secret
    return webhook


async def every(connection: AsyncConnection, tenant_id: str) -> list[Webhook]:
    """The merchant's webhooks, oldest first, without their secrets."""
    rows = await connection.execute(
        sa.select(webhooks).where(webhooks.c.tenant_id == tenant_id).order_by(webhooks.c.created_at, webhooks.c.id)
    )
    return [_to_proto(row) for row in rows]


async def find(connection: AsyncConnection, tenant_id: str, webhook_id: str) -> Webhook:
    """One webhook, without its secret.

    Raises:
        NotFound: no such webhook.
    """
    if is_id(webhook_id, "whk"):
        rows = await connection.execute(sa.select(webhooks).where(webhooks.c.tenant_id == tenant_id, webhooks.c.id == webhook_id))
        if row := rows.one_or_none():
            return _to_proto(row)
    raise _unknown(webhook_id)


async def delete(tx: Transaction, webhook_id: str) -> None:
    """Removes a webhook and drops its deliveries that still wait. One that is on its way right now arrives.

    Raises:
        NotFound: no such webhook.
    """
    if not is_id(webhook_id, "whk"):
        raise _unknown(webhook_id)
    mine = (webhooks.c.tenant_id == tx.tenant_id, webhooks.c.id == webhook_id)
    if (await tx.run(sa.delete(webhooks).where(*mine))).rowcount == 0:
        raise _unknown(webhook_id)
    await tx.run(
        sa.delete(deliveries).where(
            deliveries.c.tenant_id == tx.tenant_id,
            deliveries.c.webhook_id == webhook_id,
            deliveries.c.status == DeliveryStatus.DELIVERY_STATUS_PENDING,
        )
    )


def secret_of(keys: TenantKeys, webhook_id: str, sealed: bytes | None, plain: str) -> str:
    """The secret a webhook's deliveries are signed with. Plain only where the release before has just stored it.

    Raises:
        SealBroken: it was changed or moved in the database.
    """
    return keys.open(SECRET, webhook_id, sealed).decode() if sealed is not None else plain


async def seal_plain(database: Database) -> int:
    """Seals secrets that the release before has stored in clear; how many."""
    query = sa.select(webhooks.c.tenant_id, webhooks.c.id).where(webhooks.c.secret != "")
    async with database.across_tenants() as connection:
        plain = (await connection.execute(query)).all()
    for tenant_id, webhook_id in plain:
        mine = (webhooks.c.tenant_id == tenant_id, webhooks.c.id == webhook_id)
        async with database.transaction(tenant_id) as tx:
            keys = await keys_of(tx.connection, tenant_id)
            row = (await tx.run(sa.select(webhooks.c.secret).where(*mine).with_for_update())).one_or_none()
            if row is not None and row.secret:
                sealed = keys.seal(SECRET, webhook_id, row.secret.encode())
                await tx.run(sa.update(webhooks).where(*mine).values(secret="", secret_sealed=sealed))
    return len(plain)


def _violations(draft: Webhook, *, private_addresses: bool) -> list[Violation]:
    found = [Violation("url", reason, message) for reason, message in addresses.problems(draft.url, private=private_addresses)]
    if not draft.event_types:
        found.append(Violation("event_types", "REQUIRED", 'event_types is required, for example ["sale.*"] or ["*"] for all.'))
    if len(draft.event_types) > MAX_PATTERNS:
        found.append(Violation("event_types", "TOO_MANY", f"event_types has at most {MAX_PATTERNS} entries."))
    for index, pattern in enumerate(draft.event_types[:MAX_PATTERNS]):
        if not is_pattern(pattern):
            message = f'This is no event type. Use "*", a group such as "sale.*", or one of {", ".join(EVENT_TYPES)}.'
            found.append(Violation(f"event_types[{index}]", "UNKNOWN_EVENT_TYPE", message))
    if len(draft.description) > MAX_DESCRIPTION:
        found.append(Violation("description", "TOO_LONG", f"description has at most {MAX_DESCRIPTION} characters."))
    if _CONTROL.search(draft.description):
        found.append(Violation("description", "INVALID", "description is one line of text without control characters."))
    return found


def _unknown(webhook_id: str) -> NotFound:
    return NotFound(f"Webhook {webhook_id} does not exist. GET /api/v1/webhooks lists yours.", webhook_id=webhook_id)


def _to_proto(row: sa.Row[Any]) -> Webhook:
    webhook = Webhook(id=row.id, url=row.url, event_types=row.event_types, description=row.description, status=row.status)
    webhook.create_time.FromDatetime(row.created_at)
    return webhook
