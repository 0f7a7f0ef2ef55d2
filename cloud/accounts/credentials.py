"""From a key or token to who it belongs to, by one look into the database.

The index on the hash does the comparing: timing it tells nothing about a key, only about its SHA-256.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import key_drafts, till_credentials
from cloud.accounts.tables import (
    api_keys,
    dashboard_tickets,
    oauth_clients,
    oauth_grants,
    oauth_tokens,
    tenants,
)
from cloud.accounts.uses import Use
from cloud.platform import peers
from cloud.platform.calls import Caller
from cloud.platform.statements import Statements
from kernel.business_days import now
from kernel.errors import TillRevoked, Unauthenticated
from kernel.signatures import DEVICE_PREFIX, LIVE_PREFIX, PASS_PREFIX, TEST_PREFIX, TOKEN_PREFIX, fingerprint, is_key

ACCESS, REFRESH = 1, 2
"""oauth_tokens.kind."""
DASHBOARD = "dashboard"
"""The kind of callers with a pass (see dashboard_tickets)."""
_PREFIXES = (LIVE_PREFIX, TEST_PREFIX, DEVICE_PREFIX, TOKEN_PREFIX, PASS_PREFIX)

_NO_SCOPES: frozenset[str] = frozenset()
"""Of tills; one object for all of them."""

Credential = str | bytes
"""What a caller shows: a key or token as it was sent, or the SHA-256 of a certificate. Nobody can send the latter instead of
proving it: what is sent is text."""

_OF_DEVICE = """
    SELECT t.tenant_id, t.id, t.outlet_id, t.state, m.mode, CAST(NULL AS timestamptz), CAST(NULL AS timestamptz)
    FROM tills t JOIN tenants m ON m.tenant_id = t.tenant_id WHERE t.token_fingerprint = $1
"""
_OF_CERTIFICATE = """
    SELECT t.tenant_id, t.id, t.outlet_id, t.state, m.mode, c.ends_at, c.revoked_at
    FROM till_certificates c JOIN tills t ON t.tenant_id = c.tenant_id AND t.id = c.till_id
    JOIN tenants m ON m.tenant_id = t.tenant_id WHERE c.fingerprint = $1
