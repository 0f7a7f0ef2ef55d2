"""How things that happen read on the console: one line per event, receipt or delivery. Pure: text in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kernel.money import format_rupiah

COLOURS: Final = {
    "sale": "32",
    "refund": "33",
    "stock": "36",
    "product": "35",
    "customer": "35",
    "receipt": "34",
    "webhook": "34",
}
RED: Final = "31"
WIDTH: Final = 8


@dataclass(frozen=True)
class Line:
    """One line: when (HH:MM:SS), what kind of thing, the words, and whether something is wrong."""

    time: str
    kind: str
    text: str
    is_bad: bool = False

    def plain(self) -> str:
        """For files and pipes."""
        return f"{self.time}  {self.kind:<{WIDTH}} {self.text}"

    def coloured(self) -> str:
        """For terminals."""
        colour = RED if self.is_bad else COLOURS.get(self.kind, "0")
        return f"\033[2m{self.time}\033[0m  \033[{colour}m{self.kind:<{WIDTH}}\033[0m {self.text}"


class Tide:
    """Lets lines of one kind through while they trickle, and counts them while they pour (an import of thousands).

    A bucket per kind: so many lines at once, and so many more each second.
    """

    AT_ONCE = 12.0
    EACH_SECOND = 2.0

    def __init__(self) -> None:
        self._room: dict[str, tuple[float, float]] = {}
        self._held: Counter[str] = Counter()

    def has_room(self, kind: str, now: float) -> bool:
        """Whether a line of this kind would be shown now. `now` counts seconds from anywhere."""
        room, since = self._room.get(kind, (self.AT_ONCE, now))
        room = min(self.AT_ONCE, room + (now - since) * self.EACH_SECOND)
        self._room[kind] = room, now
        return room >= 1

    def admit(self, kind: str, now: float) -> bool:
        """Whether to show a line of this kind; otherwise it is counted."""
        if self.has_room(kind, now):
            self._room[kind] = self._room[kind][0] - 1, now
            return True
        self._held[kind] += 1
        return False

    def held(self) -> list[tuple[str, int]]:
        """What was counted since the last call."""
        counts = list(self._held.items())
        self._held.clear()
        return counts


class Names:
    """What ids are called, learned from what passes by."""

    def __init__(self, outlets: Mapping[str, str], tills: Mapping[str, str]) -> None:
        self._outlets = outlets
        self._tills = tills
        self._products: dict[str, str] = {}

    def learn(self, event: Mapping[str, Any]) -> None:
        """Remembers the product names an event mentions."""
        data = event.get("data", {})
        if str(event.get("type", "")).startswith("product."):
            self.add_product(data)
        for line in data.get("lines", []):
            if line.get("name"):
                self._products[str(line.get("product_id", ""))] = str(line["name"])

    def add_product(self, product: Mapping[str, Any]) -> None:
        """Remembers one product."""
        self._products[str(product.get("id", ""))] = str(product.get("name", ""))

    def product(self, product_id: str) -> str | None:
        """The product's name, None when it was never mentioned."""
        return self._products.get(product_id)

    def outlet(self, outlet_id: str) -> str:
        """The outlet's name, else its id."""
        return self._outlets.get(outlet_id, outlet_id)

    def till(self, till_id: str) -> str:
        """The till's name; sales of integrations have no till."""
        return self._tills.get(till_id, till_id) if till_id else "REST"


def event(record: Mapping[str, Any], names: Names, time: str) -> Line | None:
    """The line for an event of the feed, None for one that another line tells already."""
    data: Mapping[str, Any] = record.get("data", {})
    match str(record.get("type", "")).split("."):
        case ["sale", "created"]:
            # What was paid at once is told by sale.completed.
            return None if data.get("status") == "completed" else Line(time, "sale", _sale(data, names) + " · not yet paid")
        case ["sale", "completed"]:
            return Line(time, "sale", _sale(data, names))
        case ["sale", "refunded"]:
            return Line(time, "refund", f"{_where(data, names)} · {_rupiah(data.get('refunded_total'))} given back")
        case ["inventory", "updated"]:
            name = names.product(str(data.get("product_id", ""))) or data.get("product_id", "")
            return Line(
                time, "stock", f"{name}: {data.get('on_hand', '?')} left at {names.outlet(str(data.get('outlet_id', '')))}"
            )
        case ["product" | "customer" as kind, verb]:
            return Line(time, kind, f"{data.get('name') or data.get('id', '')} {'archived' if verb == 'deleted' else verb}")
    return Line(time, "event", str(record.get("type", "")))


def delivery(record: Mapping[str, Any], time: str) -> Line:
    """The line for a webhook the receiver got."""
    is_valid = record.get("valid") is True
    verdict = "signature valid" if is_valid else "SIGNATURE NOT VALID"
    return Line(time, "webhook", f"{record.get('type') or 'a request'} received, {verdict}", is_bad=not is_valid)


def receipt(till_id: str, path: str, names: Names, time: str) -> Line:
    """The line for a printed receipt."""
    return Line(time, "receipt", f"{names.till(till_id)} printed {path}")


def _sale(sale: Mapping[str, Any], names: Names) -> str:
    lines = sale.get("lines", [])
    parts = [_where(sale, names), f"{len(lines)} line{'' if len(lines) == 1 else 's'}", _rupiah(sale.get("total"))]
    tenders = [f"{tender.get('method', '')} {_rupiah(tender.get('amount'))}" for tender in sale.get("tenders", [])]
    paid = " + ".join(tenders)
    if int(sale.get("change", {}).get("amount", 0)):
        paid += f", change {_rupiah(sale['change'])}"
    return " · ".join([*parts, *([paid] if paid else [])])


def _where(sale: Mapping[str, Any], names: Names) -> str:
    return " · ".join(part for part in (names.till(str(sale.get("till_id", ""))), str(sale.get("number", ""))) if part)


def _rupiah(money: Mapping[str, Any] | None) -> str:
    return format_rupiah(int(money.get("amount", 0))) if money else "Rp?"
