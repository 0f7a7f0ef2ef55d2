"""API keys: made once, shown once, stored as a fingerprint. What a key may never do here is to become more than it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import changes, key_drafts
from cloud.accounts.key_drafts import ALL_SCOPES, KEYS_WRITE
from cloud.accounts.tables import api_keys, credential_uses, tenants
from cloud.platform import checks, trail
from cloud.platform.calls import Caller
from cloud.platform.database import Transaction
from gipos.v1.keys_pb2 import ApiKey, ApiKeyStatus
from kernel.errors import AlreadyExists, Invalid, KeyEnded, LimitReached, LockOut, NotFound, Violation
from kernel.ids import is_id, new_id
from kernel.protojson.schemas import is_output_only
from kernel.signatures import DEVICE_PREFIX, LIVE_PREFIX, TEST_PREFIX, fingerprint, new_key

__all__ = ["ALL_SCOPES", "DEVICE_PREFIX", "LIVE_PREFIX", "TEST_PREFIX"]

MAX_KEYS = 100
WRITABLE = (
    *("name", "scopes", "allowed_addresses", "addresses_dry_run", "allowed_origins", "expire_time"),
    "requests_per_second",
)

_ALONE = "api_keys"
"""Two keys that end each other, or two that both see room for the last one, must not do so at once."""
_OWN = api_keys.c


async def create(tx: Transaction, name: str, *, mode: str = "test", scopes: Sequence[str] = ALL_SCOPES) -> str:
    """Makes a key without being asked by one (a merchant's first) and returns it, the only time that anybody sees it."""
    return (await _insert(tx, ApiKey(name=name, mode=mode, scopes=scopes))).key


async def add(tx: Transaction, draft: ApiKey, by: Caller) -> ApiKey:
    """Makes a key on behalf of a caller. The answer is the only one that holds the key.

    Raises:
        Invalid: fields break a rule; all that do are named.
        PermissionDenied: the caller lacks a scope it would hand on, or the key would outlive the caller's own.
        LimitReached: there are 100 keys that work.
    """
    wrong = key_drafts.key_violations(draft, tx.now, ("mode", *WRITABLE))
    if wrong:
        raise Invalid(wrong)
    key_drafts.require_scopes(draft.scopes, by.scopes)
    key_drafts.require_not_longer(key_drafts.moment_of(draft) if draft.HasField("expire_time") else None, by)
    return await _insert(tx, draft)


async def page(
    connection: AsyncConnection, tenant_id: str, *, before: str, limit: int, ended: bool, now: datetime
) -> list[ApiKey]:
    """Keys, newest first, beginning after the id `before`."""
    query = _select(tenant_id).order_by(_OWN.id.desc()).limit(limit)
    if before:
        query = query.where(_OWN.id < before)
    if not ended:
        query = query.where(_works(now))
    return [to_proto(row, now) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, tenant_id: str, key_id: str, now: datetime) -> ApiKey:
    """One key.

    Raises:
        NotFound: no such key.
    """
    return to_proto(await _row(connection, tenant_id, key_id), now)


async def update(tx: Transaction, draft: ApiKey, paths: Sequence[str], by: Caller) -> ApiKey:
    """Changes the fields named by the paths ("*" or none for all).

    Raises:
        NotFound, Invalid, KeyEnded, PermissionDenied, LockOut: as their names say.
    """
    row = await _locked(tx, draft.id, by)
    if wrong := list(checks.mask(paths)):
        raise Invalid(wrong)
    named = WRITABLE if not paths or "*" in paths else tuple(paths)
    wrong = [
        Violation(f"update_mask.paths[{index}]", "NOT_WRITABLE", f"{path} cannot be changed. Writable are {', '.join(WRITABLE)}.")
        for index, path in enumerate(named)
        if path not in WRITABLE and not _is_sent_back(path, draft, row)
    ]
    wrong += key_drafts.key_violations(draft, tx.now, named)
    if wrong:
        raise Invalid(wrong)
    values: dict[str, Any] = {name: getattr(draft, name) for name in named if name in {"name", "addresses_dry_run"}}
    if "requests_per_second" in named:
        values["requests_per_second"] = draft.requests_per_second
    if "allowed_addresses" in named:
        values["allowed_addresses"] = key_drafts.addresses(draft.allowed_addresses)
    if "allowed_origins" in named:
        values["allowed_origins"] = list(dict.fromkeys(draft.allowed_origins))
    if "scopes" in named:
        key_drafts.require_scopes(draft.scopes, by.scopes)
        values["scopes"] = _ordered(draft.scopes)
        if KEYS_WRITE in row.scopes and KEYS_WRITE not in draft.scopes:
            await _require_another(tx, row, by, None)
    if "expire_time" in named:
        values["expires_at"] = key_drafts.moment_of(draft) if draft.HasField("expire_time") else None
        await _require_end(tx, row, values["expires_at"], by)
    if values:
        await tx.run(sa.update(api_keys).where(*_is(tx.tenant_id, draft.id)).values(**values))
        await changes.note(tx, draft.id)
    return await find(tx.connection, tx.tenant_id, draft.id, tx.now)


def _is_sent_back(path: str, draft: ApiKey, row: sa.Row[Any]) -> bool:
    """Whether a field that cannot be changed is one that callers may send as they read it (AIP-134)."""
    field = ApiKey.DESCRIPTOR.fields_by_name.get(path)
    if field is None or path == "key":  # which nobody reads again
        return False
    return is_output_only(field) or (path == "mode" and draft.mode in {"", row.mode})


async def rotate(tx: Transaction, key_id: str, overlap: timedelta, by: Caller) -> ApiKey:
    """Makes a successor with the same rights; the old key ends after the overlap. The answer holds the new key.

    Raises:
        NotFound, KeyEnded, PermissionDenied: as their names say; a key that ends cannot rotate one that lives longer.
        AlreadyExists: it has a successor already.
    """
    row = await _locked(tx, key_id, by)
    if row.successor_id:
        raise AlreadyExists(f"The key {key_id} has a successor already: {row.successor_id}. Rotate that one.")
    key_drafts.require_not_longer(row.expires_at, by)
    draft = ApiKey(
        name=row.name,
        mode=row.mode,
        scopes=row.scopes,
        allowed_addresses=row.allowed_addresses,
        addresses_dry_run=row.addresses_dry_run,
        allowed_origins=row.allowed_origins,
        requests_per_second=row.requests_per_second,
    )
    if row.expires_at is not None:
        draft.expire_time.FromDatetime(row.expires_at)
    made = await _insert(tx, draft, predecessor_id=key_id)
    ends = tx.now + overlap
    ends = ends if row.expires_at is None else min(ends, row.expires_at)
    await tx.run(sa.update(api_keys).where(*_is(tx.tenant_id, key_id)).values(successor_id=made.id, expires_at=ends))
    await changes.note(tx, key_id)
    return made


async def revoke(tx: Transaction, key_id: str, by: Caller) -> ApiKey:
    """Ends a key for ever. Revoking it again changes nothing. Whoever may write keys may end any of them, also a mightier one.

    Raises:
        NotFound: no such key.
        LockOut: it is the last one that can manage keys.
    """
    await tx.alone(_ALONE)
    row = await _row(tx.connection, tx.tenant_id, key_id)
    if row.revoked_at is None:
        if KEYS_WRITE in row.scopes and not _has_expired(row, tx.now):
            await _require_another(tx, row, by, None)
        await tx.run(sa.update(api_keys).where(*_is(tx.tenant_id, key_id)).values(revoked_at=tx.now))
        await changes.note(tx, key_id)
    return await find(tx.connection, tx.tenant_id, key_id, tx.now)


async def _insert(tx: Transaction, draft: ApiKey, *, predecessor_id: str = "") -> ApiKey:
    await tx.alone(_ALONE)
    mode = draft.mode or "test"
    mine = (await tx.run(sa.select(tenants.c.mode).where(tenants.c.tenant_id == tx.tenant_id))).scalar_one()
    if mine != mode:
        raise ValueError(f"a {mode} key cannot open {mine} data; ask merchants.half for the other half")
    count = sa.select(sa.func.count()).select_from(api_keys).where(_OWN.tenant_id == tx.tenant_id, _works(tx.now))
    if (await tx.run(count)).scalar_one() >= MAX_KEYS:
        raise LimitReached(f"There are {MAX_KEYS} API keys already. Revoke one that is no longer needed, then try again.")
    prefix = LIVE_PREFIX if mode == "live" else TEST_PREFIX
    key, key_id = new_key(prefix), new_id("key")
    values = {
        "tenant_id": tx.tenant_id,
        "id": key_id,
        "name": draft.name,
        "mode": mode,
        "fingerprint": fingerprint(key),
        "hint": prefix + "…" + key[-4:],
        "scopes": _ordered(draft.scopes),
        "allowed_addresses": key_drafts.addresses(draft.allowed_addresses),
        "addresses_dry_run": draft.addresses_dry_run,
        "allowed_origins": list(dict.fromkeys(draft.allowed_origins)),
        "expires_at": key_drafts.moment_of(draft) if draft.HasField("expire_time") else None,
        "requests_per_second": draft.requests_per_second,
        "predecessor_id": predecessor_id,
        "created_at": tx.now,
    }
    await tx.run(sa.insert(api_keys).values(values))
    trail.about(key_id)
    made = await find(tx.connection, tx.tenant_id, key_id, tx.now)
    made.key = key
    return made


async def _locked(tx: Transaction, key_id: str, by: Caller) -> sa.Row[Any]:
    """A key that works and that the caller is mighty enough to change."""
    await tx.alone(_ALONE)
    row = await _row(tx.connection, tx.tenant_id, key_id)
    if row.revoked_at is not None or _has_expired(row, tx.now):
        how = "was revoked" if row.revoked_at is not None else "has expired"
        raise KeyEnded(f"The key {key_id} {how} and cannot be changed any more. Create a new one.", key_id=key_id)
    key_drafts.require_scopes(row.scopes, by.scopes)
    return row


async def _require_end(tx: Transaction, row: sa.Row[Any], ends: datetime | None, by: Caller) -> None:
    if row.successor_id and (ends is None or ends > row.expires_at):
        raise KeyEnded(f"The key {row.id} is being replaced by {row.successor_id}; its end cannot be put off.", key_id=row.id)
    if ends is None or row.expires_at is None or ends > row.expires_at:
        key_drafts.require_not_longer(ends, by)
    if ends is not None and KEYS_WRITE in row.scopes and (row.expires_at is None or ends < row.expires_at):
        await _require_another(tx, row, by, ends)


async def _require_another(tx: Transaction, row: sa.Row[Any], by: Caller, until: datetime | None) -> None:
    """Somebody must be left who can manage keys. A merchant's test half is safe as long as the live half has one."""
    if by.tenant_id != tx.tenant_id:
        return
    others = sa.select(_OWN.id).where(
        _OWN.tenant_id == tx.tenant_id,
        _OWN.id != row.id,
        _OWN.scopes.contains([KEYS_WRITE]),
        _OWN.successor_id == "",  # one that is being replaced is about to end
        _works(until or tx.now),
    )
    if (await tx.run(others.limit(1))).scalar_one_or_none() is None:
        raise LockOut(
            f"The key {row.id} is the last one with {KEYS_WRITE}: without it nobody could manage your keys. "
            "Create or rotate to another key with this scope first.",
            key_id=row.id,
            scope=KEYS_WRITE,
        )


async def _row(connection: AsyncConnection, tenant_id: str, key_id: str) -> sa.Row[Any]:
    if is_id(key_id, "key"):
        found: sa.Row[Any] | None = (await connection.execute(_select(tenant_id).where(_OWN.id == key_id))).one_or_none()
        if found is not None:
            return found
    raise NotFound(f"API key {key_id} does not exist. GET /api/v1/api-keys lists yours.", key_id=key_id)


def _select(tenant_id: str) -> sa.Select[Any]:
    used = credential_uses.c
    joined = api_keys.outerjoin(credential_uses, sa.and_(used.tenant_id == _OWN.tenant_id, used.subject_id == _OWN.id))
    columns = (api_keys, used.last_used_at, used.last_used_address, used.foreign_count)
    return sa.select(*columns).select_from(joined).where(_OWN.tenant_id == tenant_id)


def _is(tenant_id: str, key_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _OWN.tenant_id == tenant_id, _OWN.id == key_id


def _works(at: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(_OWN.revoked_at.is_(None), sa.or_(_OWN.expires_at.is_(None), _OWN.expires_at > at))


def _has_expired(row: sa.Row[Any], now: datetime) -> bool:
    return row.expires_at is not None and row.expires_at <= now


def _ordered(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in ALL_SCOPES if scope in scopes]


def _status(row: sa.Row[Any], now: datetime) -> ApiKeyStatus.ValueType:
    if row.revoked_at is not None:
        return ApiKeyStatus.API_KEY_STATUS_REVOKED
    if _has_expired(row, now):
        return ApiKeyStatus.API_KEY_STATUS_EXPIRED
    return ApiKeyStatus.API_KEY_STATUS_ROTATING if row.successor_id else ApiKeyStatus.API_KEY_STATUS_ACTIVE


def to_proto(row: sa.Row[Any], now: datetime) -> ApiKey:
    """The key without itself."""
    key = ApiKey(
        id=row.id,
        name=row.name,
        mode=row.mode,
        scopes=row.scopes,
        hint=row.hint,
        allowed_addresses=row.allowed_addresses,
        addresses_dry_run=row.addresses_dry_run,
        allowed_origins=row.allowed_origins,
        foreign_address_count=row.foreign_count or 0,
        last_used_address=row.last_used_address or "",
        predecessor_id=row.predecessor_id,
        successor_id=row.successor_id,
        requests_per_second=row.requests_per_second,
        status=_status(row, now),
    )
    times = {
        "expire_time": row.expires_at,
        "create_time": row.created_at,
        "revoke_time": row.revoked_at,
        "last_used_time": row.last_used_at,
    }
    for name, moment in times.items():
        if moment is not None:
            getattr(key, name).FromDatetime(moment)
    return key
