"""What the judge looks at: the rows of the cloud and of the tablets that matter, as plain values. reading.py fills them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sold:
    """A sale in the cloud."""

    id: str
    till_id: str
    outlet_id: str
    number: str
    epoch: int
    op_seq: int
    total: int
    note: str
    quantities: dict[str, int]
    """Thousandths by product."""
    sold_at: float = 0.0
    """Seconds since 1970; 0 for unknown."""
    clock_state: int = 0
    day: str = ""
    """Which it counts for; empty for unknown, as the rest."""
    paid: int = 0
    device_at: float = 0.0
    """The wall clock of its till, and what was added to that."""
    offset_ms: int = 0
    reasons: tuple[str, ...] = ()
    """What its owner should know of it."""


@dataclass(frozen=True)
class Moved:
    """A movement of stock in the cloud."""

    outlet_id: str
    product_id: str
    quantity: int
    sale_id: str
    note: str
    reason: str = ""
    at: int = 0
    """When, in microseconds since 1970: the same for everything one transaction did."""


@dataclass(frozen=True)
class Goods:
    """A product, as either side has it."""

    name: str
    price: int
    barcodes: tuple[str, ...]
    is_active: bool
    is_archived: bool = False


@dataclass(frozen=True)
class Logged:
    """An event in the log of the cloud."""

    lane: str
    seq: int
    type: str
    subject_id: str
    on_hand: int | None = None
    """Of an inventory event."""
    outlet_id: str = ""
    version: int = 0
    goods: Goods | None = None
    """Of an event of a product."""
    at: int = 0
    """As Moved.at, of inventory events."""


@dataclass(frozen=True)
class Count:
    """A count of a shelf in the cloud; thousandths."""

    id: str
    till_id: str
    epoch: int
    op_seq: int
    outlet_id: str
    product_id: str
    counted: int
    expected: int
    difference: int
    seen_seq: int
    reasons: tuple[str, ...]
    note: str
    at: int
    """As Moved.at."""
    seen_epoch: int = 0
    """Of the lane, as the till named it; 0 where it stood nowhere."""


@dataclass(frozen=True)
class Said:
    """A count as its tablet has it."""

    op_id: str
    seen_seq: int
    seen_epoch: int
    shown: int | None
    """What the till says that it showed, in thousandths."""
    acknowledged: bool


@dataclass(frozen=True)
class Restored:
    """A lane began a new epoch, because the cloud noticed that it was put back to a backup."""

    lane: str
    epoch: int
    """Which began."""
    last_seq: int
    """Where the lane stood."""
    at: int
    """When it was noticed, as Moved.at."""


@dataclass(frozen=True)
class Conflict:
    """A value of a till that lost and was kept."""

    product_id: str
    field: str
    operation_id: str
    theirs: str
    """The value, as Act.value has it; of barcodes all, separated by spaces."""
    met_version: int = 0
    """Of the product, when it came."""
    is_changed: bool = True
    """It is said that somebody else has changed the field; otherwise the product was archived, or the code taken."""


@dataclass(frozen=True)
class Promise:
    """A reservation in the cloud."""

    id: str
    outlet_id: str
    external_id: str
    status: str
    quantities: dict[str, int]
    """Thousandths by product."""
    overdue: float
    """Seconds since its time was over; negative before."""


@dataclass(frozen=True)
class Aside:
    """An operation in quarantine."""

    till_id: str
    op_seq: int
    reason: str
    op_id: str = ""
    epoch: int = 0
    status: str = "open"


@dataclass(frozen=True)
class Edit:
    """A change of a product that a till has in its outbox, or had in an earlier life."""

    epoch: int
    op_seq: int
    op_id: str
    product_id: str
    field: str
    value: str
    base_version: int
    acknowledged: bool
    base_epoch: int = 0
    """Of the merchant's lane, in which the till had that version."""


@dataclass(frozen=True)
class Shelf:
    """The level of a product in an outlet, as either side has it."""

    on_hand: int
    reserved: int
    version: int


@dataclass
class Cloud:
    """Everything of one merchant, of one moment."""

    at: int = 0
    """That moment, in microseconds since 1970."""

    sales: list[Sold] = field(default_factory=list)
    movements: list[Moved] = field(default_factory=list)
    events: list[Logged] = field(default_factory=list)
    heads: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Epoch, last position and floor by lane."""
    restores: list[Restored] = field(default_factory=list)
    levels: dict[tuple[str, str], Shelf] = field(default_factory=dict)
    """By outlet and product."""
    products: dict[str, Goods] = field(default_factory=dict)
    stores: dict[tuple[str, int], int] = field(default_factory=dict)
    """Watermark by till and life of its store."""
    quarantined: list[Aside] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    """By lane, the last position that concerns tills."""
    zones: dict[str, str] = field(default_factory=dict)
    """Of each outlet."""
    commands: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Till, status and what was said of each command."""
    answered: dict[str, int] = field(default_factory=dict)
    """How many rows each idempotency key of REST has."""


@dataclass
class TabletFiles:
    """What is in the files of one tablet."""

    name: str
    till_id: str
    outlet_id: str
    epoch: int = 0
    last_op_seq: int = 0
    operations: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """Operation and whether it is acknowledged, by number."""
    sales: dict[str, str] = field(default_factory=dict)
    """Receipt number by sale."""
    lanes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Epoch, position and watermark by lane."""
    products: dict[str, Goods] = field(default_factory=dict)
    levels: dict[str, Shelf] = field(default_factory=dict)
    deltas: list[tuple[int, str, int]] = field(default_factory=list)
    """Own changes of the stock: operation, product, thousandths."""
    kinds: dict[int, str] = field(default_factory=dict)
    """What each operation is."""
    edits: list[Edit] = field(default_factory=list)
    counts: dict[str, Said] = field(default_factory=dict)
    """Counts of shelves by operation, of earlier lives as well."""
    told_aside: dict[str, str] = field(default_factory=dict)
    """Why the cloud put an operation aside, as the tablet was told, by op_id."""
    past: dict[str, int] = field(default_factory=dict)
    """Operations of earlier lives, and which life."""


@dataclass(frozen=True)
class Made:
    """A sale of the outside client."""

    op_seq: int
    id: str
    number: str
    product: str
    quantity: int
    """Thousandths."""
    at: int
    """Seconds since 1970; 0 for one whose till said that its clock is wrong."""
    made_at: float = 0.0
    """When it was, then."""


@dataclass
class Outside:
    """What a client of the link that is none of ours has seen, and sold."""

    files: TabletFiles
    broken: list[str] = field(default_factory=list)
    """What was against the contract."""
    till_id: str = ""
    outlet_id: str = ""
    life: int = 0
    told: int = 0
    """Up to where it was told that the cloud has its operations."""
    told_at: float = 0.0
    """Of the monotonic clock."""
    made: list[Made] = field(default_factory=list)


def dump(value: object) -> str:
    """A value for a line of evidence."""
    return json.dumps(value, default=str, sort_keys=True)[:600]
