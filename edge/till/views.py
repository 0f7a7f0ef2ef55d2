"""What the local API prints: plain JSON values made of rows, messages and states. Pure."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from edge import words
from edge.link.status import LinkStatus
from edge.storage.clocks import moment
from edge.storage.lanes import Position
from edge.storage.outbox import Standing, Unsent
from edge.storage.policies import Rules
from edge.storage.print_jobs import PrintRow
from edge.storage.sales import RecordedSale
from edge.storage.times import Reading
from edge.till.cart import CartView
from edge.till.stock import ShownStock
from edge.words import Said
from gipos.edge.v1.link_pb2 import ClockState
from gipos.v1.catalog_pb2 import Product
from kernel import protojson, quantities

_CART_FIELDS = ("lines", "taxes", "prices_include_tax", "subtotal", "discount_total", "tax_total", "total")
_LINE_FIELDS = ("product_id", "name", "quantity", "unit", "unit_price", "tax_class", "subtotal", "tax", "total")


def cart(view: CartView) -> dict[str, Any]:
    """The open cart."""
    sale = protojson.to_dict(view.sale)
    shown = {name: sale[name] for name in _CART_FIELDS if name in sale}
    shown["lines"] = [{name: line[name] for name in _LINE_FIELDS if name in line} for line in sale["lines"]]
    return shown


def receipt(job: PrintRow) -> dict[str, Any]:
    """A print job."""
    shown: dict[str, Any] = {"key": job.key, "sale_id": job.sale_id, "copy": job.copy, "state": job.state}
    if job.problem:
        shown["problem"] = job.problem
    return shown


def recorded_sale(recorded: RecordedSale, jobs: list[PrintRow]) -> dict[str, Any]:
    """A sale, how far its upload is, and its receipts."""
    state = "quarantined" if recorded.quarantine_reason else "uploaded" if recorded.uploaded else "waiting"
    upload: dict[str, Any] = {"state": state, "op_seq": recorded.op_seq}
    if recorded.quarantine_reason:
        upload["reason"] = recorded.quarantine_reason
    return {"sale": protojson.to_dict(recorded.sale), "upload": upload, "receipts": [receipt(job) for job in jobs]}


def product(found: Product) -> Any:
    """A product as a cashier may see it: without what the merchant pays for it."""
    shown = Product()
    shown.CopyFrom(found)
    shown.ClearField("cost")
    return protojson.to_dict(shown)


def stock(shown: ShownStock) -> dict[str, Any]:
    """The stock of one product."""
    return {
        "product_id": shown.product_id,
        "outlet_id": shown.outlet_id,
        "on_hand": quantities.text(shown.on_hand),
        "reserved": quantities.text(shown.reserved),
        "available": quantities.text(shown.on_hand - shown.reserved),
        "pending": quantities.text(shown.pending),
    }


def link(status: LinkStatus, waiting: int) -> dict[str, Any]:
    """The network as a cashier should know it; waiting counts what the cloud does not have yet. Without trouble no message."""
    unsent = words.UNSENT.filled(count=waiting) if waiting else words.ALL_SENT
    shown = {
        "state": status.state.value,
        "label": _said(words.STATES[status.state.value]),
        "since": status.since,
        "waiting": waiting,
        "unsent": _said(unsent),
        "last_error": status.message.text,
    }
    return shown if status.message == words.NOTHING else {**shown, "message": _said(status.message)}


def positions(places: dict[str, Position]) -> list[dict[str, Any]]:
    """Where the copy of the cloud's data stands."""
    return [
        {"lane": lane, "epoch": place.epoch, "seq": place.seq, "op_watermark": place.op_watermark}
        for lane, place in sorted(places.items())
    ]


def clock(reading: Reading) -> dict[str, Any]:
    """What time the till believes it is, and how sure it is."""
    return {
        "time": _time(reading.now_ms),
        "state": ClockState.Name(reading.state).removeprefix("CLOCK_STATE_").lower(),
        "offset_ms": reading.offset_ms,
        "uncertainty_ms": reading.uncertainty_ms,
    }


def unsent(sales: Unsent, standing: Standing, folder: Path) -> dict[str, Any]:
    """What only this tablet has, and how to carry it out of it before anything is wiped."""
    shown: dict[str, Any] = {
        "operations": standing.waiting,
        "sales": sales.sales,
        "amount": sales.amount,
        "export_command": f"python -m edge export --data {shlex.quote(str(folder))} --to penjualan.jsonl",
    }
    if standing.oldest_waiting_ms:
        shown["oldest_time"] = _time(standing.oldest_waiting_ms)
    return shown


def rules(found: Rules) -> dict[str, Any]:
    """What the owner allows without the cloud; 0 is no limit. Never the hashes of the PINs."""
    return {
        "version": found.version,
        "longest_hours": found.longest_hours,
        "most_sales": found.most_sales,
        "most_amount": found.most_amount,
        "tenders": sorted(found.tenders),
        "override_minutes": found.override_minutes if found.supervisor_pins else 0,
    }


def _said(one: Said) -> dict[str, str]:
    return {"id": one.indonesian, "en": one.english}


def _time(ms: int) -> str:
    return moment(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
