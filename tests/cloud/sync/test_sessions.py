"""The cloud's machine: every phase and event, every state of a lane and frame, and the rules behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.sync.admission import LONGEST_WAIT_SECONDS, Admission
from cloud.sync.lanes import CREDIT, DISPUTES, PIECES, STALLED_SECONDS, Begin, Lane, LaneState, More, Piece
from cloud.sync.sessions import (
    DEAD_AFTER_SECONDS,
    HEARTBEAT_SECONDS,
    HELLO_WITHIN_SECONDS,
    MAX_BATCH,
    Ending,
    Heard,
    Opened,
    Phase,
    Session,
)
from gipos.edge.v1.link_pb2 import (
    Applied,
    Command,
    CommandResult,
    Hello,
    LinkRequest,
    LinkResponse,
    NotApplied,
    OfflinePolicy,
    Operation,
    OperationBatch,
    Ping,
    ResetReason,
    Stored,
    Welcome,
)
from kernel.capabilities import ALL

LANE = "tenant"
HELLO = LinkRequest(hello=Hello(store_epoch=7))


def opened(*lanes: Lane, **settings: Any) -> Opened:
    return Opened(Welcome(op_watermark=3, tenant_id="ten_1"), lanes, **settings)


def a_session(*lanes: Lane, offered: frozenset[str] = ALL, now: float = 0.0, **settings: Any) -> Session:
    session = Session(now)
    session.receive(HELLO, now)
    session.opened(opened(*lanes, **settings), offered, now)
    session.outgoing.clear()
    return session


def following(seq: int = 5) -> Lane:
    return Lane(LANE, LaneState.FOLLOWING, 1, seq, seq)


def owed() -> Lane:
    return Lane(LANE, LaneState.OWED, reason=ResetReason.RESET_REASON_NEW)


def sending() -> Lane:
    lane = owed()
    lane.sending(1, 50, 0)
    return lane


def applied(upto: int, *, epoch: int = 1, parts: int = 0) -> LinkRequest:
    return LinkRequest(applied=Applied(lane=LANE, epoch=epoch, upto=upto, parts=parts))


def disputed(at: int, *, epoch: int = 1, reason: str = "GAP") -> LinkRequest:
    return LinkRequest(not_applied=NotApplied(lane=LANE, epoch=epoch, from_exclusive=at, reason=reason))


def operations(count: int) -> LinkRequest:
    return LinkRequest(operations=OperationBatch(operations=[Operation(op_seq=number) for number in range(1, count + 1)]))


def sent(session: Session) -> list[Any]:
    """What was sent: messages by the names of their fields, serialised frames as they are."""
    frames = [frame if isinstance(frame, bytes) else frame.WhichOneof("frame") for frame in session.outgoing]
    session.outgoing.clear()
    return frames


def kinds(orders: Any) -> list[str]:
    return [type(order).__name__ for order in orders or ()]


FRAMES: dict[str, LinkRequest] = {
    "hello": HELLO,
    "operations": operations(2),
    "too many operations": operations(MAX_BATCH + 1),
    "applied": applied(5),
    "ping": LinkRequest(ping=Ping(number=1)),
    "command_result": LinkRequest(command_result=CommandResult(command_id="cmd_1")),
    "not_applied": disputed(4),
    "unknown": LinkRequest.FromString(b"\xa2\x06\x02\x08\x01"),
}
MORE = More(LANE, 1, 5, 0, 5)


def events() -> dict[str, Callable[[Session], Any]]:
    """Everything that can happen to a session of a till that stands at 5."""
    frames = {name: partial(Session.receive, frame=frame, now=1.0, received_ns=9) for name, frame in FRAMES.items()}
    return {
        **frames,
        "opened": partial(Session.opened, known=opened(following()), offered=ALL, now=1.0),
        "opened, closed": partial(Session.opened, known=opened(is_closed=True), offered=ALL, now=1.0),
        "stored": partial(Session.stored, stored=Stored(op_watermark=4)),
        "frame": partial(Session.frame, want=MORE, upto=9, data=b"x", now=1.0),
        "empty frame": partial(Session.frame, want=MORE, upto=9, data=b"x", now=1.0, is_empty=True),
        "owe": partial(Session.owe, want=MORE, reason=ResetReason.RESET_REASON_TOO_OLD),
        "sending": partial(Session.sending, want=Begin(LANE, ResetReason.RESET_REASON_NEW, "", 0, 9), epoch=1, seq=5, index=0),
        "piece": partial(Session.piece, want=Piece(LANE, 0, 9), data=b"x", now=1.0, last=True),
        "wanted": lambda session: [want] if (want := session.wanted()) else [],
        "touch": Session.touch,
        "tick": partial(Session.tick, now=1.0),
        "tick, heartbeat due": partial(Session.tick, now=HEARTBEAT_SECONDS * 1.2),
        "tick, dead": partial(Session.tick, now=DEAD_AFTER_SECONDS + 1.1),
        "drain": partial(Session.drain, earliest_ms=0, latest_ms=9, reason="x"),
        "fail": Session.fail,
        "policy": partial(Session.policy, policy=OfflinePolicy()),
        "command": partial(Session.command, command=Command(command_id="cmd_1")),
    }


NOTHING: list[str] = []
OUTSIDE = dict.fromkeys(
    ("stored", "frame", "empty frame", "owe", "sending", "piece", "wanted", "touch", "policy", "command", "tick"), NOTHING
)
ERROR = "error"
# Per event: what is ordered and sent, and how the session ends if it does.
TABLE: dict[Phase, dict[str, Any]] = {
    Phase.GREETING: {
        **dict.fromkeys(FRAMES, Ending.NO_HELLO), **OUTSIDE, "hello": ["Open"], "unknown": NOTHING, "opened": ERROR,
        "opened, closed": ERROR, "tick, heartbeat due": Ending.DONE, "tick, dead": Ending.DONE, "drain": ["drain", Ending.DONE],
        "fail": Ending.DONE,
    },
    Phase.OPENING: {
        **dict.fromkeys(FRAMES, ERROR), **OUTSIDE, "opened": ["welcome"], "opened, closed": ["welcome", Ending.DONE],
        "tick, heartbeat due": NOTHING, "tick, dead": NOTHING, "drain": ["drain", Ending.DONE], "fail": Ending.DONE,
    },
    Phase.LIVE: {
        "hello": Ending.TWICE, "operations": ["Store"], "too many operations": Ending.TOO_MANY, "applied": NOTHING,
        "ping": ["Heard", "progress"], "command_result": ["Settle"], "not_applied": ["Disputed"], "unknown": NOTHING,
        "opened": ERROR, "opened, closed": ERROR, "stored": ["stored"], "frame": [b"x"], "empty frame": NOTHING, "owe": NOTHING,
        "sending": NOTHING, "piece": NOTHING, "wanted": ["More"], "touch": NOTHING, "tick": NOTHING,
        "tick, heartbeat due": ["progress"], "tick, dead": Ending.DONE, "drain": ["drain", Ending.DONE], "fail": Ending.DONE,
        "policy": ["policy"], "command": ["command"],
    },
    Phase.ENDED: dict.fromkeys(events(), NOTHING),
}  # fmt: skip


def a_session_in(phase: Phase) -> Session:
    session = Session(0.0)
    if phase is not Phase.GREETING:
        session.receive(HELLO, 0.0)
    if phase in {Phase.LIVE, Phase.ENDED}:
        session.opened(opened(following()), ALL, 0.0)
    if phase is Phase.ENDED:
        session.fail()
    session.outgoing.clear()
    assert session.phase is phase
    return session


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", list(events()))
def test_everything_that_can_happen_is_defined_in_every_phase(phase: Phase, name: str) -> None:
    session = a_session_in(phase)
    expected = TABLE[phase][name]
    if expected == ERROR:
        with pytest.raises(RuntimeError):
            events()[name](session)
        assert session.phase is phase
        return
    answer = events()[name](session)
    happened: list[Any] = [*(kinds(answer) if isinstance(answer, list) else ()), *sent(session)]
    if session.phase is Phase.ENDED and phase is not Phase.ENDED:
        happened.append(session.ending)
    assert happened == (expected if isinstance(expected, list) else [expected])
    went_on = {(Phase.GREETING, "hello"): Phase.OPENING, (Phase.OPENING, "opened"): Phase.LIVE}
    if session.phase is not Phase.ENDED:
        assert session.phase is went_on.get((phase, name), phase)


def test_no_event_and_no_phase_is_missing_in_the_table() -> None:
    assert set(TABLE) == set(Phase)
    for row in TABLE.values():
        assert set(row) == set(events())
    fields = LinkRequest.DESCRIPTOR.oneofs_by_name["frame"].fields
    assert {field.name for field in fields} <= {frame.WhichOneof("frame") for frame in FRAMES.values()}


LANE_EVENTS: dict[str, Callable[[Lane], Any]] = {
    "wanted": Lane.wanted,
    "applied": lambda lane: lane.applied(Applied(lane=LANE, epoch=lane.epoch, upto=lane.seq), 0.0),
    "applied in another epoch": lambda lane: lane.applied(Applied(lane=LANE, epoch=9, upto=lane.seq), 0.0),
    "disputed where it fits": lambda lane: lane.not_applied(NotApplied(epoch=1, from_exclusive=3, reason="GAP")),
    "disputed elsewhere": lambda lane: lane.not_applied(NotApplied(epoch=1, from_exclusive=99, reason="GAP")),
    "disputed in another epoch": lambda lane: lane.not_applied(NotApplied(epoch=9, from_exclusive=3, reason="GAP")),
    "refresh": lambda lane: lane.not_applied(NotApplied(epoch=1, from_exclusive=3, reason="REFRESH")),
    "owe": lambda lane: lane.owe(ResetReason.RESET_REASON_TOO_OLD),
    "reached": Lane.reached,
}
OWED, SENDING, FOLLOWING = LaneState
GAP, FRESH, OLD = ResetReason.RESET_REASON_GAP, ResetReason.RESET_REASON_REFRESH, ResetReason.RESET_REASON_TOO_OLD
LANE_TABLE: dict[LaneState, dict[str, Any]] = {
    OWED: {"wanted": OWED, "applied": OWED, "applied in another epoch": OWED, "disputed where it fits": GAP,
           "disputed elsewhere": GAP, "disputed in another epoch": GAP, "refresh": FRESH, "owe": OLD, "reached": OWED},
    SENDING: {"wanted": SENDING, "applied": SENDING, "applied in another epoch": SENDING, "disputed where it fits": GAP,
              "disputed elsewhere": GAP, "disputed in another epoch": GAP, "refresh": FRESH, "owe": OLD, "reached": SENDING},
    FOLLOWING: {"wanted": FOLLOWING, "applied": FOLLOWING, "applied in another epoch": FOLLOWING,
                "disputed where it fits": FOLLOWING, "disputed elsewhere": GAP, "disputed in another epoch": GAP,
                "refresh": FRESH, "owe": OLD, "reached": FOLLOWING},
}  # fmt: skip


@pytest.mark.parametrize("state", list(LaneState))
@pytest.mark.parametrize("name", list(LANE_EVENTS))
def test_every_frame_means_something_in_every_state_of_a_lane(state: LaneState, name: str) -> None:
    lane = {OWED: owed, SENDING: sending, FOLLOWING: following}[state]()
    before = lane.version
    expected = LANE_TABLE[state][name]
    answer = LANE_EVENTS[name](lane)
    if name == "wanted":
        assert isinstance(answer, {OWED: Begin, SENDING: Piece, FOLLOWING: More}[state])
    if isinstance(expected, LaneState):
        assert lane.state is expected
    else:
        assert (lane.state, lane.reason) == (OWED, expected)
        assert lane.version > before, "what was being read is not wanted any more"


def test_no_state_of_a_lane_is_missing_in_the_table() -> None:
    assert set(LANE_TABLE) == set(LaneState)
    for row in LANE_TABLE.values():
        assert set(row) == set(LANE_EVENTS)


def test_two_ranges_may_be_under_way_and_a_confirmation_is_credit_for_more() -> None:
    session = a_session(following())
    for upto in (9, 12):
        want = session.wanted()
        assert isinstance(want, More)
        assert session.frame(want, upto, b"x", 0.0)
    session.touch()
    assert session.wanted() is None
    session.receive(applied(8), 0.0)
    assert session.wanted() is None, "less than the first of them is no credit"
    session.receive(applied(9), 0.0)
    assert session.wanted() == More(LANE, 1, 12, 0, 12)
    assert CREDIT == 2


def test_a_lane_that_has_not_grown_is_clean_without_a_reader_and_asked_only_when_it_may_be_told() -> None:
    session, asked = a_session(following(5)), []

    def may_follow(lane: Lane) -> bool:
        asked.append((lane.name, lane.epoch, lane.passed))
        return len(asked) > 1

    assert session.wanted(may_follow) is None
    assert session.wanted(may_follow) is None, "it was asked, and is clean"
    assert asked == [(LANE, 1, 5)]
    session.touch()
    assert session.wanted(may_follow) == MORE
    for upto in range(6, 6 + CREDIT):
        session.touch()
        want = session.wanted(may_follow)
        assert isinstance(want, More)
        session.frame(want, upto, b"x", 0.0)
    session.touch()
    assert session.wanted(may_follow) is None
    assert len(asked) == 2 + CREDIT, "nobody is asked without credit"
    session.receive(applied(6), 0.0)
    assert session.wanted(may_follow) == More(LANE, 1, 5 + CREDIT, 0, 5 + CREDIT)
    assert a_session(owed()).wanted(lambda _: pytest.fail("a snapshot is owed whatever has grown")) is not None


def test_a_snapshot_stops_after_a_few_pieces_that_are_not_confirmed() -> None:
    session = a_session(owed())
    want = session.wanted()
    assert isinstance(want, Begin)
    assert session.sending(want, 1, 50, 0)
    for _ in range(PIECES):
        piece = session.wanted()
        assert isinstance(piece, Piece)
        assert session.piece(piece, b"x", 0.0, last=False)
    assert session.wanted() is None
    session.receive(applied(50, parts=2), 0.0)
    assert session.wanted() == Piece(LANE, PIECES, 0)
    assert sent(session) == ["reset", *[b"x"] * PIECES]


def test_a_till_of_the_first_version_confirms_the_whole_snapshot_only() -> None:
    session = a_session(owed(), offered=frozenset())
    want = session.wanted()
    assert isinstance(want, Begin)
    session.sending(want, 1, 50, 0)
    for number in range(PIECES * 3):
        piece = session.wanted()
        assert isinstance(piece, Piece)
        session.piece(piece, b"x", 0.0, last=number == PIECES * 3 - 1)
    more = session.wanted()
    assert isinstance(more, More)
    session.frame(more, 51, b"x", 0.0)
    assert session.wanted() is None
    session.receive(applied(50), 0.0)
    assert session.wanted() == More(LANE, 1, 51, 0, 51)


def test_a_snapshot_that_was_cut_off_goes_on_without_a_reset() -> None:
    session = a_session(owed())
    want = session.wanted()
    assert isinstance(want, Begin)
    session.sending(want, 1, 50, 3)
    assert sent(session) == []
    assert session.wanted() == Piece(LANE, 3, 0)


def test_what_does_not_concern_the_till_is_told_with_the_next_sign_of_life_and_never_before_what_was_sent() -> None:
    session = a_session(following(5))
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 7, b"first", 0.0)
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 9, b"nothing", 0.0, is_empty=True)
    assert session.wanted() is None
    session.tick(HEARTBEAT_SECONDS * 1.2)
    first, progress = session.outgoing
    assert first == b"first"
    assert isinstance(progress, LinkResponse)
    (place,) = progress.progress.reached
    assert (place.lane, place.epoch, place.from_exclusive, place.seq) == (LANE, 1, 7, 9)
    session.outgoing.clear()
    session.touch()
    assert session.wanted() == More(LANE, 1, 9, 1, 9), "the next range begins where the till was told to stand"


def test_a_range_that_was_being_read_when_the_till_was_told_to_stand_further_on_is_read_again() -> None:
    session = a_session(following(5))
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 7, b"nothing", 0.0, is_empty=True)
    session.touch()
    reading = session.wanted()
    assert reading == More(LANE, 1, 5, 0, 7)
    session.tick(HEARTBEAT_SECONDS * 1.2)
    session.outgoing.clear()
    assert not session.frame(reading, 9, b"from 5", 0.0), "the till stands at 7 now"
    again = session.wanted()
    assert again == More(LANE, 1, 7, 1, 7)
    assert session.frame(again, 9, b"from 7", 0.0)
    assert sent(session) == [b"from 7"]


def test_a_till_without_bookmarks_gets_empty_ranges_instead() -> None:
    session = a_session(following(5), offered=ALL - {"bookmarks"})
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 9, b"nothing", 0.0, is_empty=True)
    session.tick(HEARTBEAT_SECONDS * 1.2)
    frame, progress = session.outgoing
    assert frame == b"nothing"
    assert isinstance(progress, LinkResponse)
    assert not progress.progress.reached


def test_what_was_disputed_is_sent_once_more_and_then_a_snapshot() -> None:
    session = a_session(following(5))
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 9, b"x", 0.0)
    session.receive(disputed(5), 0.0)
    want = session.wanted()
    assert want == More(LANE, 1, 5, 1, 5)
    session.frame(want, 9, b"x", 0.0)
    session.receive(disputed(5), 0.0)
    assert session.wanted() == Begin(LANE, GAP, "", 0, 2)


def test_a_confirmation_in_between_makes_it_the_first_dispute_again() -> None:
    session = a_session(following(5))
    for upto in (9, 12):
        want = session.wanted()
        assert isinstance(want, More)
        session.frame(want, upto, b"x", 0.0)
        session.receive(disputed(want.seq), 0.0)
        want = session.wanted()
        assert isinstance(want, More)
        session.frame(want, upto, b"x", 0.0)
        session.receive(applied(upto), 0.0)
    assert session.lane_states() == {LANE: LaneState.FOLLOWING}


def test_a_till_that_disputes_everything_is_left() -> None:
    session = a_session(owed())
    for _ in range(DISPUTES + 1):
        assert session.phase is Phase.LIVE
        session.receive(disputed(0, epoch=9), 0.0)
    assert session.ending is Ending.SLOW


def test_what_was_being_read_when_the_till_disputed_something_is_thrown_away() -> None:
    session = a_session(following(5))
    want = session.wanted()
    assert isinstance(want, More)
    session.receive(disputed(3), 0.0)
    assert not session.frame(want, 9, b"x", 0.0)
    assert not session.owe(want, OLD)
    assert sent(session) == []
    assert session.wanted() == More(LANE, 1, 3, 1, 3)


def test_what_stays_unconfirmed_ends_the_stream() -> None:
    session = a_session(following(5))
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 9, b"x", 10.0)
    session.receive(LinkRequest(ping=Ping()), 10.0 + STALLED_SECONDS)
    session.tick(10.0 + STALLED_SECONDS)
    assert session.phase is Phase.LIVE
    session.tick(10.1 + STALLED_SECONDS)
    assert session.ending is Ending.SLOW


def test_a_slow_line_has_its_time_for_each_range_and_not_for_all_under_way_together() -> None:
    session = a_session(following(5))
    for upto in (9, 12):
        want = session.wanted()
        assert isinstance(want, More)
        session.frame(want, upto, b"x", 10.0)
    session.receive(applied(9), 10.0 + STALLED_SECONDS)
    session.tick(9.0 + 2 * STALLED_SECONDS)
    assert session.phase is Phase.LIVE
    session.receive(LinkRequest(ping=Ping()), 10.1 + 2 * STALLED_SECONDS)
    session.tick(10.1 + 2 * STALLED_SECONDS)
    assert session.ending is Ending.SLOW


def test_lanes_take_turns_so_that_a_long_catalogue_does_not_hold_up_the_stock() -> None:
    stock = Lane("out_1", LaneState.FOLLOWING, 1, 5, 5)
    session = a_session(owed(), stock)
    want = session.wanted()
    assert isinstance(want, Begin)
    session.sending(want, 1, 50, 0)
    turns = []
    for _ in range(4):
        want = session.wanted()
        turns.append(type(want))
        if isinstance(want, Piece):
            session.piece(want, b"x", 0.0, last=False)
        elif isinstance(want, More):
            session.frame(want, want.seq + 1, b"x", 0.0)
    assert turns == [More, Piece, More, Piece]


def test_a_suspended_till_is_told_what_is_stored_and_nothing_is_stored() -> None:
    session = a_session(following(), takes_operations=False)
    assert session.receive(operations(2), 0.0) == []
    (frame,) = session.outgoing
    assert isinstance(frame, LinkResponse)
    assert (frame.stored.op_watermark, frame.stored.expected_op_seq) == (3, 0)


def test_a_ping_is_answered_with_when_it_came_and_puts_the_heartbeat_off() -> None:
    session = a_session(following())
    session.receive(LinkRequest(ping=Ping(number=4)), 9.0, 1_500)
    (frame,) = session.outgoing
    assert isinstance(frame, LinkResponse)
    assert (frame.progress.number, frame.progress.received_time.ToNanoseconds()) == (4, 1_500)
    session.outgoing.clear()
    session.tick(9.0 + HEARTBEAT_SECONDS * 0.9)
    assert session.outgoing == []
    session.tick(9.0 + HEARTBEAT_SECONDS * 1.1)
    assert len(session.outgoing) == 1


@pytest.mark.parametrize("clock", [Timestamp(seconds=2**63 - 1), Timestamp(seconds=5, nanos=-1)], ids=["no_year", "no_fraction"])
def test_a_ping_of_a_till_whose_clock_shows_no_moment_is_answered_all_the_same(clock: Timestamp) -> None:
    session = a_session(following())
    assert session.receive(LinkRequest(ping=Ping(number=4, waiting_operations=3, device_time=clock)), 9.0, 1_500) == [
        Heard(waiting=3, device_ms=None)
    ]
    assert len(session.outgoing) == 1


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_heartbeats_are_spread_by_a_tenth(jitter: float) -> None:
    session = Session(0.0, jitter)
    session.receive(HELLO, 0.0)
    session.opened(opened(), ALL, 0.0)
    session.outgoing.clear()
    due = HEARTBEAT_SECONDS * (0.9 + 0.2 * jitter)
    session.tick(due - 0.01)
    assert session.outgoing == []
    session.tick(due)
    assert len(session.outgoing) == 1


def test_abilities_nobody_here_knows_are_not_agreed_on() -> None:
    session = Session(0.0)
    session.receive(HELLO, 0.0)
    session.opened(opened(), ["bookmarks", "teleportation"], 0.0)
    (frame,) = session.outgoing
    assert isinstance(frame, LinkResponse)
    assert list(frame.welcome.capabilities) == ["bookmarks"]
    assert session.capabilities == {"bookmarks"}


def test_nobody_gets_what_he_has_not_agreed_to() -> None:
    session = a_session(following(), offered=frozenset())
    session.policy(OfflinePolicy())
    session.command(Command())
    assert session.outgoing == []


def test_a_silent_caller_is_not_waited_for() -> None:
    session = Session(0.0)
    phases = []
    for now in (HELLO_WITHIN_SECONDS, HELLO_WITHIN_SECONDS + 0.1):
        session.tick(now)
        phases.append(session.phase)
    assert phases == [Phase.GREETING, Phase.ENDED]


def test_a_crowd_is_let_in_as_fast_as_it_can_be_and_the_rest_come_back_in_line() -> None:
    door = Admission(at_once=4, per_second=100)
    refused = [door.refused(0.0) for _ in range(1_000)]
    waits = round(100 * LONGEST_WAIT_SECONDS)
    assert refused[:waits] == [None] * waits
    windows = [window for window in refused[waits:] if window is not None]
    assert len(windows) == 1_000 - waits
    assert windows == sorted(windows)
    assert windows[0][0] == 10
    assert windows[-1][0] == 10 * len(windows)
    # Meanwhile those inside are done, and those who come back at their time are let in.
    for _ in range(waits):
        door.done(0.0)
    assert [door.refused(earliest / 1000) for earliest, _ in windows[::25]] == [None] * len(windows[::25])
    assert door.window_ms(10) == 2_000
    assert door.window_ms(3_000) == 60_000


@pytest.mark.parametrize(("seconds", "per_second"), [(0.004, 1_000), (0.4, 10), (40.0, 10), (0.0001, 2_000)])
def test_how_many_are_let_in_follows_from_what_they_cost(seconds: float, per_second: float) -> None:
    door = Admission(at_once=4, per_second=100)
    for _ in range(4):
        door.refused(0.0)
    for _ in range(400):
        door.refused(0.0)
        door.done(seconds)
    assert door.per_second == pytest.approx(per_second, rel=0.01)
    assert door.inside == 4


def test_a_hello_that_has_the_machine_to_itself_does_not_say_how_many_are_possible() -> None:
    door = Admission(at_once=4, per_second=100)
    for _ in range(100):
        assert door.refused(0.0) is None
        door.done(0.001)
    assert (door.per_second, door.inside) == (100, 0)
