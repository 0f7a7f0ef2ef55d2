"""The figures of the way down are of what it does: the benchmark counts what arrives, and fails when something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.benchmarks import link_down


async def test_the_benchmark_measures_what_really_comes_down(database_url: Any, tmp_path: Path) -> None:
    async with link_down.staged(database_url, tmp_path, number=60) as stage:
        assert await link_down.changes_per_second(stage) > 0
        assert await link_down.copied_per_second(stage) > 0
        assert min(await link_down.one_update_to_many(stage, tills=20)) >= 0
        _, _, pieces, size = await link_down.snapshot_seconds(stage)
        assert (pieces, size > 0) == (1, True)
        times = await link_down.commit_to_frame(stage, commits=5)
        assert len(times.commit) == len(times.frame) == 5
        assert min(times.commit) > 0