"""
# A key whose mode is not its data's opens nothing, however it came to be there.
_KEY = sa.select(api_keys).join(tenants, sa.and_(tenants.c.tenant_id == api_keys.c.tenant_id, tenants.c.mode == api_keys.c.mode))
_PASS = _KEY.join(
    dashboard_tickets,
    sa.and_(dashboard_tickets.c.tenant_id == api_keys.c.tenant_id, dashboard_tickets.c.key_id == api_keys.c.id),
).add_columns(dashboard_tickets.c.pass_ends_at)
_TOKEN = (
    sa.select(oauth_tokens, tenants.c.mode, oauth_clients.c.redirect_uris, oauth_grants.c.revoked_at.label("grant_revoked_at"))
    .join(tenants, tenants.c.tenant_id == oauth_tokens.c.tenant_id)
    .join(oauth_clients, sa.and_(oauth_clients.c.id == oauth_tokens.c.client_id, oauth_clients.c.deleted_at.is_(None)))
    .outerjoin(
        oauth_grants, sa.and_(oauth_grants.c.tenant_id == oauth_tokens.c.tenant_id, oauth_grants.c.id == oauth_tokens.c.grant_id)
    )
)


@dataclass(slots=True, eq=False)
class Known:
    """Somebody who has identified themselves, and what their key or token is limited to."""

    caller: Caller
    subjects: tuple[str, ...]
    """Ids of what this rests on: when one of them changes, it has to be looked up again."""
    ends_at: float
    """On the monotonic clock."""
    networks: tuple[peers.Network, ...] = ()
    is_dry_run: bool = False
    origins: frozenset[str] = frozenset()
    found_at: float = 0.0
    """On the monotonic clock: before the look into the database."""
    use: Use | None = None
    """Where to note that it was used; for API keys only."""
    near: dict[str, bool] = field(default_factory=dict)
    """Addresses already held against the networks."""


class _TillRow(NamedTuple):
    """A till, and the certificate it has shown."""

    tenant_id: str
    id: str
    outlet_id: str
    state: str
    mode: str
    ends_at: datetime | None
    revoked_at: datetime | None


def is_credential(text: str) -> bool:
    """Whether the text has the form and the checksum of a key, an access token or a device token."""
    return any(is_key(text, prefix) for prefix in _PREFIXES)


def is_till(credential: Credential) -> bool:
    """Whether it is what tills show."""
    return isinstance(credential, bytes) or credential.startswith(DEVICE_PREFIX)


async def look_up_till(statements: Statements, credential: Credential) -> Known:
    """Which till a certificate or device token belongs to. One statement of the driver: after a cut all tills come at once.

    Raises:
        Unauthenticated: unknown or ended.
        TillRevoked: of a till that was locked out or replaced.
    """
    found_at = time.monotonic()
    if isinstance(credential, bytes):
        rows = await statements.fetch(_OF_CERTIFICATE, credential)
        if not rows:
            raise Unauthenticated("This certificate is none of a till that is known here. Pair the tablet again.")
        row = _TillRow(*rows[0])
        if row.ends_at is not None and row.ends_at <= now():
            raise Unauthenticated(f"The certificate ended at {row.ends_at.isoformat()}. Renew it.")
    else:
        rows = await statements.fetch(_OF_DEVICE, fingerprint(credential))
        if not rows:
            raise Unauthenticated("The key is unknown or was revoked. Check that it was copied whole.")
        row = _TillRow(*rows[0])
    known = _till(row)
    known.found_at = found_at
    return known


async def look_up(connection: AsyncConnection, credential: str) -> Known:
    """Who a key or token belongs to; for those of tills there is `look_up_till`.

    Raises:
        Unauthenticated: unknown, revoked or expired.
    """
    found_at = time.monotonic()
    hashed = fingerprint(credential)
    if credential.startswith(TOKEN_PREFIX):
        query = _TOKEN.where(oauth_tokens.c.fingerprint == hashed, oauth_tokens.c.kind == ACCESS)
        row = (await connection.execute(query)).one_or_none()
        known = _token(row) if row is not None else None
    elif credential.startswith(PASS_PREFIX):
        row = (await connection.execute(_PASS.where(dashboard_tickets.c.pass_fingerprint == hashed))).one_or_none()
        known = _pass(row) if row is not None else None
    else:
        row = (await connection.execute(_KEY.where(api_keys.c.fingerprint == hashed))).one_or_none()
        known = _key(row) if row is not None else None
    if known is None:
        raise Unauthenticated("The key is unknown or was revoked. Check that it was copied whole.")
    known.found_at = found_at
    return known


def _till(row: _TillRow) -> Known:
    if row.state == till_credentials.REVOKED:
        raise TillRevoked(
            "This till was locked out by its owner. Nothing on the tablet is lost: what is not uploaded can be exported there, "
            "or is uploaded after the till is set to active or the tablet is paired again."
        )
    if row.revoked_at is not None:
        raise TillRevoked(
            "Another tablet was paired in place of this one. Nothing on this tablet is lost: what is not uploaded can be "
            "exported here, or is uploaded after this tablet is paired again.",
            cause="replaced",
        )
    ends_at = row.ends_at
    caller = Caller(
        *(row.tenant_id, row.id, row.mode, _NO_SCOPES),
        till_id=row.id,
        outlet_id=row.outlet_id,
        kind="till",
        ends_at=ends_at,
        till_state=row.state,
    )
    return Known(caller, (row.id,), _monotonic(ends_at))


def _key(row: sa.Row[Any]) -> Known | None:
    if row.revoked_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= now():
        successor = f" Its successor is {row.successor_id}." if row.successor_id else ""
        raise Unauthenticated(f"The key ended at {row.expires_at.isoformat()}.{successor} Use one that is still valid.")
    return Known(
        Caller(
            row.tenant_id,
            row.id,
            row.mode,
            frozenset(row.scopes),
            requests_per_second=row.requests_per_second,
            ends_at=row.expires_at,
        ),
        (row.id,),
        _monotonic(row.expires_at),
        tuple(peers.network(text) for text in row.allowed_addresses),
        row.addresses_dry_run,
        frozenset(row.allowed_origins),
    )


def _pass(row: sa.Row[Any]) -> Known | None:
    """The key behind a dashboard, for the dashboards' stream only."""
    known = _key(row)
    if known is None:
        return None
    if row.pass_ends_at <= now():
        raise Unauthenticated("The dashboard has been open for a day. Open it again with a new ticket.")
    known.caller = replace(known.caller, kind=DASHBOARD)
    known.ends_at = min(known.ends_at, _monotonic(row.pass_ends_at))
    return known


def _token(row: sa.Row[Any]) -> Known | None:
    if row.revoked_at is not None or row.grant_revoked_at is not None:
        return None
    if row.expires_at <= now():
        raise Unauthenticated("The access token has expired. Get a new one from /oauth/token.")
    return Known(
        Caller(row.tenant_id, row.client_id, row.mode, frozenset(row.scopes), kind="oauth_client"),
        tuple(subject for subject in (row.id, row.client_id, row.grant_id) if subject),
        _monotonic(row.expires_at),
        # An application in a browser is where its merchants come back to.
        origins=frozenset(key_drafts.origin_of(uri) for uri in row.redirect_uris),
    )


def _monotonic(moment: datetime | None) -> float:
    if moment is None:
        return float("inf")
    return time.monotonic() + (moment - now()).total_seconds()
