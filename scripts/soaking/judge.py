"""Says what is wrong: pure rules over the journal, the cloud's rows and the tablets' files. Shares no code with the product.

Every rule is one function that yields findings; a finding has a kind, a sentence for people and evidence. No finding, no fault.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scripts.soaking.evidence import Cloud, Sold, TabletFiles, dump
from scripts.soaking.journal import Journal

RELEVANT = ("product.created", "product.updated", "product.deleted", "inventory.updated")
_COUNT = re.compile(r"([0-9]{5,})$")
SYNCED = 1
"""ClockState in link.proto: measured against the cloud since the tablet started."""
TIME_SLACK = 2.0
"""Seconds."""
MOST_OF_A_KIND = 3
"""Findings of one kind that are told; a thousand lost sales are one fault."""


@dataclass(frozen=True)
class Finding:
    """Something that must not be."""

    kind: str
    sentence: str
    evidence: str = ""


def findings(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> list[Finding]:
    """Everything that is wrong, the gravest kinds first, a few of each kind."""
    rules = (
        strange(journal),
        lost(journal, cloud, tablets),
        doubled(cloud),
        invented(journal, cloud, tablets),
        disordered(journal, cloud, tablets),
        put_aside(cloud),
        mistimed(journal, cloud),
        holes(cloud),
        stock(cloud),
        rest(journal, cloud),
        *(replica(cloud, tablet) for tablet in tablets),
    )
    told: Counter[str] = Counter()
    found = []
    for rule in rules:
        for finding in rule:
            told[finding.kind] += 1
            if told[finding.kind] <= MOST_OF_A_KIND:
                found.append(finding)
    return [
        Finding(
            each.kind, each.sentence, each.evidence + (f" ({told[each.kind]} in all)" if told[each.kind] > MOST_OF_A_KIND else "")
        )
        for each in found
    ]


def strange(journal: Journal) -> Iterator[Finding]:
    """What the driver saw itself."""
    for sentence in journal.strange:
        yield Finding("STRANGE", sentence)


def lost(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A customer has a receipt, and the cloud, or the tablet itself, knows nothing of the sale, or another sale."""
    by_id = {sale.id: sale for sale in cloud.sales}
    on_tablets = {tablet.name: tablet for tablet in tablets}
    for receipt in journal.receipts:
        where = f"{receipt.tablet}, receipt {receipt.number}"
        sale = by_id.get(receipt.sale_id)
        if sale is None:
            state = _state(receipt.sale_id, on_tablets.get(receipt.tablet))
            yield Finding(
                "LOST", f"A sale is lost: {where} was given to a customer and is not in the cloud.", f"{receipt.sale_id}; {state}"
            )
        elif (sale.total, sale.quantities, sale.number) != (receipt.total, receipt.quantities, receipt.number):
            evidence = dump([receipt.total, receipt.quantities, sale.number, sale.total, sale.quantities])
            yield Finding("CHANGED", f"A sale was changed on its way: {where} says something else than the cloud.", evidence)
        tablet = on_tablets.get(receipt.tablet)
        if tablet is not None and tablet.sales.get(receipt.sale_id) != receipt.number:
            yield Finding("FORGOTTEN", f"A tablet has forgotten a sale: {where} is not in its own store.", receipt.sale_id)


def _state(sale_id: str, tablet: TabletFiles | None) -> str:
    if tablet is None:
        return "no tablet to ask"
    for op_seq, (op_id, acknowledged) in tablet.operations.items():
        if op_id == sale_id:
            return f"on the tablet it is operation {op_seq}, {'acknowledged' if acknowledged else 'waiting'}"
    return "the tablet has no operation for it"


