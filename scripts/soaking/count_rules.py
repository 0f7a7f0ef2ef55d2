"""Rules about counts of shelves: each is stored once, and corrects the stock by what was counted less what its till showed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from scripts.soaking.evidence import Cloud, Count, Said, TabletFiles, dump
from scripts.soaking.finding import Finding
from scripts.soaking.histories import Histories, Seen
from scripts.soaking.journal import Journal

COUNT = "count"
UNKNOWN, COMPACTED, RESTORED = "COUNT_BASE_UNKNOWN", "COUNT_BASE_COMPACTED", "COUNT_BASE_RESTORED"


def counts(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """See above. What an earlier life of a tablet had handed over is there as well."""
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
    yield from _missing(cloud, tablets)
    books = _Books(journal, cloud, tablets)
    for count in cloud.counts:
        if moved[count.note] != count.difference:
            evidence = dump([count.note, count.difference, moved[count.note]])
            yield Finding("STOCK", "A count says another correction than was made to the stock.", evidence)
        made = acts.get(count.note)
        if made is None:
            yield Finding("INVENTED", "The cloud has a count that no till was asked for.", count.note)
        elif count.counted != int(made.value) or count.product_id != made.product_id:
            yield Finding("CHANGED", f"A count made at {made.tablet} was changed on its way.", dump([made.value, count.counted]))
        else:
            yield from _measured(count, books)


def excused(journal: Journal, cloud: Cloud) -> int:
    """Of how many counts nothing can be said about what they corrected."""
    histories = Histories(journal, cloud)
    return sum(
        not {RESTORED, COMPACTED}.intersection(count.reasons)
        and (count.seen_seq <= 0 or histories.seen(count.outlet_id, count.seen_epoch, count.seen_seq, count.at) is Seen.UNSURE)
        for count in cloud.counts
    )


def _missing(cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """What a tablet has as acknowledged is in the cloud, whoever asked for it."""
    there = {count.id for count in cloud.counts} | {aside.op_id for aside in cloud.quarantined}
    for tablet in tablets:
        for said in tablet.counts.values():
            if said.acknowledged and said.op_id not in there:
                life = f"of its life {tablet.past[said.op_id]} " if said.op_id in tablet.past else ""
                sentence = f"A count {life}that {tablet.name} has as acknowledged is not in the cloud."
                yield Finding("COUNT_LOST", sentence, said.op_id)


class _Books:
    """What counts are compared with."""

    def __init__(self, journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> None:
        self.histories = Histories(journal, cloud)
        self.ledger = _Ledger(cloud)
        self.said = {op_id: said for tablet in tablets for op_id, said in tablet.counts.items()}
        # A tablet that does not know yet that it is one of two takes the other's sales for its own.
        alone = [tablet for tablet in tablets if tablet.till_id not in journal.forked]
        self.own = {(tablet.till_id, tablet.epoch): tablet for tablet in alone}


def _measured(count: Count, books: _Books) -> Iterator[Finding]:
    said, lane = books.said.get(count.id), count.outlet_id
    evidence = [count.note, {"corrected": count.difference, "counted": count.counted, "by": count.reasons}]
    evidence.append({"epoch": count.seen_epoch, "seen": count.seen_seq, "at": count.at})
    if said is not None and (said.seen_seq, said.seen_epoch) != (count.seen_seq, count.seen_epoch):
        sentence = "A count names another place of the log than its till had named."
        yield Finding("COUNT", sentence, dump([*evidence, said.seen_seq, said.seen_epoch]))
        return
    marks = {UNKNOWN, COMPACTED, RESTORED}.intersection(count.reasons)
    left = books.histories.left(lane, count.seen_epoch)
    is_known = books.histories.knows(lane, count.seen_epoch)
    if RESTORED in marks and (left is None or (is_known and count.seen_seq <= left)):
        sentence = "What a count was based on is said to be undone by a restore, and the log has it."
        yield Finding("COUNT", sentence, dump([*evidence, left]))
        return
    if COMPACTED in marks and RESTORED not in marks and books.ledger.floor(lane) <= count.seen_seq + 1:
        sentence = "What a count was based on is said to be too old, although the log has it."
        yield Finding("COUNT", sentence, dump(evidence))
        return
    if count.seen_seq <= 0:
        return  # the till stood nowhere: whatever there was is right
    seen = books.histories.seen(lane, count.seen_epoch, count.seen_seq, count.at)
    if seen is Seen.UNDONE and RESTORED not in marks:
        sentence = "A count was based on what a restore has undone, and is not marked."
        yield Finding("COUNT", sentence, dump([*evidence, left]))
    elif seen is Seen.THERE and RESTORED in marks:
        sentence = "What a count was based on is said to be undone by a restore, and it was in the backup."
        yield Finding("COUNT", sentence, dump([*evidence, left]))
    elif marks & {RESTORED, COMPACTED}:
        # The log does not tell: then the till is believed.
        if said is not None and said.shown is not None and count.difference != count.counted - said.shown:
            sentence = f"A count corrected the stock by {count.difference} thousandths; its till showed {said.shown}."
            yield Finding("COUNT", sentence, dump(evidence))
    elif seen is Seen.THERE and marks:
        yield Finding("COUNT", "What a count was based on is said to be unknown, although the log has it.", dump(evidence))
    elif seen is Seen.THERE:
        yield from _exact(count, books, said, evidence)


def _exact(count: Count, books: _Books, said: Said | None, evidence: Sequence[object]) -> Iterator[Finding]:
    """The log says what the till showed."""
    shown = books.ledger.shown(count)
    if shown is None:
        return
    if count.difference != count.counted - shown:
        sentence = f"A count corrected the stock by {count.difference} thousandths instead of {count.counted - shown}."
        yield Finding("COUNT", sentence, dump(evidence))
    tablet = books.own.get((count.till_id, count.epoch))
    if tablet is None or tablet.operations.get(count.op_seq, ("",))[0] != count.id:
        return
    if any(_is_doubtful(other, books.histories) for other in books.ledger.earlier(count)):
        return  # its till had thought that an earlier count of its own had corrected something else
    mine = sum(delta for op_seq, product, delta in tablet.deltas if (op_seq, product) == (count.op_seq, count.product_id))
    if mine != count.difference:
        sentence = f"{tablet.name} took a count for a correction by {mine} thousandths, the cloud by {count.difference}."
        yield Finding("COUNT", sentence, dump(evidence))
    if said is not None and said.shown is not None and said.shown != shown:
        sentence = f"{tablet.name} says it showed {said.shown} thousandths, and by the log it showed {shown}."
        yield Finding("COUNT", sentence, dump(evidence))


def _is_doubtful(count: Count, histories: Histories) -> bool:
    """Whether it may have corrected something else than its till had thought."""
    place = (count.outlet_id, count.seen_epoch, count.seen_seq, count.at)
    return UNKNOWN in count.reasons or histories.seen(*place) is Seen.UNSURE


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

    def earlier(self, count: Count) -> Iterator[Count]:
        """What the till had counted of the same product in the same life before."""
        return (other for other in self._counted[count.till_id, count.epoch, count.product_id] if other.op_seq < count.op_seq)

    def _position(self, count: Count) -> int:
        """Where the correction of a count is in the log; 0 for one that corrected nothing, or is no longer there."""
        levels = self._levels[count.outlet_id, count.product_id]
        return next((seq for seq, _, at in levels if at == count.at), 0)
