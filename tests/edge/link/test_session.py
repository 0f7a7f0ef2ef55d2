from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from edge import words
from edge.link.lanes import Begun, LaneState, Place
from edge.link.orders import (
    Acknowledge,
    Apply,
    BeginAnew,
    BeginStore,
    ClockSample,
    Complain,
    Execute,
    Order,
    Reconnect,
    Refuse,
    Renumber,
    Stage,
)
from edge.link.session import LONGEST_HEARTBEAT_SECONDS, LONGEST_WAIT_MS, Phase, Session, Standing
from edge.link.uploads import BATCH_BYTES, BATCH_OPERATIONS, PATIENCE_BEATS, REWINDS, Pace
from gipos.edge.v1.link_pb2 import (
    Change,
    Changes,
    Command,
    CommandResult,
    Drain,
    LanePosition,
    LinkRequest,
    LinkResponse,
    OfflinePolicy,
    Operation,
    Progress,
    Quarantined,
    Reset,
    SnapshotPart,
    Stored,
    Welcome,
)
from kernel.capabilities import ALL

TILL = "dev_1"
OUTLET = "out_1"
NOW = datetime(2026, 11, 23, 7, 5, 9, tzinfo=UTC)


def a_welcome(watermark: int = 0, till: str = TILL, agreed: Iterable[str] = ()) -> LinkResponse:
    welcome = Welcome(op_watermark=watermark, heartbeat_seconds=10, reconnect_window_ms=2000, tenant_id="ten_1", credit=2)
    welcome.capabilities.extend(agreed)
    welcome.till.id, welcome.outlet.id = till, OUTLET
    return LinkResponse(welcome=welcome)


def a_session(*, last: int = 0, first: int = 1, positions: dict[str, Place] | None = None, till: str = TILL) -> Session:
    """A session on a line that is known to be fast."""
    standing = Standing(store_epoch=7, till_id=till, positions=positions or {}, last_op_seq=last, first_op_seq=first)
    return Session(standing, Pace(BATCH_OPERATIONS, BATCH_BYTES))


def a_live_session(
    *,
    last: int = 0,
    first: int = 1,
    watermark: int = 0,
    positions: dict[str, Place] | None = None,
    agreed: frozenset[str] = frozenset(),
) -> Session:
    """A session whose cloud is of the first version, unless something was agreed."""
    session = a_session(last=last, first=first, positions=positions)
    session.open()
    session.receive(a_welcome(watermark, agreed=agreed))
    session.outgoing.clear()
    return session


def operations(first: int, count: int) -> list[Operation]:
    return [Operation(op_seq=number, op_id=f"sal_{number}") for number in range(first, first + count)]


def a_range(
    start: int, end: int, *, lane: str = "tenant", epoch: int = 1, watermark: int = 0, rows: Iterable[int] = ()
) -> LinkResponse:
    changes = [Change(seq=row) for row in rows]
    return LinkResponse(
        changes=Changes(lane=lane, epoch=epoch, from_exclusive=start, upto_inclusive=end, changes=changes, op_watermark=watermark)
    )


def a_part(index: int, *, last: bool = False, seq: int = 50, epoch: int = 2, lane: str = "tenant") -> LinkResponse:
    return LinkResponse(snapshot=SnapshotPart(lane=lane, epoch=epoch, seq=seq, index=index, last=last))


def stored(watermark: int = 0, expected: int = 0, quarantined: Iterable[int] = ()) -> LinkResponse:
    aside = [Quarantined(op_seq=number, reason="NOT_UNDERSTOOD") for number in quarantined]
    return LinkResponse(stored=Stored(op_watermark=watermark, expected_op_seq=expected, quarantined=aside))


def sent(session: Session) -> list[LinkRequest]:
    frames = list(session.outgoing)
    session.outgoing.clear()
    return frames


def kinds(orders: Iterable[Order]) -> list[str]:
    return [type(order).__name__ for order in orders]


def upload_everything(session: Session) -> list[int]:
    """Hands over what the session wants until it wants no more; the numbers that were sent."""
    while (want := session.wanted()) is not None:
        assert session.upload(operations(*want), want) == []
    return [operation.op_seq for frame in sent(session) for operation in frame.operations.operations]


