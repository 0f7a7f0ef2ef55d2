"""Who may call, and the two fences between merchants."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from cloud import demo
from cloud.accounts import api_keys
from cloud.accounts.authentication import OPEN, scope_of
from gipos.v1 import (
    accounts_pb2,
    audit_pb2,
    catalog_pb2,
    customers_pb2,
    events_pb2,
    inventory_pb2,
    keys_pb2,
    sales_pb2,
    usage_pb2,
    webhooks_pb2,
)
from gipos.v1.accounts_pb2 import GetCallerRequest, ListOutletsRequest
from gipos.v1.catalog_pb2 import GetProductRequest, ListProductsRequest
from kernel.signatures import new_key


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_a_key_tells_who_is_calling(shop: Any) -> None:
    caller = await shop.accounts.GetCaller(GetCallerRequest(), metadata=shop.auth)
    assert (caller.tenant_name, caller.mode) == ("Toko Contoh", "test")
    outlets = (await shop.accounts.ListOutlets(ListOutletsRequest(), metadata=shop.auth)).outlets
    assert [(outlet.code, len(outlet.tills)) for outlet in outlets] == [("KMG", 2), ("UBD", 1)]


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer ")],
        [("authorization", "Basic abc")],
        [("authorization", "Bearer gipos_test_short")],
        [("authorization", "Bearer gipos_test_" + "a" * 36)],
    ],
)
async def test_what_is_not_a_key_is_refused(shop: Any, metadata: Any) -> None:
    assert await refused(shop.products.ListProducts(ListProductsRequest(), metadata=metadata)) == grpc.StatusCode.UNAUTHENTICATED


async def test_an_unknown_key_with_a_right_checksum_is_refused(shop: Any) -> None:
    key = new_key(api_keys.TEST_PREFIX)
    call = shop.products.ListProducts(ListProductsRequest(), metadata=[("x-api-key", key)])
    assert await refused(call) == grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_without_the_scope_is_refused(shop: Any) -> None:
    async with shop.database.transaction(shop.tenant_id) as tx:
        key = await api_keys.create(tx, "read only", scopes=["products:read"])
    metadata = [("x-api-key", key)]
    await shop.products.ListProducts(ListProductsRequest(), metadata=metadata)
    call = shop.products.CreateProduct(catalog_pb2.CreateProductRequest(), metadata=metadata)
    assert await refused(call) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_device_token_does_not_open_the_api(shop: Any) -> None:
    call = shop.products.ListProducts(ListProductsRequest(), metadata=shop.till_auth(0))
    assert await refused(call) == grpc.StatusCode.PERMISSION_DENIED


async def test_another_merchant_sees_nothing(shop: Any, tmp_path: Any) -> None:
    mine = await shop.product()
    state = tmp_path / "other.json"
    await demo.create(shop.database, state, "")
    other = json.loads(state.read_text())
    metadata = [("x-api-key", other["api_key"])]
    assert await refused(shop.products.GetProduct(GetProductRequest(id=mine.id), metadata=metadata)) == grpc.StatusCode.NOT_FOUND
    # The second fence: even a statement that forgets the tenant is held by the database.
    async with shop.database.transaction(other["tenant_id"]) as tx:
        rows = await tx.connection.execute(sa.text("SELECT count(*) FROM products"))
        assert rows.scalar_one() == 0
        with pytest.raises(sa.exc.DBAPIError):
            await tx.connection.execute(
                sa.text("INSERT INTO log_heads (tenant_id, lane) VALUES (:t, 'x')"), {"t": shop.tenant_id}
            )


def test_every_public_method_needs_a_scope_that_keys_can_have() -> None:
    without = set()
    modules = (accounts_pb2, audit_pb2, catalog_pb2, customers_pb2, events_pb2, inventory_pb2, keys_pb2, sales_pb2, usage_pb2)
    for module in (*modules, webhooks_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                name = f"/{service.full_name}/{method.name}"
                if name in OPEN or not scope_of(name):
                    without.add(method.name)
                else:
                    assert scope_of(name) in api_keys.ALL_SCOPES
    assert without == {"GetCaller", "IssueToken", "RevokeToken", "IntrospectToken", "PrepareAuthorization"}
    assert scope_of("/gipos.v1.OAuthService/DecideAuthorization") == "api_keys:write"


async def test_a_key_is_found_however_its_header_is_written(shop: Any) -> None:
    for metadata in (
        [("authorization", f"Bearer {shop.api_key}")],
        [("authorization", f"bearer   {shop.api_key} ")],
        [("x-api-key", shop.api_key)],
        [("authorization", "Basic eDp5"), ("x-api-key", shop.api_key)],
    ):
        who = await shop.accounts.GetCaller(GetCallerRequest(), metadata=metadata)
        assert (who.tenant_id, who.kind, who.key_id[:4]) == (shop.tenant_id, "api_key", "key_")
