"""A running cloud on a fresh database, with the demo merchant, spoken to over real gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from cloud import demo, server
from cloud.platform.database import Database
from cloud.settings import Settings
from gipos.edge.v1 import link_pb2_grpc
from gipos.v1 import (
    accounts_pb2_grpc,
    catalog_pb2_grpc,
    customers_pb2_grpc,
    events_pb2_grpc,
    inventory_pb2_grpc,
    sales_pb2_grpc,
    webhooks_pb2_grpc,
)
from gipos.v1.catalog_pb2 import CreateProductRequest, Product
from gipos.v1.common_pb2 import Money
from gipos.v1.inventory_pb2 import SetInventoryRequest


@dataclass
class Shop:
    """The demo merchant and stubs that call as its integration."""

    tenant_id: str
    api_key: str
    outlets: list[str]
    tills: list[dict[str, str]]
    database: Database
    port: int
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.accounts = accounts_pb2_grpc.AccountServiceStub(self.channel)
        self.products = catalog_pb2_grpc.ProductServiceStub(self.channel)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(self.channel)
        self.customers = customers_pb2_grpc.CustomerServiceStub(self.channel)
        self.sales = sales_pb2_grpc.SaleServiceStub(self.channel)
        self.events = events_pb2_grpc.EventServiceStub(self.channel)
        self.webhooks = webhooks_pb2_grpc.WebhookServiceStub(self.channel)
        self.link = link_pb2_grpc.EdgeLinkServiceStub(self.channel)

    @property
    def auth(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.api_key}")]

    def till_auth(self, index: int) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.tills[index]['token']}")]

    async def product(self, name: str = "Kopi Susu", price: int = 18000, stock: str = "", **fields: object) -> Product:
        """A product, with stock in the first outlet when asked."""
        draft = Product(name=name, price=Money(amount=price), **fields)  # type: ignore[arg-type]
        made = await self.products.CreateProduct(CreateProductRequest(product=draft), metadata=self.auth)
        if stock:
            request = SetInventoryRequest(product_id=made.id, outlet_id=self.outlets[0], on_hand=stock)
            await self.inventory.SetInventory(request, metadata=self.auth)
        return made


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    settings = Settings(database_url=database_url, webhook_private_addresses=True, drain_seconds=0.2, database_connections=6)
    async with server.running(settings) as cloud:
        state = tmp_path / "demo.json"
        await demo.create(cloud.database, state, "")
        made = json.loads(state.read_text())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{cloud.port}") as channel:
            yield Shop(
                tenant_id=made["tenant_id"],
                api_key=made["api_key"],
                outlets=[outlet["id"] for outlet in made["outlets"]],
                tills=made["tills"],
                database=cloud.database,
                port=cloud.port,
                channel=channel,
            )
