"""What the outside world was told: receipts of tills and facts that REST acknowledged. Kept by the driver, read by the judge."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Receipt:
    """A sale a till has answered with success: the customer has the paper."""

    tablet: str
    till_id: str
    key: str
    """Of the request."""
    sale_id: str
    number: str
    total: int
    quantities: dict[str, int]
    """Thousandths by product."""
    asked_at: float = 0.0
    """When the checkout was first asked for, and when it was answered; seconds since 1970."""
    given_at: float = 0.0


@dataclass
class Fact:
    """Something REST was asked to do."""

    kind: str
    """"sale", "adjust", "price" or "product"."""
    key: str
    outlet_id: str = ""
    product_id: str = ""
    quantity: int = 0
    """Thousandths."""
    price: int = 0
    began: float = 0.0
    done: float = 0.0
    """When it was acknowledged; 0 for not (yet)."""
    refused: str = ""
    """Why REST said no."""
    is_void: bool = False
    """Acknowledged after the backup that took its place: it may be gone."""


@dataclass
class Journal:
    """Everything that was acknowledged, in order, also written to a file as it happens."""

    path: Path
    receipts: list[Receipt] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Checkouts a till has refused, by key: nothing may have been sold."""
    strange: list[str] = field(default_factory=list)
    """What the driver saw that may never happen."""
    facts: list[Fact] = field(default_factory=list)
    forked: set[str] = field(default_factory=set)
    """Tills of which there have been two copies: their receipt numbers cannot be told apart."""
    backup_at: float = 0.0
    """When the newest backup was begun."""
    restored_at: float = 0.0
    """When it last took the place of the database."""

    def note(self, what: str, value: object) -> None:
        """Writes a line for those who look for the cause."""
        shown: Any = asdict(value) if isinstance(value, Receipt | Fact) else value
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": round(time.time(), 3), "what": what, "value": shown}) + "\n")

    def sold(self, receipt: Receipt) -> None:
        """A till gave a receipt."""
        self.receipts.append(receipt)
        self.note("receipt", receipt)

    def refuse(self, key: str, why: str) -> None:
        """A till refused a checkout for good."""
        self.refused[key] = why
        self.note("refused", [key, why])

    def wonder(self, sentence: str) -> None:
        """Something that may never happen was seen."""
        self.strange.append(sentence)
        self.note("strange", sentence)

    def restored(self) -> None:
        """The database is as it was at the last backup."""
        self.restored_at = time.monotonic()
        for fact in self.facts:
            if fact.done >= self.backup_at:
                fact.is_void = True
        self.note("restored", self.backup_at)
