"""Reads the evidence: PostgreSQL and the tablets' SQLite files with plain SQL and our own few lines; nothing of ours decodes."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import asyncpg

from scripts.soaking.evidence import (
    Aside,
    Cloud,
    Conflict,
    Count,
    Edit,
    Goods,
    Logged,
    Made,
    Moved,
    Outside,
    Promise,
    Restored,
    Said,
    Shelf,
    Sold,
    TabletFiles,
)
from scripts.soaking.selling import SOLD
from scripts.soaking.wire import Message, thousandths

PRODUCTS = ("product.created", "product.updated", "product.deleted")
LEVELS = ("inventory.updated",)
"""The events that concern tills, of the merchant's lane and of an outlet's. (What online channels may sell is announced in the
merchant's lane, under the name of levels.)"""
_START = datetime(1970, 1, 1, tzinfo=UTC)
_EDITS = ("name", "price", "barcodes")
_CHANGED = 1
"""ConflictReason in catalog.proto: somebody else has changed it."""


async def read_cloud(dsn: str, tenant_id: str, *, places_only: bool = False) -> Cloud:
    """Reads one moment of the cloud's database; only how far everybody is with `places_only`."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            cloud = Cloud(at=time.time_ns() // 1000)
            await _places(connection, tenant_id, cloud)
            if not places_only:
                await _facts(connection, tenant_id, cloud)
                await _log(connection, tenant_id, cloud)
                await _states(connection, tenant_id, cloud)
            return cloud
    finally:
        await connection.close()


async def _places(connection: asyncpg.Connection, tenant: str, cloud: Cloud) -> None:
    ask = connection.fetch
    query = "SELECT lane, epoch, last_seq, floor_seq FROM log_heads WHERE tenant_id = $1"
    cloud.heads = {row[0]: (row[1], row[2], row[3]) for row in await ask(query, tenant)}
    query = "SELECT max(seq) FROM events WHERE tenant_id = $1 AND lane = $2 AND type = ANY($3)"
    for lane in cloud.heads:
        types = list(PRODUCTS if lane == "tenant" else LEVELS)
        cloud.newest[lane] = (await connection.fetchval(query, tenant, lane, types)) or 0
    query = "SELECT till_id, store_epoch, op_watermark FROM till_stores WHERE tenant_id = $1"
    cloud.stores = {(row[0], row[1]): row[2] for row in await ask(query, tenant)}
    query = "SELECT id, till_id, status, message FROM till_commands WHERE tenant_id = $1"
    cloud.commands = {row[0]: (row[1], row[2], row[3]) for row in await ask(query, tenant)}


async def _facts(connection: asyncpg.Connection, tenant: str, cloud: Cloud) -> None:
    ask = connection.fetch
    query = (
        "SELECT id, till_id, outlet_id, number, store_epoch, op_seq, total, body, sold_at, clock_state,"
        " business_date::text AS day, device_clock, clock_offset_ms FROM sales WHERE tenant_id = $1"
    )
    for row in await ask(query, tenant):
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
                day=row["day"],
                paid=sum(Message(Message(each).raw(2)).number(1) for each in body.many(13)),
                device_at=row["device_clock"].timestamp() if row["device_clock"] else 0.0,
                offset_ms=row["clock_offset_ms"] or 0,
                reasons=tuple(each.decode() for each in body.many(29)),
            )
        )
    query = "SELECT outlet_id, product_id, quantity, sale_id, note, reason, created_at FROM movements WHERE tenant_id = $1"
    cloud.movements = [Moved(row[0], row[1], row[2], row[3], row[4], row[5], _moment(row[6])) for row in await ask(query, tenant)]
    query = (
        "SELECT id, till_id, store_epoch, op_seq, outlet_id, product_id, counted, expected, difference, seen_seq,"
        " seen_epoch, review_reasons, note, created_at FROM stock_counts WHERE tenant_id = $1"
    )
    for row in await ask(query, tenant):
        values = {**row, "epoch": row["store_epoch"], "reasons": tuple(row["review_reasons"]), "at": _moment(row["created_at"])}
        cloud.counts.append(Count(**{each.name: values[each.name] for each in dataclasses.fields(Count)}))
    query = "SELECT lane, epoch, last_seq, noticed_at FROM log_restores WHERE tenant_id = $1"
    cloud.restores = [Restored(row[0], row[1], row[2], _moment(row[3])) for row in await ask(query, tenant)]
    query = "SELECT till_id, op_seq, reason, operation, store_epoch, status FROM quarantined_operations WHERE tenant_id = $1"
    for row in await ask(query, tenant):
        cloud.quarantined.append(Aside(row[0], row[1], row[2], Message(row[3]).text(2), row[4], row[5]))


async def _log(connection: asyncpg.Connection, tenant: str, cloud: Cloud) -> None:
    query = "SELECT lane, seq, type, subject_id, body, outlet_id, version, occurred_at FROM events WHERE tenant_id = $1"
    for lane, seq, kind, subject, body, outlet, version, at in await connection.fetch(f"{query} ORDER BY lane, seq", tenant):
        if kind == "inventory.updated":
            on_hand = thousandths(Message(body).text(3))
            cloud.events.append(Logged(lane, seq, kind, subject, on_hand, outlet, version, at=_moment(at)))
        elif kind in PRODUCTS:
            made = goods(Message(body), is_archived=kind == "product.deleted")
            cloud.events.append(Logged(lane, seq, kind, subject, None, outlet, version, made))
        else:
            cloud.events.append(Logged(lane, seq, kind, subject, None, outlet, version))


async def _states(connection: asyncpg.Connection, tenant: str, cloud: Cloud) -> None:
    ask = connection.fetch
    query = "SELECT outlet_id, product_id, on_hand, reserved, version FROM levels WHERE tenant_id = $1"
    cloud.levels = {(row[0], row[1]): Shelf(row[2], row[3], row[4]) for row in await ask(query, tenant)}
    query = "SELECT id, name, price, barcodes, active, deleted_at FROM products WHERE tenant_id = $1"
    for row in await ask(query, tenant):
        cloud.products[row[0]] = Goods(row[1], row[2], tuple(sorted(row[3])), row[4], row[5] is not None)
    query = "SELECT product_id, field, operation_id, theirs, met_version, reason FROM product_conflicts WHERE tenant_id = $1"
    for row in await ask(query, tenant):
        kept = _kept(row[1], Message(row[3]))
        cloud.conflicts.append(Conflict(row[0], row[1], row[2], kept, row[4], is_changed=row[5] == _CHANGED))
    query = (
        "SELECT id, outlet_id, external_id, status, product_ids, quantities, extract(epoch FROM now() - expires_at)"
        " FROM reservations WHERE tenant_id = $1"
    )
    for row in await ask(query, tenant):
        cloud.promises.append(Promise(row[0], row[1], row[2], row[3], dict(zip(row[4], row[5], strict=True)), float(row[6])))
    cloud.zones = {row[0]: row[1] for row in await ask("SELECT id, time_zone FROM outlets WHERE tenant_id = $1", tenant)}
    query = "SELECT key, count(*) FROM idempotency_keys WHERE tenant_id = $1 GROUP BY key"
    cloud.answered = {row[0]: row[1] for row in await ask(query, tenant)}


def _moment(at: datetime) -> int:
    return (at - _START) // timedelta(microseconds=1)


def goods(message: Message, *, is_archived: bool) -> Goods:
    """A product out of its message."""
    return Goods(
        name=message.text(2),
        price=Message(message.raw(7)).number(1),
        barcodes=tuple(sorted(code.decode() for code in message.many(4))),
        is_active=bool(message.number(11, 1)),
        is_archived=is_archived,
    )


def _kept(field: str, values: Message) -> str:
    if field == "price":
        return str(Message(values.raw(5)).number(1))
    return values.text(1) if field == "name" else " ".join(code.decode() for code in values.many(2))


def _quantities(lines: Iterable[Message]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        product = line.text(2)
        found[product] = found.get(product, 0) + thousandths(line.text(4))
    return found


def read_tablet(folder: Path, name: str, till_id: str, outlet_id: str, *, places_only: bool = False) -> TabletFiles:
    """Reads the files of a tablet whose daemon may be running; only how far it is with `places_only`.

    Raises:
        apsw.Error: a file cannot be read.
    """
    found = TabletFiles(name, till_id, outlet_id)
    with closing(_open(folder / "store.db")) as store, store:
        facts = {str(name): value for name, value in store.execute("SELECT name, value FROM facts")}
        found.epoch, found.last_op_seq = int(str(facts.get("store_epoch", 0))), int(str(facts.get("last_op_seq", 0)))
        for op_seq, op_id, acknowledged, kind, reason in store.execute(
            "SELECT op_seq, op_id, acknowledged_at, kind, quarantine_reason FROM operations"
        ):
            found.operations[op_seq] = (op_id, acknowledged is not None)
            found.kinds[op_seq] = kind
            if reason is not None:
                found.told_aside[op_id] = reason
        if not places_only:
            _read_store(store, found)
    with closing(_open(folder / "replica.db")) as replica, replica:
        for lane, epoch, seq, watermark in replica.execute("SELECT lane, epoch, seq, op_watermark FROM lanes"):
            found.lanes[lane] = (epoch, seq, watermark)
        if not places_only:
            _read_replica(replica, found)
    return found


def read_outside(folder: Path, outlet_id: str) -> Outside:
    """What the outside client holds, and what it says was broken."""
    found = TabletFiles("the outside client", "", outlet_id)
    with suppress(FileNotFoundError):
        state = json.loads((folder / "probe.json").read_text())
        found.lanes = {name: (epoch, seq, 0) for name, (epoch, seq) in state["lanes"].items()}
        found.products = {key: Goods(**{**each, "barcodes": tuple(each["barcodes"])}) for key, each in state["products"].items()}
        found.levels = {key: Shelf(*each) for key, each in state["levels"].items()}
    broken = []
    with suppress(FileNotFoundError):
        broken = [json.loads(line) for line in (folder / "probe-broken.jsonl").read_text().splitlines()]
    outside = Outside(found, broken)
    with suppress(FileNotFoundError):
        for line in (folder / SOLD).read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                _take(outside, json.loads(line))
    return outside


def _take(outside: Outside, said: dict[str, Any]) -> None:
    """A line of what it made and was told."""
    if "told" in said:
        outside.told, outside.told_at = said["told"], said["when"]
    elif "till" in said:
        outside.till_id, outside.outlet_id, outside.life = said["till"], said["outlet"], said["epoch"]
    else:
        outside.made.append(Made(**said))


def read_staged(folder: Path) -> int:
    """How many pieces of snapshots a tablet keeps aside.

    Raises:
        apsw.Error: the file cannot be read.
    """
    with closing(_open(folder / "replica.db")) as replica:
        value = replica.execute("SELECT count(*) FROM staged").get
    return int(value) if isinstance(value, int) else 0


def read_lane(folder: Path, lane: str) -> tuple[int, int, int] | None:
    """Epoch, position and watermark of a lane on a tablet.

    Raises:
        apsw.Error: the file cannot be read.
    """
    found = None
    with closing(_open(folder / "replica.db")) as replica, replica:
        for epoch, seq, watermark in replica.execute("SELECT epoch, seq, op_watermark FROM lanes WHERE lane = ?", (lane,)):
            found = (epoch, seq, watermark)
    return found


def read_shelf(folder: Path, lane: str, product_id: str) -> tuple[int, int, int, int] | None:
    """Position, watermark, level (thousandths) and what the tablet has done above the watermark, of a product in its outlet.

    None where it stands nowhere.

    Raises:
        apsw.Error: a file cannot be read.
    """
    place = read_lane(folder, lane)
    if place is None:
        return None
    with closing(_open(folder / "replica.db")) as replica:
        body = replica.execute("SELECT body FROM levels WHERE outlet_id = ? AND product_id = ?", (lane, product_id)).get
    with closing(_open(folder / "store.db")) as store:
        query = "SELECT coalesce(sum(delta), 0) FROM pending_deltas WHERE product_id = ? AND op_seq > ?"
        done = store.execute(query, (product_id, place[2])).get
    level = thousandths(Message(body).text(3)) if isinstance(body, bytes) else 0
    return place[1], place[2], level, done if isinstance(done, int) else 0


def read_life(folder: Path) -> int:
    """The life whose operations the copies of a tablet speak of.

    Raises:
        apsw.Error: the file cannot be read.
    """
    with closing(_open(folder / "replica.db")) as replica:
        value = replica.execute("SELECT value FROM facts WHERE name = 'store_epoch'").get
    return int(value) if isinstance(value, bytes | str) else 0


def read_receipts(folder: Path) -> int:
    """The count of the last receipt a tablet has given or heard of.

    Raises:
        apsw.Error: the file cannot be read.
    """
    with closing(_open(folder / "store.db")) as store:
        value = store.execute("SELECT value FROM facts WHERE name = 'last_receipt_seq'").get
    return int(value) if isinstance(value, bytes | str | int) else 0


def _read_store(store: apsw.Connection, found: TabletFiles) -> None:
    found.sales = {str(sale): str(number) for sale, number in store.execute("SELECT id, number FROM sales")}
    found.deltas = [
        (op_seq, product, delta)
        for op_seq, product, delta in store.execute("SELECT op_seq, product_id, delta FROM pending_deltas")
    ]
    query = "SELECT op_seq, op_id, body, acknowledged_at IS NOT NULL FROM operations WHERE kind = ?"
    found.edits = [edit for row in store.execute(query, ("product_edited",)) for edit in _edits(found.epoch, *row)]
    for _, op_id, body, acknowledged in store.execute(query, ("stock_counted",)):
        found.counts[op_id] = _said(op_id, body, acknowledged=bool(acknowledged))
    for epoch, op_seq, op_id, kind, body in store.execute(
        "SELECT store_epoch, op_seq, op_id, kind, body FROM past_operations ORDER BY store_epoch, op_seq"
    ):
        found.past[op_id] = epoch
        if kind == "product_edited":
            found.edits += _edits(epoch, op_seq, op_id, body, acknowledged=True)
        elif kind == "stock_counted":
            found.counts[op_id] = _said(op_id, body, acknowledged=True)


def _said(op_id: str, body: bytes, *, acknowledged: bool) -> Said:
    operation = Message(body)
    counted = Message(operation.raw(11))
    shown = thousandths(counted.text(4)) if counted.has(4) else None
    return Said(op_id, operation.number(5), operation.number(6), shown, acknowledged)


def _edits(epoch: int, op_seq: int, op_id: str, body: bytes, acknowledged: bool) -> list[Edit]:
    edited = Message(Message(body).raw(12))
    product = Message(edited.raw(1))
    values = {
        "name": product.text(2),
        "price": str(Message(product.raw(7)).number(1)),
        "barcodes": " ".join(code.decode() for code in product.many(4)),
    }
    named = [name.decode() for name in edited.many(2)]
    return [
        Edit(epoch, op_seq, op_id, product.text(1), name, values[name], edited.number(3), bool(acknowledged), edited.number(4))
        for name in named
        if name in _EDITS
    ]


def _read_replica(replica: apsw.Connection, found: TabletFiles) -> None:
    for product_id, archived, body in replica.execute("SELECT id, archived, body FROM products"):
        found.products[product_id] = goods(Message(body), is_archived=bool(archived))
    query = "SELECT product_id, body FROM levels WHERE outlet_id = ?"
    for product_id, body in replica.execute(query, (found.outlet_id,)):
        message = Message(body)
        found.levels[product_id] = Shelf(thousandths(message.text(3)), thousandths(message.text(4)), message.number(6))


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    return connection
