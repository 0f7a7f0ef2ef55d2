"""InventoryService over gRPC: proto in, one transaction, proto out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.catalog import products
from cloud.inventory import adjustments, levels, listing, reservations
from cloud.platform.database import Database
from cloud.platform.idempotency import perform
from cloud.platform.rpc import caller
from gipos.v1 import inventory_pb2, inventory_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """Answers InventoryService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListLevels(self, request: inventory_pb2.ListLevelsRequest, context: Context) -> inventory_pb2.ListLevelsResponse:
        """See inventory.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await listing.page(connection, tenant_id, request)

    async def GetInventory(self, request: inventory_pb2.GetInventoryRequest, context: Context) -> inventory_pb2.Inventory:
        """See inventory.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await levels.find(connection, tenant_id, request.product_id, request.outlet_id)

    async def SetInventory(self, request: inventory_pb2.SetInventoryRequest, context: Context) -> inventory_pb2.Inventory:
        """See inventory.proto."""
        return await perform(self._database, request, inventory_pb2.Inventory, lambda tx: levels.count(tx, request))

    async def AdjustInventory(self, request: inventory_pb2.AdjustInventoryRequest, context: Context) -> inventory_pb2.Inventory:
        """See inventory.proto."""
        return await perform(self._database, request, inventory_pb2.Inventory, lambda tx: adjustments.adjust(tx, request))

    async def BatchAdjustInventory(
        self, request: inventory_pb2.BatchAdjustInventoryRequest, context: Context
    ) -> inventory_pb2.BatchAdjustInventoryResponse:
        """See inventory.proto."""
        return await perform(
            self._database, request, inventory_pb2.BatchAdjustInventoryResponse, lambda tx: adjustments.adjust_many(tx, request)
        )

    async def ListMovements(
        self, request: inventory_pb2.ListMovementsRequest, context: Context
    ) -> inventory_pb2.ListMovementsResponse:
        """See inventory.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            await products.find(connection, tenant_id, request.product_id)
            return await listing.movements_page(connection, tenant_id, request)


class ReservationServicer(inventory_pb2_grpc.ReservationServiceServicer):
    """Answers ReservationService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreateReservation(
        self, request: inventory_pb2.CreateReservationRequest, context: Context
    ) -> inventory_pb2.Reservation:
        """See inventory.proto."""
        return await perform(self._database, request, inventory_pb2.Reservation, lambda tx: reservations.create(tx, request))

    async def ListReservations(
        self, request: inventory_pb2.ListReservationsRequest, context: Context
    ) -> inventory_pb2.ListReservationsResponse:
        """See inventory.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await listing.reservations_page(connection, tenant_id, request)

    async def GetReservation(self, request: inventory_pb2.GetReservationRequest, context: Context) -> inventory_pb2.Reservation:
        """See inventory.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await reservations.find(connection, tenant_id, request.id)

    async def ReleaseReservation(
        self, request: inventory_pb2.ReleaseReservationRequest, context: Context
    ) -> inventory_pb2.Reservation:
        """See inventory.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await reservations.release(tx, request.id)

    async def FulfilReservation(
        self, request: inventory_pb2.FulfilReservationRequest, context: Context
    ) -> inventory_pb2.Reservation:
        """See inventory.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await reservations.fulfil(tx, request.id)

    async def ExtendReservation(
        self, request: inventory_pb2.ExtendReservationRequest, context: Context
    ) -> inventory_pb2.Reservation:
        """See inventory.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await reservations.extend(tx, request)
