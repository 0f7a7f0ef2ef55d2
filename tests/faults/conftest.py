"""A small sound world by hand, which tests damage in one place: the judge must name exactly that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.soaking.evidence import Cloud, Goods, Logged, Moved, Shelf, Sold, TabletFiles
from scripts.soaking.journal import Fact, Journal, Receipt

OUTLET, TILL, TEA = "out_1", "dev_1", "prd_1"


@dataclass
class Case:
    """What the judge is given."""

    journal: Journal
    cloud: Cloud
    tablet: TabletFiles


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
    cloud.heads = {OUTLET: (1, len(cloud.events), 1), "tenant": (1, 0, 1)}
    cloud.levels[OUTLET, TEA] = Shelf(on_hand, 0, 6)
    cloud.products[TEA] = Goods("Teh", 2500, ("B1",), is_active=True)
    cloud.stores[TILL, 7] = 3
    cloud.answered = {"office-sale-1": 1, "office-adjust-1": 1, "office-price-1": 1}
    journal.facts = [
        Fact("adjust", "office-adjust-1", OUTLET, TEA, 100_000, began=1, done=2),
        Fact("sale", "office-sale-1", OUTLET, TEA, 2000, began=3, done=4),
        Fact("price", "office-price-1", product_id=TEA, price=2500, began=5, done=6),
    ]
    tablet.lanes = {OUTLET: (1, len(cloud.events), 3), "tenant": (1, 0, 0)}
    tablet.products[TEA] = Goods("Teh", 2500, ("B1",), is_active=True)
    tablet.levels[TEA] = Shelf(on_hand, 0, 6)
    return Case(journal, cloud, tablet)
