"""ProductService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.catalog import batches, conflicts, imports, listing, products, upserts
from cloud.catalog.additions import ADDITIONS
from cloud.catalog.reads import ProductReads, is_plain
from cloud.platform.calls import call
from cloud.platform.database import Database
from cloud.platform.idempotency import perform
from cloud.platform.printed import Printed
from cloud.platform.rpc import caller
from cloud.platform.together import Together
from gipos.v1 import catalog_pb2, catalog_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class ProductServicer(catalog_pb2_grpc.ProductServiceServicer):
    """Answers ProductService."""

    def __init__(self, database: Database, open_stock: imports.OpenStock, *, together: bool = True) -> None:
        self._database = database
        self._reads = ProductReads(database)
        self._additions = Together(database, ADDITIONS) if together else None
        self._open_stock = open_stock

    async def ListProducts(  # type: ignore[override]  # every way to the door takes the printed form as well
        self, request: catalog_pb2.ListProductsRequest, context: Context
    ) -> catalog_pb2.ListProductsResponse | Printed:
        """See catalog.proto."""
        tenant_id = caller().tenant_id
        if is_plain(request):
            return await self._reads.page(tenant_id, request)
        async with self._database.reading(tenant_id) as connection:
            return await listing.page(connection, tenant_id, request)

    async def CreateProduct(self, request: catalog_pb2.CreateProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        if self._additions is not None and (added := await self._additions.make(call(), caller().tenant_id, request)) is not None:
            return added
        return await perform(self._database, request, catalog_pb2.Product, lambda tx: products.create(tx, request.product))

    async def ImportProducts(
        self, request: catalog_pb2.ImportProductsRequest, context: Context
    ) -> catalog_pb2.ImportProductsResponse:
        """See catalog.proto."""
        return await perform(
            self._database,
            request,
            catalog_pb2.ImportProductsResponse,
            lambda tx: imports.run(tx, request.items, self._open_stock),
        )

    async def BatchCreateProducts(
        self, request: catalog_pb2.BatchCreateProductsRequest, context: Context
    ) -> catalog_pb2.BatchProductsResponse:
        """See catalog.proto."""
        return await perform(
            self._database, request, catalog_pb2.BatchProductsResponse, lambda tx: batches.create(tx, request.products)
        )

    async def BatchUpdateProducts(
        self, request: catalog_pb2.BatchUpdateProductsRequest, context: Context
    ) -> catalog_pb2.BatchProductsResponse:
        """See catalog.proto."""
        return await perform(
            self._database, request, catalog_pb2.BatchProductsResponse, lambda tx: batches.update(tx, request.updates)
        )

    async def GetProduct(  # type: ignore[override]  # as above
        self, request: catalog_pb2.GetProductRequest, context: Context
    ) -> catalog_pb2.Product | Printed:
        """See catalog.proto."""
        tenant_id = caller().tenant_id
        if request.id:
            return await self._reads.find(tenant_id, request.id)
        async with self._database.reading(tenant_id) as connection:
            return await listing.find_by_external_id(connection, tenant_id, request)

    async def UpdateProduct(self, request: catalog_pb2.UpdateProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        return await perform(
            self._database,
            request,
            catalog_pb2.Product,
            lambda tx: products.update(tx, request.product, request.update_mask.paths, request.etag),
        )

    async def UpsertProduct(self, request: catalog_pb2.UpsertProductRequest, context: Context) -> catalog_pb2.Product:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            product, created = await upserts.upsert(tx, request.product, request.etag)
        if created:
            call().headers.append(("x-http-code", "201"))
        return product

    async def DeleteProduct(
        self, request: catalog_pb2.DeleteProductRequest, context: Context
    ) -> catalog_pb2.DeleteProductResponse:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            await products.delete(tx, request.id, request.etag)
        return catalog_pb2.DeleteProductResponse()

    async def ListConflicts(
        self, request: catalog_pb2.ListConflictsRequest, context: Context
    ) -> catalog_pb2.ListConflictsResponse:
        """See catalog.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await conflicts.page(connection, tenant_id, request)

    async def ResolveConflict(self, request: catalog_pb2.ResolveConflictRequest, context: Context) -> catalog_pb2.ProductConflict:
        """See catalog.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await conflicts.resolve(tx, request)
