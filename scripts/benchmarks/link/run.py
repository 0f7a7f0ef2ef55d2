"""`scripts/bench link [--only PART,…] [--rounds N] [--quick]`: all parts of it, one after the other, and their one table."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import platform
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from scripts.benchmarks.link import commits, dashboards, down, fanout, idle, programs, returns, uploads
from scripts.benchmarks.link.stage import QUICK, Size, Stage, cores, staged
from scripts.benchmarks.link.table import Report

PARTS: dict[str, tuple[Callable[[Stage, Report], Awaitable[None]], str]] = {
    "idle": (idle.measure, "10,000 idle streams: memory, accept rate"),
    "commits": (commits.measure, "from a commit to one tablet"),
    "tablets": (fanout.measure, "one update to 1,000 tablets"),
    "dashboards": (dashboards.measure, "one update to 1,000 dashboards"),
    "uploads": (uploads.measure, "3,500 sales from one tablet and from 50 at once, beside live sales"),
    "down": (down.measure, "35,000 changes to one tablet"),
    "return": (returns.measure, "3,000 tablets that come back at once"),
}


async def measure(only: Sequence[str] = (), rounds: int = 0, *, quick: bool = False) -> dict[str, Any]:
    """Runs the parts and prints the table. What could not be measured is under "failed"."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever was started is ended on the way out
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    size = QUICK if quick else Size()
    if rounds:
        size = dataclasses.replace(size, rounds=rounds)
    report = Report()
    failed: dict[str, str] = {}
    began, load_before = time.monotonic(), os.getloadavg()
    async with staged(size) as stage:
        sync = await asyncio.to_thread(programs.sync_milliseconds, stage.folder)
        memory = programs.free_kib() // 1024
        print(f"  stage is set ({time.monotonic() - began:.0f} s)", flush=True)
        for name in only or PARTS:
            start = time.monotonic()
            try:
                await PARTS[name][0](stage, report)
            except (RuntimeError, OSError) as error:  # the other parts can be measured all the same
                failed[name] = str(error)
                report.section(f"{name}: could not be measured, see above")
                print(f"  {error}", flush=True)
            print(f"  {name} ({time.monotonic() - start:.0f} s)", flush=True)
    load = [round(value, 2) for value in (*load_before, *os.getloadavg())]
    machine = {
        "cores": cores(),
        "load_before": load[:3],
        "load_after": load[3:],
        "free_memory_mib": memory,
        "write_and_fdatasync_ms": sync,
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - began),
    }
    print(f"\n  {machine['cores']} cores for servers, clients and PostgreSQL together; {machine['seconds']} s")
    print(f"  load average {load[0]} before, of others, and {load[3]} after; a durable write of 8 KiB takes {sync} ms\n")
    for line in (*report.lines(), "", *report.notes):
        print(f"  {line}".rstrip())
    return {"benchmark": "link", "ratios": report.ratios, "figures": report.figures, "machine": machine, "failed": failed}
