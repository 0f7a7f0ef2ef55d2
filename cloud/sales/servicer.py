"""SaleService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.platform.calls import call
from cloud.platform.database import Database
from cloud.platform.idempotency import perform
from cloud.platform.rpc import caller
from cloud.platform.together import Together
from cloud.sales import listing, refunds, sales
from cloud.sales.desk import RECORDINGS
from gipos.v1 import sales_pb2, sales_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class SaleServicer(sales_pb2_grpc.SaleServiceServicer):
    """Answers SaleService."""

    def __init__(self, database: Database, *, together: bool = True) -> None:
        self._database = database
        self._desk = Together(database, RECORDINGS) if together else None

    async def ListSales(self, request: sales_pb2.ListSalesRequest, context: Context) -> sales_pb2.ListSalesResponse:
        """See sales.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await listing.page(connection, tenant_id, request)

    async def CreateSale(self, request: sales_pb2.CreateSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        if self._desk is not None and (sale := await self._desk.make(call(), caller().tenant_id, request)) is not None:
            return sale
        return await perform(self._database, request, sales_pb2.Sale, lambda tx: sales.create(tx, request.sale))

    async def GetSale(self, request: sales_pb2.GetSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            if request.id:
                sale, _ = await sales.find(connection, tenant_id, request.id)
                return sale
            return await listing.find_by_external_id(connection, tenant_id, request)

    async def RefundSale(self, request: sales_pb2.RefundSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        return await perform(self._database, request, sales_pb2.Sale, lambda tx: refunds.refund(tx, request))
