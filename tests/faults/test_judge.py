"""Every kind of damage, made by hand, is named by the judge; a sound world is not accused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scripts.soaking import judge
from scripts.soaking.evidence import Goods, Logged, Moved, Shelf


def kinds(case: Any) -> set[str]:
    return {finding.kind for finding in judge.findings(case.journal, case.cloud, [case.tablet])}


def test_a_sound_world_is_not_accused(case: Any) -> None:
    assert judge.findings(case.journal, case.cloud, [case.tablet]) == []
    assert judge.outstanding(case.cloud, [case.tablet]) == []


def _lose_in_cloud(case: Any) -> None:
    gone = case.cloud.sales.pop(2)
    case.cloud.movements = [one for one in case.cloud.movements if one.sale_id != gone.id]


def _double_under_another_id(case: Any) -> None:
    case.cloud.sales.append(replace(case.cloud.sales[0], id="sal_9", op_seq=4))


def _take_stock_twice(case: Any) -> None:
    case.cloud.movements.append(Moved("out_1", "prd_1", -2000, "sal_2", ""))


def _change_amount(case: Any) -> None:
    case.cloud.sales[1] = replace(case.cloud.sales[1], total=1)


def _forget_on_tablet(case: Any) -> None:
    del case.tablet.sales["sal_1"]


def _invent(case: Any) -> None:
    case.journal.receipts.pop()


def _swap_in_log(case: Any) -> None:
    one, other = case.cloud.events[1], case.cloud.events[3]
    case.cloud.events[1], case.cloud.events[3] = (
        replace(one, subject_id=other.subject_id),
        replace(other, subject_id=one.subject_id),
    )


def _skip_a_number(case: Any) -> None:
    case.cloud.sales[2] = replace(case.cloud.sales[2], op_seq=4)


def _skip_a_receipt(case: Any) -> None:
    number = "KMG-2611-100009"
    case.cloud.sales[2] = replace(case.cloud.sales[2], number=number)
    case.journal.receipts[2] = replace(case.journal.receipts[2], number=number)
    case.tablet.sales["sal_3"] = number


def _leave_watermark(case: Any) -> None:
    case.cloud.stores["dev_1", 7] = 2


def _another_operation(case: Any) -> None:
    case.tablet.operations[2] = ("sal_other", True)


def _quarantine(case: Any) -> None:
    case.cloud.quarantined.append(("dev_1", 2, "INVALID"))


def _hole_in_log(case: Any) -> None:
    del case.cloud.events[2]


def _head_beyond_log(case: Any) -> None:
    case.cloud.heads["out_1"] = (1, 10, 1)


def _wrong_level(case: Any) -> None:
    case.cloud.levels["out_1", "prd_1"] = case.tablet.levels["prd_1"] = Shelf(1, 0, 6)


def _level_not_announced(case: Any) -> None:
    case.cloud.events[-1] = replace(case.cloud.events[-1], on_hand=1)


def _stock_for_nothing(case: Any) -> None:
    case.cloud.movements.append(Moved("out_1", "prd_1", 0, "sal_nowhere", ""))


def _lose_rest(case: Any) -> None:
    case.journal.facts[0].key = "office-adjust-2"
    case.cloud.answered["office-adjust-2"] = 1


def _double_rest(case: Any) -> None:
    case.cloud.movements.append(Moved("out_1", "prd_1", 0, "", "office-adjust-1"))


def _forget_key(case: Any) -> None:
    case.cloud.answered = {}


def _old_price(case: Any) -> None:
    case.cloud.products["prd_1"] = case.tablet.products["prd_1"] = Goods("Teh", 1, ("B1",), is_active=True)


def _refused_and_done(case: Any) -> None:
    case.journal.facts[1].done, case.journal.facts[1].refused = 0.0, "422"


def _stale_product(case: Any) -> None:
    case.tablet.products["prd_1"] = Goods("Teh", 9, ("B1",), is_active=True)


def _product_too_many(case: Any) -> None:
    case.tablet.products["prd_2"] = Goods("Kopi", 9, (), is_active=True)


def _stale_level(case: Any) -> None:
    case.tablet.levels["prd_1"] = Shelf(1, 0, 6)


def _other_epoch(case: Any) -> None:
    case.tablet.lanes["out_1"] = (2, 9, 3)


def _ahead(case: Any) -> None:
    case.tablet.lanes["out_1"] = (1, 99, 3)


def _shows_sales_twice(case: Any) -> None:
    case.tablet.lanes["out_1"] = (1, 9, 2)


def _wrong_time(case: Any) -> None:
    case.cloud.sales[0] = replace(case.cloud.sales[0], sold_at=0.5)


def _driver_saw(case: Any) -> None:
    case.journal.wonder("a cart was gone")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_lose_in_cloud, "LOST"),
        (_double_under_another_id, "DOUBLED"),
        (_take_stock_twice, "DOUBLED"),
        (_change_amount, "CHANGED"),
        (_forget_on_tablet, "FORGOTTEN"),
        (_invent, "INVENTED"),
        (_swap_in_log, "ORDER"),
        (_skip_a_number, "ORDER"),
        (_skip_a_receipt, "ORDER"),
        (_another_operation, "ORDER"),
        (_leave_watermark, "WATERMARK"),
        (_quarantine, "QUARANTINED"),
        (_hole_in_log, "LOG"),
        (_head_beyond_log, "LOG"),
        (_level_not_announced, "LOG"),
        (_wrong_level, "STOCK"),
        (_stock_for_nothing, "STOCK"),
        (_lose_rest, "REST_LOST"),
        (_old_price, "REST_LOST"),
        (_double_rest, "REST_DOUBLED"),
        (_forget_key, "REST_KEY"),
        (_refused_and_done, "REST_INVENTED"),
        (_stale_product, "REPLICA"),
        (_product_too_many, "REPLICA"),
        (_stale_level, "REPLICA"),
        (_other_epoch, "POSITION"),
        (_ahead, "POSITION"),
        (_shows_sales_twice, "SHOWN"),
        (_wrong_time, "TIME"),
        (_driver_saw, "STRANGE"),
    ],
)
def test_each_damage_is_named(case: Any, damage: Callable[[Any], None], kind: str) -> None:
    damage(case)
    assert kind in kinds(case)


def test_what_is_on_its_way_is_said(case: Any) -> None:
    case.tablet.operations[3] = ("sal_3", False)
    case.tablet.lanes["out_1"] = (1, 5, 2)
    assert judge.outstanding(case.cloud, [case.tablet]) == [
        "tablet-1 has 1 operations that are not acknowledged",
        "tablet-1 is at 5 of 9 in lane out_1 (epoch 1 of 1)",
        "tablet-1 was told watermark 2 of 3",
    ]


def test_what_a_restored_backup_took_away_by_rest_is_nobodys_fault(case: Any) -> None:
    case.journal.backup_at = 3.5
    case.journal.restored()
    gone = case.cloud.sales.pop()
    case.cloud.movements.pop()
    case.cloud.events = [one for one in case.cloud.events if one.subject_id != gone.id][:-1]
    case.cloud.heads["out_1"] = (1, 7, 1)
    case.tablet.lanes["out_1"] = (1, 7, 3)
    case.cloud.levels["out_1", "prd_1"] = case.tablet.levels["prd_1"] = Shelf(94_000, 0, 5)
    del case.cloud.answered["office-sale-1"]
    assert judge.findings(case.journal, case.cloud, [case.tablet]) == []


def test_a_log_that_lost_its_oldest_events_by_age_is_sound(case: Any) -> None:
    case.cloud.events = case.cloud.events[3:]
    case.cloud.heads["out_1"] = (1, 9, 4)
    assert judge.findings(case.journal, case.cloud, [case.tablet]) == []


def test_events_without_a_lane_are_noticed(case: Any) -> None:
    case.cloud.events.append(Logged("nowhere", 1, "product.created", "prd_1"))
    assert kinds(case) == {"LOG"}


def test_a_thousand_findings_are_told_as_a_few(case: Any) -> None:
    case.cloud.sales.clear()
    case.cloud.movements.clear()
    for number in range(50):
        case.journal.receipts.append(replace(case.journal.receipts[0], sale_id=f"sal_x{number}"))
    told = [finding for finding in judge.findings(case.journal, case.cloud, [case.tablet]) if finding.kind == "LOST"]
    assert len(told) == judge.MOST_OF_A_KIND
    assert "53 in all" in told[0].evidence
