"""Damage to what is beside the sales (quarantine, counts, changes of products, promises), made by hand, is named as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scripts.soaking import judge
from scripts.soaking.journal import Act, Fact


def _drop_poison(case: Any) -> None:
    case.cloud.quarantined.clear()


def _store_poison(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], id="opx_5")


def _aside_twice(case: Any) -> None:
    case.cloud.quarantined.append(case.cloud.quarantined[0])


def _tell_nobody(case: Any) -> None:
    case.tablet.told_aside.clear()


def _lose_poison_of_an_earlier_life(case: Any) -> None:
    del case.tablet.operations[5]
    case.tablet.past["opx_5"] = 6
    case.cloud.quarantined.clear()


def _tell_of_good(case: Any) -> None:
    case.tablet.told_aside["sal_1"] = "INVALID"


def _lose_count(case: Any) -> None:
    case.cloud.counts.clear()


def _double_count(case: Any) -> None:
    case.cloud.counts.append(replace(case.cloud.counts[0], id="opc_9", op_seq=9))


def _take_count_as_absolute(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], difference=3000)
    case.cloud.movements = [replace(one, quantity=3000) if one.reason == "count" else one for one in case.cloud.movements]


def _doubt_count(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], reasons=("COUNT_BASE_UNKNOWN",))


def _other_count_on_tablet(case: Any) -> None:
    case.tablet.deltas[-1] = (4, "prd_1", -2000)


def _doubt_what_is_there(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], reasons=("COUNT_BASE_RESTORED",))


def _name_another_place(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], seen_epoch=0)


def _show_another_stock(case: Any) -> None:
    case.tablet.counts["opc_4"] = replace(case.tablet.counts["opc_4"], shown=90_000)


def _lose_what_was_acknowledged(case: Any) -> None:
    case.tablet.counts["opc_9"] = replace(case.tablet.counts["opc_4"], op_id="opc_9")


def _change_count(case: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], counted=1)


def _invent_count(case: Any) -> None:
    case.journal.acts = [act for act in case.journal.acts if act.kind != "count"]


def _lose_edit(case: Any) -> None:
    case.cloud.conflicts.clear()


def _lose_against_nobody(case: Any) -> None:
    case.tablet.edits[1] = replace(case.tablet.edits[1], base_version=2)


def _keep_another_value(case: Any) -> None:
    case.cloud.conflicts[0] = replace(case.cloud.conflicts[0], theirs="Teh")


def _say_it_is_stored(case: Any) -> None:
    case.cloud.quarantined[0] = replace(case.cloud.quarantined[0], status="stored")


def _overwrite(case: Any) -> None:
    case.tablet.edits[0] = replace(case.tablet.edits[0], base_version=1)


def _go_back(case: Any) -> None:
    case.journal.acts.insert(0, Act("edit", "tablet-1", "dev_1", "2500", "prd_1", "price", "3000", done=8))
    case.journal.acts.append(Act("edit", "tablet-1", "dev_1", "2500", "prd_1", "price", "2500", done=8))
    case.journal.acts = [act for act in case.journal.acts if act.value != "3000" or act.key == "2500"]
    case.tablet.edits.append(replace(case.tablet.edits[0], op_id="ope_9", value="2500"))


def _forget_edit(case: Any) -> None:
    del case.tablet.edits[1]


def _hold_more_than_promised(case: Any) -> None:
    case.cloud.promises[0] = replace(case.cloud.promises[0], status="released")


def _hold_too_long(case: Any) -> None:
    case.cloud.promises[0] = replace(case.cloud.promises[0], overdue=60.0)


def _lose_promise(case: Any) -> None:
    del case.cloud.promises[0]


def _hand_over_twice(case: Any) -> None:
    case.cloud.movements.append(next(one for one in case.cloud.movements if one.reason == "order"))


def _not_handed_over(case: Any) -> None:
    case.cloud.promises[1] = replace(case.cloud.promises[1], status="released")


def _not_archived(case: Any) -> None:
    case.journal.facts.append(Fact("archive", "k9", product_id="prd_1", began=8, done=9))


def test_a_change_of_an_earlier_life_that_was_made_again_since_need_not_be_kept(case: Any) -> None:
    case.journal.acts.insert(0, Act("edit", "tablet-1", "dev_1", "2222", "prd_1", "price", "2222", done=7))
    for forked, told in ((False, {"FORGOTTEN"}), (True, set())):
        if forked:
            case.journal.forked["dev_1"] = 0.0
        found = judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)
        assert {finding.kind for finding in found} == told
    _forget_edit(case)
    found = judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)
    assert "FORGOTTEN" in {finding.kind for finding in found}


def test_a_promise_that_a_backup_brought_back_has_its_time_to_end(case: Any) -> None:
    _hold_too_long(case)
    case.cloud.at = 100_000_000
    for undone, told in ((90_000_000, set()), (70_000_000, {"PROMISED"})):
        case.journal.undone[:] = [10_000_000, undone]
        found = judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)
        assert {finding.kind for finding in found} == told


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_drop_poison, "SWALLOWED"),
        (_store_poison, "SWALLOWED"),
        (_aside_twice, "QUARANTINED"),
        (_tell_of_good, "QUARANTINED"),
        (_tell_nobody, "UNTOLD"),
        (_lose_poison_of_an_earlier_life, "SWALLOWED"),
        (_lose_count, "COUNT_LOST"),
        (_double_count, "COUNT_DOUBLED"),
        (_take_count_as_absolute, "COUNT"),
        (_doubt_count, "COUNT"),
        (_other_count_on_tablet, "COUNT"),
        (_doubt_what_is_there, "COUNT"),
        (_name_another_place, "COUNT"),
        (_show_another_stock, "COUNT"),
        (_lose_what_was_acknowledged, "COUNT_LOST"),
        (_change_count, "CHANGED"),
        (_invent_count, "INVENTED"),
        (_lose_edit, "EDIT_LOST"),
        (_lose_against_nobody, "CONFLICT"),
        (_keep_another_value, "EDIT_LOST"),
        (_say_it_is_stored, "SWALLOWED"),
        (_overwrite, "OVERWRITTEN"),
        (_go_back, "BACKWARDS"),
        (_forget_edit, "FORGOTTEN"),
        (_hold_more_than_promised, "PROMISED"),
        (_hold_too_long, "PROMISED"),
        (_lose_promise, "REST_LOST"),
        (_hand_over_twice, "STOCK"),
        (_not_handed_over, "REST_LOST"),
        (_not_archived, "REST_LOST"),
    ],
)
def test_each_damage_is_named(case: Any, damage: Callable[[Any], None], kind: str) -> None:
    damage(case)
    found = judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)
    assert kind in {finding.kind for finding in found}
