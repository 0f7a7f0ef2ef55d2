"""What the owner should hear of and no operation of its own tells: refusals and overrides. They travel with the next sale."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import apsw

from edge.storage import facts
from edge.storage.clocks import moment
from gipos.v1.sales_pb2 import Sale
from kernel import business_days

OVERRIDE = "OFFLINE_LIMIT_LIFTED"
REFUSED = "OFFLINE_SALE_REFUSED"
OVER_LIMIT = "OFFLINE_LIMIT_PASSED"
PRICE_TYPED = "PRICE_TYPED"
_WORDS = {
    OVERRIDE: "batas offline dibuka dengan PIN supervisor",
    REFUSED: "penjualan ditolak karena batas offline",
    OVER_LIMIT: "dijual di atas batas offline",
    PRICE_TYPED: "harga diketik kasir",
}
"""For the owner, in the note of the sale."""
MOST_NOTE = 1000


@dataclass
class Remark:
    """One kind of thing that happened, and how often."""

    reason: str
    first_ms: int
    count: int = 1


def waiting(connection: apsw.Connection) -> list[Remark]:
    """What the next sale will tell."""
    return [Remark(**kept) for kept in json.loads(facts.text(connection, facts.REMARKS, "[]"))]


def add(connection: apsw.Connection, reason: str, now_ms: int) -> None:
    """Notes something for the next sale. The same again is counted."""
    kept = waiting(connection)
    same = next((remark for remark in kept if remark.reason == reason), None)
    if same is None:
        kept.append(Remark(reason, now_ms))
    else:
        same.count += 1
    facts.put(connection, facts.REMARKS, json.dumps([asdict(remark) for remark in kept]))


def attach(connection: apsw.Connection, sale: Sale, time_zone: str, *own: str) -> None:
    """Puts what waits, and reasons of the sale's own, on the sale: as review reasons, and in words in its note."""
    told = []
    for remark in waiting(connection):
        at = business_days.local_time(moment(remark.first_ms), time_zone)
        times = f" {remark.count} kali" if remark.count > 1 else ""
        told.append((remark.reason, f"{_WORDS[remark.reason]}{times} ({at:%d-%m-%Y %H.%M})"))
    told += [(reason, _WORDS[reason]) for reason in own]
    if not told:
        return
    sale.review_reasons.extend(dict.fromkeys(reason for reason, _ in told))
    words = "[" + "; ".join(text for _, text in told) + "]"
    sale.note = f"{sale.note} {words}".strip()[:MOST_NOTE]
    facts.put(connection, facts.REMARKS, "[]")
