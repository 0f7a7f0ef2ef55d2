"""What tills had seen of a log that was put back to a backup since: excused is what cannot be known, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scripts.soaking import count_rules, judge
from scripts.soaking.evidence import Restored
from scripts.soaking.histories import SLACK, Histories, Seen

PUT_BACK, NOTICED, LATER = 50, 60, 100 + SLACK
"""When the database was put back to position 4, when that was noticed, and when the count came; microseconds."""
OUTLET, TEA = "out_1", "prd_1"


def kinds(case: Any) -> set[str]:
    return {finding.kind for finding in judge.findings(case.journal, case.cloud, [case.tablet], outside=case.outside)}


@pytest.fixture
def restored(case: Any) -> Any:
    """The sound world, in which the count and the changes were made before a restore, and arrived when it was known."""
    cloud = case.cloud
    case.journal.undone.append(PUT_BACK)
    cloud.restores = [Restored(OUTLET, 2, 4, NOTICED), Restored("tenant", 2, 2, NOTICED)]
    for lanes in (cloud.heads, case.tablet.lanes, case.outside.files.lanes):
        for lane, place in lanes.items():
            lanes[lane] = (2, *place[1:])
    cloud.counts[0] = replace(cloud.counts[0], reasons=("COUNT_BASE_RESTORED",), at=LATER)
    cloud.movements = [replace(one, at=LATER) if one.at == 77 else one for one in cloud.movements]
    cloud.events = [replace(one, at=LATER if one.at == 77 else one.at or one.seq) for one in cloud.events]
    cloud.events = [replace(one, at=NOTICED + 1) if 4 < one.seq < 10 else one for one in cloud.events]
    return case


def test_what_was_done_before_a_restore_and_arrived_after_it_is_sound(restored: Any) -> None:
    assert judge.findings(restored.journal, restored.cloud, [restored.tablet], outside=restored.outside) == []


def _correct(case: Any, difference: int, **values: Any) -> None:
    case.cloud.counts[0] = replace(case.cloud.counts[0], difference=difference, **values)
    case.cloud.movements = [replace(one, quantity=difference) if one.reason == "count" else one for one in case.cloud.movements]


def _not_marked(case: Any) -> None:
    _correct(case, -1000, reasons=())


def _marked_as_unknown(case: Any) -> None:
    _correct(case, -1000, reasons=("COUNT_BASE_UNKNOWN",))


def _not_believed(case: Any) -> None:
    _correct(case, -3000)


def _marked_although_it_is_left(case: Any) -> None:
    case.cloud.restores[0] = replace(case.cloud.restores[0], last_seq=5)


def _marked_although_it_was_in_the_backup(case: Any) -> None:
    case.cloud.restores[0] = replace(case.cloud.restores[0], last_seq=0)
    case.tablet.counts["opc_4"] = replace(case.tablet.counts["opc_4"], seen_seq=3)
    _correct(case, -1000, seen_seq=3)


def _as_if_it_had_been_seen_in_this_epoch(case: Any) -> None:
    _correct(case, -1000, seen_epoch=2, reasons=())


def _overwrite_what_was_not_seen(case: Any) -> None:
    case.cloud.restores[1] = replace(case.cloud.restores[1], last_seq=1)


def _overwrite_with_a_version_of_another_history(case: Any) -> None:
    _overwrite_what_was_not_seen(case)
    case.tablet.edits[0] = replace(case.tablet.edits[0], base_version=99)


def _lose_a_count_of_an_earlier_life(case: Any) -> None:
    del case.tablet.operations[4]
    case.tablet.past["opc_4"] = 6
    case.journal.acts = [act for act in case.journal.acts if act.kind != "count"]
    case.cloud.counts.clear()


def _lose_a_change_of_an_earlier_life(case: Any) -> None:
    case.tablet.edits[1] = replace(case.tablet.edits[1], epoch=6)
    case.tablet.past["ope_7"] = 6
    case.cloud.conflicts.clear()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_not_marked, "COUNT"),
        (_marked_as_unknown, "COUNT"),
        (_not_believed, "COUNT"),
        (_marked_although_it_is_left, "COUNT"),
        (_marked_although_it_was_in_the_backup, "COUNT"),
        (_as_if_it_had_been_seen_in_this_epoch, "COUNT"),
        (_overwrite_what_was_not_seen, "OVERWRITTEN"),
        (_overwrite_with_a_version_of_another_history, "OVERWRITTEN"),
        (_lose_a_count_of_an_earlier_life, "COUNT_LOST"),
        (_lose_a_change_of_an_earlier_life, "EDIT_LOST"),
    ],
)
def test_each_damage_is_named(restored: Any, damage: Callable[[Any], None], kind: str) -> None:
    damage(restored)
    assert kind in kinds(restored)


def test_what_was_based_on_what_the_restore_has_left_is_judged_by_the_log(restored: Any) -> None:
    restored.tablet.counts["opc_4"] = replace(restored.tablet.counts["opc_4"], seen_seq=3)
    _correct(restored, -1000, seen_seq=3, reasons=())
    assert kinds(restored) == set()
    _correct(restored, 1000, seen_seq=3, reasons=())
    assert "COUNT" in kinds(restored)


@pytest.mark.parametrize(
    ("epoch", "seq", "at", "seen"),
    [
        (1, 4, LATER, Seen.THERE),
        (1, 5, LATER, Seen.UNDONE),
        (1, 5, NOTICED + 1, Seen.UNSURE),
        (1, 5, PUT_BACK - 1, Seen.THERE),
        (2, 5, LATER, Seen.THERE),
    ],
)
def test_nothing_is_said_of_what_came_between_a_restore_and_its_being_noticed(
    restored: Any, epoch: int, seq: int, at: int, seen: Seen
) -> None:
    assert Histories(restored.journal, restored.cloud).seen(OUTLET, epoch, seq, at) is seen


def test_a_count_in_between_may_be_marked_as_it_likes_but_corrects_what_it_says(restored: Any) -> None:
    assert count_rules.excused(restored.journal, restored.cloud) == 0
    for reasons in ((), ("COUNT_BASE_UNKNOWN",)):
        _correct(restored, 500, reasons=reasons, at=NOTICED + 1)
        assert "COUNT" not in kinds(restored)
        assert count_rules.excused(restored.journal, restored.cloud) == 1
    restored.cloud.movements = [replace(one, quantity=7) if one.reason == "count" else one for one in restored.cloud.movements]
    assert "STOCK" in kinds(restored)
