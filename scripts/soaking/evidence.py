"""What the judge looks at: rows of PostgreSQL and of the tablets' SQLite files, read with plain SQL and nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import asyncpg

from scripts.soaking.wire import Message, thousandths

OPENING = "opening"


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


@dataclass(frozen=True)
class Moved:
    """A movement of stock in the cloud."""

    outlet_id: str
    product_id: str
    quantity: int
    sale_id: str
    note: str


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


@dataclass(frozen=True)
class Goods:
    """A product, as either side has it."""

    name: str
    price: int
    barcodes: tuple[str, ...]
    is_active: bool
    is_archived: bool = False


@dataclass(frozen=True)
class Shelf:
    """The level of a product in an outlet, as either side has it."""

    on_hand: int
    reserved: int
    version: int


@dataclass
class Cloud:
    """Everything of one merchant, of one moment."""

    sales: list[Sold] = field(default_factory=list)
    movements: list[Moved] = field(default_factory=list)
    events: list[Logged] = field(default_factory=list)
    heads: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Epoch, last position and floor by lane."""
    levels: dict[tuple[str, str], Shelf] = field(default_factory=dict)
    """By outlet and product."""
    products: dict[str, Goods] = field(default_factory=dict)
    stores: dict[tuple[str, int], int] = field(default_factory=dict)
    """Watermark by till and life of its store."""
    quarantined: list[tuple[str, int, str]] = field(default_factory=list)
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


async def read_cloud(dsn: str, tenant_id: str) -> Cloud:
    """Reads one moment of the cloud's database."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, tenant_id)
    finally:
        await connection.close()


async def _read(connection: asyncpg.Connection, tenant: str) -> Cloud:
    cloud = Cloud()
    ask = connection.fetch
    query = "SELECT id, till_id, outlet_id, number, store_epoch, op_seq, total, body, sold_at, clock_state FROM sales"
    for row in await ask(f"{query} WHERE tenant_id = $1", tenant):
        body = Message(row["body"])
        cloud.sales.append(
            Sold(
                id=row["id"],
                till_id=row["till_id"],
                outlet_id=row["outlet_id"],
                number=row["number"],
                epoch=row["store_epoch"],
                op_seq=row["op_seq"],
                total=row["total"],
                note=body.text(24),
                quantities=_quantities(Message(line) for line in body.many(10)),
                sold_at=row["sold_at"].timestamp(),
                clock_state=row["clock_state"],
            )
        )
    query = "SELECT outlet_id, product_id, quantity, sale_id, note FROM movements WHERE tenant_id = $1"
    cloud.movements = [Moved(*row) for row in await ask(query, tenant)]
    query = "SELECT lane, seq, type, subject_id, body, outlet_id FROM events WHERE tenant_id = $1 ORDER BY lane, seq"
    for row in await ask(query, tenant):
        on_hand = thousandths(Message(row["body"]).text(3)) if row["type"] == "inventory.updated" else None
        cloud.events.append(Logged(row["lane"], row["seq"], row["type"], row["subject_id"], on_hand, row["outlet_id"]))
    query = "SELECT lane, epoch, last_seq, floor_seq FROM log_heads WHERE tenant_id = $1"
    cloud.heads = {row[0]: (row[1], row[2], row[3]) for row in await ask(query, tenant)}
    query = "SELECT outlet_id, product_id, on_hand, reserved, version FROM levels WHERE tenant_id = $1"
    cloud.levels = {(row[0], row[1]): Shelf(row[2], row[3], row[4]) for row in await ask(query, tenant)}
    query = "SELECT id, name, price, barcodes, active, deleted_at FROM products WHERE tenant_id = $1"
    for row in await ask(query, tenant):
        cloud.products[row[0]] = Goods(row[1], row[2], tuple(sorted(row[3])), row[4], row[5] is not None)
    query = "SELECT till_id, store_epoch, op_watermark FROM till_stores WHERE tenant_id = $1"
    cloud.stores = {(row[0], row[1]): row[2] for row in await ask(query, tenant)}
    query = "SELECT till_id, op_seq, reason FROM quarantined_operations WHERE tenant_id = $1"
    cloud.quarantined = [(row[0], row[1], row[2]) for row in await ask(query, tenant)]
    query = "SELECT key, count(*) FROM idempotency_keys WHERE tenant_id = $1 GROUP BY key"
    cloud.answered = {row[0]: row[1] for row in await ask(query, tenant)}
    return cloud


def _quantities(lines: Iterable[Message]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        product = line.text(2)
        found[product] = found.get(product, 0) + thousandths(line.text(4))
    return found


def read_tablet(folder: Path, name: str, till_id: str, outlet_id: str) -> TabletFiles:
    """Reads the files of a tablet whose daemon may be running.

    Raises:
        apsw.Error: a file cannot be read.
    """
    found = TabletFiles(name, till_id, outlet_id)
    with closing(_open(folder / "store.db")) as store, store:
        facts = {str(name): value for name, value in store.execute("SELECT name, value FROM facts")}
        found.epoch, found.last_op_seq = int(str(facts.get("store_epoch", 0))), int(str(facts.get("last_op_seq", 0)))
        for op_seq, op_id, acknowledged in store.execute("SELECT op_seq, op_id, acknowledged_at FROM operations"):
            found.operations[op_seq] = (op_id, acknowledged is not None)
        found.sales = {str(sale): str(number) for sale, number in store.execute("SELECT id, number FROM sales")}
        found.deltas = [
            (op_seq, product, delta)
            for op_seq, product, delta in store.execute("SELECT op_seq, product_id, delta FROM pending_deltas")
        ]
    with closing(_open(folder / "replica.db")) as replica, replica:
        for lane, epoch, seq, watermark in replica.execute("SELECT lane, epoch, seq, op_watermark FROM lanes"):
            found.lanes[lane] = (epoch, seq, watermark)
        for product_id, archived, body in replica.execute("SELECT id, archived, body FROM products"):
            message = Message(body)
            found.products[product_id] = Goods(
                name=message.text(2),
                price=Message(message.raw(7)).number(1),
                barcodes=tuple(sorted(code.decode() for code in message.many(4))),
                is_active=bool(message.number(11, 1)),
                is_archived=bool(archived),
            )
        query = "SELECT product_id, body FROM levels WHERE outlet_id = ?"
        for product_id, body in replica.execute(query, (outlet_id,)):
            message = Message(body)
            found.levels[product_id] = Shelf(thousandths(message.text(3)), thousandths(message.text(4)), message.number(6))
    return found


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    return connection


def dump(value: object) -> str:
    """A value for a line of evidence."""
    return json.dumps(value, default=str, sort_keys=True)[:600]