def test_hello_says_where_every_lane_stands() -> None:
    session = a_session(last=9, positions={"tenant": Place(1, 5, 0), OUTLET: Place(2, 8, 4)})
    session.open()
    (frame,) = sent(session)
    hello = frame.hello
    assert (hello.store_epoch, hello.last_op_seq) == (7, 9)
    assert {(place.lane, place.epoch, place.seq) for place in hello.positions} == {("tenant", 1, 5), (OUTLET, 2, 8)}
    assert session.phase is Phase.GREETING


def test_a_session_is_opened_once_and_before_it_receives() -> None:
    session = a_session()
    with pytest.raises(RuntimeError):
        session.receive(a_welcome())
    session.open()
    with pytest.raises(RuntimeError):
        session.open()


def test_nothing_is_uploaded_before_the_welcome() -> None:
    session = a_session(last=3)
    session.open()
    assert session.wanted() is None
    assert kinds(session.receive(a_welcome())) == ["Adopt"]
    assert session.wanted() == (1, 3)


def test_everything_above_the_watermark_is_sent_again_even_if_acknowledged_in_an_earlier_life() -> None:
    session = a_live_session(last=10, watermark=4)
    assert upload_everything(session) == [5, 6, 7, 8, 9, 10]


def test_batches_hold_200_operations_and_two_may_be_under_way() -> None:
    session = a_live_session(last=1000)
    assert upload_everything(session) == list(range(1, 2 * BATCH_OPERATIONS + 1))
    session.receive(stored(BATCH_OPERATIONS - 1))
    assert session.wanted() is None, "the first batch is not stored as a whole"
    session.receive(stored(BATCH_OPERATIONS))
    assert session.wanted() == (401, 200)


def test_a_new_sale_is_wanted_at_once() -> None:
    session = a_live_session(last=1, watermark=1)
    assert session.wanted() is None
    session.recorded(2)
    assert session.wanted() == (2, 1)


def test_an_acknowledgement_covers_everything_below_it() -> None:
    session = a_live_session(last=3)
    upload_everything(session)
    assert session.receive(stored(3)) == [Acknowledge(3)]
    assert session.receive(stored(3)) == []
    assert session.receive(stored(2)) == [], "an older acknowledgement takes nothing back"
    assert session.acknowledged == 3


def test_operations_put_aside_are_reported() -> None:
    session = a_live_session(last=2)
    upload_everything(session)
    (order,) = session.receive(stored(2, quarantined=[1]))
    assert isinstance(order, Acknowledge)
    assert [note.op_seq for note in order.quarantined] == [1]


def test_the_cloud_can_ask_to_begin_again_from_an_operation() -> None:
    session = a_live_session(last=5, watermark=3)
    assert upload_everything(session) == [4, 5]
    session.receive(stored(expected=2))
    assert upload_everything(session) == [2, 3, 4, 5]


def test_a_cloud_that_only_rewinds_ends_in_a_reconnect() -> None:
    session = a_live_session(last=5)
    for _ in range(REWINDS):
        upload_everything(session)
        assert session.receive(stored(expected=1)) == []
    (order,) = session.receive(stored(expected=1))
    assert isinstance(order, Reconnect)
    assert session.phase is Phase.ENDED


def test_an_upload_that_a_rewind_has_overtaken_is_passed_over() -> None:
    session = a_live_session(last=5, watermark=2)
    asked = session.wanted()
    assert asked == (3, 3)
    session.receive(stored(expected=1))
    assert session.upload(operations(*asked), asked) == []
    assert sent(session) == []
    assert session.wanted() == (1, 5)


def test_a_hole_in_the_outbox_is_never_sent() -> None:
    session = a_live_session(last=5)
    (order,) = session.upload([Operation(op_seq=1), Operation(op_seq=3)], (1, 5))
    assert isinstance(order, Complain)
    assert sent(session) == []
    assert session.wanted() is None


def test_a_store_that_fell_behind_the_cloud_is_renumbered_before_anything_counts_as_acknowledged() -> None:
    session = a_session(last=5)
    session.open()
    orders = session.receive(a_welcome(8))
    assert kinds(orders) == ["Renumber", "Adopt"]
    assert orders[0] == Renumber(above=8)
    assert session.wanted() is None
    session.renumbered(last_op_seq=10, first_op_seq=1)
    assert session.wanted() == (9, 2)


