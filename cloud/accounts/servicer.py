"""AccountService, ApiKeyService, OAuthClientService and OAuthService over gRPC."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cloud.accounts import api_keys, merchants, oauth_clients, oauth_flows, outlets
from cloud.accounts.authentication import Authentication
from cloud.accounts.merchants import TEST
from cloud.platform import calls, idempotency, paging
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from gipos.v1 import accounts_pb2, accounts_pb2_grpc, keys_pb2, keys_pb2_grpc
from kernel import business_days
from kernel.errors import CursorInvalid, Invalid, NotFound, Violation
from kernel.ids import is_id

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

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
        size, before = paging.size(request.page_size), _position(request)
        found: list[keys_pb2.ApiKey] = []
        for tenant_id in await _reach(self._database):
            async with self._database.reading(tenant_id) as connection:
                found += await api_keys.page(
                    connection, tenant_id, before=before, limit=size + 1, ended=request.show_ended, now=business_days.now()
                )
        found.sort(key=lambda key: key.id, reverse=True)
        response = keys_pb2.ListApiKeysResponse(api_keys=found[:size], has_more=len(found) > size)
        if response.has_more:
            response.next_page_token = paging.next_token(request, [found[size - 1].id])
        return response

    async def CreateApiKey(self, request: keys_pb2.CreateApiKeyRequest, context: Context) -> keys_pb2.ApiKey:
        """See keys.proto."""
        who = caller()
        tenant_id = await _half(self._database, request.api_key.mode)
        async with self._database.transaction(tenant_id) as tx:
            return await idempotency.once(
                tx,
                _method("CreateApiKey"),
                request.request_id,
                request,
                keys_pb2.ApiKey,
                lambda: api_keys.add(tx, request.api_key, who),
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
        async with self._database.transaction(tenant_id) as tx:
            made = await idempotency.once(
                tx,
                _method("RotateApiKey"),
                request.request_id,
                request,
                keys_pb2.ApiKey,
                lambda: api_keys.rotate(tx, request.id, overlap, who),
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
        missing: NotFound | None = None
        for tenant_id in await _reach(self._database):
            async with self._database.reading(tenant_id) as connection:
                try:
                    return tenant_id, await api_keys.find(connection, tenant_id, key_id, business_days.now())
                except NotFound as error:
                    missing = error
        assert missing is not None, "there is always a place to look"
        raise missing


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
        async with self._database.transaction(tenant_id) as tx:
            return await idempotency.once(
                tx,
                _method("CreateOAuthClient"),
                request.request_id,
                request,
                keys_pb2.OAuthClient,
                lambda: oauth_clients.create(tx, request.oauth_client, who),
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
        missing: NotFound | None = None
        for tenant_id in await _reach(self._database):
            async with self._database.reading(tenant_id) as connection:
                try:
                    return tenant_id, await oauth_clients.find(connection, tenant_id, client_id)
                except NotFound as error:
                    missing = error
        assert missing is not None, "there is always a place to look"
        raise missing


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


async def _half(database: Database, mode: str) -> str:
    if mode not in {"", *merchants.MODES}:
        raise Invalid([Violation("mode", "INVALID", 'mode must be "test" or "live".')])
    return await merchants.half(database, caller().tenant_id, mode or TEST)


def _method(name: str) -> str:
    """The idempotency keys of one API key are not another's: the stored answer holds a secret that is meant for one of them."""
    return f"{name} by {caller().key_id}"


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


def _position(request: keys_pb2.ListApiKeysRequest) -> str:
    position = paging.position(request, request.page_token, 1)
    if position is None:
        return ""
    if not is_id(position[0], "key"):
        message = "page_token is not one that this listing gave out. Use it as it came, or leave it out to start again."
        raise CursorInvalid(message, [Violation("page_token", "CURSOR_INVALID", message)])
    return position[0]
