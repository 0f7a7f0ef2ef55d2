"""The way down, within one process and on a real PostgreSQL: frames, one update to many places, snapshots, and commit to frame.

What the network adds is not in these figures; `scripts/bench link` measures whole streams and takes its parts from here. Compare
ratios within one run: each figure stands beside the bare work that it cannot do without.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.platform import log, schema
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.platform.postgres import EmbeddedPostgres
from cloud.platform.wakeups import Wakeups
from cloud.sync.frames import Frames
from cloud.sync.ranges import Frame, Place
from cloud.sync.snapshots import Snapshots
from gipos.v1.catalog_pb2 import Product, TaxClass
from kernel.event_types import PRODUCT_UPDATED
from kernel.ids import new_id

CHANGES = 35_000
TILLS = 1_000
COMMITS = 300
ROUNDS = 3
TENANT = "ten_bench"

_FILL = sa.text(
    """
    INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, cost, tax_class, image_url, active,
                          external_id, created_at, updated_at)
    SELECT :tenant_id, p.id, p.name, 'SKU-' || p.place, ARRAY['899' || lpad(p.place::text, 10, '0')], 'Minuman', 'pcs',
           1000 + p.place, 700, 1, '', true, '', now(), now()
    FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[])) WITH ORDINALITY AS p (id, name, place)
    """
)


@dataclass
class Stage:
    """A merchant with products, and what a cloud process has for the way down."""

    database: Database
    wakeups: Wakeups
    folder: Path
    catalogue: list[Product]

    async def head(self) -> log.Head:
        """Of the merchant's lane."""
        async with self.database.reading(TENANT) as connection:
            return (await log.heads(connection, TENANT))[log.TENANT_LANE]

    async def change(self, some: Sequence[Product]) -> None:
        """One transaction that announces these products."""
        async with self.database.transaction(TENANT) as tx:
            for product in some:
                tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=2)


@asynccontextmanager
async def staged(url: str, folder: Path, *, number: int = CHANGES) -> AsyncIterator[Stage]:
    """A fresh merchant with so many products on a migrated database."""
    database = Database(url, connections=8, keyring=Keyring([secrets.token_bytes(32)]))
    wakeups = Wakeups(database)
    database.react(before_commit=(), after_commit=(wakeups.committed,))
    try:
        ids = sorted(new_id("prd") for _ in range(number))
        async with database.transaction(TENANT) as tx:
            await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)
            names = [f"Kopi Susu Gula Aren {place}" for place in range(number)]
            await tx.run(_FILL, tenant_id=TENANT, ids=ids, names=names)
        async with database.snapshot(TENANT) as connection:
            catalogue = [product async for page in products.pages(connection, TENANT, 500) for product in page]
        yield Stage(database, wakeups, folder, catalogue)
    finally:
        await database.close()


async def changes_per_second(stage: Stage) -> float:
    """A change of each product in frames, read from the log: changes a second.

    In two runs: a till that is further behind than ranges.TOO_FAR gets a snapshot.
    """
    half = len(stage.catalogue) // 2
    frames = Frames(stage.database, stage.wakeups)
    seconds, count = 0.0, 0
    for start in (0, half):
        place = Place(log.TENANT_LANE, 1, (await stage.head()).last_seq)
        for first in range(start, start + half, 2_500):
            await stage.change(stage.catalogue[first : min(first + 2_500, start + half)])
        began = time.perf_counter()
        while isinstance(frame := await frames.next(TENANT, place), Frame):
            count += frame.upto_inclusive - frame.from_exclusive
            place = frame.place
        seconds += time.perf_counter() - began
    if count != 2 * half:
        raise RuntimeError(f"{count} changes came down instead of {2 * half}.")
    return count / seconds


