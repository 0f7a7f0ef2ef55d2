"""Rules about sales: each receipt is in the cloud once, as it was given, in order, at its time, and nothing else is there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scripts.soaking.evidence import Cloud, Sold, TabletFiles, dump
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal, Receipt

_COUNT = re.compile(r"([0-9]{5,})$")
SYNCED = 1
"""ClockState in link.proto: measured against the cloud since the tablet started."""
TIME_SLACK = 2.0
"""Seconds."""
HOURS = {"Asia/Jakarta": 7, "Asia/Pontianak": 7, "Asia/Makassar": 8, "Asia/Jayapura": 9}
"""By which clocks are ahead of Greenwich, all year."""


def lost(journal: Journal, cloud: Cloud, tablets: Sequence[TabletFiles]) -> Iterator[Finding]:
    """A customer has a receipt, and the cloud, or the tablet itself, knows nothing of the sale, or another sale."""
    by_id = {sale.id: sale for sale in cloud.sales}
    on_tablets = {tablet.name: tablet for tablet in tablets}
    last: dict[str, int] = {}
    for receipt in journal.receipts:
        count = int(found[1][1:]) if (found := _COUNT.search(receipt.number)) else 0
        if count <= last.get(receipt.tablet, 0):
            sentence = f"{receipt.tablet} gave receipt {receipt.number} after it had given number {last[receipt.tablet]}."
            yield Finding("RECEIPT", sentence, receipt.sale_id)
        last[receipt.tablet] = count
    for number, receipt in enumerate(journal.receipts):
        where = f"{receipt.tablet}, receipt {receipt.number}"
        sale = by_id.get(receipt.sale_id)
        if sale is None:
            state = _state(receipt.sale_id, on_tablets.get(receipt.tablet))
            yield Finding(
                "LOST", f"A sale is lost: {where} was given to a customer and is not in the cloud.", f"{receipt.sale_id}; {state}"
            )
        elif not _is_as_given(sale, receipt):
            evidence = dump([receipt, sale])
            yield Finding("CHANGED", f"A sale was changed on its way: {where} says something else than the cloud.", evidence)
        tablet = on_tablets.get(receipt.tablet) if number >= journal.forgot.get(receipt.tablet, (0, 0))[0] else None
        if tablet is not None and tablet.sales.get(receipt.sale_id) != receipt.number:
            yield Finding("FORGOTTEN", f"A tablet has forgotten a sale: {where} is not in its own store.", receipt.sale_id)


def _is_as_given(sale: Sold, receipt: Receipt) -> bool:
    if receipt.outlet_id and (sale.till_id, sale.outlet_id, sale.paid) != (receipt.till_id, receipt.outlet_id, receipt.paid):
        return False
    return (sale.total, sale.quantities, sale.number) == (receipt.total, receipt.quantities, receipt.number)


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
    life = (tablet.till_id, tablet.epoch)
    mine = sorted((s for s in cloud.sales if (s.till_id, s.epoch) == life), key=lambda s: s.op_seq)
    # Of a change of a product the cloud keeps no row: that it is there is proved elsewhere, its number by the tablet.
    counted = [count for count in cloud.counts if (count.till_id, count.epoch) == life]
    aside = {each.op_id for each in cloud.quarantined}
    edited = {e.op_seq for e in tablet.edits if e.epoch == tablet.epoch and e.acknowledged and e.op_id not in aside}
    numbers = sorted(
        [sale.op_seq for sale in mine]
        + [count.op_seq for count in counted]
        + [each.op_seq for each in cloud.quarantined if (each.till_id, each.epoch) == life]
        + list(edited)
    )
    numbers = sorted([*numbers, *_again(journal, cloud, tablet).difference(numbers)])
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, (numbers or [0])[-1] + 1)) - set(numbers))[:10]
        yield Finding(
            "ORDER", f"The operations of {tablet.name} have holes in the cloud.", f"missing {missing} of {(numbers or [0])[-1]}"
        )
    watermark = cloud.stores.get((tablet.till_id, tablet.epoch), 0)
    if watermark != tablet.last_op_seq or watermark != (numbers or [0])[-1]:
        sentence = f"Cloud and {tablet.name} disagree on how far it is."
        evidence = f"watermark {watermark}, last in the cloud {(numbers or [0])[-1]}, last on the tablet {tablet.last_op_seq}"
        yield Finding("WATERMARK", sentence, evidence)
    for op_seq, op_id in [*((each.op_seq, each.id) for each in mine), *((each.op_seq, each.id) for each in counted)]:
        known = tablet.operations.get(op_seq)
        if known is not None and known[0] != op_id:
            yield Finding("ORDER", f"Operation {op_seq} of {tablet.name} is another in the cloud.", f"{op_id} for {known[0]}")
    counts = [int(found[1][1:]) if (found := _COUNT.search(sale.number)) else 0 for sale in mine]
    if tablet.till_id in journal.forked:
        # What a restored cloud asks for of earlier lives comes after what was waiting, and in order as well.
        late = [count for place, count in enumerate(counts) if count < max(counts[:place], default=0)]
        if late != sorted(late) or (late and not journal.restored_at):
            yield Finding("ORDER", f"The receipts of {tablet.name} are not in the order of its operations.", dump(counts[-20:]))
    elif any(after != before + 1 for before, after in pairwise(counts)):
        places = [(before, after) for before, after in pairwise(counts) if after != before + 1]
        yield Finding("ORDER", f"The receipt numbers of {tablet.name} have gaps or are out of order.", dump(places[:5]))


def _again(journal: Journal, cloud: Cloud, tablet: TabletFiles) -> set[int]:
    """Numbers of a till that has lived twice whose operations the cloud has under those of an earlier life."""
    if tablet.till_id not in journal.forked:
        return set()
    elsewhere = {s.id for s in cloud.sales if s.till_id == tablet.till_id and s.epoch != tablet.epoch}
    elsewhere |= {c.id for c in cloud.counts if c.till_id == tablet.till_id and c.epoch != tablet.epoch}
    elsewhere |= {a.op_id for a in cloud.quarantined if a.till_id == tablet.till_id and a.epoch != tablet.epoch}
    return {seq for seq, (op_id, acknowledged) in tablet.operations.items() if acknowledged and op_id in elsewhere}


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


def days(cloud: Cloud) -> Iterator[Finding]:
    """A sale counts for the day on which it was made, by the clock of its outlet; what a till says of its clocks adds up."""
    for sale in cloud.sales:
        hours = HOURS.get(cloud.zones.get(sale.outlet_id, ""))
        if sale.day and sale.sold_at and hours is not None:
            day = (datetime.fromtimestamp(sale.sold_at, UTC) + timedelta(hours=hours)).date().isoformat()
            if day != sale.day:
                sentence = f"Sale {sale.number or sale.id} counts for {sale.day}; on its outlet's clock it was {day}."
                yield Finding("DAY", sentence, sale.id)
        if sale.device_at and sale.clock_state == SYNCED:
            told = sale.device_at + sale.offset_ms / 1000
            if abs(told - sale.sold_at) > TIME_SLACK:
                sentence = f"Sale {sale.number} is {sale.sold_at - told:.0f} s from what its till made of its clock."
                yield Finding("TIME", sentence, sale.id)
