"""From COMMIT to a tablet, beside the commit itself and beside a plain echo.

A price is changed through the service; the moment COMMIT is sent and the moment it returns are noted in the cloud's process
(served.py), the moment the range has been read in the tablet's process (a real grpc.aio client), all of one clock. The same
COMMIT is the measure: its fsync is in both. Beside it, in turn, a bare transaction that writes as much (a row, a counter, an
event) from a process of its own, and a plain echo of as many bytes.

Weakness: one change at a time on an otherwise idle platform; what load adds is in the other parts.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import asyncpg

from scripts.benchmarks.link.programs import Program
from scripts.benchmarks.link.stage import Stage
from scripts.benchmarks.link.table import Report, milliseconds, ratio

TARGET = 2.0
_TABLES = """
CREATE TABLE bench_rows (id int PRIMARY KEY, price bigint);
CREATE TABLE bench_heads (id int PRIMARY KEY, seq bigint);
CREATE TABLE bench_events (seq bigint PRIMARY KEY, body bytea);
INSERT INTO bench_rows VALUES (1, 0);
INSERT INTO bench_heads VALUES (1, 0);
"""


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    count = stage.size.commits
    ours: list[tuple[list[float], list[float]]] = []
    bare: list[list[float]] = []
    echoes: list[list[float]] = []
    async with (
        stage.cloud() as (cloud, ports),
        stage.echo() as (_, plain_ports),
        stage.program("clients") as tablet,
        stage.program("clients") as plain,
    ):
        database: Any = await asyncpg.connect(stage.url)
        try:
            await database.execute(_TABLES)
            (greeting,) = await stage.greetings(stage.chain.tablets[:1])
            await tablet.ask(do="connect", port=ports["port"], greetings=[greeting])
            head = greeting["lanes"][0][2]
            size = 0
            for number in range(stage.size.rounds + 1):
                mine, head, size = await _changes(stage, cloud, tablet, head, count if number else 20)
                theirs = await _transactions(database, count if number else 20, size)
                back = (await plain.ask(do="echoes", port=plain_ports["port"], size=size, count=count))["seconds"]
                if number:  # the first round prepares statements and fills caches
                    ours.append(mine)
                    bare.append(theirs)
                    echoes.append(back)
        finally:
            await database.execute("DROP TABLE IF EXISTS bench_rows, bench_heads, bench_events")
            await database.close()
    commits = [one for some, _ in ours for one in some]
    frames = [one for _, some in ours for one in some]
    against = ratio([(statistics.median(late), statistics.median(own)) for own, late in ours])
    figures = {
        "tablet": milliseconds(frames),
        "commit": milliseconds(commits),
        "after_commit": milliseconds([frame - commit for frame, commit in zip(frames, commits, strict=True)]),
        "bare_commit": milliseconds([one for some in bare for one in some]),
        "echo": milliseconds([one for some in echoes for one in some]),
        "commits": len(commits),
    }
    report.figures["commit_to_tablet"] = figures
    report.ratios["commit_to_tablet_vs_commit"] = against
    report.ratios["commit_to_tablet_p99_vs_commit_p99"] = round(figures["tablet"]["p99_ms"] / figures["commit"]["p99_ms"], 2)  # type: ignore[index]  # a dict
    report.section(f"from COMMIT to a tablet ({len(commits)} commits, fsync on; p50 / p99)")
    report.row("  the commit itself", _both(figures["commit"]))
    report.row("  an equal bare transaction's commit", "", plain=_both(figures["bare_commit"]))
    report.row(
        "  COMMIT sent until the tablet has it",
        _both(figures["tablet"]),
        ratio=against,
        target=f"<= {TARGET:.0f} x commit",
        met=against <= TARGET,
    )
    report.row(
        "    of it after COMMIT has returned (plain: an echo's round trip)",
        _both(figures["after_commit"]),
        plain=_both(figures["echo"]),
    )


def _both(figure: Any) -> str:
    return f"{figure['p50_ms']} / {figure['p99_ms']} ms"


async def _changes(
    stage: Stage, cloud: Program, tablet: Program, head: int, count: int
) -> tuple[tuple[list[float], list[float]], int, int]:
    product, key = stage.chain.products[1], stage.chain.api_key
    sent, commits = [], []
    for number in range(count):
        change = await cloud.ask(do="update", key=key, product_id=product, price=30_000 + head + number)
        sent.append(change["sent"])
        commits.append(change["returned"] - change["sent"])
        await asyncio.sleep(0.01)
    frames = (await tablet.ask(do="arrivals", position=head + count))["frames"]
    arrivals: dict[int, float] = {}
    place = head
    for at, upto, _ in frames:
        arrivals |= dict.fromkeys(range(place + 1, upto + 1), at)
        place = max(place, upto)
    late = [arrivals[head + 1 + number] - sent[number] for number in range(count)]
    return (commits, late), head + count, frames[-1][2]


async def _transactions(database: Any, count: int, size: int) -> list[float]:
    commits = []
    for _ in range(count):
        await database.execute("BEGIN")
        await database.execute("UPDATE bench_rows SET price = price + 1 WHERE id = 1")
        seq = await database.fetchval("UPDATE bench_heads SET seq = seq + 1 WHERE id = 1 RETURNING seq")
        await database.execute("INSERT INTO bench_events VALUES ($1, $2)", seq, bytes(size))
        began = time.monotonic()
        await database.execute("COMMIT")
        commits.append(time.monotonic() - began)
        await asyncio.sleep(0.002)
    return commits
