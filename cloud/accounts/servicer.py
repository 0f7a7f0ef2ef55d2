"""AccountService, ApiKeyService, OAuthClientService and OAuthService over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import api_keys, merchants, oauth_clients, oauth_flows, outlets
from cloud.accounts.authentication import Authentication
from cloud.accounts.merchants import TEST
from cloud.platform import calls, idempotency, paging
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from gipos.v1 import accounts_pb2, accounts_pb2_grpc, keys_pb2, keys_pb2_grpc
from kernel import business_days
from kernel.errors import Invalid, NotFound, Violation

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

T = TypeVar("T")

OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=7)


class AccountServicer(accounts_pb2_grpc.AccountServiceServicer):
    """Proto in, one transaction, proto out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListOutlets(self, request: accounts_pb2.ListOutletsRequest, context: Context) -> accounts_pb2.ListOutletsResponse:
        """See accounts.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return accounts_pb2.ListOutletsResponse(outlets=await outlets.every(connection, tenant_id))

    async def GetOutlet(self, request: accounts_pb2.GetOutletRequest, context: Context) -> accounts_pb2.Outlet:
        """See accounts.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await outlets.find(connection, tenant_id, request.id)

    async def GetCaller(self, request: accounts_pb2.GetCallerRequest, context: Context) -> accounts_pb2.Caller:
        """See accounts.proto."""
        who = caller()
        async with self._database.reading(who.tenant_id) as connection:
            name, _ = await outlets.tenant(connection, who.tenant_id)
        return accounts_pb2.Caller(
            tenant_id=who.tenant_id,
            tenant_name=name,
            mode=who.mode,
            scopes=sorted(who.scopes),
            kind=who.kind,
            key_id=who.key_id,
            address=calls.call().address,
        )