async def copied_per_second(stage: Stage) -> float:
    """What it cannot do without: the same rows, selected and left as they come. Changes a second."""
    head = (await stage.head()).last_seq
    began = time.perf_counter()
    count = 0
    async with stage.database.statements.transaction(TENANT) as driver:
        for after in range(head - len(stage.catalogue) // 2, head, 2_500):
            place = {"tenant_id": TENANT, "lane": log.TENANT_LANE, "after": after, "limit": 2_500}
            count += len(await driver.run(_BARE, **place))
    return count / (time.perf_counter() - began)


_BARE = sa.text(
    "SELECT seq, body FROM events WHERE tenant_id = :tenant_id AND lane = :lane AND seq > :after ORDER BY seq LIMIT :limit"
)


async def one_update_to_many(stage: Stage, tills: int = TILLS) -> tuple[float, float]:
    """One update to many waiting tills: seconds from the commit's end until the last has its frame, and CPU seconds for each."""
    frames = Frames(stage.database, stage.wakeups)
    head = (await stage.head()).last_seq
    ready: list[bytes] = []
    all_wait, all_ready = asyncio.Event(), asyncio.Event()
    waiting = 0

    async def till() -> None:
        nonlocal waiting
        place = Place(log.TENANT_LANE, 1, head)
        with stage.wakeups.waiting(TENANT, {log.TENANT_LANE}) as wake:
            while True:
                wake.clear()
                if isinstance(frame := await frames.next(TENANT, place), Frame):
                    ready.append(frame.data)
                    if len(ready) == tills:
                        all_ready.set()
                    return
                waiting += 1
                if waiting == tills:
                    all_wait.set()
                await wake.wait()

    tasks = [asyncio.create_task(till()) for _ in range(tills)]
    async with asyncio.timeout(30):
        await all_wait.wait()
        await stage.change(stage.catalogue[:1])
        began, used = time.perf_counter(), time.process_time()
        await all_ready.wait()
        took, cpu = time.perf_counter() - began, time.process_time() - used
        await asyncio.gather(*tasks)
    if len({id(data) for data in ready}) != 1:
        raise RuntimeError("The tills did not share one serialisation.")
    return took, cpu / tills


async def snapshot_seconds(stage: Stage) -> tuple[float, float, int, int]:
    """A snapshot of all products: seconds to build, seconds for 100 more tills to read it whole, its pieces and bytes on disk."""
    snapshots = Snapshots(stage.database, stage.folder / "spool")
    head = await stage.head()

    async def download() -> int:
        async with snapshots.open(TENANT, log.TENANT_LANE, head) as snapshot:
            return sum([len(await snapshot.piece(index, packed=True)) for index in range(len(snapshot))])

    try:
        began = time.perf_counter()
        async with snapshots.open(TENANT, log.TENANT_LANE, head) as snapshot:
            built = time.perf_counter() - began
            if snapshot.rows != len(stage.catalogue):
                raise RuntimeError(f"The snapshot has {snapshot.rows} rows.")
            pieces, size = len(snapshot), snapshot.spool.size
        began = time.perf_counter()
        await asyncio.gather(*(download() for _ in range(100)))
        reused = time.perf_counter() - began
        if snapshots.built != 1:
            raise RuntimeError("A crowd built more than one snapshot.")
    finally:
        await snapshots.close()
    return built, reused, pieces, size


@dataclass
class Latencies:
    """Seconds from the moment COMMIT is sent, one value per commit."""

    commit: list[float]
    """Until it returned."""
    frame: list[float]
    """Until a waiting till has its frame."""


async def commit_to_frame(stage: Stage, commits: int = COMMITS) -> Latencies:
    """One commit after the other, and one till that waits for each."""
    frames = Frames(stage.database, stage.wakeups)
    place = Place(log.TENANT_LANE, 1, (await stage.head()).last_seq)
    sent = returned = 0.0
    result = Latencies([], [])

    def on_commit(_connection: Any) -> None:
        nonlocal sent
        sent = time.perf_counter()

    def on_return(_tx: Any) -> None:
        nonlocal returned
        returned = time.perf_counter()

    engine = stage.database._app.sync_engine  # noqa: SLF001 (the moment before COMMIT is sent is nowhere else to be had)
    stage.database.react(before_commit=(), after_commit=(on_return, stage.wakeups.committed))
    sa.event.listen(engine, "commit", on_commit)
    try:
        with stage.wakeups.waiting(TENANT, {log.TENANT_LANE}) as wake:
            for number in range(commits + 20):
                wake.clear()
                writing = asyncio.create_task(stage.change(stage.catalogue[number : number + 1]))
                while not isinstance(frame := await frames.next(TENANT, place), Frame):
                    await wake.wait()
                    wake.clear()
                now = time.perf_counter()
                await writing
                place = frame.place
                if number >= 20:  # the first ones prepare statements
                    result.commit.append(returned - sent)
                    result.frame.append(now - sent)
    finally:
        sa.event.remove(engine, "commit", on_commit)
        stage.database.react(before_commit=(), after_commit=(stage.wakeups.committed,))
    return result


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure() -> dict[str, Any]:
    """Everything, as ratios and the figures they are made of."""
    folder = Path(tempfile.mkdtemp(prefix="gipos-bench-"))
    try:
        server = EmbeddedPostgres(folder / "postgres")
        url = await asyncio.to_thread(server.start)
        try:
            await schema.migrate(url)
            async with staged(url, folder) as stage:
                return await _figures(stage)
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _figures(stage: Stage) -> dict[str, Any]:
    down, bare = [], []
    for _ in range(ROUNDS):
        down.append(await changes_per_second(stage))
        bare.append(await copied_per_second(stage))
    many = [await one_update_to_many(stage) for _ in range(ROUNDS)]
    built, reused, pieces, size = await snapshot_seconds(stage)
    times = await commit_to_frame(stage)
    commit, frame = (statistics.median(values) for values in (times.commit, times.frame))
    return {
        "cores": os.cpu_count(),
        "changes_down_per_second": round(statistics.median(down)),
        "frames_to_bare_select": round(statistics.median(a / b for a, b in zip(down, bare, strict=True)), 2),
        "one_update_to_1000_ms": round(statistics.median(took for took, _ in many) * 1000, 1),
        "cpu_per_till_us": round(statistics.median(cpu for _, cpu in many) * 1e6, 1),
        "snapshot_35000_build_s": round(built, 2),
        "snapshot_pieces": pieces,
        "snapshot_bytes": size,
        "snapshot_100_tills_s": round(reused, 2),
        "snapshot_till_to_build": round(reused / 100 / built, 4),
        "commit_p50_ms": round(commit * 1000, 2),
        "commit_p99_ms": round(percentile(times.commit, 0.99) * 1000, 2),
        "frame_p50_ms": round(frame * 1000, 2),
        "frame_p99_ms": round(percentile(times.frame, 0.99) * 1000, 2),
        "frame_to_commit_p50": round(frame / commit, 2),
    }


def main() -> int:
    """Prints the table; the exit code."""
    for name, value in asyncio.run(measure()).items():
        print(f"  {name:28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
