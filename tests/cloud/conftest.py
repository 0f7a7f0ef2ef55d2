"""A running cloud on a fresh database, with the demo merchant, spoken to over real gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from cloud import demo, server
from cloud.platform.database import Database
from cloud.platform.local import LocalServer
from cloud.settings import Settings
from gateway_rest.channel import CallFailed, Reply, Stream
from gipos.edge.v1 import link_pb2_grpc
from gipos.v1 import (
    accounts_pb2_grpc,
    audit_pb2_grpc,
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
from host.channel import LocalChannel

SHAPES = ("over gRPC", "in process", "one by one")
"""How a suite can be run: `pytestmark = pytest.mark.parametrize("shop", […], indirect=True)`. The last one is over gRPC with a
transaction for each write."""
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _raised(failed: CallFailed) -> grpc.aio.AioRpcError:
    """What gRPC's client would raise."""
    details = ("grpc-status-details-bin", failed.status.SerializeToString())
    metadata = grpc.aio.Metadata(*failed.metadata)
    code = _CODES[failed.status.code]
    if failed.status.code == code_pb2.UNIMPLEMENTED or not failed.status.details:
        return grpc.aio.AioRpcError(code, metadata, metadata, failed.status.message)
    return grpc.aio.AioRpcError(code, metadata, grpc.aio.Metadata(details, *failed.metadata), failed.status.message)


class _Unary:
    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._reply: Reply | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            self._reply = yield from self._answer.__await__()
        except CallFailed as failed:
            raise _raised(failed) from failed
        return self._reply.message

    async def initial_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        if self._reply is None:
            await self
        assert self._reply is not None
        return tuple(self._reply.metadata)


class _Answers:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        try:
            message = await self._stream.read()
        except CallFailed as failed:
            raise _raised(failed) from failed
        return grpc.aio.EOF if message is None else message

    def cancel(self) -> None:
        self._stream.cancel()


class InProcess:
    """A channel for generated stubs that takes the gateway's way into a cloud in the same process."""

    def __init__(self, server: LocalServer) -> None:
        self._channel = LocalChannel(server)

    def unary_unary(self, path: str, **_: Any) -> Any:
        method = self._channel.unary(path, type(None), type(None))  # type: ignore[arg-type]  # messages say what they are
        return lambda request, metadata=(), timeout=15.0: _Unary(method(request, tuple(metadata), timeout))

    def unary_stream(self, path: str, **_: Any) -> Any:
        method = self._channel.stream(path, type(None), type(None))  # type: ignore[arg-type]  # as above
        return lambda request, metadata=(): _Answers(method(request, tuple(metadata)))


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
    way: Any
    """How stubs get to the services: the channel, or the way within the process."""

    def __post_init__(self) -> None:
        self.accounts = accounts_pb2_grpc.AccountServiceStub(self.way)
        self.products = catalog_pb2_grpc.ProductServiceStub(self.way)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(self.way)
        self.customers = customers_pb2_grpc.CustomerServiceStub(self.way)
        self.sales = sales_pb2_grpc.SaleServiceStub(self.way)
        self.events = events_pb2_grpc.EventServiceStub(self.way)
        self.webhooks = webhooks_pb2_grpc.WebhookServiceStub(self.way)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.way)
        self.link = link_pb2_grpc.EdgeLinkServiceStub(self.channel)

    @property
    def auth(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.api_key}")]

    def till_auth(self, index: int) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.tills[index]['token']}")]

    async def product(self, name: str = "Kopi Susu", price: int = 18000, stock: str = "", **fields: object) -> Product:
        """A product, with stock in the first outlet when asked."""
        draft = Product(name=name, price=Money(amount=price), **fields)  # type: ignore[arg-type]
        made: Product = await self.products.CreateProduct(CreateProductRequest(product=draft), metadata=self.auth)
        if stock:
            request = SetInventoryRequest(product_id=made.id, outlet_id=self.outlets[0], on_hand=stock)
            await self.inventory.SetInventory(request, metadata=self.auth)
        return made


@pytest.fixture
async def shop(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    shape = getattr(request, "param", SHAPES[0])
    assert shape in SHAPES
    settings = Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        webhook_private_addresses=True,
        drain_seconds=0.2,
        database_connections=6,
        coalesced_writes=shape != "one by one",
    )
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
                way=InProcess(cloud.local) if shape == "in process" else channel,
            )
