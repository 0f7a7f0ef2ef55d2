"""When a till can go on and what a range holds: every boundary, and any history told in any steps ends in the same state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform.log import TENANT_LANE, Head
from cloud.sync import ranges
from cloud.sync.ranges import Own, Place, Watermark
from gipos.edge.v1.link_pb2 import Change, ResetReason
from gipos.v1.inventory_pb2 import Level

NEW, EPOCH, TOO_OLD, AHEAD = (
    ResetReason.RESET_REASON_NEW,
    ResetReason.RESET_REASON_EPOCH,
    ResetReason.RESET_REASON_TOO_OLD,
    ResetReason.RESET_REASON_AHEAD,
)
HEAD = Head(epoch=2, last_seq=900, floor_seq=500)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (None, NEW),
        (Place("l", 1, 900), EPOCH),
        (Place("l", 3, 900), EPOCH),
        (Place("l", 1, 10_000), EPOCH),
        (Place("l", 2, 901), AHEAD),
        (Place("l", 2, 900), None),
        (Place("l", 2, 501), None),
        (Place("l", 2, 500), None),
        (Place("l", 2, 499), None),  # right before the oldest that is kept: nothing is missing
        (Place("l", 2, 498), TOO_OLD),
        (Place("l", 2, 0), TOO_OLD),
        (Place("l", 2, -1), TOO_OLD),
    ],
)
def test_a_place_is_continued_from_right_before_the_floor_to_the_head(place: Any, reason: Any) -> None:
    assert ranges.restart_reason(HEAD, place) == reason


@pytest.mark.parametrize(
    ("behind", "rows", "reason"),
    [
        (ranges.TOO_FAR, None, None),
        (ranges.TOO_FAR + 1, None, TOO_OLD),
        (ranges.FEW, 10, None),
        (ranges.FEW + 1, 10, TOO_OLD),
        (ranges.FEW + 1, 2 * ranges.FEW + 2, None),
        (ranges.FEW + 1, 2 * ranges.FEW + 1, TOO_OLD),
    ],
)
def test_who_lacks_more_than_half_of_a_snapshot_gets_the_snapshot(behind: Any, rows: Any, reason: Any) -> None:
    head = Head(1, 100_000, 1)
    assert ranges.restart_reason(head, Place("l", 1, head.last_seq - behind), snapshot_rows=rows) == reason


def body(product_id: str, on_hand: int) -> bytes:
    return Level(product_id=product_id, on_hand=str(on_hand)).SerializeToString()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60), st.data())
def test_any_history_in_any_steps_ends_in_the_same_state(history: Any, data: Any) -> None:
    """Positions that do not concern tills lie in between; each frame is folded; whatever the steps are, nothing is lost."""
    rows = [(seq, subject, body(subject, seq)) for seq, (subject, concerns) in enumerate(history, 1) if concerns]
    state: dict[str, int] = {}
    place = 0
    while place < len(history):
        upto = data.draw(st.integers(place + 1, len(history)))
        changes = [Change.FromString(raw) for raw in ranges.folded("out_1", [row for row in rows if place < row[0] <= upto])]
        assert [change.seq for change in changes] == sorted({change.seq for change in changes})
        assert len({change.level.product_id for change in changes}) == len(changes)
        for change in changes:
            assert place < change.seq <= upto
            state[change.level.product_id] = int(change.level.on_hand)
        place = upto
    assert state == {subject: seq for seq, subject, _ in rows}


@given(st.lists(st.integers(1, ranges.FRAME_BYTES), min_size=1, max_size=12), st.integers(0, 30))
def test_a_frame_is_cut_where_it_is_full_but_never_within_the_tills_own_upload(sizes: Any, at_least: Any) -> None:
    rows = [(2 * number, "s", bytes(size)) for number, size in enumerate(sizes, 1)]
    taken, upto = ranges.cut(rows, 2 * len(rows) + 1, at_least)
    assert taken == [row for row in rows if row[0] <= upto]
    assert taken
    assert upto >= min(at_least, 2 * len(rows) + 1) or len(taken) < len(rows)
    free = [row for row in taken if row[0] > at_least]
    assert len(free) <= 1 or sum(len(row[2]) for row in taken) <= ranges.FRAME_BYTES
    if len(taken) < len(rows):
        assert rows[len(taken)][0] > at_least
        assert sum(len(row[2]) for row in rows[: len(taken) + 1]) > ranges.FRAME_BYTES


@pytest.mark.parametrize(
    ("upto", "told", "says"),
    [(10, 0, 0), (19, 0, 0), (20, 0, 7), (21, 0, 7), (20, 6, 7), (20, 7, 0), (99, 9, 0)],
)
def test_a_watermark_is_told_once_and_only_by_a_frame_that_contains_it(upto: Any, told: Any, says: Any) -> None:
    assert ranges.told_by(upto, Own("till_1", 1, told), Watermark(7, 20)) == says
    assert ranges.told_by(upto, None, Watermark(7, 20)) == 0


def test_a_range_reaches_the_end_of_the_tills_own_upload_or_begins_after_it() -> None:
    assert ranges.upto_at_least(Place("l", 1, 19), Watermark(7, 20)) == 20
    assert ranges.upto_at_least(Place("l", 1, 20), Watermark(7, 20)) == 0


def test_each_lane_has_its_own_events() -> None:
    assert ranges.types_of(TENANT_LANE) == ranges.PRODUCT_EVENTS
    assert ranges.types_of("out_1") == ranges.LEVEL_EVENTS
