"""What an import came to: the summary, its listing for people, and the CSV of rows that are not in. Text in, text out, no I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scripts import catalog_words
from scripts.catalog_rows import DOUBTFUL, Kind, Row, Verdict
from scripts.catalog_table import HEADERS, Field, Table
from scripts.catalog_upload import Outcome


class Fate(StrEnum):
    """What became of a row that was not simply good."""

    HELD = "held"
    """Doubtful, waits for the owner."""
    ACCEPTED = "accepted"
    """Doubtful, its safe part is in."""
    REJECTED = "rejected"
    """Cannot go in as it is."""
    FAILED = "failed"
    """Refused by the server."""


@dataclass(frozen=True)
class Problem:
    """One thing the owner should look at."""

    line: int
    """Line in the file, beginning with 1."""
    column: str
    """As the file calls it; empty when the server names none."""
    value: str
    reason: str
    """A sentence in the language of the run."""
    kind: str
    """For programs: a catalog_rows.Kind, or the server's reason."""
    fate: Fate


@dataclass(frozen=True)
class Summary:
    """What an import came to."""

    rows: int
    good: int
    doubtful: int
    rejected: int
    sent: int
    created: int
    updated: int
    unchanged: int
    failed: int
    problems: tuple[Problem, ...]
    """In the order of the file."""
    notices: tuple[str, ...]
    """About the file as a whole, in the language of the run."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 when every row that was sent is in, 2 when the server refused some."""
        return 2 if self.failed else 0


def summarise(table: Table, rows: Sequence[Row], outcomes: Mapping[int, Outcome], *, language: str, seconds: float) -> Summary:
    """Counts and lists.

    Args:
        table: What was read.
        rows: All rows, judged.
        outcomes: What the server said, by line.
        language: One of catalog_words.LANGUAGES.
        seconds: How long it took.
    """
    verdicts = [row.verdict for row in rows]
    statuses = [outcome.status for outcome in outcomes.values()]
    return Summary(
        rows=len(rows),
        good=verdicts.count(Verdict.GOOD),
        doubtful=verdicts.count(Verdict.DOUBTFUL),
        rejected=verdicts.count(Verdict.REJECTED),
        sent=len(statuses),
        created=statuses.count("created"),
        updated=statuses.count("updated"),
        unchanged=statuses.count("unchanged"),
        failed=statuses.count("failed"),
        problems=tuple(problem for row in rows for problem in _problems(table, row, outcomes.get(row.record.line), language)),
        notices=tuple(catalog_words.say(language, key, facts) for key, facts in table.notices),
        seconds=seconds,
    )


def listing(summary: Summary, language: str) -> Iterator[str]:
    """The lines a person reads afterwards: every problem, then the counts."""

    def say(key: str, **facts: object) -> str:
        return catalog_words.say(language, key, facts)

    yield from summary.notices
    for problem in summary.problems:
        where = [f'{problem.column} "{problem.value}"' if problem.value else problem.column] if problem.column else []
        words = ": ".join([say("list.line", line=problem.line), *where, problem.reason])
        yield f"{words} [{say('list.' + problem.fate)}]"
    yield say("sum.rows", rows=summary.rows, good=summary.good, doubtful=summary.doubtful, rejected=summary.rejected)
    yield say(
        "sum.sent",
        sent=summary.sent,
        created=summary.created,
        updated=summary.updated,
        unchanged=summary.unchanged,
        failed=summary.failed,
        seconds=f"{summary.seconds:.1f}",
    )


def leftovers(table: Table, rows: Sequence[Row], summary: Summary, language: str) -> str:
    """The rows that are not in as a CSV of the same columns, with line and reasons behind, ready to be corrected and imported.

    The first row of a duplicate is there too: for comparison, and because without it the second would pass for a good row and
    replace the first.
    """
    reasons: dict[int, list[str]] = {}
    for problem in summary.problems:
        if problem.fate is not Fate.ACCEPTED:
            reasons.setdefault(problem.line, []).append(
                f"{problem.column}: {problem.reason}" if problem.column else problem.reason
            )
    for row in rows:
        for first in {finding.facts["line"]: None for finding in row.findings if finding.kind is Kind.DUPLICATE}:
            assert isinstance(first, int)
            reasons.setdefault(first, []).append(catalog_words.say(language, "row.first", {"line": row.record.line}))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=table.separator)
    own = {catalog_words.say(each, key) for each in catalog_words.LANGUAGES for key in ("report.line", "report.reason")}
    # A report of a report drops the old lines and reasons.
    kept = [place for place, cell in enumerate(table.header.cells) if cell.strip().casefold() not in own]
    writer.writerow(
        [table.header.cells[place] for place in kept]
        + [catalog_words.say(language, "report.line"), catalog_words.say(language, "report.reason")]
    )
    for row in rows:
        if row.record.line in reasons:
            cells = row.record.cells
            shown = [cells[place] if place < len(cells) else "" for place in kept]
            # Cells beyond the header are what must be corrected, so they may not get lost.
            surplus = cells[len(table.header.cells) :]
            writer.writerow([*shown, row.record.line, "; ".join(reasons[row.record.line]), *surplus])
    return text.getvalue()


def missing_columns(language: str, missing: Sequence[Field], facts: Mapping[str, object]) -> str:
    """The sentence for a table without name or price: what was found and what is accepted instead."""
    names = {field: catalog_words.say(language, f"field.{field}") for field in missing}
    accepted = [
        catalog_words.say(language, "table.accepted", {"field": name, "headers": ", ".join(HEADERS[field])})
        for field, name in names.items()
    ]
    words = {"missing": ", ".join(names.values()), "accepted": " ".join(accepted)}
    return catalog_words.say(language, "table.columns", {**facts, **words})


def _problems(table: Table, row: Row, outcome: Outcome | None, language: str) -> Iterator[Problem]:
    failed = outcome is not None and outcome.status == "failed"
    for finding in row.findings:
        if row.item is not None and not failed:
            fate = Fate.ACCEPTED
        elif finding.kind in DOUBTFUL:
            fate = Fate.HELD
        else:
            fate = Fate.REJECTED
        reason = catalog_words.say(language, finding.reason, finding.facts)
        yield Problem(row.record.line, table.heading(finding.column), finding.value, reason, finding.kind.value, fate)
    if outcome is not None and failed:
        for error in outcome.errors or ({},):
            words = error.get("message") or error.get("reason") or "-"
            reason = catalog_words.say(language, "server.failed", {"message": words})
            yield Problem(row.record.line, error.get("field", ""), "", reason, error.get("reason", ""), Fate.FAILED)
