"""The OAuth endpoints around their rules: read the rows, let the rules decide, write what follows in one transaction.

What may happen once (a code, a refresh token) is decided by the write itself. Whoever comes second ends everything that came of
it: one of the two is a thief, and nobody can tell which.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import changes, key_drafts, oauth_forms, oauth_rules
from cloud.accounts.credentials import ACCESS, REFRESH
from cloud.accounts.oauth_forms import FormRequest
from cloud.accounts.oauth_rules import CODE_LIFE, REFRESH_LIFE, Client, Code, Effects, Facts, Token
from cloud.accounts.tables import oauth_clients, oauth_codes, oauth_grants, oauth_tokens
from cloud.platform import trail
from cloud.platform.calls import Caller
from cloud.platform.database import Database, Transaction
from gipos.v1.keys_pb2 import OAuthRequest, OAuthResponse, PrepareAuthorizationResponse
from kernel import business_days
from kernel.errors import PermissionDenied
from kernel.ids import is_id, new_id
from kernel.signatures import CODE_PREFIX, REFRESH_PREFIX, TOKEN_PREFIX, fingerprint, is_key

_LIFE = {ACCESS: oauth_rules.ACCESS_LIFE, REFRESH: REFRESH_LIFE}

_FORGET_CODES = sa.text("DELETE FROM oauth_codes WHERE expires_at < now() - interval '1 day'")
_FORGET_TOKENS = sa.text("DELETE FROM oauth_tokens WHERE expires_at < now() - interval '1 day'")
_FORGET_GRANTS = sa.text(
    """
    DELETE FROM oauth_grants g WHERE g.created_at < now() - interval '2 days'
      AND NOT EXISTS (SELECT FROM oauth_tokens t WHERE t.tenant_id = g.tenant_id AND t.grant_id = g.id AND t.grant_id <> '')
    """
)


@dataclass(frozen=True)
class Answer:
    """What goes back, and what else must be said."""

    response: OAuthResponse
    changed: tuple[str, ...] = ()
    """Ids of what ended, to be announced."""
    is_stranger: bool = False
    """The client did not identify itself."""


class _Spent(Exception):
    """A code or refresh token was used before."""


async def issue(database: Database, request: OAuthRequest) -> Answer:
    """The token endpoint (RFC 6749 §3.2)."""
    try:
        form = oauth_forms.read(request)
    except oauth_forms.OAuth2Error as error:
        return _unread(error)
    facts = await _read(database, form)
    effects = oauth_rules.issue(form, facts)
    if not effects.access_token:
        return _told(effects)
    assert facts.client is not None, "the rules give tokens to known clients only"
    origin = effects.used_code or effects.used_token
    tenant_id = origin.tenant_id if origin is not None else facts.client.tenant_id
    trail.about(facts.client.id)
    try:
        async with database.transaction(tenant_id) as tx:
            if origin is not None:
                await _spend(tx, origin)
            await _store(tx, ACCESS, effects.access_token, facts.client.id, origin, effects.scopes)
            if effects.refresh_token and origin is not None:
                # RFC 6749 §6: also when the access token was asked for with less, the right to refresh stays whole.
                await _store(tx, REFRESH, effects.refresh_token, facts.client.id, origin, origin.scopes)
    except _Spent:
        assert origin is not None, "only what there was before can be spent"
        async with database.transaction(tenant_id) as tx:
            await _end_grant(tx, origin.grant_id)
        said = (
            "This code or refresh token was used before, so everything that came of it has been revoked. Ask the merchant again."
        )
        return Answer(oauth_rules.refusal("invalid_grant", said), (origin.grant_id,))
    return Answer(effects.response)


async def revoke(database: Database, request: OAuthRequest) -> Answer:
    """The revocation endpoint (RFC 7009). A refresh token takes everything of its grant with it."""
    try:
        form = oauth_forms.read(request)
    except oauth_forms.OAuth2Error as error:
        return _unread(error)
    effects = oauth_rules.revoke(form, await _read(database, form))
    token = effects.revoked
    if token is None:
        return _told(effects)
    own = oauth_tokens.c
    trail.about(token.client_id)
    async with database.transaction(token.tenant_id) as tx:
        if token.is_refresh:
            await _end_grant(tx, token.grant_id)
        else:
            await tx.run(
                sa.update(oauth_tokens).where(own.tenant_id == tx.tenant_id, own.id == token.id).values(revoked_at=tx.now)
            )
            await changes.note(tx, token.id)
    return Answer(effects.response, (token.grant_id if token.is_refresh else token.id,))


async def introspect(database: Database, request: OAuthRequest) -> Answer:
    """The introspection endpoint (RFC 7662)."""
    try:
        form = oauth_forms.read(request)
    except oauth_forms.OAuth2Error as error:
        return _unread(error)
    return _told(oauth_rules.introspect(form, await _read(database, form)))


async def prepare(database: Database, request: OAuthRequest) -> PrepareAuthorizationResponse:
    """What a merchant would be asked (RFC 6749 §4.1.1)."""
    try:
        form = oauth_forms.read(request)
    except oauth_forms.OAuth2Error as error:
        return PrepareAuthorizationResponse(refusal=_unread(error).response)
    facts = await _read(database, form)
    effects = oauth_rules.prepare(form, facts)
    if facts.client is None or not effects.scopes:
        return PrepareAuthorizationResponse(refusal=effects.response)
    return PrepareAuthorizationResponse(client_id=facts.client.id, client_name=facts.client.name, scopes=effects.scopes)


async def decide(database: Database, request: OAuthRequest, by: Caller, *, allowed: bool) -> OAuthResponse:
    """The merchant's answer: a redirect that carries a code to the application, or a refusal.

    Raises:
        PermissionDenied: the caller is an application itself, is of the other mode, lacks a scope it would hand on, or has a key
            that ends some day.
    """
    if by.kind != "api_key":
        raise PermissionDenied("Only the merchant can let an application in. Use an API key, not a token of an application.")
    try:
        form = oauth_forms.read(request)
    except oauth_forms.OAuth2Error as error:
        return _unread(error).response
    facts = await _read(database, form)
    if allowed and facts.client is not None and facts.client.mode != by.mode:
        raise PermissionDenied(
            f"This application works with {facts.client.mode} data and your key with {by.mode} data. "
            f"Use a {facts.client.mode} key."
        )
    effects = oauth_rules.decide(form, facts, allowed=allowed)
    if not effects.new_code:
        return effects.response
    assert facts.client is not None, "the rules give codes to known clients only"
    key_drafts.require_scopes(effects.scopes, by.scopes)
    key_drafts.require_not_longer(None, by)
    trail.about(facts.client.id, ["scopes"])
    async with database.transaction(by.tenant_id) as tx:
        grant = {
            "tenant_id": tx.tenant_id,
            "id": new_id("gra"),
            "client_id": facts.client.id,
            "key_id": by.key_id,
            "scopes": list(effects.scopes),
            "created_at": tx.now,
        }
        await tx.run(sa.insert(oauth_grants).values(grant))
        code = {
            "tenant_id": tx.tenant_id,
            "fingerprint": fingerprint(effects.new_code),
            "grant_id": grant["id"],
            "client_id": facts.client.id,
            "redirect_uri": effects.redirect_uri,
            "challenge": effects.challenge,
            "expires_at": tx.now + CODE_LIFE,
        }
        await tx.run(sa.insert(oauth_codes).values(code))
    return effects.response


async def forget_old(database: Database) -> int:
    """Removes codes and tokens that ended more than a day ago, and grants nothing is left of; how many."""
    count = 0
    for statement in (_FORGET_CODES, _FORGET_TOKENS, _FORGET_GRANTS):
        async with database.across_tenants() as connection:
            count += (await connection.execute(statement)).rowcount
    return count


async def _read(database: Database, form: FormRequest) -> Facts:
    """Everything the rules may ask for. What has not the form of one of ours is not looked for."""
    now = business_days.now()
    client_id, code = form.form.get("client_id", ""), form.form.get("code", "")
    token = form.form.get("token") or form.form.get("refresh_token", "")
    if not is_id(client_id, "app"):
        return Facts(now)
    async with database.identifying() as connection:
        return Facts(
            now,
            await _client(connection, client_id),
            await _code(connection, code) if is_key(code, CODE_PREFIX) else None,
            await _token(connection, token, now) if is_key(token, TOKEN_PREFIX) or is_key(token, REFRESH_PREFIX) else None,
        )


async def _client(connection: AsyncConnection, client_id: str) -> Client | None:
    query = sa.select(oauth_clients).where(oauth_clients.c.id == client_id, oauth_clients.c.deleted_at.is_(None))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return Client(
        tenant_id=row.tenant_id,
        id=row.id,
        name=row.name,
        mode=row.mode,
        scopes=tuple(row.scopes),
        grant_types=tuple(row.grant_types),
        redirect_uris=tuple(row.redirect_uris),
        secret_fingerprint=row.secret_fingerprint,
    )


async def _code(connection: AsyncConnection, code: str) -> Code | None:
    own, grant = oauth_codes.c, oauth_grants.c
    joined = oauth_codes.join(oauth_grants, sa.and_(grant.tenant_id == own.tenant_id, grant.id == own.grant_id))
    query = sa.select(oauth_codes, grant.scopes).select_from(joined).where(own.fingerprint == fingerprint(code))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return Code(
        tenant_id=row.tenant_id,
        fingerprint=row.fingerprint,
        grant_id=row.grant_id,
        client_id=row.client_id,
        redirect_uri=row.redirect_uri,
        challenge=row.challenge,
        scopes=tuple(row.scopes),
        expires_at=row.expires_at,
    )


async def _token(connection: AsyncConnection, token: str, now: datetime) -> Token | None:
    own, grant = oauth_tokens.c, oauth_grants.c
    joined = oauth_tokens.outerjoin(oauth_grants, sa.and_(grant.tenant_id == own.tenant_id, grant.id == own.grant_id))
    query = sa.select(oauth_tokens, grant.revoked_at.label("grant_revoked_at")).select_from(joined)
    row = (await connection.execute(query.where(own.fingerprint == fingerprint(token)))).one_or_none()
    if row is None:
        return None
    return Token(
        tenant_id=row.tenant_id,
        id=row.id,
        is_refresh=row.kind == REFRESH,
        client_id=row.client_id,
        grant_id=row.grant_id,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        is_ended=row.revoked_at is not None or row.grant_revoked_at is not None or row.used_at is not None,
        now=now,
    )


async def _spend(tx: Transaction, origin: Code | Token) -> None:
    """Uses up a code or a refresh token.

    Raises:
        _Spent: somebody did already, or its grant is revoked.
    """
    statement: sa.Update
    if isinstance(origin, Code):
        code = oauth_codes.c
        statement = sa.update(oauth_codes).where(
            code.tenant_id == tx.tenant_id, code.fingerprint == origin.fingerprint, code.used_at.is_(None)
        )
    else:
        token = oauth_tokens.c
        statement = sa.update(oauth_tokens).where(
            token.tenant_id == tx.tenant_id, token.id == origin.id, token.used_at.is_(None), token.revoked_at.is_(None)
        )
    if (await tx.run(statement.values(used_at=tx.now))).rowcount == 0:
        raise _Spent
    grant = oauth_grants.c
    alive = sa.select(grant.id).where(grant.tenant_id == tx.tenant_id, grant.id == origin.grant_id, grant.revoked_at.is_(None))
    if (await tx.run(alive.with_for_update())).one_or_none() is None:
        raise _Spent


async def _store(
    tx: Transaction, kind: int, token: str, client_id: str, origin: Code | Token | None, scopes: tuple[str, ...]
) -> None:
    row: dict[str, Any] = {
        "tenant_id": tx.tenant_id,
        "id": new_id("tok"),
        "kind": kind,
        "fingerprint": fingerprint(token),
        "client_id": client_id,
        "grant_id": origin.grant_id if origin is not None else "",
        "scopes": list(scopes),
        "created_at": tx.now,
        "expires_at": tx.now + _LIFE[kind],
    }
    await tx.run(sa.insert(oauth_tokens).values(row))


async def _end_grant(tx: Transaction, grant_id: str) -> None:
    own = oauth_grants.c
    await tx.run(
        sa.update(oauth_grants)
        .where(own.tenant_id == tx.tenant_id, own.id == grant_id, own.revoked_at.is_(None))
        .values(revoked_at=tx.now)
    )
    await changes.note(tx, grant_id)


def _unread(error: oauth_forms.OAuth2Error) -> Answer:
    return Answer(oauth_rules.refusal(error.error, error.description or "", 400))


def _told(effects: Effects) -> Answer:
    return Answer(effects.response, is_stranger=effects.error == "invalid_client")