def doubled(cloud: Cloud) -> Iterator[Finding]:
    """A sale has happened twice: under two ids, in the stock, or in the log."""
    names = Counter((sale.till_id, sale.epoch, sale.number) for sale in cloud.sales if sale.till_id)
    for (till, epoch, number), count in names.items():
        if count > 1:
            yield Finding(
                "DOUBLED", f"A sale is doubled: receipt {number} is {count} times in the cloud.", f"till {till}, life {epoch}"
            )
    keys = Counter((sale.till_id, sale.epoch, sale.op_seq) for sale in cloud.sales if sale.till_id)
    for (till, epoch, op_seq), count in keys.items():
        if count > 1:
            yield Finding("DOUBLED", f"Operation {op_seq} has had its effect {count} times.", f"till {till}, life {epoch}")
    moved: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for movement in cloud.movements:
        if movement.sale_id:
            moved[movement.sale_id][movement.product_id] += movement.quantity
    told = Counter(event.subject_id for event in cloud.events if event.type == "sale.created")
    for sale in cloud.sales:
        wanted = {product: -quantity for product, quantity in sale.quantities.items()}
        taken = {product: quantity for product, quantity in moved.pop(sale.id, Counter()).items() if quantity}
        if taken != wanted:
            twice = all(abs(taken.get(product, 0)) > abs(quantity) for product, quantity in wanted.items())
            kind, word = ("DOUBLED", "more than once") if twice else ("STOCK", "not as it was sold")
            yield Finding(kind, f"Sale {sale.number or sale.id} was taken from stock {word}.", dump([sale.id, wanted, taken]))
        is_pruned = not told[sale.id] and cloud.heads.get(sale.outlet_id, (0, 0, 1))[2] > 1
        if told[sale.id] != 1 and not is_pruned:
            yield Finding("LOG", f"Sale {sale.number or sale.id} is {told[sale.id]} times in the log instead of once.", sale.id)
    for sale_id, goods in moved.items():
        yield Finding("STOCK", f"Stock was taken for sale {sale_id}, which does not exist.", dump(goods))