def test_a_store_that_falls_behind_in_the_middle_acknowledges_nothing() -> None:
    session = a_live_session(last=5)
    upload_everything(session)
    assert session.receive(stored(7)) == [Renumber(above=7)]
    session.renumbered(last_op_seq=12, first_op_seq=1)
    assert session.wanted() == (8, 5)


def test_a_cloud_that_wants_what_is_no_longer_kept_meets_a_new_life() -> None:
    session = a_session(last=500, first=100)
    session.open()
    anew, back = session.receive(a_welcome(20))
    assert anew == BeginAnew(21)
    assert isinstance(back, Reconnect)
    assert (back.latest_ms, back.message) == (0, words.FORGOTTEN)
    assert session.phase is Phase.ENDED


def test_what_turns_out_not_to_be_kept_when_it_is_read_ends_the_stream_in_the_same_way() -> None:
    session = a_live_session(last=500, watermark=500)
    session.receive(stored(20, expected=21))
    asked = session.wanted()
    assert asked == (21, BATCH_OPERATIONS)
    assert kinds(session.upload(operations(100, BATCH_OPERATIONS), asked)) == ["BeginAnew", "Reconnect"]
    assert session.phase is Phase.ENDED


def test_a_till_with_nothing_kept_and_nothing_missing_does_not_complain() -> None:
    session = a_session(last=500, first=501)
    session.open()
    assert kinds(session.receive(a_welcome(500))) == ["Adopt"]


def test_a_token_of_another_till_is_refused() -> None:
    session = a_session()
    session.open()
    (order,) = session.receive(a_welcome(till="dev_2"))
    assert isinstance(order, Refuse)
    assert "dev_1" in order.message.text
    assert "dev_2" in order.message.text


def test_a_welcome_without_a_till_is_not_believed() -> None:
    session = a_session(till="")
    session.open()
    assert kinds(session.receive(LinkResponse(welcome=Welcome()))) == ["Reconnect"]


def test_a_range_that_fits_is_applied_and_its_end_is_the_credit() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    frame = a_range(5, 9, rows=[7, 9])
    assert session.receive(frame) == [Apply(frame.changes)]
    session.applied(frame.changes)
    (answer,) = sent(session)
    assert (answer.applied.lane, answer.applied.epoch, answer.applied.upto) == ("tenant", 1, 9)
    assert kinds(session.receive(a_range(9, 9))) == []


def test_a_change_seen_twice_is_applied_once_and_still_gives_credit() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    session.receive(a_range(5, 9, rows=[9]))
    sent(session)
    assert session.receive(a_range(5, 9, rows=[9])) == []
    assert [frame.applied.upto for frame in sent(session)] == [9]


def test_a_rising_watermark_alone_is_applied() -> None:
    session = a_live_session(positions={OUTLET: Place(1, 5, 2)})
    frame = a_range(5, 5, lane=OUTLET, watermark=4)
    assert session.receive(frame) == [Apply(frame.changes)]
    assert session.receive(frame) == []


def test_a_snapshot_is_staged_and_the_tail_goes_on_behind_it() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    assert session.receive(LinkResponse(reset=Reset(lane="tenant"))) == []
    for index in range(3):
        assert kinds(session.receive(a_part(index, last=index == 2))) == ["Stage"]
    assert kinds(session.receive(a_range(50, 51, epoch=2))) == ["Apply"]


def test_a_snapshot_may_begin_again() -> None:
    session = a_live_session()
    session.receive(a_part(0))
    session.receive(a_part(1))
    assert kinds(session.receive(a_part(0, seq=60))) == ["Stage"]
    assert kinds(session.receive(a_part(1, seq=60, last=True))) == ["Stage"]
    assert kinds(session.receive(a_range(60, 61, epoch=2))) == ["Apply"]


def test_two_lanes_do_not_disturb_each_other() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0), OUTLET: Place(1, 3, 0)})
    session.receive(a_part(0, lane=OUTLET))
    assert kinds(session.receive(a_range(5, 6))) == ["Apply"]
    assert kinds(session.receive(a_part(1, lane=OUTLET, last=True))) == ["Stage"]


