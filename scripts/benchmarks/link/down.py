"""Many changes down to one tablet that was away: over a real stream, beside a plain one that pushes messages of the same sizes.

The tablet (a real grpc.aio client) says hello at its old position and confirms each range; the time is from its hello until the
last range is there, so connecting and being let in are in it. A tablet further behind than ranges.TOO_FAR is given a snapshot,
so the changes come in two runs. Beside it: the frames alone, made in one process without gRPC, against the bare SELECT of the
same rows; and a snapshot of all.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import sqlalchemy as sa

from cloud import server
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.wakeups import Wakeups
from cloud.settings import Settings
from cloud.sync.frames import Frames
from cloud.sync.ranges import Frame, Place
from cloud.sync.snapshots import Snapshots
from scripts.benchmarks.link.stage import Size, Stage
from scripts.benchmarks.link.table import Report, ratio

TARGET_PER_SECOND = 100_000
READERS = 100
"""Tills that read one snapshot."""

_BARE = sa.text(
    "SELECT seq, body FROM events WHERE tenant_id = :tenant_id AND lane = :lane AND seq > :after ORDER BY seq LIMIT :limit"
)


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    count = stage.size.changes // 2 * 2
    streamed, plain, framed, bare = [], [], [], []
    settings = Settings(database_url=stage.url, data_dir=stage.folder / "data")
    async with (
        stage.cloud() as (cloud, ports),
        stage.echo() as (_, plain_ports),
        stage.program("clients") as tablet,
        server.connected(settings) as (database, _keyring),
    ):
        wakeups = Wakeups(database)
        tenant_id = stage.catalogue.tenant_id
        for _ in range(stage.size.rounds):
            seconds = alone = frames = select = 0.0
            for half in (0, 1):
                start = (await _head(database, tenant_id)).last_seq
                # A new tablet each time: nothing of what comes is in a cache because of it.
                (greeting,) = await stage.greetings(stage.catalogue.tablets[half : half + 1])
                await cloud.ask(do="publish", tenant_id=tenant_id, first=half * count // 2, count=count // 2)
                select += await _selected(database, tenant_id, start, count // 2)
                frames += await _framed(Frames(database, wakeups), tenant_id, start, count // 2)
                came = await tablet.ask(do="follow", port=ports["port"], greeting=greeting, position=start + count // 2)
                if came["changes"] != count // 2:
                    raise RuntimeError(f"{came['changes']} changes came down instead of {count // 2}.")
                seconds += came["seconds"]
                alone += (await tablet.ask(do="pull", port=plain_ports["port"], sizes=came["sizes"]))["seconds"]
            streamed.append(count / seconds)
            plain.append(count / alone)
            framed.append(count / frames)
            bare.append(count / select)
        snapshot = await _snapshot(stage, database, tenant_id)
    speed = statistics.median(streamed)
    against = ratio(list(zip(streamed, plain, strict=True)))
    frames_against = ratio(list(zip(framed, bare, strict=True)))
    report.ratios |= {"changes_down_vs_plain_push": against, "frames_vs_bare_select": frames_against}
    report.figures["down"] = {
        "changes": count,
        "per_second": round(speed),
        "plain_per_second": round(statistics.median(plain)),
        "frames_per_second": round(statistics.median(framed)),
        "bare_select_per_second": round(statistics.median(bare)),
        "snapshot": snapshot,
    }
    report.section(f"{count} changes down to a tablet that was away")
    report.target(
        "  over a stream, from hello to the last",
        f"{speed:.0f} changes/s",
        f">= {TARGET_PER_SECOND}/s",
        met=speed >= TARGET_PER_SECOND,
        whole=count >= Size.changes,
        plain=f"{statistics.median(plain):.0f}/s",
        against=against,
    )
    report.row(
        "  frames alone, without gRPC (plain: a bare SELECT of the rows)", f"{statistics.median(framed):.0f} changes/s",
        plain=f"{statistics.median(bare):.0f}/s", ratio=frames_against,
    )  # fmt: skip
    report.row(f"  a snapshot of {snapshot['rows']} products: built", f"{snapshot['build_s']} s")
    report.row(f"    read by {READERS} tills more", f"{snapshot['readers_s']} s")


async def _head(database: Database, tenant_id: str) -> log.Head:
    async with database.reading(tenant_id) as connection:
        return (await log.heads(connection, tenant_id))[log.TENANT_LANE]


async def _selected(database: Database, tenant_id: str, start: int, count: int) -> float:
    """Seconds to read the rows and leave them as they come: what nothing can do without."""
    began = time.perf_counter()
    async with database.statements.transaction(tenant_id) as driver:
        for after in range(start, start + count, 2_500):
            await driver.run(_BARE, tenant_id=tenant_id, lane=log.TENANT_LANE, after=after, limit=2_500)
    return time.perf_counter() - began


async def _framed(frames: Frames, tenant_id: str, start: int, count: int) -> float:
    """Seconds to make all frames of these changes."""
    place = Place(log.TENANT_LANE, 1, start)
    began = time.perf_counter()
    while isinstance(frame := await frames.next(tenant_id, place), Frame):
        place = frame.place
    if place.seq != start + count:
        raise RuntimeError(f"The frames end at {place.seq} and not at {start + count}.")
    return time.perf_counter() - began


async def _snapshot(stage: Stage, database: Database, tenant_id: str) -> dict[str, Any]:
    """A snapshot of all products, and as many tills that read it whole."""
    snapshots = Snapshots(database, stage.folder / "spool")
    head = await _head(database, tenant_id)
    try:
        began = time.perf_counter()
        async with snapshots.open(tenant_id, log.TENANT_LANE, head) as snapshot:
            built = time.perf_counter() - began
            rows, pieces, size = snapshot.rows, len(snapshot), snapshot.spool.size
        began = time.perf_counter()
        for _ in range(READERS):
            async with snapshots.open(tenant_id, log.TENANT_LANE, head) as snapshot:
                for index in range(len(snapshot)):
                    await snapshot.piece(index, packed=True)
        readers = time.perf_counter() - began
    finally:
        await snapshots.close()
    return {"rows": rows, "pieces": pieces, "bytes": size, "build_s": round(built, 2), "readers_s": round(readers, 2)}
