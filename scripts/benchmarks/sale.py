"""A sale of three lines by REST, end to end: HTTP, gateway, gRPC, one durable transaction with stock, log and webhook deliveries.

Beside it, in turn, a bare commit of one row on the same server: the price of durability on this disk, to divide by.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import aiohttp
import asyncpg

from scripts.benchmarks.platform import started
from scripts.story.world import World

ROUNDS = 5
SALES = 60
CONCURRENT = 16


async def measure() -> dict[str, Any]:
    """Runs the benchmark on a platform of its own."""
    with started() as platform:
        async with World.open(platform.up) as world:
            database = await asyncpg.connect(platform.database_url)
            try:
                return await _measure(world, database)
            finally:
                await database.close()


async def _measure(world: World, database: asyncpg.Connection[Any]) -> dict[str, Any]:
    await database.execute("CREATE TABLE bench_commit (n bigint)")
    body = await _sale(world)
    url = world.facts["gateway_url"] + "/api/v1/sales"
    headers = {"Authorization": f"Bearer {world.facts['api_key']}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def post() -> float:
            start = time.perf_counter()
            async with http.post(url, json=body) as answer:
                await answer.read()
                answer.raise_for_status()
            return (time.perf_counter() - start) * 1000

        async def commit() -> float:
            start = time.perf_counter()
            await database.execute("INSERT INTO bench_commit VALUES (1)")
            return (time.perf_counter() - start) * 1000

        for _ in range(20):
            await post()
        sales: list[float] = []
        commits: list[float] = []
        ratios = []
        throughput = []
        for _ in range(ROUNDS):
            mine = [await post() for _ in range(SALES)]
            bare = [await commit() for _ in range(SALES)]
            ratios.append(statistics.median(mine) / statistics.median(bare))
            sales += mine
            commits += bare
            start = time.perf_counter()
            await asyncio.gather(*(_repeat(post, SALES // 4) for _ in range(CONCURRENT)))
            throughput.append(CONCURRENT * (SALES // 4) / (time.perf_counter() - start))
    return {
        "benchmark": "sale",
        "ratios": {"sale_vs_commit": round(statistics.median(ratios), 2)},
        "sale_ms": _summary(sales),
        "commit_ms": _summary(commits),
        f"sales_per_second_{CONCURRENT}_at_once": round(statistics.median(throughput), 1),
        "rounds": ROUNDS,
        "sales_per_round": SALES,
    }


async def _repeat(post: Any, times: int) -> None:
    for _ in range(times):
        await post()


async def _sale(world: World) -> dict[str, Any]:
    lines = []
    for number in range(3):
        product = await world.api(
            "POST", "/api/v1/products", {"name": f"Barang ukur {number}", "price": {"amount": 12_500 + number}}
        )
        lines.append({"product_id": product["id"], "quantity": "1"})
    return {"outlet_id": world.outlets[0]["id"], "lines": lines, "tenders": [{"method": "cash", "amount": {"amount": 50_000}}]}


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
    }
