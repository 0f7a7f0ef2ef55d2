"""Rules about what a client of the link that is none of ours has sold: it is in the cloud once, as it was, on its day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from scripts.soaking.evidence import Cloud, Made, Outside, Sold, dump
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

SUSPECT = "CLOCK_SUSPECT"
SLACK_SECONDS = 3.0
"""What was acknowledged right before a restore may have been on its way."""


def handed_over(journal: Journal, cloud: Cloud, outside: Outside) -> Iterator[Finding]:
    """See above. What is not acknowledged may be there or not."""
    if not outside.till_id:
        return
    watermark = cloud.stores.get((outside.till_id, outside.life), 0)
    if outside.told > watermark and outside.told_at - SLACK_SECONDS > journal.restored_at:
        sentence = f"A client was told that operation {outside.told} is stored, and the cloud has {watermark}."
        yield Finding("LOST", sentence, outside.till_id)
    there: defaultdict[int, list[Sold]] = defaultdict(list)
    for sale in cloud.sales:
        if sale.till_id == outside.till_id:
            there[sale.op_seq].append(sale)
    for made in outside.made:
        found = there.get(made.op_seq, [])
        if len(found) > 1:
            yield Finding("DOUBLED", f"Sale {made.number} of a client is {len(found)} times in the cloud.", made.id)
        elif bool(found) != (made.op_seq <= watermark):
            word = "is not in the cloud" if not found else "is in the cloud"
            yield Finding("LOST", f"Sale {made.number} of a client {word}, and the watermark is {watermark}.", made.id)
        for sale in found:
            wanted = (made.id, made.number, outside.outlet_id, {made.product: made.quantity})
            if (sale.id, sale.number, sale.outlet_id, sale.quantities) != wanted:
                evidence = dump([made.id, sale.id, sale.number, sale.quantities])
                yield Finding("CHANGED", f"Sale {made.number} of a client is another in the cloud.", evidence)
            yield from _dated(made, sale)


def _dated(made: Made, sale: Sold) -> Iterator[Finding]:
    """A till's word for the time is taken; where it does not know, the moment of arrival, and the owner is told."""
    if made.at and abs(sale.sold_at - made.at) > 1:
        sentence = f"Sale {made.number} of a client was dated {sale.sold_at - made.at:.0f} s away from its time."
        yield Finding("TIME", sentence, made.id)
    elif not made.at and sale.sold_at < made.made_at - 1:
        yield Finding("TIME", f"Sale {made.number} of a client has the time of a clock that was said to be wrong.", made.id)
    if (SUSPECT in sale.reasons) != (not made.at):
        word = "does not say" if not made.at else "says"
        yield Finding("TIME", f"Sale {made.number} of a client {word} that its clock was wrong.", made.id)
