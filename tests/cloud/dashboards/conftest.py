"""Streams of the demo merchant's board."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from gipos.v1.dashboards_pb2 import WatchTopicsRequest
from gipos.v1.dashboards_pb2_grpc import DashboardServiceStub


class Watch:
    """One stream, and what it has been told so far."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.epoch = ""
        self.position = 0
        self.values: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.ended_keys: set[str] = set()

    async def read(self) -> Any:
        message = await self._call.read()
        assert message is not grpc.aio.EOF
        self.epoch, self.position = message.epoch, message.position
        for topic in message.ended_topics:
            del self.values[topic], self.versions[topic]
        for each in message.values:
            self.values[each.topic], self.versions[each.topic] = json.loads(each.value), each.version
        self.ended_keys |= set(message.ended_keys)
        return message

    async def until(self, holds: Callable[[Watch], object]) -> None:
        async with asyncio.timeout(20):
            while not holds(self):
                await self.read()


@pytest.fixture
def watching(shop: Any) -> Callable[..., Any]:
    """Opens a stream, as the integration or with another secret."""

    @asynccontextmanager
    async def watching(secret: str = "", **request: Any) -> AsyncIterator[Watch]:
        call = DashboardServiceStub(shop.way).WatchTopics(
            WatchTopicsRequest(**request), metadata=[("authorization", f"Bearer {secret or shop.api_key}")]
        )
        watch = Watch(call)
        try:
            await watch.read()
            yield watch
        finally:
            call.cancel()

    return watching


@pytest.fixture
def sell(shop: Any) -> Callable[..., Awaitable[Any]]:
    """Records a sale of a product."""
    from gipos.v1.sales_pb2 import CreateSaleRequest, Sale, SaleLine

    async def sell(product_id: str, quantity: str = "1", outlet: int = 0) -> Any:
        sale = Sale(outlet_id=shop.outlets[outlet], lines=[SaleLine(product_id=product_id, quantity=quantity)])
        return await shop.sales.CreateSale(CreateSaleRequest(sale=sale), metadata=shop.auth)

    return sell