class ApiKeyServicer(keys_pb2_grpc.ApiKeyServiceServicer):
    """Keys of the caller's half of the merchant, and for live keys of the test half as well."""

    def __init__(self, database: Database, authentication: Authentication) -> None:
        self._database = database
        self._announce = authentication.changes.announce

    async def ListApiKeys(self, request: keys_pb2.ListApiKeysRequest, context: Context) -> keys_pb2.ListApiKeysResponse:
        """See keys.proto."""
        size, before = paging.size(request.page_size), paging.last_id(request, "key")
        found: list[keys_pb2.ApiKey] = []
        for tenant_id in await _reach(self._database):
            async with self._database.reading(tenant_id) as connection:
                found += await api_keys.page(
                    connection, tenant_id, before=before, limit=size + 1, ended=request.show_ended, now=business_days.now()
                )
        found.sort(key=lambda key: key.id, reverse=True)
        token = paging.token_behind(request, [key.id for key in found], size)
        return keys_pb2.ListApiKeysResponse(api_keys=found[:size], has_more=bool(token), next_page_token=token)

    async def CreateApiKey(self, request: keys_pb2.CreateApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        who = caller()
        tenant_id = await _half(self._database, request.api_key.mode)
        return await idempotency.perform(
            self._database,
            request,
            keys_pb2.ApiKey,
            lambda tx: api_keys.add(tx, request.api_key, who),
            tenant_id=tenant_id,
            by=who.key_id,
        )

    async def GetApiKey(self, request: keys_pb2.GetApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        return (await self._found(request.id))[1]

    async def UpdateApiKey(self, request: keys_pb2.UpdateApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        tenant_id, _ = await self._found(request.api_key.id)
        async with self._database.transaction(tenant_id) as tx:
            changed = await api_keys.update(tx, request.api_key, request.update_mask.paths, caller())
        self._announce(changed.id)
        return changed

    async def RotateApiKey(self, request: keys_pb2.RotateApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        who, overlap = caller(), _overlap(request)
        tenant_id, _ = await self._found(request.id)
        made = await idempotency.perform(
            self._database,
            request,
            keys_pb2.ApiKey,
            lambda tx: api_keys.rotate(tx, request.id, overlap, who),
            tenant_id=tenant_id,
            by=who.key_id,
        )
        self._announce(request.id)
        return made

    async def RevokeApiKey(self, request: keys_pb2.RevokeApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        tenant_id, _ = await self._found(request.id)
        async with self._database.transaction(tenant_id) as tx:
            ended = await api_keys.revoke(tx, request.id, caller())
        self._announce(ended.id)
        return ended

    async def _found(self, key_id: str) -> tuple[str, keys_pb2.ApiKey]:
        now = business_days.now()
        return await _found(self._database, lambda connection, tenant_id: api_keys.find(connection, tenant_id, key_id, now))


class OAuthClientServicer(keys_pb2_grpc.OAuthClientServiceServicer):
    """Applications, as keys are."""

    def __init__(self, database: Database, authentication: Authentication) -> None:
        self._database = database
        self._announce = authentication.changes.announce

    async def ListOAuthClients(
        self, request: keys_pb2.ListOAuthClientsRequest, context: Context
    ) -> keys_pb2.ListOAuthClientsResponse:
        """See keys.proto."""
        found: list[keys_pb2.OAuthClient] = []
        for tenant_id in await _reach(self._database):
            async with self._database.reading(tenant_id) as connection:
                found += await oauth_clients.every(connection, tenant_id)
        return keys_pb2.ListOAuthClientsResponse(oauth_clients=sorted(found, key=lambda client: client.id, reverse=True))

    async def CreateOAuthClient(self, request: keys_pb2.CreateOAuthClientRequest, context: Context) -> keys_pb2.OAuthClient:
        """See keys.proto."""
        who = caller()
        tenant_id = await _half(self._database, request.oauth_client.mode)
        return await idempotency.perform(
            self._database,
            request,
            keys_pb2.OAuthClient,
            lambda tx: oauth_clients.create(tx, request.oauth_client, who),
            tenant_id=tenant_id,
            by=who.key_id,
        )

    async def GetOAuthClient(self, request: keys_pb2.GetOAuthClientRequest, context: Context) -> keys_pb2.OAuthClient:
        """See keys.proto."""
        return (await self._found(request.id))[1]

    async def DeleteOAuthClient(
        self, request: keys_pb2.DeleteOAuthClientRequest, context: Context
    ) -> keys_pb2.DeleteOAuthClientResponse:
        """See keys.proto."""
        tenant_id, client = await self._found(request.id)
        async with self._database.transaction(tenant_id) as tx:
            await oauth_clients.delete(tx, client.id)
        self._announce(client.id)
        return keys_pb2.DeleteOAuthClientResponse()

    async def _found(self, client_id: str) -> tuple[str, keys_pb2.OAuthClient]:
        return await _found(self._database, lambda connection, tenant_id: oauth_clients.find(connection, tenant_id, client_id))


class OAuthServicer(keys_pb2_grpc.OAuthServiceServicer):
    """What the gateway's form endpoints call."""

    def __init__(self, database: Database, authentication: Authentication) -> None:
        self._database = database
        self._authentication = authentication

    async def IssueToken(self, request: keys_pb2.OAuthRequest, context: Context) -> keys_pb2.OAuthResponse:
        """See keys.proto."""
        return self._answered(await oauth_flows.issue(self._database, request))

    async def RevokeToken(self, request: keys_pb2.OAuthRequest, context: Context) -> keys_pb2.OAuthResponse:
        """See keys.proto."""
        return self._answered(await oauth_flows.revoke(self._database, request))

    async def IntrospectToken(self, request: keys_pb2.OAuthRequest, context: Context) -> keys_pb2.OAuthResponse:
        """See keys.proto."""
        return self._answered(await oauth_flows.introspect(self._database, request))

    async def PrepareAuthorization(
        self, request: keys_pb2.OAuthRequest, context: Context
    ) -> keys_pb2.PrepareAuthorizationResponse:
        """See keys.proto."""
        return await oauth_flows.prepare(self._database, request)

    async def DecideAuthorization(self, request: keys_pb2.DecideAuthorizationRequest, context: Context) -> keys_pb2.OAuthResponse:
        """See keys.proto."""
        return await oauth_flows.decide(self._database, request.request, caller(), allowed=request.allowed)

    def _answered(self, answer: oauth_flows.Answer) -> keys_pb2.OAuthResponse:
        if answer.is_stranger:
            self._authentication.failures.count(calls.call())
        if answer.changed:
            self._authentication.changes.announce(*answer.changed)
        return answer.response


async def _reach(database: Database) -> list[str]:
    tenant_id = caller().tenant_id
    async with database.reading(tenant_id) as connection:
        return await merchants.reach(connection, tenant_id)


async def _found(database: Database, find: Callable[[AsyncConnection, str], Awaitable[T]]) -> tuple[str, T]:
    """What is found in the first of the caller's halves that has it, and which half that is."""
    missing: NotFound | None = None
    for tenant_id in await _reach(database):
        async with database.reading(tenant_id) as connection:
            try:
                return tenant_id, await find(connection, tenant_id)
            except NotFound as error:
                missing = error
    assert missing is not None, "there is always a place to look"
    raise missing


async def _half(database: Database, mode: str) -> str:
    if mode not in {"", *merchants.MODES}:
        raise Invalid([Violation("mode", "INVALID", 'mode must be "test" or "live".')])
    return await merchants.half(database, caller().tenant_id, mode or TEST)


def _overlap(request: keys_pb2.RotateApiKeyRequest) -> timedelta:
    if not request.HasField("overlap"):
        return OVERLAP
    try:
        overlap = request.overlap.ToTimedelta()
    except (ValueError, OverflowError):  # only a caller of gRPC can say such a thing
        overlap = timedelta(-1)
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        message = 'overlap must be between "0s" and "604800s" (7 days).'
        raise Invalid([Violation("overlap", "OUT_OF_RANGE", message)])
    return overlap
