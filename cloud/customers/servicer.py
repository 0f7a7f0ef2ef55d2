"""CustomerService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.customers import customers
from cloud.platform.database import Database
from cloud.platform.idempotency import once
from cloud.platform.rpc import caller
from gipos.v1 import customers_pb2, customers_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class CustomerServicer(customers_pb2_grpc.CustomerServiceServicer):
    """Answers CustomerService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListCustomers(
        self, request: customers_pb2.ListCustomersRequest, context: Context
    ) -> customers_pb2.ListCustomersResponse:
        """See customers.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await customers.page(connection, tenant_id, request)

    async def CreateCustomer(self, request: customers_pb2.CreateCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await once(
                tx,
                "CreateCustomer",
                request.request_id,
                request,
                customers_pb2.Customer,
                lambda: customers.create(tx, request.customer),
            )

    async def GetCustomer(self, request: customers_pb2.GetCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await customers.find(connection, tenant_id, request.id)

    async def UpdateCustomer(self, request: customers_pb2.UpdateCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await customers.update(tx, request.customer, request.update_mask.paths, request.etag)
