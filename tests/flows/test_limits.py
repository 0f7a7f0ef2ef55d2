"""Limits across real processes: a quota holds exactly over two replicas, nothing that was answered is forgotten by a kill -9, and
REST tells all of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1 import accounts_pb2, accounts_pb2_grpc, catalog_pb2, catalog_pb2_grpc, usage_pb2, usage_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("noon")


async def agree(fleet: Any, **limits: int | None) -> None:
    """Changes what the demo merchant may use, as an operator would."""
    connection = await asyncpg.connect(fleet.url)
    for name, value in limits.items():
        await connection.execute(f"UPDATE plans SET {name} = $1 WHERE tenant_id = $2", value, fleet.made["tenant_id"])
    await connection.close()


async def usage_rows(fleet: Any) -> dict[str, tuple[int, int]]:
    """Used and refused, of the whole merchant under '' and per key."""
    connection = await asyncpg.connect(fleet.url)
    rows = await connection.fetch("SELECT key_id, used, refused FROM limit_states WHERE tenant_id = $1", fleet.made["tenant_id"])
    await connection.close()
    return {row["key_id"]: (row["used"], row["refused"]) for row in rows}


def reason(error: Any) -> str:
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return str(error.code().name)


class Client:
    """A program with one connection, making calls one after the other."""

    def __init__(self, fleet: Any, port: int, name: str) -> None:
        self.fleet, self.name = fleet, name
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.accounts = accounts_pb2_grpc.AccountServiceStub(self.channel)
        self.products = catalog_pb2_grpc.ProductServiceStub(self.channel)
        self.outcomes: Counter[str] = Counter()

    async def work(self, count: int) -> None:
        """Makes so many calls, every eighth a change; stops at the first that is not answered."""
        for number in range(count):
            try:
                if number % 8 == 7:
                    product = catalog_pb2.Product(name=f"Kopi {self.name} {number}", price={"amount": 1000})  # type: ignore[arg-type]  # a mapping will do
                    request = catalog_pb2.CreateProductRequest(product=product)
                    await self.products.CreateProduct(request, metadata=self.fleet.auth)
                else:
                    await self.accounts.GetCaller(accounts_pb2.GetCallerRequest(), metadata=self.fleet.auth)
            except grpc.aio.AioRpcError as error:
                self.outcomes[reason(error)] += 1
                return
            self.outcomes["ok"] += 1


async def test_a_quota_of_a_thousand_admits_a_thousand_over_two_replicas(fleet: Any) -> None:
    await agree(fleet, daily_limit=1000)
    replicas = await asyncio.gather(fleet.start(), fleet.start())
    clients = [Client(fleet, replicas[number % 2].port, str(number)) for number in range(24)]
    await asyncio.gather(*(client.work(2000) for client in clients))
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    assert outcomes == {"ok": 1000, "QUOTA_EXCEEDED": 24}
    assert (await usage_rows(fleet))[""][0] == 1000
    # Both replicas did part of the work, or nothing was shown.
    assert all(sum(client.outcomes["ok"] for client in clients[side::2]) > 100 for side in (0, 1))
    for client in clients:
        await client.channel.close()


async def test_a_killed_replica_forgets_no_answer_and_the_other_goes_on(fleet: Any) -> None:
    first, second = await asyncio.gather(fleet.start(), fleet.start())
    clients = [Client(fleet, (first, second)[number % 2].port, str(number)) for number in range(8)]
    # All that was asked was answered: whatever dies now, the count is exact.
    await asyncio.gather(*(client.work(25) for client in clients))
    await first.kill()
    rows = await usage_rows(fleet)
    assert rows.pop("")[0] == 200
    assert sum(used for used, _ in rows.values()) == 200
    # In the middle of work: what was in flight may or may not have been charged, everything else is known.
    third = await fleet.start()
    clients = [Client(fleet, (third, second)[number % 2].port, f"b{number}") for number in range(16)]
    tasks = [asyncio.create_task(client.work(120)) for client in clients]
    async with asyncio.timeout(60):
        while sum(client.outcomes["ok"] for client in clients[::2]) < 80:
            await asyncio.sleep(0.005)
    await third.kill()
    await asyncio.gather(*tasks)
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    lost = outcomes["UNAVAILABLE"]
    assert outcomes.keys() == {"ok", "UNAVAILABLE"}
    assert 0 < lost <= 8
    assert sum(client.outcomes["ok"] for client in clients[1::2]) == 8 * 120
    rows = await usage_rows(fleet)
    used = rows.pop("")[0]
    assert 200 + outcomes["ok"] <= used <= 200 + outcomes["ok"] + lost
    assert sum(each for each, _ in rows.values()) == used
    # The dead hold no places: soon only the call that asks is left.
    usage = usage_pb2_grpc.UsageServiceStub(clients[1].channel)
    async with asyncio.timeout(30):
        while True:
            report = await usage.GetUsage(usage_pb2.GetUsageRequest(), metadata=fleet.auth)
            if report.concurrent_now <= 1:
                break
            await asyncio.sleep(0.2)
    assert report.used_today > used
    for client in clients:
        await client.channel.close()


@asynccontextmanager
async def gateway(fleet: Any, cloud_port: int) -> AsyncIterator[str]:
    """The REST gateway as a process in front of a cloud; its address."""
    path = fleet.folder / "gateway.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway_rest", "--port", "0", "--cloud", f"127.0.0.1:{cloud_port}"),
            env=dict(os.environ),
            stderr=log,
            stdout=log,
            cwd=ROOT,
        )
    try:
        async with asyncio.timeout(60):
            while (found := re.search(rb'^.*"gateway_started".*$', path.read_bytes(), re.MULTILINE)) is None:
                assert process.returncode is None, path.read_text()
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{json.loads(found[0])['port']}"
    finally:
        process.terminate()
        await process.wait()


async def test_rest_tells_the_limits_the_refusals_and_the_usage(fleet: Any) -> None:
    await agree(fleet, daily_limit=6, requests_per_second=50, concurrent_limit=20)
    cloud = await fleet.start()
    headers = {"Authorization": f"Bearer {fleet.made['api_key']}"}
    async with gateway(fleet, cloud.port) as url, aiohttp.ClientSession(url, headers=headers) as client:
        async with client.get("/api/v1/outlets") as response:
            assert response.status == 200
            policy = '"per-second";q=50;w=1, "daily";q=6;w=86400, "concurrent";q=20;qu="concurrent-requests"'
            assert response.headers["RateLimit-Policy"] == policy
            reset = response.headers["X-RateLimit-Reset"]
            assert response.headers["RateLimit"] == f'"per-second";r=49;t=1, "daily";r=5;t={reset}'
            assert response.headers["X-RateLimit-Limit"] == "6"
        async with client.get("/api/v1/outlets/out_nope") as response:
            assert response.status == 404
            assert response.headers["X-RateLimit-Remaining"] == "4"
        # The same request again is the same answer, said to be so.
        for replayed in (None, "true"):
            body, key = {"name": "Teh", "price": {"amount": 5000}}, {"Idempotency-Key": "k-1"}
            async with client.post("/api/v1/products", json=body, headers=key) as response:
                assert response.status == 201
                assert response.headers.get("Idempotent-Replayed") == replayed
        async with client.post("/api/v1/products", json={**body, "name": "Kopi"}, headers=key) as response:
            assert response.status == 422
            assert (await response.json())["reason"] == "IDEMPOTENCY_MISMATCH"
        async with client.get("/api/v1/usage") as response:
            usage = await response.json()
        assert usage["plan"] == "enterprise"
        assert (usage["daily_limit"], usage["used_today"], usage["remaining_today"]) == (6, 6, 0)
        assert usage["exhausted_time"]
        assert (usage["requests_per_second"], usage["concurrent_limit"], usage["concurrent_now"]) == (50, 20, 1)
        assert [(key["name"], key["used_today"]) for key in usage["keys"]] == [("Demo", 6)]
        assert len(usage["days"]) == 7
        assert usage["days"][0]["used"] == 6
        for language, words in (("en", "used up"), ("id", "Kuota harian 6 permintaan habis")):
            async with client.get("/api/v1/outlets", headers={"Accept-Language": language}) as response:
                assert response.status == 429
                problem = await response.json()
                assert problem["reason"] == "QUOTA_EXCEEDED"
                assert problem["violated_policies"] == ["daily"]
                assert words in problem["detail"]
                assert response.headers["X-RateLimit-Remaining"] == "0"
                # As late as the day's end, spread by at most a tenth.
                wait = int(response.headers["X-RateLimit-Reset"])
                assert wait - 1 <= int(response.headers["Retry-After"]) <= wait * 1.1 + 2
