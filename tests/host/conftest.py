"""A host as `python -m host` runs it, and beside it a gateway that reaches the same cloud over gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cloud import demo
from cloud.settings import Settings
from gateway_rest.__main__ import bind, made
from gateway_rest.channel import GrpcChannel
from gateway_rest.settings import Settings as RestSettings
from host import serving
from host.serving import Host, Rest


@dataclass
class Here:
    """What runs, and how to call it."""

    host: Host
    http: aiohttp.ClientSession
    ways: dict[str, str]
    """REST through the channel within the process, and over gRPC."""
    made: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.made['api_key']}"}

    async def ask(self, method: str, path: str, way: str = "in process", **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body as they came."""
        headers = {**self.headers, **more.pop("headers", {})}
        async with self.http.request(method, self.ways[way] + path, headers=headers, **more) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    async def product(self, name: str, **fields: Any) -> dict[str, Any]:
        status, _, body = await self.ask("POST", "/api/v1/products", json={"name": name, "price": {"amount": 12000}, **fields})
        assert status == 201, body
        product: dict[str, Any] = json.loads(body)
        return product


@asynccontextmanager
async def gateway_over_grpc(port: int) -> AsyncIterator[str]:
    """A gateway with a channel over the network, as on a host of its own."""
    listener = bind("127.0.0.1", 0)
    gateway, config = made(RestSettings(graceful_seconds=1), lambda: GrpcChannel(f"127.0.0.1:{port}"))
    server = Rest(config, gateway)
    serving_task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield "http://{}:{}".format(*listener.getsockname()[:2])
    finally:
        server.should_exit = True
        await serving_task


@pytest.fixture
async def here(database_url: str, tmp_path: Path) -> AsyncIterator[Here]:
    settings = Settings(database_url=database_url, data_dir=tmp_path / "data", drain_seconds=0.2, database_connections=6)
    listener = bind("127.0.0.1", 0)
    url = "http://{}:{}".format(*listener.getsockname()[:2])
    async with serving.running(settings, RestSettings(graceful_seconds=1), listener) as host:
        state = tmp_path / "demo.json"
        await demo.create(host.cloud.database, state, "")
        async with gateway_over_grpc(host.cloud.port) as far, aiohttp.ClientSession() as http:
            yield Here(host, http, {"in process": url, "over gRPC": far}, json.loads(state.read_text()))
