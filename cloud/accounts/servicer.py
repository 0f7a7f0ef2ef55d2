"""AccountService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.accounts import outlets
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from gipos.v1 import accounts_pb2, accounts_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


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
        return accounts_pb2.Caller(tenant_id=who.tenant_id, tenant_name=name, mode=who.mode, scopes=sorted(who.scopes))