def test_a_heartbeat_is_a_ping_with_the_tills_clock() -> None:
    session = a_live_session()
    assert session.beat(NOW) == []
    (frame,) = sent(session)
    assert frame.ping.device_time.ToDatetime(tzinfo=UTC) == NOW
    assert session.receive(LinkResponse(progress=Progress())) == []


def test_a_cloud_that_never_acknowledges_is_left() -> None:
    session = a_live_session(last=1)
    upload_everything(session)
    for _ in range(PATIENCE_BEATS - 1):
        assert session.beat(NOW) == []
    assert kinds(session.beat(NOW)) == ["Reconnect"]


def test_a_quiet_link_is_not_left() -> None:
    session = a_live_session(last=1, watermark=1)
    for _ in range(PATIENCE_BEATS * 3):
        assert session.beat(NOW) == []


@pytest.mark.parametrize("live", [False, True])
def test_drain_names_the_window_for_coming_back(*, live: bool) -> None:
    session = a_live_session() if live else a_session()
    if not live:
        session.open()
    drain = Drain(reconnect_earliest_ms=500, reconnect_latest_ms=3000, reason="The cloud restarts.")
    assert session.receive(LinkResponse(drain=drain)) == [Reconnect("The cloud restarts.", "", 500, 3000, words.RESTARTING)]
    assert session.receive(a_range(0, 1)) == [], "after the end nothing is believed"
    assert session.beat(NOW) == []
    assert session.wanted() is None


def test_a_till_says_what_it_has_of_snapshots_that_were_cut_off() -> None:
    session = Session(Standing(store_epoch=7, begun={"tenant": Begun("snp_1", 2, 50, 3)}))
    session.open()
    (frame,) = sent(session)
    (begun,) = frame.hello.begun
    assert (begun.lane, begun.snapshot_id, begun.next_index) == ("tenant", "snp_1", 3)
    assert not frame.hello.positions
    session.receive(a_welcome())
    part = SnapshotPart(lane="tenant", snapshot_id="snp_1", epoch=2, seq=50, index=3, last=True)
    assert session.receive(LinkResponse(snapshot=part)) == [Stage(part)]
    assert session.lane_states()["tenant"] is LaneState.FOLLOWING


def test_pieces_of_a_snapshot_are_confirmed_one_by_one_where_that_was_agreed() -> None:
    session = a_live_session(agreed=ALL)
    for index in (0, 1):
        (order,) = session.receive(a_part(index, last=index == 1))
        assert isinstance(order, Stage)
        session.staged(order.part)
    assert [(frame.applied.upto, frame.applied.parts) for frame in sent(session)] == [(50, 1), (50, 0)]


def test_what_was_sent_up_to_moves_the_copy_over_what_did_not_concern_it() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)}, agreed=ALL)
    (order,) = session.receive(reached(5, 9))
    assert order == Apply(Changes(lane="tenant", epoch=1, from_exclusive=5, upto_inclusive=9))
    assert session.receive(reached(5, 9)) == []
    assert session.receive(reached(9, 12, epoch=2)) == []
    assert kinds(session.receive(a_range(9, 10, rows=[10]))) == ["Apply"]
    assert session.receive(reached(11, 12)) == []
    assert [frame.not_applied.from_exclusive for frame in sent(session)] == [10], "a hole before what was reached is a gap"


def test_a_dispute_is_said_once_and_what_was_on_its_way_is_passed_over() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)}, agreed=ALL)
    assert session.receive(a_range(6, 7)) == []
    assert session.receive(a_range(7, 8)) == []
    (told,) = sent(session)
    assert (told.not_applied.lane, told.not_applied.epoch, told.not_applied.from_exclusive) == ("tenant", 1, 5)
    assert told.not_applied.reason == "GAP"
    assert kinds(session.receive(a_range(5, 8))) == ["Apply"]
    assert session.lane_states()["tenant"] is LaneState.FOLLOWING


def test_a_frame_that_could_not_be_stored_is_disputed_and_fits_again() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 2)}, agreed=ALL)
    frame = a_range(5, 7, rows=[7])
    session.receive(frame)
    assert session.failed(frame.changes) == []
    assert [told.not_applied.reason for told in sent(session)] == ["FAILED"]
    assert kinds(session.receive(frame)) == ["Apply"]


