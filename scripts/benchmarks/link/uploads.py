"""A backlog of sales from one tablet, and as many from fifty at once, while other merchants' tablets go on selling.

Real grpc.aio clients send batches as tills do (at most two under way). Sales are made and serialised before the time begins; it
ends when the last one is stored. The live sales come from other merchants' tablets, one sale to a batch, at a steady rate
whatever became of those before, and their time counts from the moment they were due. Windows with a backlog and windows without
take turns; p99 is of all windows of a kind.

Weakness: the uploading clients and the live ones share two cores with the cloud and PostgreSQL. What the p99 shows is also
their queueing.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from scripts.benchmarks.link.programs import Program
from scripts.benchmarks.link.stage import Size, Stage
from scripts.benchmarks.link.table import Report, milliseconds

FIFTY = 50
BATCH = 200
"""Operations in a batch, as the product's own tills have it (edge/link/uploads.py)."""
LARGEST = 500
"""The most that the protocol allows."""
LIVE_TABLETS = 20
LIVE_PER_SECOND = 100.0
TIMES = 2
"""A kind's backlogs in a window, one after the other, so that a window has enough live sales in it."""
TARGET_PER_SECOND = 6_000
TARGET_TIMES = 2.0


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    sales, rounds = stage.size.sales, stage.size.rounds
    # Fifty in as many outlets as there are: one of each ten tills.
    senders = [
        stage.chain.tablets[place * 10 % len(stage.chain.tablets) + place * 10 // len(stage.chain.tablets)]
        for place in range(FIFTY)
    ]
    sellers = stage.others[0].tablets[: LIVE_TABLETS // 2] + stage.others[1].tablets[: LIVE_TABLETS // 2]
    products = {merchant.tenant_id: merchant.products for merchant in stage.others}
    kinds = {
        "one": ([0], sales, BATCH),
        "fifty": (list(range(FIFTY)), -(-sales // FIFTY), BATCH),
        "one_500": ([0], sales, LARGEST),
    }
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    live: dict[str, list[float]] = {"alone": [], **{kind: [] for kind in kinds}}
    async with stage.cloud() as (cloud, ports), stage.program("clients") as backlog, stage.program("clients") as seller:
        await backlog.ask(do="connect", port=ports["port"], greetings=await stage.greetings(senders))
        await seller.ask(do="connect", port=ports["port"], greetings=await stage.greetings(sellers))
        shelves = [products[one.tenant_id] for one in sellers]
        await _window(
            backlog, seller, shelves, stage.chain.products, ([0], 100, BATCH), TIMES
        )  # fills caches and prepares statements
        used = cloud.cpu_seconds()
        stored = 0
        for _ in range(rounds):
            for kind, job in kinds.items():
                seconds, busy = await _window(backlog, seller, shelves, stage.chain.products, job, TIMES)
                speeds[kind] += [len(job[0]) * job[1] / one for one in seconds]
                live[kind] += busy
                stored += TIMES * len(job[0]) * job[1]
                await seller.ask(do="live", each_second=LIVE_PER_SECOND, products=shelves)
                await asyncio.sleep(max(1.0, sum(seconds)))
                alone = (await seller.ask(do="quiet"))["seconds"]
                live["alone"] += alone
        used = cloud.cpu_seconds() - used
    _rows(report, speeds, live, sales)
    report.figures["uploads"] |= {"cloud_cpu_us_per_sale_live_ones_included": round(used / stored * 1e6)}


async def _window(
    backlog: Program, seller: Program, shelves: list[list[str]], products: list[str], job: tuple[list[int], int, int], times: int
) -> tuple[list[float], list[float]]:
    """Seconds of each backlog, and of each live sale meanwhile."""
    who, each, batch = job
    for _ in range(times):
        await backlog.ask(do="prepare", who=who, each=each, batch=batch, products=products)
    await seller.ask(do="live", each_second=LIVE_PER_SECOND, products=shelves)
    await asyncio.sleep(0.3)  # until live sales are on their way
    seconds = [(await backlog.ask(do="go"))["seconds"] for _ in range(times)]
    return seconds, (await seller.ask(do="quiet"))["seconds"]


def _rows(report: Report, speeds: dict[str, list[float]], live: dict[str, list[float]], sales: int) -> None:
    alone = milliseconds(live["alone"])
    figures: dict[str, Any] = {"live_alone": alone | {"sales": len(live["alone"])}}
    report.section(f"{sales} sales of 3 lines uploaded, {LIVE_PER_SECOND:.0f} live sales a second elsewhere")
    names = {
        "one": f"  from one tablet (batches of {BATCH})",
        "fifty": f"  from {FIFTY} tablets at once",
        "one_500": f"  from one tablet (batches of {LARGEST})",
    }
    for kind, name in names.items():
        speed = statistics.median(speeds[kind])
        busy = milliseconds(live[kind])
        times = busy["p99_ms"] / alone["p99_ms"]
        figures[kind] = {"sales_per_second": round(speed), "live": busy | {"sales": len(live[kind])}}
        report.ratios[f"live_p99_with_backlog_{kind}_vs_alone"] = round(times, 2)
        whole = sales >= Size.sales
        report.target(name, f"{speed:.0f} sales/s", f">= {TARGET_PER_SECOND}/s", met=speed >= TARGET_PER_SECOND, whole=whole)
        report.target(
            "    p99 of live sales meanwhile (without a backlog)",
            f"{busy['p99_ms']} ms",
            f"<= {TARGET_TIMES:.0f} x without",
            met=times <= TARGET_TIMES,
            whole=whole,
            plain=f"({alone['p99_ms']} ms)",
            against=times,
        )
    report.figures["uploads"] = figures
