"""Tickets: an API key lends what it may see to a screen, without the screen ever having the key.

A ticket is good for a minute and for one use. Used, it becomes a pass, which whoever serves the screen holds: it opens the
dashboards' stream and nothing else, and ends with the key, after a day, or when the key is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import credentials
from cloud.accounts.tables import dashboard_tickets
from cloud.platform import checks, peers, trail
from cloud.platform.calls import Caller
from cloud.platform.database import Database, Transaction
from kernel.business_days import now
from kernel.errors import AddressNotAllowed, Invalid, OriginNotAllowed, PermissionDenied, Unauthenticated
from kernel.ids import new_id
from kernel.signatures import PASS_PREFIX, TICKET_PREFIX, fingerprint, is_key, new_key

TICKET_LIFE = timedelta(seconds=60)
PASS_LIFE = timedelta(days=1)
LONGEST_VIEWER = 100

_TICKET = dashboard_tickets.c
_FORGET = sa.text("DELETE FROM dashboard_tickets WHERE created_at < :before")
_USED_UP = "The ticket is unknown, was used already or is older than a minute. Make a new one: POST /api/v1/dashboard-tickets."


@dataclass(frozen=True)
class Pass:
    """What a ticket became."""

    caller: Caller
    """The key behind it."""
    viewer: str
    secret: str
    ends_at: datetime


async def create(tx: Transaction, who: Caller, viewer: str, origin: str) -> tuple[str, datetime]:
    """A new ticket, and when it ends.

    Args:
        tx: Of the key's merchant.
        who: The key. Nothing but an API key can lend.
        viewer: Who will watch, in the caller's words.
        origin: The web page that asks; empty for none. The ticket then opens nothing from another page.

    Raises:
        Invalid: the viewer's name is too long.
        PermissionDenied: the caller is no API key.
    """
    if wrong := list(checks.text("viewer", viewer, LONGEST_VIEWER)):
        raise Invalid(wrong)
    if who.kind != "api_key":
        raise PermissionDenied("Tickets for dashboards are made with an API key. Use one of the merchant's.")
    ticket, ticket_id, ends_at = new_key(TICKET_PREFIX), new_id("dbt"), tx.now + TICKET_LIFE
    await tx.run(
        sa.insert(dashboard_tickets).values(
            tenant_id=tx.tenant_id,
            id=ticket_id,
            key_id=who.key_id,
            viewer=viewer,
            origin=origin,
            ticket_fingerprint=fingerprint(ticket),
            ends_at=ends_at,
            created_at=tx.now,
        )
    )
    trail.about(ticket_id)
    return ticket, ends_at


async def redeem(database: Database, ticket: str, address: str, origin: str) -> Pass:
    """Uses a ticket up, also when it is shown from where its key may not be used.

    Args:
        database: Searched across tenants: only the ticket says whose it is.
        ticket: What a screen sent.
        address: Of the screen.
        origin: The web page that the screen is; empty for none, and for the platform's own.

    Raises:
        Unauthenticated: no ticket, used already, too old, or its key has ended.
        OriginNotAllowed, AddressNotAllowed: the key, or the ticket, is not for use from there.
    """
    if not is_key(ticket, TICKET_PREFIX):
        raise Unauthenticated(_USED_UP)
    secret, moment = new_key(PASS_PREFIX), now()
    async with database.identifying() as connection:
        used = await connection.execute(
            sa.update(dashboard_tickets)
            .where(
                _TICKET.ticket_fingerprint == fingerprint(ticket), _TICKET.pass_fingerprint.is_(None), _TICKET.ends_at > moment
            )
            .values(pass_fingerprint=fingerprint(secret), pass_ends_at=moment + PASS_LIFE)
            .returning(_TICKET.viewer, _TICKET.origin)
        )
        row = used.one_or_none()
        known = await _behind(connection, secret) if row is not None else None
    if row is None:
        raise Unauthenticated(_USED_UP)
    if known is None:
        raise Unauthenticated("The key behind this ticket was revoked or has ended.")
    if origin != row.origin and (row.origin or not known.origins & {origin, "*"}):
        where = origin[:200]
        message = f"Web pages of {where or 'this address'} may not show this. Add it to allowed_origins of the key, or ask there."
        raise OriginNotAllowed(message, origin=where)
    if known.networks and not known.is_dry_run and not peers.is_within(address, known.networks):
        where = address or "(unknown)"
        message = f"This key may not be used from the address {where}. Add it to allowed_addresses, or use another key."
        raise AddressNotAllowed(message, ip=where)
    ends_at = min(moment + PASS_LIFE, known.caller.ends_at or moment + PASS_LIFE)
    return Pass(known.caller, row.viewer, secret, ends_at)


async def _behind(connection: AsyncConnection, secret: str) -> credentials.Known | None:
    try:
        return await credentials.look_up(connection, secret)
    except Unauthenticated:
        return None  # told outside: the transaction that uses the ticket up is to be committed


async def holders(connection: AsyncConnection, tenant_id: str, subject_ids: Iterable[str]) -> list[str]:
    """Those of these ids that are keys of the merchant with tickets, whatever became of them."""
    query = sa.select(_TICKET.key_id).distinct()
    query = query.where(_TICKET.tenant_id == tenant_id, _TICKET.key_id.in_(list(subject_ids)))
    return list((await connection.execute(query)).scalars())


async def behind(database: Database, secret: str) -> Caller | None:
    """The key behind a pass; None when there is none any more."""
    if not is_key(secret, PASS_PREFIX):
        return None
    async with database.identifying() as connection:
        known = await _behind(connection, secret)
    return known.caller if known is not None else None


async def forget_old(database: Database) -> int:
    """Removes tickets whose passes have ended; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET, {"before": now() - PASS_LIFE - 2 * TICKET_LIFE})).rowcount