def invented(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A sale nobody got a receipt for."""
    given = {receipt.sale_id for receipt in journal.receipts}
    tills = {tablet.till_id for tablet in tablets}
    for sale in cloud.sales:
        if sale.till_id in tills and sale.id not in given:
            yield Finding("INVENTED", f"The cloud has sale {sale.number}, and no till has ever given a receipt for it.", sale.id)
    for tablet in tablets:
        for sale_id, number in tablet.sales.items():
            if sale_id not in given:
                sentence = f"{tablet.name} has kept sale {number}, whose checkout it refused."
                yield Finding("INVENTED", sentence, sale_id)


def disordered(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """Per till: numbers without gaps, in the order of commits, receipts in the order of operations, both ends agree."""
    by_id = {sale.id: sale for sale in cloud.sales}
    last: dict[tuple[str, int], Sold] = {}
    for event in cloud.events:
        sale = by_id.get(event.subject_id) if event.type == "sale.created" else None
        if sale is None or not sale.till_id:
            continue
        before = last.get((sale.till_id, sale.epoch))
        if before is not None and sale.op_seq <= before.op_seq:
            sentence = (
                f"Out of order: the log has {sale.number} (operation {sale.op_seq}) after {before.number} ({before.op_seq})."
            )
            yield Finding("ORDER", sentence, f"till {sale.till_id}, position {event.seq}")
        last[(sale.till_id, sale.epoch)] = sale
    for tablet in tablets:
        yield from _numbers(journal, cloud, tablet)


def _numbers(journal: Journal, cloud: Cloud, tablet: TabletFiles) -> Iterator[Finding]:
    mine = sorted((s for s in cloud.sales if s.till_id == tablet.till_id and s.epoch == tablet.epoch), key=lambda s: s.op_seq)
    numbers = [sale.op_seq for sale in mine]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, (numbers or [0])[-1] + 1)) - set(numbers))[:10]
        yield Finding(
            "ORDER", f"The operations of {tablet.name} have holes in the cloud.", f"missing {missing} of {(numbers or [0])[-1]}"
        )
    watermark = cloud.stores.get((tablet.till_id, tablet.epoch), 0)
    if watermark != tablet.last_op_seq or watermark != (numbers or [0])[-1]:
        sentence = f"Cloud and {tablet.name} disagree on how far it is."
        evidence = (
            f"watermark {watermark}, last sale in the cloud {(numbers or [0])[-1]}, last on the tablet {tablet.last_op_seq}"
        )
        yield Finding("WATERMARK", sentence, evidence)
    for sale in mine:
        known = tablet.operations.get(sale.op_seq)
        if known is not None and known[0] != sale.id:
            yield Finding(
                "ORDER", f"Operation {sale.op_seq} of {tablet.name} is another sale in the cloud.", f"{sale.id} for {known[0]}"
            )
    counts = [int(found[1][1:]) if (found := _COUNT.search(sale.number)) else 0 for sale in mine]
    if tablet.till_id in journal.forked:
        if counts != sorted(counts):
            yield Finding("ORDER", f"The receipts of {tablet.name} are not in the order of its operations.", dump(counts[-20:]))
    elif any(after != before + 1 for before, after in pairwise(counts)):
        places = [(before, after) for before, after in pairwise(counts) if after != before + 1]
        yield Finding("ORDER", f"The receipt numbers of {tablet.name} have gaps or are out of order.", dump(places[:5]))


def mistimed(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """A sale whose till says that it knows the time has the time at which the receipt was given."""
    by_id = {sale.id: sale for sale in cloud.sales}
    for receipt in journal.receipts:
        sale = by_id.get(receipt.sale_id)
        if sale is None or sale.clock_state != SYNCED or not sale.sold_at:
            continue
        if not receipt.asked_at - TIME_SLACK <= sale.sold_at <= receipt.given_at + TIME_SLACK:
            late = sale.sold_at - receipt.given_at
            sentence = (
                f"Receipt {receipt.number} of {receipt.tablet} is wrong by {late:.0f} s, and its till says it knows the time."
            )
            yield Finding("TIME", sentence, receipt.sale_id)


def put_aside(cloud: Cloud) -> Iterator[Finding]:
    """Nothing that was done here deserves quarantine."""
    for till, op_seq, reason in cloud.quarantined:
        yield Finding("QUARANTINED", f"A good sale was put aside: operation {op_seq}, {reason}.", f"till {till}")


def holes(cloud: Cloud) -> Iterator[Finding]:
    """The log is without gaps from its floor to its head."""
    lanes: defaultdict[str, list[int]] = defaultdict(list)
    for event in cloud.events:
        lanes[event.lane].append(event.seq)
    for lane, (_, last_seq, floor) in cloud.heads.items():
        seqs = lanes.pop(lane, [])
        if seqs != list(range(floor, last_seq + 1)):
            missing = sorted(set(range(floor, last_seq + 1)) ^ set(seqs))[:10]
            yield Finding(
                "LOG", f"The log has holes, or ends elsewhere than its head says, in lane {lane}.", f"{missing}, head {last_seq}"
            )
    for lane in lanes:
        yield Finding("LOG", f"The log has events in lane {lane}, which has no head.")


def stock(cloud: Cloud) -> Iterator[Finding]:
    """Stock is the sum of its movements: what came in minus what was sold. The log's last word on it is the level itself."""
    sums: Counter[tuple[str, str]] = Counter()
    other: Counter[tuple[str, str]] = Counter()
    for movement in cloud.movements:
        sums[movement.outlet_id, movement.product_id] += movement.quantity
        if not movement.sale_id:
            other[movement.outlet_id, movement.product_id] += movement.quantity
    sold: Counter[tuple[str, str]] = Counter()
    for sale in cloud.sales:
        for product, quantity in sale.quantities.items():
            sold[sale.outlet_id, product] += quantity
    told: dict[tuple[str, str], int | None] = {}
    for event in cloud.events:
        if event.type == "inventory.updated":
            told[event.outlet_id, event.subject_id] = event.on_hand
    for place in {*cloud.levels, *sums}:
        level = cloud.levels.get(place)
        on_hand = level.on_hand if level else 0
        if on_hand != sums[place]:
            yield Finding("STOCK", f"Stock is {on_hand} thousandths and its movements add up to {sums[place]}.", dump(place))
        if on_hand != other[place] - sold[place]:
            sentence = f"Stock is {on_hand} thousandths; {other[place]} came in and {sold[place]} were sold."
            yield Finding("STOCK", sentence, dump(place))
        if place in told and told[place] != on_hand:
            yield Finding("LOG", f"The log says stock is {told[place]} thousandths, and it is {on_hand}.", dump(place))


def rest(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """What REST acknowledged has happened once, what it refused never, what nobody knows at most once."""
    sales = Counter(sale.note for sale in cloud.sales if not sale.till_id)
    marks = Counter(movement.note for movement in cloud.movements if not movement.sale_id)
    for fact in journal.facts:
        if fact.kind not in {"sale", "adjust"}:
            continue
        count = (sales if fact.kind == "sale" else marks)[fact.key]
        if count > 1:
            yield Finding("REST_DOUBLED", f"A {fact.kind} by REST has happened {count} times under one key.", fact.key)
        elif fact.done and not fact.is_void and not count:
            yield Finding("REST_LOST", f"A {fact.kind} that REST acknowledged is not in the cloud.", fact.key)
        elif fact.refused and count:
            yield Finding("REST_INVENTED", f"A {fact.kind} that REST refused is in the cloud: {fact.refused}", fact.key)
        if fact.done and not fact.is_void and cloud.answered.get(fact.key, 0) != 1:
            evidence = f"{fact.key}: {cloud.answered.get(fact.key, 0)} rows"
            yield Finding("REST_KEY", f"The key of a {fact.kind} by REST is not remembered exactly once.", evidence)
    prices: dict[str, int] = {}
    unsure: set[str] = set()
    for fact in journal.facts:
        if fact.kind == "price":
            prices[fact.product_id] = fact.price
            if not fact.done or fact.is_void:
                unsure.add(fact.product_id)
            else:
                unsure.discard(fact.product_id)
    for product, price in prices.items():
        goods = cloud.products.get(product)
        if product not in unsure and goods is not None and goods.price != price:
            yield Finding(
                "REST_LOST", f"A price that REST acknowledged is not in the cloud: {price}, not {goods.price}.", product
            )


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


def outstanding(cloud: Cloud, tablets: Sequence[TabletFiles]) -> list[str]:
    """What is still on its way, for people; nothing when everything has arrived."""
    waits = []
    newest: dict[str, int] = {}
    for event in cloud.events:
        if event.type in RELEVANT:
            newest[event.lane] = event.seq
    for tablet in tablets:
        waiting = sum(not acknowledged for _, acknowledged in tablet.operations.values())
        if waiting:
            waits.append(f"{tablet.name} has {waiting} operations that are not acknowledged")
        for lane in ("tenant", tablet.outlet_id):
            place, head = tablet.lanes.get(lane), cloud.heads.get(lane, (0, 0, 0))
            if place is None:
                waits.append(f"{tablet.name} has no copy of lane {lane}")
            elif place[0] != head[0] or place[1] < newest.get(lane, 0):
                waits.append(
                    f"{tablet.name} is at {place[1]} of {newest.get(lane, 0)} in lane {lane} (epoch {place[0]} of {head[0]})"
                )
        mark, watermark = tablet.lanes.get(tablet.outlet_id, (0, 0, 0))[2], cloud.stores.get((tablet.till_id, tablet.epoch), 0)
        if mark != watermark:
            waits.append(f"{tablet.name} was told watermark {mark} of {watermark}")
    return waits
