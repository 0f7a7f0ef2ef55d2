"""The benchmark of the link measures what really arrives: a few tablets, a real cloud process, and a row in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.benchmarks.link import fanout, stage
from scripts.benchmarks.link.table import Report


async def test_an_update_reaches_every_tablet_and_is_told_beside_the_plain_stream(database_url: Any, tmp_path: Path) -> None:
    report = Report()
    async with stage.on(database_url, tmp_path, stage.SMOKE) as here:
        await fanout.measure(here, report)
    figures = report.figures["update_to_tablets"]
    assert figures["tablets"] == stage.SMOKE.crowd
    assert 0 < figures["first_ms"] <= figures["last_ms"] <= figures["worst_ms"]
    assert report.ratios["update_to_tablets_vs_broadcast"] > 0
    # Ten tablets say nothing about a thousand.
    assert [row.met for row in report.rows if row.target] == [None]
