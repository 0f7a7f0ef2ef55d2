"""The shop, with stubs for its keys and applications, and keys made for one test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.accounts import api_keys, merchants
from gipos.v1 import keys_pb2, keys_pb2_grpc
from gipos.v1.catalog_pb2 import ListProductsRequest


@dataclass
class Failure:
    """How a call was refused."""

    code: grpc.StatusCode
    reason: str
    message: str
    facts: dict[str, str]
    fields: list[str]
    retry_seconds: float = 0.0


@dataclass
class Keys:
    """Stubs, and what tests of keys do again and again."""

    shop: Any
    tmp_path: Path

    def __post_init__(self) -> None:
        self.stub = keys_pb2_grpc.ApiKeyServiceStub(self.shop.channel)
        self.clients = keys_pb2_grpc.OAuthClientServiceStub(self.shop.channel)
        self.oauth = keys_pb2_grpc.OAuthServiceStub(self.shop.channel)

    @staticmethod
    def auth(key: str, **metadata: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {key}"), *((name.replace("_", "-"), value) for name, value in metadata.items())]

    async def make(self, *scopes: str, by: str = "", **fields: Any) -> Any:
        """A key by the API."""
        draft = keys_pb2.ApiKey(**{"name": "Made for a test", "scopes": scopes or ["products:read"], **fields})
        request = keys_pb2.CreateApiKeyRequest(api_key=draft)
        return await self.stub.CreateApiKey(request, metadata=self.auth(by or self.shop.api_key))

    async def live(self) -> str:
        """A live key of the same merchant, as an operator makes it."""
        tenant_id = await merchants.half(self.shop.database, self.shop.tenant_id, "live", by_operator=True)
        async with self.shop.database.transaction(tenant_id) as tx:
            return await api_keys.create(tx, "Live", mode="live")

    async def use(self, key: str, **metadata: str) -> Any:
        """A read with the key."""
        return await self.shop.products.ListProducts(ListProductsRequest(), metadata=self.auth(key, **metadata))

    async def refused(self, call: Any) -> Failure:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it has what is asked for
        assert status is not None
        failure = Failure(caught.value.code(), "", status.message, {}, [])
        for detail in status.details:
            _read(failure, detail)
        return failure


def _read(failure: Failure, detail: Packed) -> None:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    if detail.Unpack(info):
        failure.reason, failure.facts = info.reason, dict(info.metadata)
    elif detail.Unpack(bad):
        failure.fields = [violation.field for violation in bad.field_violations]
    elif detail.Unpack(retry):
        failure.retry_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9


@pytest.fixture
def keys(shop: Any, tmp_path: Path) -> Keys:
    return Keys(shop, tmp_path)


@pytest.fixture
def other_merchant(shop: Any, tmp_path: Path) -> Callable[[], Any]:
    """Makes a second demo merchant; what its state file says."""
    from cloud import demo

    async def make() -> dict[str, Any]:
        state = tmp_path / "other-merchant.json"
        await demo.create(shop.database, state, "")
        made: dict[str, Any] = json.loads(state.read_text())
        return made

    return make


@pytest.fixture
async def second_cloud(shop: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Any]:
    """Another process on the same database: a channel to it."""
    from cloud import server
    from cloud.settings import Settings

    settings = Settings(database_url=database_url, data_dir=tmp_path / "data", drain_seconds=0.2, database_connections=6)
    async with server.running(settings) as cloud, grpc.aio.insecure_channel(f"127.0.0.1:{cloud.port}") as channel:
        yield channel
