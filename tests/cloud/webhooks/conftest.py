"""A merchant, a receiver on a real port, and a dispatcher between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.platform.database import Database
from cloud.platform.http import Limits
from cloud.webhooks import endpoints, fanout
from cloud.webhooks.delivery import Dispatcher
from gipos.v1.sales_pb2 import Sale
from gipos.v1.webhooks_pb2 import Webhook
from kernel.event_types import SALE_COMPLETED, SALE_CREATED
from kernel.ids import new_id
from sandboxes.webhook_receiver import WebhookReceiver

QUICK = Limits(lookup_seconds=1, connect_seconds=1, head_seconds=2, body_seconds=0.3)


@dataclass
class Bench:
    """What the tests of deliveries work with."""

    database: Database
    receiver: WebhookReceiver
    secrets: list[str]
    tenant_id: str = "ten_bench"

    async def subscribe(self, url: str = "", types: tuple[str, ...] = ("*",), tenant_id: str = "") -> Webhook:
        """A webhook; of the receiver when no address is given."""
        draft = Webhook(url=url or f"{self.receiver.url}/hook", event_types=types)
        async with self.database.transaction(tenant_id or self.tenant_id) as tx:
            webhook = await endpoints.create(tx, draft, private_addresses=True)
        self.secrets.append(webhook.secret)
        return webhook

    async def publish(self, count: int = 1, *, completed: bool = False, tenant_id: str = "") -> list[str]:
        """Events in one transaction; their ids."""
        async with self.database.transaction(tenant_id or self.tenant_id) as tx:
            for _ in range(count):
                sale = Sale(id=new_id("sal"), number="A-1")
                tx.publish(SALE_COMPLETED if completed else SALE_CREATED, sale, subject_id=sale.id, version=1)
            return [event.id for event in tx.events]

    @asynccontextmanager
    async def dispatching(self, **options: object) -> AsyncIterator[Dispatcher]:
        """A dispatcher at work, woken by commits."""
        options = {"private_addresses": True, "limits": QUICK} | options
        dispatcher = Dispatcher(self.database, **options)  # type: ignore[arg-type]  # passed through
        self.database.react(before_commit=[fanout.enqueue], after_commit=[lambda _: dispatcher.wake()])
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            await dispatcher.stop(3)
            await running

    async def received(self, count: int) -> list[str]:
        """Waits until the receiver accepted so many; their ids."""
        while True:
            self.receiver.changed.clear()
            accepted = [delivery.id for delivery in self.receiver.deliveries if delivery.valid]
            if len(accepted) >= count:
                return accepted
            async with asyncio.timeout(20):
                await self.receiver.changed.wait()

    async def rows(self, text: str, **parameters: object) -> list[sa.Row[tuple[object, ...]]]:
        async with self.database.across_tenants() as connection:
            result = await connection.execute(sa.text(text), parameters)
            return list(result.all()) if result.returns_rows else []

    async def until(self, text: str, **parameters: object) -> list[sa.Row[tuple[object, ...]]]:
        """Repeats a query until it finds rows."""
        async with asyncio.timeout(20):
            while not (found := await self.rows(text, **parameters)):
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    database.react(before_commit=[fanout.enqueue], after_commit=[])
    for tenant_id in ("ten_bench", "ten_other"):
        async with database.transaction(tenant_id) as tx:
            await outlets.create_tenant(tx, "Warung", 0)  # type: ignore[arg-type]  # the tax class plays no part
    secrets: list[str] = []
    async with WebhookReceiver(0, secrets) as receiver:
        yield Bench(database, receiver, secrets)
