"""Rules about stock: it is the sum of its movements, watermarks say what it contains, and what is promised is what is open."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from scripts.soaking.evidence import Cloud, dump
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

OVERDUE_SECONDS = 20.0
"""So long a promise may hold stock after its time."""


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
        if event.type == "inventory.updated" and event.lane == event.outlet_id:
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


def contained(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """At whatever place a tablet stood: what it was told of its own sales is exactly what that place contains of them."""
    told = {event.subject_id: event.seq for event in cloud.events if event.type == "sale.created"}
    mine: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for sale in cloud.sales:
        if sale.till_id and sale.id in told:
            mine[sale.till_id, sale.epoch].append((sale.op_seq, told[sale.id]))
    for place in sorted(journal.places, key=lambda each: (each.tablet, each.seq)):
        lane = next((name for name, head in cloud.heads.items() if name != "tenant" and head[0] == place.epoch), "")
        if not lane or place.till_id in journal.forked:
            continue
        for op_seq, seq in mine[place.till_id, place.life]:
            if (op_seq <= place.watermark) != (seq <= place.seq) and place.seq <= cloud.heads[lane][1]:
                word = "and does not have what it changed" if op_seq <= place.watermark else "and counts it as waiting"
                sentence = (
                    f"{place.tablet} stood at {place.seq} with watermark {place.watermark}: it knows operation {op_seq}, {word}."
                )
                yield Finding("WATERMARK", sentence, f"its effects are at {seq}")
                break


def promises(journal: Journal, cloud: Cloud) -> Iterator[Finding]:
    """What is reserved is the sum of the open promises; each is what REST was told; none outlives its time for long."""
    wanted: Counter[tuple[str, str]] = Counter()
    for promise in cloud.promises:
        if promise.status == "open":
            for product, quantity in promise.quantities.items():
                wanted[promise.outlet_id, product] += quantity
            # A backup brings back what was open when it was made.
            open_for = min([promise.overdue, *((cloud.at - undone) / 1_000_000 for undone in journal.undone)])
            if open_for > OVERDUE_SECONDS:
                sentence = f"A reservation holds stock {promise.overdue:.0f} s after its time was over."
                yield Finding("PROMISED", sentence, promise.external_id)
    for place, level in cloud.levels.items():
        if level.reserved != wanted[place]:
            sentence = f"Reserved are {level.reserved} thousandths, and open reservations add up to {wanted[place]}."
            yield Finding("PROMISED", sentence, dump(place))
        if place[1] == journal.scarce and level.reserved > max(0, level.on_hand):
            sentence = f"Promised are {level.reserved} thousandths of a product of which there are {level.on_hand}."
            yield Finding("PROMISED", sentence, dump(place))
    for order, count in Counter(promise.external_id for promise in cloud.promises).items():
        if order and count > 1:
            yield Finding("REST_DOUBLED", f"Goods are promised {count} times to one order.", order)
    by_order = {promise.external_id: promise for promise in cloud.promises}
    moved: Counter[str] = Counter()
    for movement in cloud.movements:
        if movement.reason == "order":
            moved[movement.note] += movement.quantity
    ended: dict[str, str] = {}
    for fact in journal.facts:
        if fact.kind not in {"reserve", "release", "fulfil"} or not fact.done or fact.is_void or not fact.about:
            continue
        found = by_order.get(fact.about)
        if found is None:
            yield Finding("REST_LOST", f"What REST acknowledged ({fact.kind}) is not in the cloud.", fact.about)
        elif fact.kind == "release" and found.status not in {"released", "expired"}:
            yield Finding("REST_LOST", f"A reservation that was released is {found.status}.", fact.about)
        elif fact.kind == "fulfil":
            ended[fact.about] = found.status
            if found.status != "fulfilled":
                yield Finding("REST_LOST", f"A reservation that was fulfilled is {found.status}.", fact.about)
    for promise in cloud.promises:
        gone = -sum(promise.quantities.values()) if promise.status == "fulfilled" else 0
        if moved[promise.external_id] != gone:
            evidence = dump([promise.external_id, promise.status, moved[promise.external_id], gone])
            yield Finding("STOCK", "A reservation has taken other goods from stock than its status says.", evidence)