def test_a_snapshot_that_could_not_be_stored_is_disputed() -> None:
    session = a_live_session(agreed=ALL)
    frame = a_part(0, last=True)
    session.receive(frame)
    assert session.failed(frame.snapshot) == []
    assert [told.not_applied.epoch for told in sent(session)] == [0]
    assert session.lane_states()["tenant"] is LaneState.DISPUTED
    assert kinds(session.receive(a_part(0))) == ["Stage"]


def test_a_dispute_nobody_answers_ends_the_stream_and_asks_for_the_lane_anew() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)}, agreed=ALL)
    session.receive(a_range(6, 7))
    for _ in range(PATIENCE_BEATS - 1):
        assert session.beat(NOW) == []
    (order,) = session.beat(NOW)
    assert isinstance(order, Reconnect)
    assert order.snapshot_lane == "tenant"


def test_a_fresh_copy_is_asked_for_while_the_old_one_serves() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0), OUTLET: Place(1, 3, 0)}, agreed=ALL)
    assert session.refresh("") == []
    assert [(told.not_applied.lane, told.not_applied.reason) for told in sent(session)] == [
        ("tenant", "REFRESH"),
        (OUTLET, "REFRESH"),
    ]
    session.receive(LinkResponse(reset=Reset(lane="tenant")))
    assert session.lane_states()["tenant"] is LaneState.RESETTING


def test_a_measurement_of_the_clocks_has_four_times() -> None:
    session = a_live_session()
    session.beat(NOW, 1_000)
    (frame,) = sent(session)
    progress = Progress(number=frame.ping.number)
    progress.received_time.FromMilliseconds(500_010)
    progress.server_time.FromMilliseconds(500_012)
    answer = LinkResponse(progress=progress)
    assert session.receive(answer, 1_030) == [ClockSample(1_000, 500_010, 500_012, 1_030)]
    session.beat(NOW, 11_000)
    assert session.receive(answer, 11_030) == [], "an answer to an earlier ping measures nothing"
    assert session.receive(LinkResponse(progress=Progress()), 11_040) == []


def test_a_command_is_late_by_the_clouds_clock_and_not_by_the_tills() -> None:
    session = a_session()
    session.open()
    welcome = a_welcome()
    welcome.welcome.server_time.FromMilliseconds(1_000_000)
    session.receive(welcome, 10)
    command = Command(command_id="cmd_1")
    command.expire_time.FromMilliseconds(1_000_500)
    assert session.receive(LinkResponse(command=command), 500) == [Execute(command, is_late=False)]
    assert session.receive(LinkResponse(command=command), 511) == [Execute(command, is_late=True)]
    sent(session)
    session.executed(CommandResult(command_id="cmd_1"))
    assert [frame.command_result.command_id for frame in sent(session)] == ["cmd_1"]


def test_a_till_whose_name_another_tablet_used_begins_a_new_life_and_takes_nothing_as_acknowledged() -> None:
    session = a_session(last=5)
    session.open()
    welcome = a_welcome(3)
    welcome.welcome.new_store_epoch = 99
    orders = session.receive(welcome)
    assert kinds(orders) == ["BeginStore", "Reconnect"]
    assert orders[0] == BeginStore(99, 3)
    assert session.phase is Phase.ENDED


@pytest.mark.parametrize("epoch", [-1, 2**62, 2**63 - 1])
def test_a_life_whose_number_cannot_be_is_not_begun(epoch: int) -> None:
    session = a_session(last=5)
    session.open()
    welcome = a_welcome(3)
    welcome.welcome.new_store_epoch = epoch
    (order,) = session.receive(welcome)
    assert isinstance(order, Reconnect)
    assert order.message == words.ODD_NUMBERS


def test_a_suspended_till_keeps_its_sales_and_a_retired_one_sends_them() -> None:
    for state, wanted in (("suspended", None), ("retired", (1, 5)), ("active", (1, 5)), ("", (1, 5))):
        session = a_session(last=5)
        session.open()
        welcome = a_welcome()
        welcome.welcome.till_state = state
        assert ("Complain" in kinds(session.receive(welcome))) == (state in {"suspended", "retired"})
        assert session.wanted() == wanted


