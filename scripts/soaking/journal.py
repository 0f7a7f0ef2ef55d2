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
    outlet_id: str = ""
    paid: int = 0
    """What was handed over."""


@dataclass
class Act:
    """Something else a till was asked to do: a shelf was counted, or a product changed."""

    kind: str
    """"count" or "edit"."""
    tablet: str
    till_id: str
    key: str
    """Of a count: its note. Nobody else uses it."""
    product_id: str
    field: str = ""
    """Of an edit: "name", "price" or "barcodes"."""
    value: str = ""
    """What was counted, in thousandths, or the new value. Values of edits are never used twice."""
    done: float = 0.0
    """When it was acknowledged; 0 for not (yet)."""
    refused: str = ""


@dataclass(frozen=True)
class Poison:
    """An operation nobody can store, put into the outbox of a till from outside."""

    tablet: str
    till_id: str
    op_id: str
    kind: str


@dataclass
class Fact:
    """Something REST was asked to do."""

    kind: str
    """"sale", "adjust", "price", "product", "archive", "reserve", "release", "fulfil" or "command"."""
    key: str
    outlet_id: str = ""
    product_id: str = ""
    quantity: int = 0
    """Thousandths."""
    price: int = 0
    about: str = ""
    """The id of what was made or is meant, where that is no product."""
    began: float = 0.0
    done: float = 0.0
    """When it was acknowledged; 0 for not (yet)."""
    refused: str = ""
    """Why REST said no."""
    is_void: bool = False
    """Acknowledged after the backup that took its place: it may be gone."""


@dataclass(frozen=True)
class Place:
    """Where a tablet was seen to stand in its outlet's lane."""

    tablet: str
    till_id: str
    life: int
    epoch: int
    seq: int
    watermark: int


@dataclass(frozen=True)
class Shown:
    """A value a product once had, from an event that has left the log since."""

    product_id: str
    name: str
    price: int
    barcodes: tuple[str, ...]
    at: float
    """When it was noted; of the monotonic clock."""


@dataclass
class Journal:
    """Everything that was acknowledged, in order, also written to a file as it happens."""

    path: Path
    receipts: list[Receipt] = field(default_factory=list)
    scarce: str = ""
    """A product of which there is never more promised than there is."""
    refused: dict[str, str] = field(default_factory=dict)
    """Checkouts a till has refused, by key: nothing may have been sold."""
    strange: list[str] = field(default_factory=list)
    """What the driver saw that may never happen."""
    facts: list[Fact] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    poisons: list[Poison] = field(default_factory=list)
    forked: dict[str, float] = field(default_factory=dict)
    """Tills of which there have been two copies, and when: their receipt numbers cannot be told apart."""
    forgot: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tablets that were put back to an image of themselves: how many receipts and acts there were by then."""
    history: list[Shown] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)
    """Where tablets were seen to stand in between."""
    backup_at: float = 0.0
    """When the newest backup was begun."""
    restored_at: float = 0.0
    """When it last took the place of the database."""
    undone: list[int] = field(default_factory=list)
    """Every time it did, in microseconds since 1970."""

    def saw(self, tablet: str, till_id: str, life: int, place: tuple[int, int, int]) -> None:
        """A tablet was seen at a place."""
        self.places.add(Place(tablet, till_id, life, *place))

    def note(self, what: str, value: object) -> None:
        """Writes a line for those who look for the cause."""
        shown: Any = asdict(value) if isinstance(value, Receipt | Fact | Act | Poison) else value
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

    def put_back(self, tablet: str, till_id: str) -> None:
        """A tablet is as it was when its image was made. Another could be, too: nothing tells it from two of them."""
        self.forked.setdefault(till_id, 0.0)
        self.forgot[tablet] = (len(self.receipts), len(self.acts))
        self.note("put back", tablet)

    def restored(self) -> None:
        """The database is as it was at the last backup."""
        self.restored_at = time.monotonic()
        self.undone.append(time.time_ns() // 1000)
        for fact in self.facts:
            if fact.done >= self.backup_at:
                fact.is_void = True
        self.history = [shown for shown in self.history if shown.at < self.backup_at]
        self.note("restored", self.backup_at)
