"""One update to a thousand tablets with a connection each, beside a plain grpc.aio broadcast of the very same bytes.

Measured from the return of COMMIT (or from the moment a broadcast begins) until the last client has read its message; the
clients are one process of raw sockets (crowd.py). Tablets confirm what they get at once, so the link reads a thousand
confirmations in the same time. Of the plain streams some confirm nothing, which is the floor, and some confirm as tablets do.
Rounds of all take turns. Server CPU includes the confirmations. All tills are of one merchant, so letting them in costs what it
costs in a chain.

Weakness: clients and server have two cores together. On a machine of its own the server would be faster.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from scripts.benchmarks.link import programs
from scripts.benchmarks.link.programs import Program
from scripts.benchmarks.link.stage import LINK, Size, Stage
from scripts.benchmarks.link.table import Report, ratio

TARGET_MS = 150.0
PAUSE_SECONDS = 0.3
"""Between two updates: each is by itself."""


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    count, size = stage.size.crowd, stage.size
    programs.open_files(2 * count + 500)
    tablets = stage.chain.tablets[:count]
    async with (
        stage.cloud() as (cloud, ports),
        stage.echo() as (echo, plain_ports),
        stage.program("crowd") as tills,
        stage.program("crowd") as clients,
        stage.program("crowd") as confirming,
    ):
        hellos = await stage.greetings(tablets)
        opening = cloud.cpu_seconds()
        opened = await tills.ask(
            do="open", port=ports["port"], path=LINK, greetings=hellos, connections=count, confirms=True, beats=True
        )
        opening = cloud.cpu_seconds() - opening
        for crowd, kind in ((clients, "Broadcast"), (confirming, "Confirmed")):
            await crowd.ask(
                do="open", port=plain_ports["port"], path=f"/bench.Echo/{kind}", greetings=[{}] * count, connections=count,
                confirms=kind == "Confirmed", beats=False,
            )  # fmt: skip
        message = (await _update(stage, cloud, tills, 0))["message"]  # the first one also warms up
        await _broadcast(echo, clients, "Broadcast", message)
        await _broadcast(echo, confirming, "Confirmed", message)
        ours, plain, alike = [], [], []
        for number in range(size.rounds):
            ours.append([await _update(stage, cloud, tills, 1 + number * size.updates + each) for each in range(size.updates)])
            plain.append([await _broadcast(echo, clients, "Broadcast", message) for _ in range(size.updates)])
            alike.append([await _broadcast(echo, confirming, "Confirmed", message) for _ in range(size.updates)])
    flat, floor, equal = ([one for some in rounds for one in some] for rounds in (ours, plain, alike))
    last, floor_last = _median(flat, "last"), _median(floor, "last")
    against = ratio([(_median(one, "last"), _median(other, "last")) for one, other in zip(ours, plain, strict=True)])
    report.ratios["update_to_tablets_vs_broadcast"] = against
    report.figures["update_to_tablets"] = {
        "tablets": count,
        "bytes": len(message) // 2,
        "last_ms": last,
        "worst_ms": round(max(one["last"] for one in flat), 1),
        "first_ms": _median(flat, "first"),
        "server_cpu_us_each": round(_median(flat, "cpu") * 1e6 / count, 1),
        "plain_last_ms": floor_last,
        "plain_cpu_us_each": round(_median(floor, "cpu") * 1e6 / count, 1),
        "confirmed_last_ms": _median(equal, "last"),
        "confirmed_cpu_us_each": round(_median(equal, "cpu") * 1e6 / count, 1),
        "let_in_per_second": round(count / opened["seconds"]),
        "let_in_cpu_ms": round(opening / count * 1000, 2),
    }
    report.section(f"one update to {count} tablets with a connection each")
    report.target(
        "  until the last has it, after the commit (p50)",
        f"{last:.0f} ms",
        f"<= {TARGET_MS:.0f} ms",
        met=last <= TARGET_MS,
        whole=count >= Size.crowd,
        plain=f"{floor_last:.0f} ms",
        against=against,
    )
    figures = report.figures["update_to_tablets"]
    report.row("    server CPU each", f"{figures['server_cpu_us_each']} us", plain=f"{figures['plain_cpu_us_each']} us")
    alike_ratio = ratio([(_median(one, "last"), _median(other, "last")) for one, other in zip(ours, alike, strict=True)])
    report.ratios["update_to_tablets_vs_confirmed_broadcast"] = alike_ratio
    report.row(
        "  beside plain streams that are confirmed as well", f"{last:.0f} ms", plain=f"{figures['confirmed_last_ms']:.0f} ms",
        ratio=alike_ratio,
    )  # fmt: skip
    report.row("    server CPU each", f"{figures['server_cpu_us_each']} us", plain=f"{figures['confirmed_cpu_us_each']} us")
    report.row("    server CPU to let one in, all of one merchant", f"{figures['let_in_cpu_ms']:.2f} ms")


def _median(rounds: list[dict[str, Any]], name: str) -> float:
    value: float = statistics.median(one[name] for one in rounds)
    return value if name == "cpu" else round(value, 1)


async def _update(stage: Stage, cloud: Program, tills: Program, number: int) -> dict[str, Any]:
    await tills.ask(do="wait")
    used = cloud.cpu_seconds()
    price, product = 20_000 + number, stage.chain.products[0]
    change = await cloud.ask(do="update", key=stage.chain.api_key, product_id=product, price=price)
    seen = await tills.hear()
    await asyncio.sleep(PAUSE_SECONDS)
    cpu = cloud.cpu_seconds() - used
    since = change["returned"]
    return {"first": (seen["first"] - since) * 1e3, "last": (seen["last"] - since) * 1e3, "cpu": cpu, "message": seen["message"]}


async def _broadcast(echo: Program, clients: Program, kind: str, message: str) -> dict[str, Any]:
    await clients.ask(do="wait")
    used = echo.cpu_seconds()
    began = (await echo.ask(kind=kind, data=message))["began"]
    seen = await clients.hear()
    await asyncio.sleep(PAUSE_SECONDS)
    return {"first": (seen["first"] - began) * 1e3, "last": (seen["last"] - began) * 1e3, "cpu": echo.cpu_seconds() - used}
