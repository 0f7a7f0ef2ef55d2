"""Every kind of damage, made by hand, is named by the judge; a sound world is not accused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scripts.soaking import judge
from scripts.soaking.evidence import Aside, Goods, Logged, Moved, Shelf
from scripts.soaking.journal import Fact, Place


def kinds(case: Any) -> set[str]:
    return {finding.kind for finding in judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)}


def test_a_sound_world_is_not_accused(case: Any) -> None:
    assert judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside) == []
    assert judge.outstanding(case.cloud, [case.tablet]) == []


def _lose_in_cloud(case: Any) -> None:
    gone = case.cloud.sales.pop(2)
    case.cloud.movements = [one for one in case.cloud.movements if one.sale_id != gone.id]


def _double_under_another_id(case: Any) -> None:
    case.cloud.sales.append(replace(case.cloud.sales[0], id="sal_9", op_seq=9))


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
    case.cloud.sales[2] = replace(case.cloud.sales[2], op_seq=9)


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
    case.cloud.quarantined.append(Aside("dev_1", 2, "INVALID", "sal_2", 7))


def _hole_in_log(case: Any) -> None:
    del case.cloud.events[2]


def _head_beyond_log(case: Any) -> None:
    case.cloud.heads["out_1"] = (1, 13, 1)


def _wrong_level(case: Any) -> None:
    case.cloud.levels["out_1", "prd_1"] = case.tablet.levels["prd_1"] = Shelf(1, 4000, 9)


def _level_not_announced(case: Any) -> None:
    case.cloud.events[11] = replace(case.cloud.events[11], on_hand=1)


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
    for number, event in enumerate(case.cloud.events):
        if event.version == 2 and event.goods is not None:
            case.cloud.events[number] = replace(event, goods=replace(event.goods, price=2001))


def _refused_and_done(case: Any) -> None:
    case.journal.facts[1].done, case.journal.facts[1].refused = 0.0, "422"


def _stale_product(case: Any) -> None:
    case.tablet.products["prd_1"] = Goods("Teh", 9, ("B1",), is_active=True)


def _product_too_many(case: Any) -> None:
    case.tablet.products["prd_2"] = Goods("Kopi", 9, (), is_active=True)


def _stale_level(case: Any) -> None:
    case.tablet.levels["prd_1"] = Shelf(1, 0, 6)


def _other_epoch(case: Any) -> None:
    case.tablet.lanes["out_1"] = (2, 9, 7)


def _ahead(case: Any) -> None:
    case.tablet.lanes["out_1"] = (1, 99, 7)


def _shows_sales_twice(case: Any) -> None:
    case.tablet.lanes["out_1"] = (1, 12, 2)


def _wrong_time(case: Any) -> None:
    case.cloud.sales[0] = replace(case.cloud.sales[0], sold_at=0.5)


def _told_too_early(case: Any) -> None:
    case.journal.places.add(Place("tablet-1", "dev_1", 7, 1, 3, 2))


def _told_too_late(case: Any) -> None:
    case.journal.places.add(Place("tablet-1", "dev_1", 7, 1, 5, 1))


def _receipt_again(case: Any) -> None:
    case.journal.receipts.append(case.journal.receipts[0])


def _fork_unseen(case: Any) -> None:
    case.journal.forked["dev_1"] = 5.0


def _contract(case: Any) -> None:
    case.outside.broken.append("Two ranges came at once.")


def _stale_outside(case: Any) -> None:
    case.outside.files.products.clear()


def _nothing_outside(case: Any) -> None:
    case.outside.files.lanes.clear()


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
        (_told_too_early, "WATERMARK"),
        (_told_too_late, "WATERMARK"),
        (_receipt_again, "RECEIPT"),
        (_fork_unseen, "FORKED"),
        (_contract, "CONTRACT"),
        (_stale_outside, "REPLICA"),
        (_nothing_outside, "CONTRACT"),
    ],
)
def test_each_damage_is_named(case: Any, damage: Callable[[Any], None], kind: str) -> None:
    damage(case)
    assert kind in kinds(case)


def test_what_is_on_its_way_is_said(case: Any) -> None:
    case.tablet.operations[3] = ("sal_3", False)
    case.tablet.lanes["out_1"] = (1, 5, 6)
    assert judge.outstanding(case.cloud, [case.tablet]) == [
        "tablet-1 has 1 operations that are not acknowledged",
        "tablet-1 is at 5 of 12 in lane out_1 (epoch 1 of 1)",
        "tablet-1 was told watermark 6 of 7",
    ]


def test_what_a_restored_backup_took_away_by_rest_is_nobodys_fault(case: Any) -> None:
    case.journal.facts.append(Fact("adjust", "office-adjust-9", "out_1", "prd_1", 1000, began=9, done=10))
    assert kinds(case) == {"REST_LOST", "REST_KEY"}
    case.journal.backup_at = 9.5
    case.journal.restored()
    assert kinds(case) == set()


def test_a_log_that_lost_its_oldest_events_by_age_is_sound(case: Any) -> None:
    case.cloud.events = case.cloud.events[3:]
    case.cloud.heads["out_1"] = (1, 12, 4)
    assert judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside) == []


def test_what_is_announced_to_online_channels_is_no_word_on_the_shelf(case: Any) -> None:
    case.cloud.events.append(Logged("tenant", 4, "inventory.updated", "prd_1", 1, "out_1"))
    case.cloud.heads["tenant"] = (1, 4, 1)
    assert kinds(case) == set()
    assert judge.outstanding(case.cloud, [case.tablet]) == []


def test_a_tablet_that_was_put_back_to_an_image_has_forgotten_what_came_before_and_nothing_else(case: Any) -> None:
    for sale_id in ("sal_1", "sal_3"):
        del case.tablet.sales[sale_id]
    assert "FORGOTTEN" in kinds(case)
    case.journal.put_back("tablet-1", "dev_1")
    assert "FORGOTTEN" not in kinds(case)
    case.journal.sold(replace(case.journal.receipts[2], sale_id="sal_8"))
    assert {"FORGOTTEN", "RECEIPT"} <= kinds(case)


def test_events_without_a_lane_are_noticed(case: Any) -> None:
    case.cloud.events.append(Logged("nowhere", 1, "product.created", "prd_1"))
    assert kinds(case) == {"LOG"}


def test_a_thousand_findings_are_told_as_a_few(case: Any) -> None:
    case.cloud.sales.clear()
    case.cloud.movements.clear()
    for number in range(50):
        case.journal.receipts.append(replace(case.journal.receipts[0], sale_id=f"sal_x{number}"))
    found = judge.findings(case.journal, case.cloud, [case.tablet])
    told = [finding for finding in found if finding.kind == "LOST"]
    assert len(told) == judge.MOST_OF_A_KIND
    assert "53 in all" in told[0].evidence
