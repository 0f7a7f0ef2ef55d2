"""Rules about the catalogue: what REST was told of it is so, or was, and every copy of it is fresh."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from scripts.soaking.evidence import Cloud, Goods, TabletFiles
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

TENANT = "tenant"
"""The merchant's lane."""


@dataclass
class Values:
    """Which values a product has, has had, or has in a conflict."""

    names: set[str] = field(default_factory=set)
    prices: set[str] = field(default_factory=set)
    barcodes: set[str] = field(default_factory=set)

    def add(self, goods: Goods) -> None:
        """Those of a product at some time."""
        self.names.add(goods.name)
        self.prices.add(str(goods.price))
        self.barcodes.update(goods.barcodes)

    def has(self, name: str, value: str) -> bool:
        """Whether a value was to be seen."""
        if name == "barcodes":
            return value.rpartition(" ")[2] in self.barcodes
        return value in (self.names if name == "name" else self.prices)


def seen(journal: Journal, cloud: Cloud) -> defaultdict[str, Values]:
    """By product."""
    found: defaultdict[str, Values] = defaultdict(Values)
    for product_id, goods in cloud.products.items():
        found[product_id].add(goods)
    for event in cloud.events:
        if event.goods is not None:
            found[event.subject_id].add(event.goods)
    for shown in journal.history:
        found[shown.product_id].add(Goods(shown.name, shown.price, shown.barcodes, is_active=True))
    return found


def office(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """What REST was told of the catalogue is so, or was until somebody else changed it."""
    values = seen(journal, cloud)
    tilled = {act.product_id for act in journal.acts if act.kind == "edit" and act.field == "price"}
    prices: dict[str, tuple[int, bool]] = {}
    for fact in journal.facts:
        sure = bool(fact.done) and not fact.is_void
        if fact.kind == "price":
            prices[fact.product_id] = (fact.price, sure)
            if sure and not values[fact.product_id].has("price", str(fact.price)):
                yield Finding(
                    "REST_LOST", f"A price that REST acknowledged is nowhere to be seen: {fact.price}.", fact.product_id
                )
        elif fact.kind == "product" and sure and fact.product_id not in cloud.products:
            yield Finding("REST_LOST", "A product that REST acknowledged is not in the cloud.", fact.product_id)
        elif fact.kind == "archive" and sure:
            goods = cloud.products.get(fact.product_id)
            if goods is not None and not goods.is_archived:
                yield Finding("REST_LOST", "A product that REST has archived is not archived.", fact.product_id)
    for product, (price, sure) in prices.items():
        goods = cloud.products.get(product)
        if sure and product not in tilled and goods is not None and goods.price != price:
            sentence = f"A price that REST acknowledged is not in the cloud: {price}, not {goods.price}."
            yield Finding("REST_LOST", sentence, product)


def screens(cloud: Cloud, said: Mapping[tuple[str, str, str], tuple[int, int]]) -> Iterator[Finding]:
    """What a till shows of the stock, by its name, outlet and product, when everything has arrived."""
    for (name, outlet, product), (on_hand, reserved) in said.items():
        level = cloud.levels.get((outlet, product))
        if level is not None and (level.on_hand, level.reserved) != (on_hand, reserved):
            sentence = f"{name} shows {on_hand} thousandths, {reserved} of them promised; there are {level.on_hand}."
            yield Finding("SHOWN", sentence, f"{product}: {level}")


def replica(cloud: Cloud, tablet: TabletFiles) -> Iterator[Finding]:
    """The tablet's copy is what a fresh snapshot would be, and what it shows as stock is what the cloud has."""
    name = tablet.name
    for lane in ("tenant", tablet.outlet_id):
        place, head = tablet.lanes.get(lane), cloud.heads.get(lane, (0, 0, 0))
        if place is None or place[0] != head[0] or place[1] > head[1]:
            yield Finding("POSITION", f"{name} stands where the cloud's log is not, in lane {lane}.", f"{place} of {head}")
    fresh = {product_id: goods for product_id, goods in cloud.products.items() if not goods.is_archived}
    held = {product_id: goods for product_id, goods in tablet.products.items() if not goods.is_archived}
    for product_id in fresh.keys() | held.keys():
        if fresh.get(product_id) != held.get(product_id):
            evidence = f"{product_id}: cloud {fresh.get(product_id)}, tablet {held.get(product_id)}"
            yield Finding("REPLICA", f"{name} shows another catalogue than a fresh snapshot would.", evidence)
    for product_id, goods in tablet.products.items():
        if goods.is_archived and product_id in fresh:
            yield Finding("REPLICA", f"{name} takes a product for archived that is not.", product_id)
    shelves = {product: level for (outlet, product), level in cloud.levels.items() if outlet == tablet.outlet_id}
    for product_id in shelves.keys() | tablet.levels.keys():
        if shelves.get(product_id) != tablet.levels.get(product_id):
            evidence = f"{product_id}: cloud {shelves.get(product_id)}, tablet {tablet.levels.get(product_id)}"
            yield Finding("REPLICA", f"{name} has other stock levels than a fresh snapshot would.", evidence)
    watermark = tablet.lanes.get(tablet.outlet_id, (0, 0, 0))[2]
    pending = Counter[str]()
    for op_seq, product, delta in tablet.deltas:
        if op_seq > watermark:
            pending[product] += delta
    for product, delta in pending.items():
        if delta:
            evidence = f"{product}: {delta} thousandths, watermark {watermark}, last operation {tablet.last_op_seq}"
            yield Finding(
                "SHOWN", f"{name} shows its own sales twice: it still takes them off a stock that contains them.", evidence
            )
    if watermark > tablet.last_op_seq:
        yield Finding("SHOWN", f"{name} was told of operations it never made.", f"{watermark} > {tablet.last_op_seq}")
