"""Imports a product table (CSV) through the public batch import: good rows in, every doubtful row listed with line and reason.

`python -m scripts.import_catalog FILE` sends to the stack that scripts/up runs. It has no other way in than the public API.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from scripts import catalog_report, catalog_rows, catalog_table, catalog_words
from scripts.catalog_report import Fate, Summary
from scripts.catalog_rows import ACCEPTABLE, Kind, Row
from scripts.catalog_table import Field, Table, UnreadableTable
from scripts.catalog_upload import Outcome, Progress, Target, Uploader, UploadStopped

STATE: Final = Path(__file__).resolve().parent.parent / "var" / "up.json"
ENCODING: Final = "utf-8-sig"
"""Of reports: with BOM, or Excel takes them for Windows-1252."""


class ImportStopped(Exception):
    """The import could not run, or not to its end. The message is one sentence for the owner, in the language of the run."""


async def run(
    source: Path,
    target: Target,
    *,
    language: str = "id",
    accept: Collection[Kind] = (),
    report: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Summary:
    """Imports a file.

    Args:
        source: The CSV.
        target: Where to.
        language: "id" or "en": the language of every sentence.
        accept: Kinds of doubt to accept; ACCEPTABLE for all.
        report: Where the rows that are not in are written, as a CSV that can be corrected and imported.
        progress: Hears of every batch.

    Raises:
        ImportStopped: the file, the gateway, the key, the outlet or the report is not usable.
    """

    def stopped(key: str, **facts: object) -> ImportStopped:
        return ImportStopped(catalog_words.say(language, key, facts))

    began = time.monotonic()
    if report is not None and await asyncio.to_thread(_is_same, source, report):
        raise stopped("stop.report_is_source")
    try:
        table = catalog_table.read(await asyncio.to_thread(source.read_bytes))
    except OSError as error:
        raise stopped("stop.file", path=source, cause=error.strerror or error) from None
    except UnreadableTable as error:
        raise ImportStopped(_about_table(error, language)) from None
    rows = catalog_rows.judge(table, accept)
    try:
        outcomes = await _upload(table, rows, target, progress)
    except UploadStopped as error:
        total = sum(row.item is not None for row in rows)
        so_far = catalog_words.say(language, "stop.progress", {"done": error.done, "total": total}) if error.done else ""
        raise stopped(error.key, **error.facts, progress=so_far) from None
    summary = catalog_report.summarise(table, rows, outcomes, language=language, seconds=time.monotonic() - began)
    if report is not None:
        text = catalog_report.leftovers(table, rows, summary, language)
        try:
            await asyncio.to_thread(report.write_text, text, encoding=ENCODING, newline="")
        except OSError as error:
            raise stopped("stop.report", path=report, cause=error.strerror or error) from None
    return summary


async def _upload(table: Table, rows: Sequence[Row], target: Target, progress: Progress) -> dict[int, Outcome]:
    """Sends what may go in; the outcomes by line."""
    going = [(row.record.line, row.item) for row in rows if row.item is not None]
    if not going:
        return {}
    async with Uploader(target) as uploader:
        outlets = await uploader.outlets()
        outlet_id = target.outlet_id
        if outlets is not None:
            shown = ", ".join(f"{each} ({name})" for each, name in outlets.items()) or "-"
            if outlet_id is not None and outlet_id not in outlets:
                raise UploadStopped("stop.outlet", outlet=outlet_id, outlets=shown)
            if outlet_id is None and len(outlets) != 1 and Field.STOCK in table.columns:
                raise UploadStopped("stop.no_outlet", outlets=shown)
        items: list[Mapping[str, Any]] = [
            {**item, "outlet_id": outlet_id} if outlet_id is not None and "opening_stock" in item else item for _, item in going
        ]
        outcomes = await uploader.send(items, progress)
    return {line: outcome for (line, _), outcome in zip(going, outcomes, strict=True)}


def _is_same(source: Path, report: Path) -> bool:
    return source.resolve() == report.resolve() or (source.exists() and report.exists() and source.samefile(report))


def _about_table(error: UnreadableTable, language: str) -> str:
    if error.missing:
        return catalog_report.missing_columns(language, error.missing, error.facts)
    return catalog_words.say(language, error.key, error.facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: all good rows are in; 2: the server refused some; 1: it could not run; 130: interrupted."""
    options = _parser().parse_args(arguments)
    language: str = options.lang
    try:
        target = _target(options)
        accept = ACCEPTABLE if options.accept_doubtful else frozenset(map(Kind, options.accept))
        with _progress(language) as progress:
            summary = asyncio.run(
                run(options.file, target, language=language, accept=accept, report=options.report, progress=progress)
            )
    except ImportStopped as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(catalog_words.say(language, "stop.interrupted"), file=sys.stderr)
        return 130
    for line in catalog_report.listing(summary, language):
        print(line)
    if any(problem.fate is not Fate.ACCEPTED for problem in summary.problems):
        if options.report is not None:
            print(catalog_words.say(language, "sum.report", {"path": options.report}))
        else:
            print(catalog_words.say(language, "sum.next"))
        if any(problem.fate is Fate.HELD and problem.kind in ACCEPTABLE for problem in summary.problems):
            print(catalog_words.say(language, "sum.accept"))
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.import_catalog",
        description="Imports a product table (CSV). Doubtful rows are listed and held back; importing again changes nothing.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the CSV: a name and a price column at least")
    parser.add_argument("--gateway", metavar="URL", help="address of the gateway (default: from the state file)")
    parser.add_argument("--api-key", metavar="KEY", help="API key (default: GIPOS_API_KEY, then the state file)")
    parser.add_argument("--outlet", metavar="ID", help="outlet of the opening stock (default: the first in the state file)")
    parser.add_argument(
        "--state", type=Path, default=STATE, metavar="FILE", help="state file of scripts/up (default: %(default)s)"
    )
    parser.add_argument("--lang", choices=catalog_words.LANGUAGES, default="id", help="language of the messages (default: id)")
    parser.add_argument("--accept-doubtful", action="store_true", help="import doubtful rows with their safe part")
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        choices=sorted(ACCEPTABLE),
        metavar="KIND",
        help=f"accept one kind of doubt; may be repeated. One of {', '.join(sorted(ACCEPTABLE))}",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.csv", help="write the rows that are not in, to correct and import")
    return parser


def _target(options: argparse.Namespace) -> Target:
    """From the command line, the environment and the state file, in this order.

    Raises:
        ImportStopped: gateway or key is known to none of them.
    """
    gateway, outlet = options.gateway, options.outlet
    key = options.api_key or os.environ.get("GIPOS_API_KEY")
    state: dict[str, Any] = {}
    if gateway is None or not key:
        try:
            state = json.loads(options.state.read_text())
            # The outlet goes with the gateway of the file: with another gateway it would be somebody else's.
            if gateway is None and outlet is None:
                outlet = state["outlets"][0]["id"]
            gateway = gateway or state["gateway_url"]
            key = key or state["api_key"]
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            raise ImportStopped(catalog_words.say(options.lang, "stop.state", {"path": options.state})) from None
    return Target(gateway, key, outlet)


@contextmanager
def _progress(language: str) -> Iterator[Progress]:
    """A bar on a terminal, elsewhere a line a second and one at the end. On stderr, so that stdout is the listing alone."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(language, time.monotonic)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(language: str, clock: Callable[[], float]) -> Progress:
    spoken = clock()

    def show(done: int, total: int) -> None:
        nonlocal spoken
        if done == total or clock() - spoken >= 1:
            spoken = clock()
            print(catalog_words.say(language, "list.sending", {"done": done, "total": total}), file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
