"""WebhookService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.platform import idempotency, paging
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from cloud.webhooks import endpoints, log
from gipos.v1 import webhooks_pb2, webhooks_pb2_grpc
from kernel.errors import Invalid, Violation

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class WebhookServicer(webhooks_pb2_grpc.WebhookServiceServicer):
    """Proto in, one transaction, proto out."""

    def __init__(self, database: Database, *, private_addresses: bool = False) -> None:
        self._database = database
        self._private_addresses = private_addresses

    async def ListWebhooks(
        self, request: webhooks_pb2.ListWebhooksRequest, context: Context
    ) -> webhooks_pb2.ListWebhooksResponse:
        """See webhooks.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return webhooks_pb2.ListWebhooksResponse(webhooks=await endpoints.every(connection, tenant_id))

    async def CreateWebhook(self, request: webhooks_pb2.CreateWebhookRequest, context: Context) -> webhooks_pb2.Webhook:
        """See webhooks.proto."""
        return await idempotency.perform(
            self._database,
            request,
            webhooks_pb2.Webhook,
            lambda tx: endpoints.create(tx, request.webhook, private_addresses=self._private_addresses),
        )

    async def GetWebhook(self, request: webhooks_pb2.GetWebhookRequest, context: Context) -> webhooks_pb2.Webhook:
        """See webhooks.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await endpoints.find(connection, tenant_id, request.id)

    async def DeleteWebhook(
        self, request: webhooks_pb2.DeleteWebhookRequest, context: Context
    ) -> webhooks_pb2.DeleteWebhookResponse:
        """See webhooks.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            await endpoints.delete(tx, request.id)
        return webhooks_pb2.DeleteWebhookResponse()

    async def ListDeliveries(
        self, request: webhooks_pb2.ListDeliveriesRequest, context: Context
    ) -> webhooks_pb2.ListDeliveriesResponse:
        """See webhooks.proto."""
        tenant_id = caller().tenant_id
        size = paging.size(request.page_size)
        before = paging.last_id(request, "evt")
        if request.status not in webhooks_pb2.DeliveryStatus.values():
            raise Invalid([Violation("status", "INVALID", "status must be pending, succeeded or failed.")])
        async with self._database.snapshot(tenant_id) as connection:
            await endpoints.find(connection, tenant_id, request.id)
            found = await log.deliveries_of(
                connection, tenant_id, request.id, status=request.status, before=before, limit=size + 1
            )
        token = paging.token_behind(request, [delivery.event_id for delivery in found], size)
        return webhooks_pb2.ListDeliveriesResponse(deliveries=found[:size], has_more=bool(token), next_page_token=token)
