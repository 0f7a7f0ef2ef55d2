"""Rules about the catalogue: no change is lost unseen, none overwrites what it had not seen, and every copy is fresh."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from scripts.soaking.evidence import Cloud, Edit, Goods, TabletFiles, dump
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

PRICED_BY_OFFICE = 4
"""The last of the products sold have their prices changed by REST alone."""


@dataclass
class _Seen:
    """Which values a product has, has had, or has in a conflict."""

    names: set[str] = field(default_factory=set)
    prices: set[str] = field(default_factory=set)
    barcodes: set[str] = field(default_factory=set)

    def add(self, goods: Goods) -> None:
        self.names.add(goods.name)
        self.prices.add(str(goods.price))
        self.barcodes.update(goods.barcodes)

    def has(self, name: str, value: str) -> bool:
        """Whether a value was to be seen."""
        if name == "barcodes":
            return value.rpartition(" ")[2] in self.barcodes
        return value in (self.names if name == "name" else self.prices)


def _seen(journal: Journal, cloud: Cloud) -> defaultdict[str, _Seen]:
    seen: defaultdict[str, _Seen] = defaultdict(_Seen)
    for product_id, goods in cloud.products.items():
        seen[product_id].add(goods)
    for event in cloud.events:
        if event.goods is not None:
            seen[event.subject_id].add(event.goods)
    for shown in journal.history:
        seen[shown.product_id].add(Goods(shown.name, shown.price, shown.barcodes, is_active=True))
    return seen


def edits(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A change made at a till is on the tablet; once acknowledged, it is or was to be seen, or is kept as a conflict."""
    seen = _seen(journal, cloud)
    kept = {(conflict.operation_id, conflict.field) for conflict in cloud.conflicts}
    aside = {each.op_id for each in cloud.quarantined}
    on_tablets: defaultdict[str, list[Edit]] = defaultdict(list)
    for tablet in tablets:
        on_tablets[tablet.till_id] += tablet.edits
    for tablet in tablets:
        held = {(edit.product_id, edit.field, edit.value) for edit in on_tablets[tablet.till_id]}
        for act in journal.acts:
            if (
                act.kind == "edit"
                and act.done
                and act.tablet == tablet.name
                and (act.product_id, act.field, act.value) not in held
            ):
                yield Finding(
                    "FORGOTTEN", f"{act.tablet} has forgotten that it changed a product.", dump([act.product_id, act.value])
                )
        last: dict[tuple[str, str], Edit] = {}
        for edit in sorted(tablet.edits, key=lambda each: (each.epoch, each.op_seq)):
            if edit.acknowledged and edit.op_id not in aside:
                last[edit.product_id, edit.field] = edit
        for edit in last.values():
            if edit.product_id not in cloud.products or (edit.op_id, edit.field) in kept:
                continue
            if not seen[edit.product_id].has(edit.field, edit.value):
                sentence = (
                    f"A change of a product's {edit.field} made at {tablet.name} was acknowledged, and is nowhere to be seen."
                )
                yield Finding("EDIT_LOST", sentence, dump([edit.op_seq, edit.op_id, edit.product_id, edit.value]))
    # Of two tablets under one name the cloud takes what one has seen for seen by the other.
    yield from _overwritten(cloud, [tablet for tablet in tablets if tablet.till_id not in journal.forked])


def _overwritten(cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A till's value took the place of one that somebody else had set and the till had not seen."""
    made = {
        (edit.product_id, edit.field, edit.value): (tablet.till_id, edit)
        for tablet in tablets
        for edit in tablet.edits
        if edit.field != "barcodes"
    }
    before: defaultdict[str, list[tuple[int, Goods]]] = defaultdict(list)
    undone: set[tuple[str, str, str]] = set()
    for event in cloud.events:
        if event.goods is None:
            continue
        past = before[event.subject_id]
        for name in ("name", "price"):
            now = str(getattr(event.goods, name))
            author = made.get((event.subject_id, name, now))
            if author is None or not past or str(getattr(past[-1][1], name)) == now:
                continue
            till_id, edit = author
            if edit.base_version >= event.version:
                # Made on a history that a restore has undone: it counts as newer than everything, and the next one follows it.
                undone.add((till_id, event.subject_id, name))
            if (till_id, event.subject_id, name) in undone:
                continue
            for (_, older), (version, newer) in pairwise(past):
                value = str(getattr(newer, name))
                if version <= edit.base_version or value == str(getattr(older, name)):
                    continue
                other = made.get((event.subject_id, name, value))
                if other is None or other[0] != till_id:
                    evidence = dump([event.subject_id, now, edit.base_version, value, version, event.version, edit.op_id])
                    yield Finding("OVERWRITTEN", f"A till's {name} took the place of a newer one that it had not seen.", evidence)
        past.append((event.version, event.goods))


def office(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """What REST was told of the catalogue is so, or was until somebody else changed it."""
    seen = _seen(journal, cloud)
    tilled = {act.product_id for act in journal.acts if act.kind == "edit" and act.field == "price"}
    prices: dict[str, tuple[int, bool]] = {}
    for fact in journal.facts:
        sure = bool(fact.done) and not fact.is_void
        if fact.kind == "price":
            prices[fact.product_id] = (fact.price, sure)
            if sure and not seen[fact.product_id].has("price", str(fact.price)):
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