def test_acknowledged_operations_are_sent_once_more_when_asked_for() -> None:
    session = a_live_session(last=10, first=3, watermark=10)
    session.resend(1)
    assert upload_everything(session) == list(range(3, 11))
    assert session.receive(stored(10)) == []
    session.recorded(11)
    assert upload_everything(session) == [11]


def test_what_is_new_to_this_version_is_passed_over_and_counted() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    newer = LinkResponse.FromString(b"\xa2\x06\x02\x08\x01")  # field 100
    assert session.receive(newer) == []
    assert session.unknown == 1
    frame = a_range(5, 6, rows=[6])
    frame.changes.MergeFromString(b"\xa0\x06\x07")  # field 100 = 7
    assert kinds(session.receive(frame)) == ["Apply"]
    assert session.unknown == 2


def reached(start: int, end: int, *, epoch: int = 1) -> LinkResponse:
    place = LanePosition(lane="tenant", epoch=epoch, from_exclusive=start, seq=end)
    return LinkResponse(progress=Progress(reached=[place]))


def frames_by_kind() -> dict[str, LinkResponse]:
    return {
        "fits": a_range(5, 7, rows=[6, 7]),
        "seen": a_range(1, 5),
        "gap": a_range(6, 7),
        "overlap": a_range(4, 7),
        "backwards": a_range(7, 6),
        "other epoch": a_range(5, 7, epoch=9),
        "first part": a_part(0),
        "next part": a_part(1),
        "wrong part": a_part(2),
        "part of another": a_part(1, seq=51),
        "reset": LinkResponse(reset=Reset(lane="tenant")),
        "reached": reached(5, 7),
        "reached before": reached(2, 5),
        "reached over a hole": reached(6, 7),
    }


def a_lane_in(state: LaneState, agreed: frozenset[str]) -> Session:
    positions = {"tenant": Place(1, 5, 0)} if state in {LaneState.FOLLOWING, LaneState.DISPUTED} else None
    session = a_live_session(positions=positions, agreed=agreed)
    if state is LaneState.DISPUTED:
        session.receive(a_range(8, 9))
    if state is LaneState.RESETTING:
        session.receive(LinkResponse(reset=Reset(lane="tenant")))
    if state is LaneState.STAGING:
        session.receive(a_part(0))
    session.outgoing.clear()
    assert session.lane_states().get("tenant", LaneState.ABSENT) is state
    return session


GAP, APPLY, STAGE, CREDIT, NOTHING, RESETTING = "gap", "apply", "stage", "credit", "nothing", "resetting"
QUIET = {"reached": NOTHING, "reached before": NOTHING, "reached over a hole": NOTHING}
SNAPSHOT = {"first part": STAGE, "reset": RESETTING}
TABLE = {
    LaneState.ABSENT: {**QUIET, **SNAPSHOT},
    LaneState.FOLLOWING: {**SNAPSHOT, "fits": APPLY, "seen": CREDIT, "reached": APPLY, "reached before": NOTHING},
    LaneState.DISPUTED: {**dict.fromkeys(frames_by_kind(), NOTHING), **SNAPSHOT, "fits": APPLY},
    LaneState.RESETTING: {**QUIET, **SNAPSHOT},
    LaneState.STAGING: {**QUIET, **SNAPSHOT, "next part": STAGE},
}


@pytest.mark.parametrize("agreed", [ALL, frozenset[str]()], ids=["today", "first version"])
@pytest.mark.parametrize("state", list(LaneState))
@pytest.mark.parametrize("kind", list(frames_by_kind()))
def test_every_frame_means_something_in_every_state_of_a_lane(state: LaneState, kind: str, agreed: frozenset[str]) -> None:
    if state is LaneState.DISPUTED and not agreed:
        return  # a cloud of the first version is left instead
    session = a_lane_in(state, agreed)
    before = session.lane_states().get("tenant", LaneState.ABSENT)
    orders = session.receive(frames_by_kind()[kind])
    told = sent(session)
    after = session.lane_states().get("tenant", LaneState.ABSENT)
    match TABLE[state].get(kind, GAP):
        case "gap" if agreed:
            assert orders == []
            assert [frame.not_applied.lane for frame in told] == ["tenant"]
            assert after is LaneState.DISPUTED
        case "gap":
            (order,) = orders
            assert isinstance(order, Reconnect)
            assert order.snapshot_lane == "tenant"
            assert session.phase is Phase.ENDED
        case "apply":
            assert kinds(orders) == ["Apply"]
            assert after is LaneState.FOLLOWING
        case "stage":
            assert kinds(orders) == ["Stage"]
            assert after is LaneState.STAGING
        case "credit":
            assert orders == []
            assert [frame.applied.upto for frame in told] == [5]
        case "resetting":
            assert orders == []
            assert after is LaneState.RESETTING
        case _:
            assert orders == []
            assert told == []
            assert after is before


