"""Test data and live data of one merchant are two worlds."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import Any

import grpc
import pytest

from cloud.accounts import api_keys, merchants
from gipos.v1.accounts_pb2 import GetCallerRequest, ListOutletsRequest
from gipos.v1.catalog_pb2 import GetProductRequest, ListProductsRequest
from gipos.v1.keys_pb2 import GetApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest


async def test_a_test_key_and_a_live_key_never_see_each_others_data(keys: Any) -> None:
    live = await keys.live()
    mine = await keys.shop.product("Kopi uji")
    who = await keys.shop.accounts.GetCaller(GetCallerRequest(), metadata=keys.auth(live))
    assert (who.tenant_name, who.mode) == ("Toko Contoh", "live")
    assert who.tenant_id != keys.shop.tenant_id
    assert not (await keys.shop.products.ListProducts(ListProductsRequest(), metadata=keys.auth(live))).products
    missing = keys.shop.products.GetProduct(GetProductRequest(id=mine.id), metadata=keys.auth(live))
    assert (await keys.refused(missing)).code == grpc.StatusCode.NOT_FOUND
    outlets = (await keys.shop.accounts.ListOutlets(ListOutletsRequest(), metadata=keys.auth(live))).outlets
    assert [outlet.code for outlet in outlets] == ["KMG", "UBD"]
    assert not {outlet.id for outlet in outlets} & set(keys.shop.outlets)


async def test_a_live_key_manages_test_keys_and_never_the_reverse(keys: Any) -> None:
    failure = await keys.refused(keys.make("products:read", mode="live"))
    assert failure.code == grpc.StatusCode.PERMISSION_DENIED
    live = await keys.live()
    made = await keys.make("products:read", by=live, mode="live")
    assert made.key.startswith("gipos_live_")
    tried = await keys.make("products:read", by=live)
    assert (tried.mode, tried.key.startswith("gipos_test_")) == ("test", True)
    await keys.shop.product("Kopi uji")
    assert [product.name for product in (await keys.use(tried.key)).products] == ["Kopi uji"]
    listed = await keys.stub.ListApiKeys(ListApiKeysRequest(page_size=2), metadata=keys.auth(live))
    assert ([key.id for key in listed.api_keys], listed.has_more) == ([tried.id, made.id], True)
    assert {key.mode for key in (await keys.stub.ListApiKeys(ListApiKeysRequest(), metadata=keys.auth(live))).api_keys} == {
        "test",
        "live",
    }
    shown = await keys.stub.ListApiKeys(ListApiKeysRequest(), metadata=keys.shop.auth)
    assert {key.mode for key in shown.api_keys} == {"test"}
    hidden = keys.stub.GetApiKey(GetApiKeyRequest(id=made.id), metadata=keys.shop.auth)
    assert (await keys.refused(hidden)).reason == "RESOURCE_NOT_FOUND"
    await keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=tried.id), metadata=keys.auth(live))
    assert (await keys.refused(keys.use(tried.key))).code == grpc.StatusCode.UNAUTHENTICATED


async def test_the_other_half_is_made_once(keys: Any, sql: Any) -> None:
    database, tenant_id = keys.shop.database, keys.shop.tenant_id
    halves = await asyncio.gather(*(merchants.half(database, tenant_id, "live", by_operator=True) for _ in range(8)))
    assert len(set(halves)) == 1
    rows = await sql("SELECT tenant_id, mode, sibling_id FROM tenants ORDER BY mode")
    assert [(row.tenant_id, row.mode, row.sibling_id) for row in rows] == [
        (halves[0], "live", tenant_id),
        (tenant_id, "test", halves[0]),
    ]
    assert len(await sql("SELECT 1 FROM outlets")) == 4


async def test_a_key_of_the_wrong_mode_opens_nothing(keys: Any, sql: Any) -> None:
    async with keys.shop.database.transaction(keys.shop.tenant_id) as tx:
        with pytest.raises(ValueError, match=r"merchants\.half"):
            await api_keys.create(tx, "x", mode="live")
    made = await keys.make("products:read")
    await sql("UPDATE api_keys SET mode = 'live' WHERE id = :id", id=made.id)
    assert (await keys.refused(keys.use(made.key))).code == grpc.StatusCode.UNAUTHENTICATED


async def test_an_operator_makes_the_first_live_key_by_a_command(keys: Any, database_url: str) -> None:
    environment = {**os.environ, "GIPOS_DATABASE_URL": database_url, "GIPOS_DATA_DIR": str(keys.tmp_path / "data")}

    async def run(tenant_id: str) -> tuple[int | None, str, str]:
        command = (sys.executable, "-m", "cloud", "api-key", "--tenant", tenant_id, "--name", "Pertama")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, out.decode().strip().splitlines()[-1] if out else "", err.decode()

    code, made, _ = await run(keys.shop.tenant_id)
    assert code == 0
    who = await keys.shop.accounts.GetCaller(GetCallerRequest(), metadata=keys.auth(made))
    assert (who.mode, who.tenant_name) == ("live", "Toko Contoh")
    code, _, complaint = await run("ten_x")
    assert (code, "There is no merchant ten_x." in complaint) == (1, True)
