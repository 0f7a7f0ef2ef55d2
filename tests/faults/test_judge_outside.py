"""Damage to days, clocks, owners' orders, barcodes and to what an outside client has sold, made by hand, is named as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gipos.edge.v1.link_pb2 import LinkRequest
from scripts.soaking import boards, judge, product_rules
from scripts.soaking.evidence import Edit, Goods, Logged, Made, Moved, Promise, Shelf, Sold
from scripts.soaking.journal import Act, Fact
from scripts.soaking.reading import read_outside
from scripts.soaking.selling import QUIET, Till
from scripts.soaking.wire import Message, written

MIDNIGHT = 1_700_064_000
"""In Makassar, of 16 November 2023; still the day before in Jakarta."""


@pytest.fixture
def full(case: Any) -> Any:
    """A sound world with a day, a clock, a scarce product, a command, barcodes and an outside client that has sold."""
    cloud, journal, outside = case.cloud, case.journal, case.outside
    cloud.zones["out_1"] = "Asia/Makassar"
    sale = replace(cloud.sales[0], sold_at=float(MIDNIGHT), day="2023-11-16", device_at=MIDNIGHT - 5.0, offset_ms=5000, paid=9)
    cloud.sales[0] = sale
    receipt = journal.receipts[0]
    journal.receipts[0] = replace(receipt, asked_at=sale.sold_at, given_at=sale.sold_at, outlet_id="out_1", paid=9)
    journal.scarce = "prd_9"
    cloud.levels["out_1", "prd_9"] = case.tablet.levels["prd_9"] = outside.files.levels["prd_9"] = Shelf(3000, 0, 1)
    cloud.movements.append(Moved("out_1", "prd_9", 3000, "", "opening"))
    journal.facts.append(Fact("command", "k9", about="cmd_1", began=1, done=2))
    cloud.commands["cmd_1"] = ("dev_1", "done", "")
    outside.till_id, outside.outlet_id, outside.life, outside.told, outside.told_at = "dev_2", "out_1", 3, 1, 50.0
    outside.made = [
        Made(1, "sal_8", "LUAR-00001", "prd_1", 1000, MIDNIGHT),
        Made(2, "sal_9", "LUAR-00002", "prd_1", 1000, MIDNIGHT),
    ]
    cloud.stores["dev_2", 3] = 1
    cloud.sales.append(Sold("sal_8", "dev_2", "out_1", "LUAR-00001", 3, 1, 1000, "", {"prd_1": 1000}, float(MIDNIGHT)))
    cloud.movements += [Moved("out_1", "prd_1", -1000, "sal_8", ""), Moved("out_1", "prd_1", 1000, "", "more")]
    cloud.events += [
        Logged("out_1", 13, "sale.created", "sal_8"),
        Logged("out_1", 14, "inventory.updated", "prd_1", 90_000, "out_1"),
    ]
    cloud.heads["out_1"], cloud.newest["out_1"] = (1, 14, 1), 14
    case.tablet.lanes["out_1"], outside.files.lanes["out_1"] = (1, 14, 7), (1, 14, 0)
    return case


def found(case: Any) -> set[str]:
    return {one.kind for one in judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)}


def test_a_sound_world_is_not_accused(full: Any) -> None:
    assert judge.findings(full.journal, full.cloud, [full.tablet], outside=full.outside) == []
    assert judge.outstanding(full.cloud, [full.tablet]) == []


def _day_of_greenwich(case: Any) -> None:
    case.cloud.sales[0] = replace(case.cloud.sales[0], day="2023-11-15")


def _clock_the_other_way(case: Any) -> None:
    case.cloud.sales[0] = replace(case.cloud.sales[0], offset_ms=-5000)


def _paid_less(case: Any) -> None:
    case.cloud.sales[0] = replace(case.cloud.sales[0], paid=8)


def _promised_beyond(case: Any) -> None:
    case.cloud.promises.append(Promise("rsv_9", "out_1", "order-9", "open", {"prd_9": 4000}, -60))
    case.cloud.levels["out_1", "prd_9"] = case.tablet.levels["prd_9"] = Shelf(3000, 4000, 2)


def _promised_again(case: Any) -> None:
    case.cloud.promises.append(replace(case.cloud.promises[0], id="rsv_9", status="released"))


def _command_expired(case: Any) -> None:
    case.cloud.commands["cmd_1"] = ("dev_1", "expired", "")


def _command_gone(case: Any) -> None:
    case.cloud.commands.clear()


def _told_too_much(case: Any) -> None:
    case.outside.told = 2


def _lost_of_a_client(case: Any) -> None:
    case.cloud.stores["dev_2", 3] = 2


def _doubled_of_a_client(case: Any) -> None:
    case.cloud.sales.append(replace(case.cloud.sales[-1], id="sal_7"))


def _changed_of_a_client(case: Any) -> None:
    case.cloud.sales[-1] = replace(case.cloud.sales[-1], number="LUAR-00009")


def _dated_by_arrival(case: Any) -> None:
    case.cloud.sales[-1] = replace(case.cloud.sales[-1], sold_at=MIDNIGHT + 60.0)


def _clock_not_doubted(case: Any) -> None:
    case.outside.made[0] = replace(case.outside.made[0], at=0, made_at=MIDNIGHT - 5.0)


def _believed_in_1970(case: Any) -> None:
    case.outside.made[0] = replace(case.outside.made[0], at=0, made_at=MIDNIGHT + 9.0)
    case.cloud.sales[-1] = replace(case.cloud.sales[-1], reasons=("CLOCK_SUSPECT",))


def _doubted_for_nothing(case: Any) -> None:
    case.cloud.sales[-1] = replace(case.cloud.sales[-1], reasons=("CLOCK_SUSPECT",))


def _code_replaced(case: Any) -> None:
    """Another till had added B2 in version 4; this one had seen version 3, and its B3 took the place of it."""
    for version, codes in ((4, ("B1", "B2")), (5, ("B1", "B3"))):
        goods = Goods("Teh", 3000, codes, is_active=True)
        case.cloud.events.append(Logged("tenant", version, "product.updated", "prd_1", None, "", version, goods))
    case.cloud.products["prd_1"] = goods
    case.tablet.edits.append(Edit(7, 8, "ope_8", "prd_1", "barcodes", "B1 B3", 3, acknowledged=True, base_epoch=1))
    case.journal.acts.append(Act("edit", "tablet-1", "dev_1", "B3", "prd_1", "barcodes", "B1 B3", done=8))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_day_of_greenwich, "DAY"),
        (_clock_the_other_way, "TIME"),
        (_paid_less, "CHANGED"),
        (_promised_beyond, "PROMISED"),
        (_promised_again, "REST_DOUBLED"),
        (_command_expired, "COMMAND"),
        (_command_gone, "COMMAND"),
        (_told_too_much, "LOST"),
        (_lost_of_a_client, "LOST"),
        (_doubled_of_a_client, "DOUBLED"),
        (_changed_of_a_client, "CHANGED"),
        (_dated_by_arrival, "TIME"),
        (_clock_not_doubted, "TIME"),
        (_believed_in_1970, "TIME"),
        (_doubted_for_nothing, "TIME"),
        (_code_replaced, "OVERWRITTEN"),
    ],
)
def test_each_damage_is_named(full: Any, damage: Callable[[Any], None], kind: str) -> None:
    damage(full)
    assert kind in found(full)


def test_a_code_that_its_till_had_seen_may_be_replaced(full: Any) -> None:
    _code_replaced(full)
    full.tablet.edits[-1] = replace(full.tablet.edits[-1], base_version=4)
    assert "OVERWRITTEN" not in found(full)


def test_what_a_restore_has_undone_was_not_told_wrongly(full: Any) -> None:
    _told_too_much(full)
    full.journal.restored_at = 60.0
    assert "LOST" not in found(full)


def test_a_command_that_nobody_has_answered_is_waited_for(full: Any) -> None:
    full.cloud.commands["cmd_1"] = ("dev_1", "sent", "")
    assert judge.outstanding(full.cloud, [full.tablet]) == ["tablet-1 has not said what became of a command"]


def test_a_screen_that_shows_another_stock_is_named(full: Any) -> None:
    said = {("tablet-1", "out_1", "prd_1"): (90_000, 4000), ("tablet-1", "out_1", "prd_9"): (2000, 0)}
    assert [one.evidence[:5] for one in product_rules.screens(full.cloud, said)] == ["prd_9"]


def test_a_dashboard_that_shows_other_sales_is_named(full: Any) -> None:
    sales: dict[str, dict[str, Any]] = {f"sal_{number}": {} for number in (1, 2, 3, 4, 8)}
    values: dict[str, dict[str, Any]] = {
        "sales.today:out_1": {"business_date": "2023-11-16", "count": 1, "total": 5000},
        "sales.recent:out_1": {"sales": sales},
    }
    assert list(boards.shown(full.cloud, values)) == []
    values["sales.today:out_1"]["count"] = 2
    del sales["sal_3"]
    assert len(list(boards.shown(full.cloud, values))) == 2
    assert [one.evidence for one in boards.shown(full.cloud, {})] == ["out_1"]


def test_a_change_of_a_dashboard_is_merged() -> None:
    before = {"count": 1, "hours": {"07": {"count": 1}, "08": {"count": 2}}}
    assert boards.merged(before, {"count": 2, "hours": {"07": None, "08": {"total": 5}}}) == {
        "count": 2,
        "hours": {"08": {"count": 2, "total": 5}},
    }


def test_the_outside_client_sells_what_the_contract_reads(tmp_path: Path) -> None:
    complaints: list[str] = []
    till = Till(tmp_path, complaints.append, epoch=5)
    assert till.batch(["prd_1"]) is None, "nobody has welcomed it"
    till.welcomed(Message(written((1, 0), (6, written((1, "out_1"))), (7, written((1, "dev_2"))))))
    request = LinkRequest.FromString(till.batch(["prd_1"]) or b"")
    (operation,) = request.operations.operations
    sale = operation.sale_recorded
    assert (operation.op_seq, operation.op_id, sale.number, sale.lines[0].product_id) == (1, sale.id, "LUAR-00001", "prd_1")
    assert sale.sale_time == operation.occurred_time
    clock = operation.clock
    assert clock.state == 3 or clock.device_time.seconds + clock.offset_ms // 1000 == operation.occurred_time.seconds
    till.stored(Message(written((1, 1))))
    assert {number: value for number, value in till.said() if number != 7} == {3: 1, 6: 1}
    (tmp_path / QUIET).touch()
    assert till.batch(["prd_1"]) is None, "it makes nothing new"
    read = read_outside(tmp_path, "out_1")
    assert (read.till_id, read.outlet_id, read.life, read.told) == ("dev_2", "out_1", 5, 1)
    assert [(made.op_seq, made.id, made.number) for made in read.made] == [(1, sale.id, sale.number)]
    assert read.made[0].at == (sale.sale_time.seconds if clock.state == 1 else 0)
    till.stored(Message(written((1, 2))))
    till.welcomed(Message(written((1, 9), (11, 4))))
    assert len(complaints) == 3, json.dumps(complaints)
