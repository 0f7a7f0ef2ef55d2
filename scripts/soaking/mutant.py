"""What a planted fault is: a few words of the product's source replaced in a copy of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotApplicable(Exception):
    """The source is not what the mutant expects any more; the text says which place."""


@dataclass(frozen=True)
class Change:
    """One replacement; `old` must be in the file exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A planted fault."""

    name: str
    sentence: str
    changes: tuple[Change, ...]
    faults: tuple[str, ...] = ()
    """The mix it shows best with; all kinds when empty."""


def plant(mutant: Mutant, source: Path) -> None:
    """Changes a copy of the product.

    Raises:
        NotApplicable: a place is not there exactly once.
    """
    for change in mutant.changes:
        path = source / change.file
        text = path.read_text()
        if text.count(change.old) != 1:
            raise NotApplicable(f"Mutant {mutant.name}: its place is {text.count(change.old)} times in {change.file}, not once.")
        path.write_text(text.replace(change.old, change.new))
