"""What is wrong with a JSON document: collected while it is read, told all at once, each with the path to its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from kernel.errors import Invalid, Violation

LIMIT = 1000
"""Violations after this many are not looked for: nobody reads them, and a hostile document must not cost more than a good one."""
DEPTH = 64
"""Messages (or lists and objects of free-form JSON) within each other."""

Path = tuple[Any, ...] | None
"""None at the root, else (parent path, field name) or (parent path, field name, index or key)."""
BODY: Path = ("body",)
"""Stands in for the request message when the document is one field of it: that field's name is left out of paths."""

_SUGGESTIONS = 20
_SHOWN = 60


class JsonRefused(Invalid):
    """The document is no JSON, or does not fit the message. `violations` says where and why."""


class Enough(Exception):
    """Stops the reading when there are more violations than anybody reads."""


class Findings:
    """Collects violations of one document."""

    __slots__ = ("depth", "exact_at_hand", "ignore_unknown", "keys", "suggestions", "violations", "wants_exact")

    def __init__(self, *, exact_at_hand: bool, ignore_unknown: bool) -> None:
        self.violations: list[Violation] = []
        self.ignore_unknown = ignore_unknown
        self.exact_at_hand = exact_at_hand
        """Whether the text is at hand, so that numbers can be read again without loss."""
        self.wants_exact = False
        """Set when a number with a fraction met a field that must not lose digits."""
        self.depth = 0
        self.keys = 0
        """How many keys all objects together had that were read so far."""
        self.suggestions = 0

    def add(self, path: Path, reason: str, message: str) -> None:
        """Notes one violation."""
        if len(self.violations) >= LIMIT:
            raise Enough
        self.violations.append(Violation(field=path_text(path), reason=reason, message=message))

    def wrong_type(self, path: Path, expected: str, value: Any) -> None:
        """Notes that the value is of another kind than the field."""
        self.add(path, "WRONG_TYPE", f"must be {expected}, not {kind_of(value)}")

    def unknown(self, path: Path, name: str, known: Iterable[str]) -> None:
        """Notes a name the message does not have, with the name that was probably meant."""
        if self.ignore_unknown:
            return
        hint = ""
        if len(name) <= _SHOWN and self.suggestions < _SUGGESTIONS:
            self.suggestions += 1
            close = difflib.get_close_matches(name, list(known), 1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
        self.add((path, shown(name)), "UNKNOWN_FIELD", f"there is no such field{hint}")

    def too_deep(self, path: Path) -> None:
        """Notes that the document nests deeper than is read."""
        self.add(path, "TOO_DEEP", f"nests more than {DEPTH} levels deep")

    def too_many(self, path: Path, most: int, count: int) -> None:
        """Notes that a list has more items than the contract lets it have; they are not looked at."""
        self.add(path, "TOO_MANY", f"must have at most {most} items; these are {count}")

    def settle(self) -> None:
        """Ends the reading.

        Raises:
            JsonRefused: something was noted.
        """
        if self.violations:
            raise JsonRefused(self.violations)


def path_text(path: Path) -> str:
    """The path as text: `lines[2].unit_price.amount`."""
    parts: list[str] = []
    while path is not None and path is not BODY:
        if len(path) == 1:
            parts.append(path[0])
            break
        parent = path[0]
        # A name may be a caller's: the key of free-form JSON.
        name = "" if parent is BODY else shown(path[1])
        if len(path) == 2:
            tail = ""
        elif isinstance(path[2], int):
            tail = f"[{path[2]}]"
        else:
            tail = f".{shown(path[2])}"
        parts.append(name + tail)
        path = parent
    text = ".".join(part for part in reversed(parts) if part)
    return text.replace(".[", "[")


def shown(text: str) -> str:
    """A caller's text, cut to a length fit for a message."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\\u0000")
    return clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "…"


def kind_of(value: Any) -> str:
    """What a parsed JSON value is, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float, Decimal)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "a list"
