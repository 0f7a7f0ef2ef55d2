"""Three thousand tablets whose connections are cut at the same moment, and that all come back at once.

None waits its turn first, which is worse than what tablets do: they spread their return over the window that Welcome names.
They are real grpc.aio clients in several processes and obey what they are told: whoever is asked to come back later does. Every
attempt is counted by how it ended; an end without words is what gRPC does to calls that it drops by itself. The admission is
the product's own. Beside it, as many plain streams at once on a grpc.aio server with gRPC's own limits, each tried once.

Weakness: three thousand real clients take most of two cores for the first seconds.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from scripts.benchmarks.link import programs
from scripts.benchmarks.link.stage import Size, Stage
from scripts.benchmarks.link.table import Report, percentile

PROCESSES = 3
_WITHOUT = "without words"


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    count = stage.size.returning
    programs.open_files(count + 1_000)
    tablets = stage.tablets(count)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(stage.program("clients")) for _ in range(PROCESSES)]
        async with stage.cloud() as (cloud, ports):
            greetings = await stage.greetings(tablets)
            shares = [greetings[number::PROCESSES] for number in range(PROCESSES)]
            await asyncio.gather(
                *(one.ask(do="connect", port=ports["port"], greetings=share) for one, share in zip(clients, shares, strict=True))
            )
            used = cloud.cpu_seconds()
            outcomes = await asyncio.gather(*(one.ask(do="comeback") for one in clients))
            used = cloud.cpu_seconds() - used
        async with stage.echo("--plain") as (_, ports):
            herds = await asyncio.gather(
                *(one.ask(do="plain_herd", port=ports["port"], count=count // PROCESSES) for one in clients)
            )
    attempts = _added([one["attempts"] for one in outcomes])
    plain = _added([one["attempts"] for one in herds])
    began = min(one["began"] for one in outcomes)
    times = sorted(when - began for one in outcomes for when in one["welcomed"])
    anonymous = {name: number for name, number in attempts.items() if _WITHOUT in name}
    dropped = sum(number for name, number in plain.items() if _WITHOUT in name)
    report.figures["return"] = {
        "tablets": len(times),
        "seconds_until_all": round(times[-1], 1),
        "seconds_p50": round(statistics.median(times), 1),
        "seconds_p99": round(percentile(times, 0.99), 1),
        "attempts": dict(attempts),
        "without_words": sum(anonymous.values()),
        "server_cpu_ms_each": round(used / len(times) * 1000, 2),
        "plain_attempts": dict(plain),
        "plain_seconds": round(max(one["seconds"] for one in herds), 1),
    }
    report.section(f"{len(times)} tablets cut at the same moment, all back at once")
    report.row("  until all are welcomed again", f"{times[-1]:.1f} s")
    report.row("    half of them; 99 of 100", f"{statistics.median(times):.1f} s; {percentile(times, 0.99):.1f} s")
    report.row("    server CPU each", f"{report.figures['return']['server_cpu_ms_each']} ms")
    report.target(
        "  attempts that ended without words (CANCELLED and others)",
        str(sum(anonymous.values())),
        "0",
        met=not anonymous,
        whole=count >= Size.returning,
        plain=str(dropped),
    )
    report.notes.append("Attempts to come back: " + _told(attempts))
    report.notes.append("Plain streams at once, tried once, gRPC's own limits: " + _told(plain))


def _added(counts: list[dict[str, int]]) -> Counter[str]:
    every: Counter[str] = Counter()
    for one in counts:
        every.update(one)
    return every


def _told(attempts: Counter[str]) -> str:
    told: Any = ", ".join(f"{name} {number}" for name, number in attempts.most_common())
    return f"{told}."
