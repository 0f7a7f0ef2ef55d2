"""Who is calling. REST and gRPC callers pass this one door: a key or token becomes a caller with a tenant and scopes."""

from __future__ import annotations

import time
from collections.abc import Mapping

import sqlalchemy as sa

from cloud.accounts.api_keys import DEVICE_PREFIX, LIVE_PREFIX, TEST_PREFIX
from cloud.accounts.tables import api_keys, tills
from cloud.platform.calls import READS, Call, Caller
from cloud.platform.database import Database
from kernel.errors import PermissionDenied, Unauthenticated
from kernel.signatures import fingerprint, is_key

CACHE_SECONDS = 5.0
"""How long a look-up is believed; a revoked key works at most this much longer."""
CACHE_SIZE = 10_000

_SERVICES = {
    "AccountService": "outlets",
    "ProductService": "products",
    "InventoryService": "inventory",
    "CustomerService": "customers",
    "SaleService": "sales",
    "WebhookService": "webhooks",
    "EventService": "events",
    "ApiKeyService": "api_keys",
    "OAuthClientService": "api_keys",
    "OAuthService": "api_keys",
    "UsageService": "usage",
    "AuditService": "audit",
}
_NO_SCOPE = {"/gipos.v1.AccountService/GetCaller"}
_LINK = "/gipos.edge.v1."


def scope_of(method: str) -> str:
    """The scope a public method needs, for example "products:write"; empty when being known is enough."""
    if method in _NO_SCOPE:
        return ""
    service, name = method.rsplit(".", 1)[1].split("/")
    return f"{_SERVICES[service]}:{'read' if name.startswith(READS) else 'write'}"


class Authentication:
    """Resolves keys and tokens, with a short memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[bytes, tuple[float, Caller]] = {}

    async def __call__(self, call: Call) -> Caller:
        """The caller of a call.

        Raises:
            Unauthenticated: no key, not a key, unknown or revoked.
            PermissionDenied: the key lacks the scope.
        """
        method = call.method
        caller = await self._resolve(_credential(call.metadata))
        if method.startswith(_LINK):
            if not caller.till_id:
                raise PermissionDenied("Only a till with its device token may open a link.")
            return caller
        if caller.till_id:
            raise PermissionDenied("A device token opens the link only. Use an API key for this call.")
        scope = scope_of(method)
        if scope and scope not in caller.scopes:
            raise PermissionDenied(f"This key lacks the scope {scope}. Use a key that has it.", scope=scope)
        return caller

    async def _resolve(self, credential: str) -> Caller:
        key = fingerprint(credential)
        cached = self._cache.get(key)
        now = time.monotonic()
        if cached is not None and now - cached[0] < CACHE_SECONDS:
            return cached[1]
        caller = await self._look_up(credential, key)
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[key] = (now, caller)
        return caller

    async def _look_up(self, credential: str, key: bytes) -> Caller:
        # The index on the hash does the comparing: timing it tells nothing about a key, only about its SHA-256.
        async with self._database.across_tenants() as connection:
            if credential.startswith(DEVICE_PREFIX):
                row = (await connection.execute(sa.select(tills).where(tills.c.token_fingerprint == key))).one_or_none()
                if row is not None:
                    return Caller(
                        row.tenant_id, row.id, "live", frozenset(), till_id=row.id, outlet_id=row.outlet_id, kind="till"
                    )
            else:
                query = sa.select(api_keys).where(api_keys.c.fingerprint == key, api_keys.c.revoked_at.is_(None))
                row = (await connection.execute(query)).one_or_none()
                if row is not None:
                    return Caller(row.tenant_id, row.id, row.mode, frozenset(row.scopes))
        raise Unauthenticated("The key is unknown or was revoked. Check that it was copied whole.")


def _credential(metadata: Mapping[str, str]) -> str:
    authorization = metadata.get("authorization", "")
    scheme, _, value = authorization.partition(" ")
    credential = value.strip() if scheme.lower() == "bearer" else ""
    credential = credential or metadata.get("x-api-key", "").strip()
    if not credential:
        raise Unauthenticated("An API key is missing. Send the header Authorization: Bearer gipos_test_… or gipos_live_….")
    if not any(is_key(credential, prefix) for prefix in (LIVE_PREFIX, TEST_PREFIX, DEVICE_PREFIX)):
        raise Unauthenticated("This is not a key: its checksum is wrong. Check that it was copied whole.")
    return credential
