"""Rules about stock: it is the sum of its movements, counts correct what was seen, and what is promised is what is open."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from scripts.soaking.evidence import Cloud, Count, TabletFiles, dump
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

COUNT = "count"
UNKNOWN, COMPACTED = "COUNT_BASE_UNKNOWN", "COUNT_BASE_COMPACTED"
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


def counts(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A count made at a till is stored once, and corrects the stock by what was counted less what the till could see."""
    by_note: defaultdict[str, list[Count]] = defaultdict(list)
    for count in cloud.counts:
        by_note[count.note].append(count)
    moved: Counter[str] = Counter()
    for movement in cloud.movements:
        if movement.reason == COUNT:
            moved[movement.note] += movement.quantity
    acts = {act.key: act for act in journal.acts if act.kind == COUNT}
    for act in acts.values():
        stored = by_note.get(act.key, [])
        if len(stored) > 1:
            yield Finding("COUNT_DOUBLED", f"A count made at {act.tablet} is {len(stored)} times in the cloud.", act.key)
        elif act.done and not stored:
            yield Finding("COUNT_LOST", f"A count made at {act.tablet} is lost.", act.key)
        elif act.refused and stored:
            yield Finding("INVENTED", f"A count that {act.tablet} refused is in the cloud.", act.key)
    own = {(tablet.till_id, tablet.epoch): tablet for tablet in tablets}
    ledger = _Ledger(cloud)
    for count in cloud.counts:
        if moved[count.note] != count.difference:
            evidence = dump([count.note, count.difference, moved[count.note]])
            yield Finding("STOCK", "A count says another correction than was made to the stock.", evidence)
        made = acts.get(count.note)
        if made is None:
            yield Finding("INVENTED", "The cloud has a count that no till was asked for.", count.note)
        elif count.counted != int(made.value) or count.product_id != made.product_id:
            yield Finding("CHANGED", f"A count made at {made.tablet} was changed on its way.", dump([made.value, count.counted]))
        elif made.epoch == cloud.heads.get(count.outlet_id, (0, 0, 0))[0]:
            # Made on the log as it is: of one that was restored since, positions mean nothing.
            # A tablet that does not know yet that it is one of two takes the other's sales for its own.
            is_alone = count.till_id not in journal.forked
            # And after a restore its own earlier counts are corrections by something else than it had thought.
            is_alone = is_alone and not (journal.restored_at and ledger.has_counted(count))
            yield from _measured(count, ledger, own.get((count.till_id, count.epoch)) if is_alone else None)


def _measured(count: Count, ledger: _Ledger, tablet: TabletFiles | None) -> Iterator[Finding]:
    marks = {UNKNOWN, COMPACTED}.intersection(count.reasons)
    if COMPACTED in marks and ledger.floor(count.outlet_id) > count.seen_seq + 1:
        return
    if marks:
        yield Finding(
            "COUNT",
            "What a count was based on is said to be unknown, although the log has it.",
            dump([count.note, count.seen_seq]),
        )
        return
    shown = ledger.shown(count)
    if shown is None:
        return
    evidence = [count.note, {"counted": count.counted, "shown": shown, "corrected": count.difference, "seen": count.seen_seq}]
    if count.difference != count.counted - shown:
        sentence = f"A count corrected the stock by {count.difference} thousandths instead of {count.counted - shown}."
        yield Finding("COUNT", sentence, dump(evidence))
    if tablet is not None and tablet.operations.get(count.op_seq, ("",))[0] == count.id:
        mine = sum(delta for op_seq, product, delta in tablet.deltas if (op_seq, product) == (count.op_seq, count.product_id))
        if mine != count.difference:
            sentence = f"{tablet.name} took a count for a correction by {mine} thousandths, the cloud by {count.difference}."
            yield Finding("COUNT", sentence, dump(evidence))


class _Ledger:
    """What the stock was at a position of an outlet's lane, and what a till had done by then."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._levels: defaultdict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
        self._told: dict[str, int] = {}
        for event in cloud.events:
            if event.on_hand is not None:
                self._levels[event.lane, event.subject_id].append((event.seq, event.on_hand, event.at))
            elif event.type == "sale.created":
                self._told[event.subject_id] = event.seq
        self._steps: Counter[tuple[str, str, int]] = Counter()
        for movement in cloud.movements:
            self._steps[movement.outlet_id, movement.product_id, movement.at] += movement.quantity
        self._sold: defaultdict[tuple[str, int, str], list[tuple[int, int, str]]] = defaultdict(list)
        for sale in cloud.sales:
            for product, quantity in sale.quantities.items():
                self._sold[sale.till_id, sale.epoch, product].append((sale.op_seq, quantity, sale.id))
        self._counted: defaultdict[tuple[str, int, str], list[Count]] = defaultdict(list)
        for count in cloud.counts:
            self._counted[count.till_id, count.epoch, count.product_id].append(count)

    def floor(self, lane: str) -> int:
        """The oldest position that is kept."""
        return self._cloud.heads.get(lane, (0, 0, 1))[2]

    def shown(self, count: Count) -> int | None:
        """What the till showed when the count was made; None where the log does not say any more."""
        if count.seen_seq < self.floor(count.outlet_id) - 1:
            return None
        levels = self._levels[count.outlet_id, count.product_id]
        seen = [on_hand for seq, on_hand, _ in levels if seq <= count.seen_seq]
        first = next((at for seq, _, at in levels if seq > count.seen_seq), None)
        if seen:
            level = seen[-1]
        elif first is not None:
            # A transaction may announce a level several times; its last word less all it did is what was there before.
            last = [on_hand for _, on_hand, at in levels if at == first][-1]
            level = last - self._steps[count.outlet_id, count.product_id, first]
        else:
            return None
        whose = (count.till_id, count.epoch, count.product_id)
        for op_seq, quantity, sale_id in self._sold[whose]:
            if op_seq < count.op_seq and self._told.get(sale_id, 0) > count.seen_seq:
                level -= quantity
        for other in self._counted[whose]:
            if other.op_seq < count.op_seq and self._position(other) > count.seen_seq:
                level += other.difference
        return level

    def has_counted(self, count: Count) -> bool:
        """Whether the till had counted the same product in the same life before."""
        return any(other.op_seq < count.op_seq for other in self._counted[count.till_id, count.epoch, count.product_id])

    def _position(self, count: Count) -> int:
        """Where the correction of a count is in the log; 0 for one that corrected nothing, or is no longer there."""
        levels = self._levels[count.outlet_id, count.product_id]
        return next((seq for seq, _, at in levels if at == count.at), 0)


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
            if promise.overdue > OVERDUE_SECONDS:
                sentence = f"A reservation holds stock {promise.overdue:.0f} s after its time was over."
                yield Finding("PROMISED", sentence, promise.external_id)
    for place, level in cloud.levels.items():
        if level.reserved != wanted[place]:
            sentence = f"Reserved are {level.reserved} thousandths, and open reservations add up to {wanted[place]}."
            yield Finding("PROMISED", sentence, dump(place))
    by_order = {promise.external_id: promise for promise in cloud.promises}
    moved: Counter[str] = Counter()
    for movement in cloud.movements:
        if movement.reason == "order":
            moved[movement.note] += movement.quantity
    ended: dict[str, str] = {}
    for fact in journal.facts:
        if fact.kind not in {"reserve", "release", "fulfil"} or not fact.done or fact.is_void:
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
