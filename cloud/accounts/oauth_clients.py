"""Applications that get tokens (OAuth 2.0 clients), as their merchant registers them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import changes, key_drafts
from cloud.accounts.tables import oauth_clients
from cloud.platform import trail
from cloud.platform.calls import Caller
from cloud.platform.database import Transaction
from gipos.v1.keys_pb2 import OAuthClient
from kernel.errors import Invalid, LimitReached, NotFound
from kernel.ids import is_id, new_id
from kernel.signatures import CLIENT_SECRET_PREFIX, fingerprint, new_key

MAX_CLIENTS = 100

_OWN = oauth_clients.c


async def create(tx: Transaction, draft: OAuthClient, by: Caller) -> OAuthClient:
    """Registers an application. The answer is the only one that holds its secret.

    Raises:
        Invalid: fields break a rule; all that do are named.
        PermissionDenied: the caller lacks a scope it would hand on, or its key ends some day.
        LimitReached: there are 100 applications.
    """
    asked = OAuthClient()
    asked.CopyFrom(draft)
    if not asked.grant_types:
        asked.grant_types.append("client_credentials")
    wrong = key_drafts.client_violations(asked)
    if wrong:
        raise Invalid(wrong)
    key_drafts.require_scopes(asked.scopes, by.scopes)
    key_drafts.require_not_longer(None, by)
    await tx.alone("oauth_clients")  # else two at once could both see room for the last one
    alive = (_OWN.tenant_id == tx.tenant_id, _OWN.deleted_at.is_(None))
    if (await tx.run(sa.select(sa.func.count()).select_from(oauth_clients).where(*alive))).scalar_one() >= MAX_CLIENTS:
        raise LimitReached(f"There are {MAX_CLIENTS} OAuth clients already. Delete one that is no longer needed, then try again.")
    secret = "" if asked.public else new_key(CLIENT_SECRET_PREFIX)
    values = {
        "tenant_id": tx.tenant_id,
        "id": new_id("app"),
        "name": asked.name,
        "mode": asked.mode or "test",
        "scopes": [scope for scope in key_drafts.ALL_SCOPES if scope in asked.scopes],
        "grant_types": list(dict.fromkeys(asked.grant_types)),
        "redirect_uris": list(dict.fromkeys(asked.redirect_uris)),
        "secret_fingerprint": fingerprint(secret) if secret else None,
        "is_public": asked.public,
        "created_at": tx.now,
    }
    made = to_proto((await tx.run(sa.insert(oauth_clients).values(values).returning(oauth_clients))).one())
    made.secret = secret
    trail.about(made.id)
    return made


async def every(connection: AsyncConnection, tenant_id: str) -> list[OAuthClient]:
    """The applications of a merchant, newest first, without their secrets."""
    query = sa.select(oauth_clients).where(_OWN.tenant_id == tenant_id, _OWN.deleted_at.is_(None)).order_by(_OWN.id.desc())
    return [to_proto(row) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, tenant_id: str, client_id: str) -> OAuthClient:
    """One application, without its secret.

    Raises:
        NotFound: no such application.
    """
    if is_id(client_id, "app"):
        query = sa.select(oauth_clients).where(_OWN.tenant_id == tenant_id, _OWN.id == client_id, _OWN.deleted_at.is_(None))
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return to_proto(row)
    raise NotFound(f"OAuth client {client_id} does not exist. GET /api/v1/oauth-clients lists yours.", client_id=client_id)


async def delete(tx: Transaction, client_id: str) -> None:
    """Removes an application. None of its tokens opens anything from then on, whichever merchant it belongs to.

    Raises:
        NotFound: no such application.
    """
    await find(tx.connection, tx.tenant_id, client_id)
    await tx.run(sa.update(oauth_clients).where(_OWN.tenant_id == tx.tenant_id, _OWN.id == client_id).values(deleted_at=tx.now))
    await changes.note(tx, client_id)


def to_proto(row: sa.Row[Any]) -> OAuthClient:
    """The application without its secret."""
    client = OAuthClient(
        id=row.id,
        name=row.name,
        mode=row.mode,
        scopes=row.scopes,
        grant_types=row.grant_types,
        redirect_uris=row.redirect_uris,
        public=row.is_public,
    )
    client.create_time.FromDatetime(row.created_at)
    return client
