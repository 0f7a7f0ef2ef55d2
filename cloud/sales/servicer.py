"""SaleService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.platform.database import Database
from cloud.platform.idempotency import once
from cloud.platform.rpc import caller
from cloud.sales import refunds, sales
from gipos.v1 import sales_pb2, sales_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class SaleServicer(sales_pb2_grpc.SaleServiceServicer):
    """Answers SaleService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListSales(self, request: sales_pb2.ListSalesRequest, context: Context) -> sales_pb2.ListSalesResponse:
        """See sales.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await sales.page(connection, tenant_id, request)

    async def CreateSale(self, request: sales_pb2.CreateSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await once(
                tx, "CreateSale", request.request_id, request, sales_pb2.Sale, lambda: sales.create(tx, request.sale)
            )

    async def GetSale(self, request: sales_pb2.GetSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            sale, _ = await sales.find(connection, tenant_id, request.id)
            return sale

    async def RefundSale(self, request: sales_pb2.RefundSaleRequest, context: Context) -> sales_pb2.Sale:
        """See sales.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await once(tx, "RefundSale", request.request_id, request, sales_pb2.Sale, lambda: refunds.refund(tx, request))
