from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from edge.link.session import (
    BATCH_OPERATIONS,
    PATIENCE_BEATS,
    REWINDS,
    Acknowledge,
    Adopt,
    Apply,
    Complain,
    LaneState,
    Order,
    Phase,
    Place,
    Reconnect,
    Refuse,
    Renumber,
    Session,
    Stage,
)
from gipos.edge.v1.link_pb2 import (
    Change,
    Changes,
    Drain,
    LinkRequest,
    LinkResponse,
    Operation,
    Progress,
    Quarantined,
    Reset,
    SnapshotPart,
    Stored,
    Welcome,
)

TILL = "dev_1"
OUTLET = "out_1"
NOW = datetime(2026, 11, 23, 7, 5, 9, tzinfo=UTC)


def a_welcome(watermark: int = 0, till: str = TILL) -> LinkResponse:
    welcome = Welcome(op_watermark=watermark, heartbeat_seconds=10, reconnect_window_ms=2000, tenant_id="ten_1", credit=2)
    welcome.till.id, welcome.outlet.id = till, OUTLET
    return LinkResponse(welcome=welcome)


def a_session(*, last: int = 0, first: int = 1, positions: dict[str, Place] | None = None, till: str = TILL) -> Session:
    return Session(store_epoch=7, till_id=till, positions=positions or {}, last_op_seq=last, first_op_seq=first)


def a_live_session(*, last: int = 0, first: int = 1, watermark: int = 0, positions: dict[str, Place] | None = None) -> Session:
    session = a_session(last=last, first=first, positions=positions)
    session.open()
    session.receive(a_welcome(watermark))
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
        session.upload(operations(*want))
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
    session = a_live_session(last=5)
    session.receive(stored(expected=1))
    assert session.upload(operations(3, 2)) == []
    assert sent(session) == []
    assert session.wanted() == (1, 5)


def test_a_hole_in_the_outbox_is_never_sent() -> None:
    session = a_live_session(last=5)
    (order,) = session.upload([Operation(op_seq=1), Operation(op_seq=3)])
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


def test_operations_that_are_no_longer_kept_block_the_upload_with_a_clear_message() -> None:
    session = a_session(last=500, first=100)
    session.open()
    orders = session.receive(a_welcome(20))
    assert kinds(orders) == ["Adopt", "Complain"]
    assert session.wanted() is None
    assert kinds(session.receive(a_range(0, 3))) == ["Reconnect"], "the rest of the link goes on"


def test_a_till_with_nothing_kept_and_nothing_missing_does_not_complain() -> None:
    session = a_session(last=500, first=501)
    session.open()
    assert kinds(session.receive(a_welcome(500))) == ["Adopt"]


def test_a_token_of_another_till_is_refused() -> None:
    session = a_session()
    session.open()
    (order,) = session.receive(a_welcome(till="dev_2"))
    assert isinstance(order, Refuse)
    assert "dev_1" in order.message
    assert "dev_2" in order.message


def test_a_welcome_without_a_till_is_not_believed() -> None:
    session = a_session(till="")
    session.open()
    assert kinds(session.receive(LinkResponse(welcome=Welcome()))) == ["Reconnect"]


def test_a_range_that_fits_is_applied_and_its_end_is_the_credit() -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    frame = a_range(5, 9, rows=[7, 9])
    assert session.receive(frame) == [Apply(frame.changes)]
    session.applied("tenant", 1, 9)
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
    assert session.receive(LinkResponse(drain=drain)) == [Reconnect("The cloud restarts.", "", 500, 3000)]
    assert session.receive(a_range(0, 1)) == [], "after the end nothing is believed"
    assert session.beat(NOW) == []
    assert session.wanted() is None


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
    }


def a_lane_in(state: LaneState) -> Session:
    session = a_live_session(positions=None if state is LaneState.ABSENT else {"tenant": Place(1, 5, 0)})
    if state is LaneState.RESETTING:
        session.receive(LinkResponse(reset=Reset(lane="tenant")))
    if state is LaneState.STAGING:
        session.receive(a_part(0))
    session.outgoing.clear()
    assert session.lane_states().get("tenant", LaneState.ABSENT) is state
    return session


GAP, NOTHING, RESETTING = "gap", "nothing", "resetting"
TABLE = {
    LaneState.ABSENT: {"first part": "stage", "reset": RESETTING},
    LaneState.FOLLOWING: {"fits": "apply", "seen": "credit", "first part": "stage", "reset": RESETTING},
    LaneState.RESETTING: {"first part": "stage", "reset": RESETTING},
    LaneState.STAGING: {"first part": "stage", "next part": "stage", "reset": RESETTING},
}


@pytest.mark.parametrize("state", list(LaneState))
@pytest.mark.parametrize("kind", list(frames_by_kind()))
def test_every_frame_means_something_in_every_state_of_a_lane(state: LaneState, kind: str) -> None:
    session = a_lane_in(state)
    orders = session.receive(frames_by_kind()[kind])
    match TABLE[state].get(kind, GAP):
        case "gap":
            (order,) = orders
            assert isinstance(order, Reconnect)
            assert order.snapshot_lane == "tenant"
            assert session.phase is Phase.ENDED
        case "apply":
            assert kinds(orders) == ["Apply"]
        case "stage":
            assert kinds(orders) == ["Stage"]
            assert session.lane_states()["tenant"] is LaneState.STAGING
        case "credit":
            assert orders == []
            assert [frame.applied.upto for frame in sent(session)] == [5]
        case _:
            assert orders == []
            assert session.lane_states()["tenant"] is LaneState.RESETTING


def every_frame() -> dict[str, LinkResponse]:
    return {
        **frames_by_kind(),
        "welcome": a_welcome(),
        "stored": stored(0),
        "progress": LinkResponse(progress=Progress()),
        "drain": LinkResponse(drain=Drain()),
        "unknown": LinkResponse(),
    }


@pytest.mark.parametrize("kind", list(every_frame()))
def test_only_welcome_and_drain_are_right_in_answer_to_hello(kind: str) -> None:
    session = a_session()
    session.open()
    orders = session.receive(every_frame()[kind])
    expected = {"welcome": [Adopt], "unknown": []}.get(kind, [Reconnect])
    assert [type(order) for order in orders] == expected


def test_a_second_welcome_is_not_believed() -> None:
    assert kinds(a_live_session().receive(a_welcome())) == ["Reconnect"]


@pytest.mark.parametrize("kind", list(every_frame()))
def test_after_the_end_no_frame_means_anything(kind: str) -> None:
    session = a_live_session(positions={"tenant": Place(1, 5, 0)})
    session.receive(LinkResponse(drain=Drain()))
    assert session.receive(every_frame()[kind]) == []
    assert not session.outgoing


def test_the_last_piece_of_a_snapshot_is_ordered_like_the_others() -> None:
    session = a_live_session()
    frame = a_part(0, last=True)
    assert session.receive(frame) == [Stage(frame.snapshot)]
    assert session.lane_states()["tenant"] is LaneState.FOLLOWING
