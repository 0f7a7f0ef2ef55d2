"""The one table: what was measured, beside the plain stream, beside the target. Says honestly which targets are not met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HEAD = ("figure", "reached", "plain grpc.aio", "ratio", "target", "")
WIDTHS = (58, 20, 18, 7, 16, 4)


@dataclass(frozen=True)
class Row:
    """One line. Values are texts with their units."""

    name: str
    reached: str
    plain: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


@dataclass
class Report:
    """What the parts found. `ratios` and `figures` are the machine-readable half."""

    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def row(
        self, name: str, reached: str, *, plain: str = "", ratio: float | None = None, target: str = "", met: bool | None = None
    ) -> None:
        """Adds a line."""
        self.rows.append(Row(name, reached, plain, "" if ratio is None else f"{ratio:.2f}", target, met))

    def target(
        self, name: str, reached: str, target: str, *, met: bool, whole: bool, plain: str = "", against: float | None = None
    ) -> None:
        """Adds a line with a target of the issue. It is judged only when as much was measured as the issue says."""
        self.row(name, reached, plain=plain, ratio=against, target=target, met=met if whole else None)

    def section(self, name: str) -> None:
        """Adds a line that heads others."""
        self.rows.append(Row(name, ""))

    def lines(self) -> list[str]:
        """The table."""
        made = [_line(HEAD), "-" * (sum(WIDTHS) + 2 * len(WIDTHS) - 2)]
        for row in self.rows:
            met = "" if row.met is None else "yes" if row.met else "NO"
            made.append(_line((row.name, row.reached, row.plain, row.ratio, row.target, met)))
        return made


def _line(cells: Sequence[str]) -> str:
    first, *others = (
        f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}"
        for place, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99."""
    return {"p50_ms": round(statistics.median(seconds) * 1000, 2), "p99_ms": round(percentile(seconds, 0.99) * 1000, 2)}


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of the ratios within each round: what the machine did in a round, it did to both."""
    return round(statistics.median(one / other for one, other in pairs), 2)
