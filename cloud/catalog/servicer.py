"""ProductService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.catalog import imports, products
from cloud.platform.database import Database
from cloud.platform.idempotency import once
from cloud.platform.rpc import caller
from gipos.v1 import catalog_pb2, catalog_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class ProductServicer(catalog_pb2_grpc.ProductServiceServicer):
    """Answers ProductService."""

    def __init__(self, database: Database, open_stock: imports.OpenStock) -> None:
        self._database = database
        self._open_stock = open_stock

    async def ListProducts(self, request: catalog_pb2.ListProductsRequest, context: Context) -> catalog_pb2.ListProductsResponse:
        """See catalog.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await products.page(connection, tenant_id, request)

    async def CreateProduct(self, request: catalog_pb2.CreateProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await once(
                tx,
                "CreateProduct",
                request.request_id,
                request,
                catalog_pb2.Product,
                lambda: products.create(tx, request.product),
            )

    async def ImportProducts(
        self, request: catalog_pb2.ImportProductsRequest, context: Context
    ) -> catalog_pb2.ImportProductsResponse:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await imports.run(tx, request.items, self._open_stock)

    async def GetProduct(self, request: catalog_pb2.GetProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await products.find(connection, tenant_id, request.id)

    async def UpdateProduct(self, request: catalog_pb2.UpdateProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await products.update(tx, request.product, request.update_mask.paths, request.etag)

    async def DeleteProduct(
        self, request: catalog_pb2.DeleteProductRequest, context: Context
    ) -> catalog_pb2.DeleteProductResponse:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            await products.delete(tx, request.id)
        return catalog_pb2.DeleteProductResponse()