def every_frame() -> dict[str, LinkResponse]:
    return {
        **frames_by_kind(),
        "welcome": a_welcome(),
        "stored": stored(0),
        "stored of another life": stored(8),
        "progress": LinkResponse(progress=Progress()),
        "command": LinkResponse(command=Command(command_id="cmd_1")),
        "policy": LinkResponse(policy=OfflinePolicy(rules=b"x")),
        "drain": LinkResponse(drain=Drain()),
        "unknown": LinkResponse(),
    }


def events() -> dict[str, Callable[[Session], list[Order] | None]]:
    """Everything that can happen to a session: every frame, and everything the till does."""
    changes, part = a_range(5, 7).changes, a_part(0).snapshot
    frames = {kind: partial(Session.receive, frame=frame) for kind, frame in every_frame().items()}
    return {
        **frames,
        "open": Session.open,
        "beat": partial(Session.beat, device_time=NOW),
        "recorded": partial(Session.recorded, last_op_seq=9),
        "upload": partial(Session.upload, operations=operations(1, 2), asked=(1, 2)),
        "close": Session.close,
        "applied": partial(Session.applied, changes=changes),
        "staged": partial(Session.staged, part=part),
        "failed": partial(Session.failed, what=changes),
        "executed": partial(Session.executed, result=CommandResult(command_id="cmd_1")),
        "refresh": partial(Session.refresh, lane="tenant"),
        "resend": partial(Session.resend, from_op_seq=1),
        "renumbered": partial(Session.renumbered, last_op_seq=3, first_op_seq=1),
    }


ERROR, ENDS = "error", "ends"
SILENT: dict[str, list[str]] = {"recorded": [], "renumbered": []}
LIVE = {
    "fits": ["Apply"], "seen": ["applied"], "gap": ["not_applied"], "overlap": ["not_applied"], "backwards": ["not_applied"],
    "other epoch": ["not_applied"], "first part": ["Stage"], "next part": ["not_applied"], "wrong part": ["not_applied"],
    "part of another": ["not_applied"], "reset": [], "reached": ["Apply"], "reached before": [],
    "reached over a hole": ["not_applied"], "welcome": ENDS, "stored": [], "stored of another life": ["Renumber"],
    "progress": [], "command": ["Execute"], "policy": ["AdoptPolicy"], "drain": ENDS, "unknown": [], "open": ERROR,
    "beat": ["ping"], "upload": ["operations"], "applied": ["applied"], "staged": ["applied"], "failed": ["not_applied"],
    "executed": ["command_result"], "refresh": ["not_applied"], "resend": [], "close": [], **SILENT,
}  # fmt: skip
"""What each event leads to in a live session: orders (by class) or frames (by field); or the end, or an error of the program."""
OUTSIDE: dict[str, list[str]] = {name: [] for name in events() if name not in every_frame()}
PHASES: dict[Phase, dict[str, Any]] = {
    Phase.NEW: {**dict.fromkeys(every_frame(), ERROR), **OUTSIDE, "open": ["hello"]},
    Phase.GREETING: {**dict.fromkeys(every_frame(), ENDS), **OUTSIDE, "welcome": ["Adopt"], "unknown": [], "open": ERROR},
    Phase.LIVE: LIVE,
    Phase.ENDED: {**{name: [] for name in every_frame()}, **OUTSIDE, "open": ERROR},
}


