"""A small sound world by hand, which tests damage in one place: the judge must name exactly that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.soaking.evidence import (
    Aside,
    Cloud,
    Conflict,
    Count,
    Edit,
    Goods,
    Logged,
    Moved,
    Outside,
    Promise,
    Said,
    Shelf,
    Sold,
    TabletFiles,
)
from scripts.soaking.journal import Act, Fact, Journal, Place, Poison, Receipt

OUTLET, TILL, TEA = "out_1", "dev_1", "prd_1"


@dataclass
class Case:
    """What the judge is given."""

    journal: Journal
    cloud: Cloud
    tablet: TabletFiles
    outside: Outside


def _sold(number: int) -> Sold:
    return Sold(
        id=f"sal_{number}",
        till_id=TILL,
        outlet_id=OUTLET,
        number=f"KMG-2611-1{number:05d}",
        epoch=7,
        op_seq=number,
        total=5000,
        note="",
        quantities={TEA: 2000},
        sold_at=1000.0 + number,
        clock_state=1,
    )


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Three sales of a tablet, one by REST, goods received: nothing is wrong."""
    journal = Journal(tmp_path / "journal.jsonl")
    tablet = TabletFiles("tablet-1", TILL, OUTLET, epoch=7, last_op_seq=3)
    cloud = Cloud()
    cloud.movements.append(Moved(OUTLET, TEA, 100_000, "", "office-adjust-1"))
    cloud.events.append(Logged(OUTLET, 1, "inventory.updated", TEA, 100_000, OUTLET))
    on_hand = 100_000
    for number in (1, 2, 3, 4):
        sale = _sold(number)
        if number == 4:
            sale = Sold("sal_4", "", OUTLET, "", 0, 0, 5000, "office-sale-1", {TEA: 2000})
        else:
            journal.sold(
                Receipt(
                    "tablet-1",
                    TILL,
                    f"key-{number}",
                    sale.id,
                    sale.number,
                    5000,
                    {TEA: 2000},
                    sale.sold_at - 0.1,
                    sale.sold_at + 0.1,
                )
            )
            tablet.operations[number] = (sale.id, True)
            tablet.sales[sale.id] = sale.number
            tablet.deltas.append((number, TEA, -2000))
        cloud.sales.append(sale)
        on_hand -= 2000
        cloud.movements.append(Moved(OUTLET, TEA, -2000, sale.id, ""))
        seq = len(cloud.events) + 1
        cloud.events.append(Logged(OUTLET, seq, "sale.created", sale.id))
        cloud.events.append(Logged(OUTLET, seq + 1, "inventory.updated", TEA, on_hand, OUTLET))
    _count(journal, cloud, tablet, on_hand)
    _promise(journal, cloud)
    cloud.heads = {OUTLET: (1, len(cloud.events), 1), "tenant": (1, 3, 1)}
    cloud.levels[OUTLET, TEA] = Shelf(90_000, 4000, 9)
    cloud.newest = {OUTLET: len([one for one in cloud.events if one.lane == OUTLET]), "tenant": 3}
    cloud.stores[TILL, 7] = 7
    cloud.answered = {"office-sale-1": 1, "office-adjust-1": 1, "office-price-1": 1}
    journal.facts[:0] = [
        Fact("adjust", "office-adjust-1", OUTLET, TEA, 100_000, began=1, done=2),
        Fact("sale", "office-sale-1", OUTLET, TEA, 2000, began=3, done=4),
        Fact("price", "office-price-1", product_id=TEA, price=2500, began=5, done=6),
    ]
    tablet.lanes = {OUTLET: (*cloud.heads[OUTLET][:2], 7), "tenant": (1, 3, 0)}
    _edit(journal, cloud, tablet)
    tablet.products[TEA] = cloud.products[TEA]
    tablet.levels[TEA] = cloud.levels[OUTLET, TEA]
    journal.poisons.append(Poison("tablet-1", TILL, "opx_5", "a sale without lines"))
    tablet.operations[5], tablet.told_aside["opx_5"] = ("opx_5", True), "NOT_UNDERSTOOD"
    cloud.quarantined.append(Aside(TILL, 5, "NOT_UNDERSTOOD", "opx_5", 7))
    tablet.last_op_seq = 7
    outside = TabletFiles("outside", "", OUTLET, lanes=dict(tablet.lanes), products=dict(tablet.products))
    outside.levels, outside.lanes[OUTLET] = dict(tablet.levels), (*cloud.heads[OUTLET][:2], 0)
    return Case(journal, cloud, tablet, Outside(outside))


def _count(journal: Journal, cloud: Cloud, tablet: TabletFiles, on_hand: int) -> None:
    """The tablet had seen position 5, where there were 96, had sold 2 more since, and counted 93: one is missing."""
    count = Count("opc_4", TILL, 7, 4, OUTLET, TEA, 93_000, 94_000, -1000, 5, (), "count-1", 77, 1)
    cloud.counts.append(count)
    cloud.movements.append(Moved(OUTLET, TEA, -1000, "", "count-1", "count", 77))
    cloud.events.append(Logged(OUTLET, 10, "inventory.updated", TEA, on_hand - 1000, OUTLET, 7, at=77))
    tablet.operations[4] = ("opc_4", True)
    tablet.counts["opc_4"] = Said("opc_4", 5, 1, 94_000, acknowledged=True)
    tablet.deltas.append((4, TEA, -1000))
    journal.acts.append(Act("count", "tablet-1", TILL, "count-1", TEA, value="93000", done=7))
    journal.places.add(Place("tablet-1", TILL, 7, 1, 3, 1))


def _promise(journal: Journal, cloud: Cloud) -> None:
    """One order is open, one was handed over."""
    cloud.promises = [
        Promise("rsv_1", OUTLET, "order-1", "open", {TEA: 4000}, -600),
        Promise("rsv_2", OUTLET, "order-2", "fulfilled", {TEA: 1000}, -600),
    ]
    cloud.movements.append(Moved(OUTLET, TEA, -1000, "", "order-2", "order", 78))
    cloud.events.append(Logged(OUTLET, 11, "inventory.updated", TEA, 90_000, OUTLET, 8, at=78))
    cloud.events.append(Logged(OUTLET, 12, "inventory.updated", TEA, 90_000, OUTLET, 9, at=79))
    journal.facts += [
        Fact("reserve", "k1", OUTLET, about="order-1", began=7, done=8),
        Fact("reserve", "k2", OUTLET, about="order-2", began=7, done=8),
        Fact("fulfil", "k3", OUTLET, about="order-2", began=7, done=8),
    ]


def _edit(journal: Journal, cloud: Cloud, tablet: TabletFiles) -> None:
    """The office gave a price and a name, a till that had seen that another price; another change of it came too late."""
    for version, name, price in ((1, "Teh tua", 2000), (2, "Teh", 2500), (3, "Teh", 3000)):
        goods = Goods(name, price, ("B1",), is_active=True)
        cloud.events.append(Logged("tenant", version, "product.updated", TEA, None, "", version, goods))
    cloud.products[TEA] = goods
    for op_seq, name, value, base in ((6, "price", "3000", 2), (7, "name", "Teh manis", 1)):
        tablet.edits.append(Edit(7, op_seq, f"ope_{op_seq}", TEA, name, value, base, acknowledged=True, base_epoch=1))
        tablet.operations[op_seq] = (f"ope_{op_seq}", True)
        journal.acts.append(Act("edit", "tablet-1", TILL, value, TEA, name, value, done=8))
    cloud.conflicts.append(Conflict(TEA, "name", "ope_7", "Teh manis", 3))
