"""CustomerService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.customers import batches, customers, duplicates, listing, privacy
from cloud.platform.calls import call
from cloud.platform.database import Database, Transaction
from cloud.platform.idempotency import perform
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
            answer = await listing.page(connection, tenant_id, request)
        shown = privacy.shown(answer.customers, caller())
        del answer.customers[:]
        answer.customers.extend(shown)
        return answer

    async def CreateCustomer(self, request: customers_pb2.CreateCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        made = await perform(self._database, request, customers_pb2.Customer, lambda tx: _create(tx, request))
        return privacy.shown([made], caller())[0]

    async def BatchCreateCustomers(
        self, request: customers_pb2.BatchCreateCustomersRequest, context: Context
    ) -> customers_pb2.BatchCreateCustomersResponse:
        """See customers.proto."""
        answer = await perform(
            self._database,
            request,
            customers_pb2.BatchCreateCustomersResponse,
            lambda tx: batches.create(tx, request.customers, allow_duplicates=request.allow_duplicates),
        )
        made = [result for result in answer.results if result.HasField("customer")]
        for result, customer in zip(made, privacy.shown([result.customer for result in made], caller()), strict=True):
            result.customer.CopyFrom(customer)
        return answer

    async def FindDuplicateCustomers(
        self, request: customers_pb2.FindDuplicateCustomersRequest, context: Context
    ) -> customers_pb2.FindDuplicateCustomersResponse:
        """See customers.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            answer = await duplicates.find(connection, tenant_id, request)
        found = answer.candidates
        for candidate, customer in zip(found, privacy.shown([one.customer for one in found], caller()), strict=True):
            candidate.customer.CopyFrom(customer)
        return answer

    async def GetCustomer(self, request: customers_pb2.GetCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            found = await customers.find(connection, tenant_id, request.id, request.external_id)
        return privacy.shown([found], caller())[0]

    async def UpdateCustomer(self, request: customers_pb2.UpdateCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        changed = await perform(
            self._database,
            request,
            customers_pb2.Customer,
            lambda tx: customers.update(tx, request.customer, request.update_mask.paths, request.etag),
        )
        return privacy.shown([changed], caller())[0]

    async def UpsertCustomer(self, request: customers_pb2.UpsertCustomerRequest, context: Context) -> customers_pb2.Customer:
        """See customers.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            await duplicates.alone(tx, request.customer.external_id)
            customer, created = await customers.upsert(tx, request.customer, request.etag)
        if created:
            call().headers.append(("x-http-code", "201"))
        return privacy.shown([customer], caller())[0]

    async def DeleteCustomer(
        self, request: customers_pb2.DeleteCustomerRequest, context: Context
    ) -> customers_pb2.DeleteCustomerResponse:
        """See customers.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            await customers.delete(tx, request.id)
        return customers_pb2.DeleteCustomerResponse()


async def _create(tx: Transaction, request: customers_pb2.CreateCustomerRequest) -> customers_pb2.Customer:
    await duplicates.refuse(tx, customers.normalised(request.customer), allow_duplicate=request.allow_duplicate)
    return await customers.create(tx, request.customer)