def a_session_in(phase: Phase) -> Session:
    session = a_session(last=2, positions={"tenant": Place(1, 5, 0)})
    if phase is not Phase.NEW:
        session.open()
    if phase in {Phase.LIVE, Phase.ENDED}:
        session.receive(a_welcome(agreed=ALL))
    if phase is Phase.ENDED:
        session.receive(LinkResponse(drain=Drain()))
    session.outgoing.clear()
    assert session.phase is phase
    return session


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", list(events()))
def test_everything_that_can_happen_is_defined_in_every_phase(phase: Phase, name: str) -> None:
    session = a_session_in(phase)
    expected = PHASES[phase][name]
    if expected == ERROR:
        with pytest.raises(RuntimeError):
            events()[name](session)
        return
    orders = events()[name](session) or []
    if expected == ENDS:
        assert kinds(orders) == ["Reconnect"]
        assert session.phase is Phase.ENDED
        return
    happened = kinds(orders) + [frame.WhichOneof("frame") or "" for frame in sent(session)]
    assert happened == expected
    went_on = {("open", Phase.NEW): Phase.GREETING, ("welcome", Phase.GREETING): Phase.LIVE}
    assert session.phase is (Phase.ENDED if name == "close" else went_on.get((name, phase), phase))


def test_no_event_and_no_phase_is_missing_in_the_table() -> None:
    assert set(PHASES) == set(Phase)
    for row in PHASES.values():
        assert set(row) == set(events())
    assert set(TABLE) == set(LaneState)
    fields = LinkResponse.DESCRIPTOR.oneofs_by_name["frame"].fields
    assert {field.name for field in fields} <= {frame.WhichOneof("frame") for frame in every_frame().values()}


@pytest.mark.parametrize(
    ("said", "kept"),
    [(0, 10), (-5, 1), (1, 1), (60, 60), (86_400, LONGEST_HEARTBEAT_SECONDS), (2**31 - 1, LONGEST_HEARTBEAT_SECONDS)],
)
def test_a_heartbeat_is_between_a_second_and_a_minute_whatever_the_cloud_says(said: int, kept: int) -> None:
    session = a_session()
    session.open()
    welcome = a_welcome()
    welcome.welcome.heartbeat_seconds = said
    session.receive(welcome)
    assert session.heartbeat_seconds == kept


@pytest.mark.parametrize(
    ("earliest", "latest", "expected"),
    [
        (0, 2**31 - 1, (0, LONGEST_WAIT_MS)),
        (2**31 - 1, 2**31 - 1, (LONGEST_WAIT_MS, LONGEST_WAIT_MS)),
        (2**31 - 1, 0, (LONGEST_WAIT_MS, LONGEST_WAIT_MS)),
        (-(2**31), -(2**31), (0, 0)),
        (20_000, 10_000, (20_000, 20_000)),
    ],
)
def test_no_drain_keeps_a_till_away_for_longer_than_five_minutes(earliest: int, latest: int, expected: tuple[int, int]) -> None:
    session = a_live_session()
    (order,) = session.receive(LinkResponse(drain=Drain(reconnect_earliest_ms=earliest, reconnect_latest_ms=latest)))
    assert isinstance(order, Reconnect)
    assert (order.earliest_ms, order.latest_ms) == expected


@pytest.mark.parametrize(("said", "kept"), [(2**31 - 1, LONGEST_WAIT_MS), (-1, 0), (2000, 2000)])
def test_the_window_of_a_fleet_is_bounded_in_the_same_way(said: int, kept: int) -> None:
    session = a_session()
    session.open()
    welcome = a_welcome()
    welcome.welcome.reconnect_window_ms = said
    session.receive(welcome)
    assert session.reconnect_window_ms == kept


@pytest.mark.parametrize("watermark", [5 + 1_000_001, 2**62, -1])
def test_a_welcome_with_a_number_that_cannot_be_changes_nothing(watermark: int) -> None:
    session = a_session(last=5)
    session.open()
    (order,) = session.receive(a_welcome(watermark))
    assert isinstance(order, Reconnect)
    assert order.message == words.ODD_NUMBERS
    assert session.phase is Phase.ENDED


def test_a_second_welcome_is_not_believed() -> None:
    assert kinds(a_live_session().receive(a_welcome())) == ["Reconnect"]


def test_the_last_piece_of_a_snapshot_is_ordered_like_the_others() -> None:
    session = a_live_session()
    frame = a_part(0, last=True)
    assert session.receive(frame) == [Stage(frame.snapshot)]
    assert session.lane_states()["tenant"] is LaneState.FOLLOWING
