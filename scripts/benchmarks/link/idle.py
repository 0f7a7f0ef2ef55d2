"""Idle streams: memory of the server process for each, what letting one in costs, and what they cost while nothing happens.

Memory is VmRSS of the process after all streams are open and have been idle for a while (tablets ping every 10 s, the cloud
speaks as often), less the same after fifty streams had come and gone, divided by the streams. All tills have positions at the
end of their lanes, so nothing is sent to them. Streams are opened as fast as they are answered, a hundred at a time. The tills
are of merchants with thirty each; fanout.py shows what a chain costs.

Weakness: client, server and PostgreSQL share the machine; the client is the cheapest of them (raw frames, no library).
"""

from __future__ import annotations

import asyncio
from typing import Any

from scripts.benchmarks.link import programs
from scripts.benchmarks.link.programs import Program
from scripts.benchmarks.link.stage import LINK, Size, Stage
from scripts.benchmarks.link.table import Report

PER_CONNECTION = 100
TARGET_KIB = 40.0
_SPARE_FILES = 500
_KIB_EACH = 150
"""What a stream may need on both sides, with room to spare, before fewer are opened."""


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    wanted = stage.size.idle
    files = programs.open_files(wanted + _SPARE_FILES)
    count = min(wanted, files - _SPARE_FILES, programs.free_kib() // _KIB_EACH)
    if count < wanted:
        report.notes.append(
            f"{count} idle streams instead of {wanted}: {files} open files and {programs.free_kib() // 1024} MiB can be had here."
        )
    tablets = stage.tablets(count)
    report.section(f"{count} idle streams in one process")
    for kind, connections in (("own", count), ("shared", -(-count // PER_CONNECTION))):
        async with stage.cloud() as (cloud, ports):
            greetings = await stage.greetings(tablets)
            ours = await _filled(stage, report, cloud, ports["port"], LINK, greetings, connections)
        async with stage.echo() as (echo, ports):
            plain = await _filled(stage, report, echo, ports["port"], "/bench.Echo/Echo", [{}] * count, connections)
        report.figures[f"idle_{kind}"] = {"streams": count, "connections": connections, "link": ours, "plain": plain}
        report.ratios[f"idle_memory_{kind}_vs_plain"] = round(ours["kib"] / plain["kib"], 2)
        report.target(
            "  memory each, " + ("a connection each" if kind == "own" else f"{PER_CONNECTION} streams on each connection"),
            f"{ours['kib']:.1f} KiB",
            f"<= {TARGET_KIB:.0f} KiB",
            met=ours["kib"] <= TARGET_KIB,
            whole=count >= Size.idle,
            plain=f"{plain['kib']:.1f} KiB",
            against=ours["kib"] / plain["kib"],
        )
        report.row("    let in a second", f"{ours['per_second']:.0f}", plain=f"{plain['per_second']:.0f}")
        report.row("    server CPU to let one in", f"{ours['cpu_ms']:.2f} ms", plain=f"{plain['cpu_ms']:.2f} ms")
        report.row("    server CPU while idle", f"{ours['idle_cpu']:.1f} % of a core", plain=f"{plain['idle_cpu']:.1f} %")


async def _filled(
    stage: Stage, report: Report, server: Program, port: int, path: str, greetings: list[dict[str, Any]], connections: int
) -> dict[str, float]:
    async with stage.program("crowd") as early:
        few = min(50, len(greetings))
        await early.ask(
            do="open",
            port=port,
            path=path,
            greetings=greetings[:few],
            connections=min(few, connections),
            confirms=True,
            beats=False,
        )
    await asyncio.sleep(1)  # what these leave behind is gone by then or stays for good
    async with stage.program("crowd") as crowd:
        before, used = server.resident_kib(), server.cpu_seconds()
        command = {"port": port, "path": path, "greetings": greetings, "connections": connections}
        opened = await crowd.ask(320, do="open", confirms=True, beats=True, **command)
        used = server.cpu_seconds() - used
        await asyncio.sleep(stage.size.settle_seconds / 2)
        idle = server.cpu_seconds()
        await asyncio.sleep(stage.size.settle_seconds / 2)
        idle = (server.cpu_seconds() - idle) / (stage.size.settle_seconds / 2)
        memory = server.resident_kib() - before
    count = len(greetings)
    for why in opened["refused"][:1]:
        report.notes.append(f"{len(opened['refused'])} of {count} streams ({server.name}) had to be opened again: {why}")
    return {
        "kib": round(memory / count, 1),
        "per_second": round(count / opened["seconds"]),
        "cpu_ms": round(used / count * 1000, 3),
        "idle_cpu": round(idle * 100, 1),
    }
