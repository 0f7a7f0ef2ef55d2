"""Says what is wrong: pure rules over the journal, the cloud's rows and the tablets' files. Shares no code with the product.

Every rule is one function that yields findings; a finding has a kind, a sentence for people and evidence. No finding, no fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from scripts.soaking import count_rules, edit_rules, outside_rules, product_rules, queue_rules, sales_rules, stock_rules
from scripts.soaking.evidence import Cloud, Outside, TabletFiles
from scripts.soaking.finding import Finding
from scripts.soaking.journal import Journal

MOST_OF_A_KIND = 3
"""Findings of one kind that are told; a thousand lost sales are one fault."""


def findings(
    journal: Journal,
    cloud: Cloud,
    tablets: Sequence[TabletFiles],
    retired: Sequence[TabletFiles] = (),
    outside: Outside | None = None,
) -> list[Finding]:
    """Everything that is wrong, the gravest kinds first, a few of each kind.

    Args:
        journal: What the world was told.
        cloud: Its rows.
        tablets: The files of those that work.
        retired: Of second tablets that do not any more.
        outside: What a client of the link that is none of ours has seen.
    """
    every = [*tablets, *retired]
    rules = (
        strange(journal),
        sales_rules.lost(journal, cloud, every),
        sales_rules.doubled(cloud),
        sales_rules.invented(journal, cloud, every),
        sales_rules.disordered(journal, cloud, tablets),
        queue_rules.put_aside(journal, cloud, every),
        queue_rules.forked(journal, cloud),
        sales_rules.mistimed(journal, cloud),
        sales_rules.days(cloud),
        queue_rules.holes(cloud),
        stock_rules.stock(cloud),
        count_rules.counts(journal, cloud, every),
        stock_rules.contained(journal, cloud),
        stock_rules.promises(journal, cloud),
        queue_rules.rest(journal, cloud),
        edit_rules.edits(journal, cloud, every),
        product_rules.office(journal, cloud),
        *(product_rules.replica(cloud, tablet) for tablet in tablets),
        queue_rules.commands(journal, cloud),
        strangers(cloud, outside),
        outside_rules.handed_over(journal, cloud, outside) if outside is not None else (),
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


def strangers(cloud: Cloud, outside: Outside | None) -> Iterator[Finding]:
    """The contract is kept towards clients that are not ours; what they hold is fresh when they stand at the end."""
    if outside is None:
        return
    for sentence in outside.broken:
        yield Finding("CONTRACT", sentence)
    held = outside.files
    if not held.lanes:
        yield Finding("CONTRACT", "An outside client of the link was never given anything.")
    for lane in ("tenant", held.outlet_id):
        place, head = held.lanes.get(lane, (0, 0, 0)), cloud.heads.get(lane, (0, 0, 0))
        if place[0] != head[0] or place[1] < cloud.newest.get(lane, 0):
            return  # it confirms late on purpose, and is not waited for
    yield from product_rules.replica(cloud, held)


def outstanding(cloud: Cloud, tablets: Sequence[TabletFiles]) -> list[str]:
    """What is still on its way, for people; nothing when everything has arrived."""
    waits = []
    for tablet in tablets:
        waiting = sum(not acknowledged for _, acknowledged in tablet.operations.values())
        if waiting:
            waits.append(f"{tablet.name} has {waiting} operations that are not acknowledged")
        for lane in ("tenant", tablet.outlet_id):
            place, head = tablet.lanes.get(lane), cloud.heads.get(lane, (0, 0, 0))
            if place is None:
                waits.append(f"{tablet.name} has no copy of lane {lane}")
            elif place[0] != head[0] or place[1] < cloud.newest.get(lane, 0):
                newest = cloud.newest.get(lane, 0)
                waits.append(f"{tablet.name} is at {place[1]} of {newest} in lane {lane} (epoch {place[0]} of {head[0]})")
        mark, watermark = tablet.lanes.get(tablet.outlet_id, (0, 0, 0))[2], cloud.stores.get((tablet.till_id, tablet.epoch), 0)
        if mark != watermark:
            waits.append(f"{tablet.name} was told watermark {mark} of {watermark}")
    tills = {tablet.till_id: tablet.name for tablet in tablets}
    for till, status, _ in cloud.commands.values():
        if till in tills and status in {"waiting", "sent"}:
            waits.append(f"{tills[till]} has not said what became of a command")
    return waits
