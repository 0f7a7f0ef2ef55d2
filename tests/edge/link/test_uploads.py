"""The way up alone: what counts as stored, how long batches are, and what happens to operations that are not kept any more."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import words
from edge.link.orders import Acknowledge, BeginAnew, Complain, Order, Reconnect, Renumber
from edge.link.uploads import (
    BATCH_BYTES,
    BATCH_OPERATIONS,
    FIRST_BYTES,
    FIRST_OPERATIONS,
    MOST_AHEAD,
    PATIENCE_BEATS,
    Pace,
    Uploads,
)
from gipos.edge.v1.link_pb2 import LinkRequest, Operation, Quarantined, Stored
from gipos.v1.sales_pb2 import Sale


@dataclass
class Outbox:
    """A till's outbox and its way up."""

    last: int
    first: int = 1
    watermark: int = 0
    pace: Pace = field(default_factory=Pace)
    note: str = ""
    outgoing: list[LinkRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.last, self.first, self.outgoing, self.pace)
        assert self.uploads.begin(self.watermark) == []

    def read(self, asked: tuple[int, int]) -> list[Operation]:
        start = max(asked[0], self.first)
        sale = Sale(note=self.note)
        return [
            Operation(op_seq=number, op_id=f"sal_{number}", sale_recorded=sale)
            for number in range(start, min(start + asked[1], self.last + 1))
        ]

    def send(self) -> list[Order]:
        """Hands over what is wanted until no more is; what that led to."""
        orders: list[Order] = []
        while (asked := self.uploads.wanted()) is not None:
            orders += self.uploads.upload(self.read(asked), asked)
            assert self.uploads.wanted() != asked, "stuck without a word"
        return orders

    def sent(self) -> list[tuple[int, int]]:
        """First and last number of each batch since the last look."""
        batches = [(frame.operations.operations[0].op_seq, frame.operations.operations[-1].op_seq) for frame in self.outgoing]
        self.outgoing.clear()
        return batches


def a_fast_pace() -> Pace:
    return Pace(BATCH_OPERATIONS, BATCH_BYTES)


# What counts as stored.


def test_a_watermark_covers_no_operation_that_was_not_sent_in_this_stream() -> None:
    """A clone of this tablet has uploaded 5,000 under the same numbers; each of ours is to be compared with those."""
    till = Outbox(last=5200, watermark=3)
    till.send()
    assert till.sent() == [(4, 13), (14, 23)]
    assert till.uploads.stored(Stored(op_watermark=5003)) == [Acknowledge(13)]
    assert till.uploads.stored(Stored(op_watermark=5003)) == [Acknowledge(23)]
    till.send()
    assert till.sent()[0][0] == 24, "what follows is sent"
    assert till.uploads.acknowledged == 23


def test_a_watermark_covers_no_batch_that_the_cloud_has_not_answered() -> None:
    till = Outbox(last=40, watermark=3)
    till.send()
    assert till.uploads.stored(Stored(op_watermark=20)) == [Acknowledge(13)], "14 to 20 are still to be compared"


def test_a_watermark_says_nothing_while_nothing_is_under_way() -> None:
    till = Outbox(last=10, watermark=3)
    aside = [Quarantined(op_seq=2, reason="NOT_STORABLE")]
    assert till.uploads.stored(Stored(op_watermark=9)) == []
    assert till.uploads.stored(Stored(op_watermark=9, quarantined=aside)) == [Acknowledge(3, tuple(aside))]
    assert till.uploads.wanted() == (4, 7)


def test_a_cloud_may_ask_for_what_was_sent_before_but_makes_no_till_leave_anything_out() -> None:
    till = Outbox(last=400)
    till.send()
    till.sent()
    assert till.uploads.stored(Stored(op_watermark=299, expected_op_seq=300)) == [Acknowledge(10)]
    till.send()
    assert till.sent() == [(21, 40)]
    assert till.uploads.stored(Stored(op_watermark=10, expected_op_seq=11)) == []
    till.send()
    assert till.sent() == [(11, 30), (31, 50)]


def test_what_is_sent_again_on_request_does_not_confuse_the_answers_to_what_was_under_way() -> None:
    till = Outbox(last=400, watermark=100)
    till.send()
    till.uploads.again(1)
    assert till.sent() == [(101, 110), (111, 120)]
    assert till.uploads.stored(Stored(op_watermark=300)) == [Acknowledge(110)]
    till.send()
    assert till.sent() == [(1, 20)]
    assert till.uploads.stored(Stored(op_watermark=300)) == [Acknowledge(120)]
    assert till.uploads.stored(Stored(op_watermark=300)) == [], "1 to 20 were stored before"
    assert till.uploads.acknowledged == 120


def test_sending_again_for_a_long_time_is_no_reason_to_leave_the_cloud() -> None:
    till = Outbox(last=4000, watermark=4000)
    till.uploads.again(1)
    for _ in range(PATIENCE_BEATS * 2):
        till.send()
        assert till.uploads.stored(Stored(op_watermark=4000)) == []
        assert till.uploads.beat() == []


def test_after_a_renumbering_only_what_is_sent_under_the_new_numbers_counts() -> None:
    till = Outbox(last=15)
    till.send()
    assert till.uploads.stored(Stored(op_watermark=40)) == [Renumber(above=40)]
    till.first, till.last = 41, 55
    till.uploads.renumbered(55, 41)
    till.sent()
    till.send()
    assert till.sent() == [(41, 50), (51, 55)]
    assert till.uploads.stored(Stored(op_watermark=40)) == []
    assert till.uploads.stored(Stored(op_watermark=50)) == [Acknowledge(50)]


@pytest.mark.parametrize(("known", "is_odd"), [(5 + MOST_AHEAD, False), (5 + MOST_AHEAD + 1, True), (2**62, True)])
@pytest.mark.parametrize("is_rewind", [False, True])
def test_a_number_that_cannot_be_moves_none_of_ours(known: int, *, is_odd: bool, is_rewind: bool) -> None:
    till = Outbox(last=5)
    till.send()
    (order,) = till.uploads.stored(Stored(expected_op_seq=known + 1) if is_rewind else Stored(op_watermark=known))
    if not is_odd:
        assert order == Renumber(above=known)
        return
    assert isinstance(order, Reconnect)
    assert order.message == words.ODD_NUMBERS
    assert till.uploads.acknowledged == 0


@dataclass
class World:
    """A tablet, its clone that came first, and a cloud that compares what both sent under the same numbers."""

    mine: list[str]
    stored: list[str]
    acknowledged: int
    first: int = 1
    up: deque[list[Operation]] = field(default_factory=deque)
    down: deque[Stored] = field(default_factory=deque)
    is_over: bool = False
    """The cloud has met two tablets under one name and ended the stream."""

    def __post_init__(self) -> None:
        self.outgoing: list[LinkRequest] = []
        self.uploads = Uploads(len(self.mine), 1, self.outgoing, Pace(2, 8192))
        assert self.uploads.begin(self.acknowledged) == []

    def step(self, kind: str, number: int) -> None:
        match kind:
            case "sell":
                self.mine.append(f"mine {len(self.mine)}")
                self.uploads.recorded(len(self.mine))
            case "send":
                if (asked := self.uploads.wanted()) is not None:
                    start = max(asked[0], self.first)
                    kept = self.mine[start - 1 : start - 1 + asked[1]]
                    read = [Operation(op_seq=at, op_id=op_id) for at, op_id in enumerate(kept, start)]
                    assert self.uploads.upload(read, asked) == []
                    self.up.extend(list(frame.operations.operations) for frame in self.outgoing)
                    self.outgoing.clear()
            case "store" if self.up and not self.is_over:
                self.store(self.up.popleft())
            case "hear" if self.down:
                for order in self.uploads.stored(self.down.popleft()):
                    assert isinstance(order, Acknowledge)
                    self.acknowledged = order.op_watermark
            case "resend":
                self.uploads.again(number)
            case "prune":
                self.first = max(self.first, min(self.acknowledged + 1, number))
        assert self.mine[: self.acknowledged] == self.stored[: self.acknowledged], "only what is there counts as stored"

    def store(self, batch: list[Operation]) -> None:
        for operation in batch:
            if operation.op_seq <= len(self.stored):
                if self.stored[operation.op_seq - 1] != operation.op_id:
                    self.is_over = True
                    return
            else:
                assert operation.op_seq == len(self.stored) + 1, "without gaps"
                self.stored.append(operation.op_id)
        self.down.append(Stored(op_watermark=len(self.stored)))


STEPS = st.lists(
    st.tuples(st.sampled_from(["sell", *["send"] * 3, *["store"] * 3, *["hear"] * 3, "resend", "prune"]), st.integers(0, 60)),
    max_size=120,
)


@settings(max_examples=400, deadline=None)
@given(shared=st.integers(0, 30), known=st.integers(0, 30), theirs=st.integers(0, 30), more=st.integers(0, 30), steps=STEPS)
def test_whatever_a_clone_has_uploaded_nothing_is_taken_for_stored_that_is_not(
    shared: int, known: int, theirs: int, more: int, steps: list[tuple[str, int]]
) -> None:
    before = [f"shared {number}" for number in range(shared)]
    mine = before + [f"mine {number}" for number in range(shared, shared + theirs + more)]
    world = World(mine, before + [f"theirs {number}" for number in range(theirs)], min(known, shared))
    for kind, number in steps:
        world.step(kind, number)
    for _ in range(len(world.mine) + 60):
        for kind in ("send", "store", "hear"):
            world.step(kind, 0)
    assert world.is_over == (theirs > 0 and len(world.mine) > shared)
    if not world.is_over:
        assert world.acknowledged == len(world.mine), "and everything arrives"


# How long batches are.


def test_batches_begin_short_and_double_with_each_that_comes_through() -> None:
    till = Outbox(last=10_000)
    lengths: list[int] = []
    while len(lengths) < 9:
        till.send()
        batches = till.sent()
        lengths += [last - first + 1 for first, last in batches]
        till.uploads.stored(Stored(op_watermark=till.uploads.acknowledged + lengths[len(lengths) - 2]))
    assert lengths[:9] == [10, 10, 20, 40, 80, 160, 200, 200, 200]


def test_batches_are_as_short_in_bytes() -> None:
    till = Outbox(last=100, note="x" * 3000)
    till.send()
    assert till.sent() == [(1, 2), (3, 4)]
    till.uploads.stored(Stored(op_watermark=2))
    till.send()
    assert till.sent() == [(5, 9)]
    large = Outbox(last=3, note="x" * 100_000)
    large.send()
    assert large.sent() == [(1, 1), (2, 2)], "one is always sent, however large"


def test_a_single_sale_that_comes_through_says_nothing_of_the_line() -> None:
    till = Outbox(last=1)
    till.send()
    till.uploads.stored(Stored(op_watermark=1))
    assert till.pace == Pace()


def test_what_was_learned_of_the_line_is_kept_from_stream_to_stream() -> None:
    pace = Pace()
    first = Outbox(last=10_000, pace=pace)
    for stored in (10, 20, 40):
        first.send()
        first.uploads.stored(Stored(op_watermark=stored))
    assert pace == Pace(80, 8 * FIRST_BYTES)
    first.send()
    first.uploads.close()
    assert pace == Pace(40, 4 * FIRST_BYTES), "it ended with batches under way: they may have been too long"
    second = Outbox(last=10_000, pace=pace)
    second.send()
    assert second.sent() == [(1, 40), (41, 80)]
    quiet = Outbox(last=5, watermark=5, pace=pace)
    quiet.uploads.close()
    assert pace == Pace(40, 4 * FIRST_BYTES)
    for _ in range(5):
        lost = Outbox(last=10_000, pace=pace)
        lost.send()
        lost.uploads.close()
    assert pace == Pace(FIRST_OPERATIONS, FIRST_BYTES), "never less than that"


@pytest.mark.parametrize("count", [1, 20, 450, 2000, 20_000])
def test_a_fast_line_is_slower_by_a_few_round_trips_at_most(count: int) -> None:
    def round_trips(pace: Pace) -> int:
        till, trips = Outbox(last=count, pace=pace), 0
        while till.uploads.acknowledged < count:
            till.send()
            for _, last in till.sent():
                till.uploads.stored(Stored(op_watermark=last))
            trips += 1
        return trips

    assert round_trips(Pace()) <= round_trips(a_fast_pace()) + 4


# What is not kept any more.


def test_what_was_forgotten_in_the_middle_of_a_stream_is_left_out_when_the_rest_is_sent_again() -> None:
    till = Outbox(last=1000, watermark=1000)
    till.first = 601  # housekeeping, after the stream began
    till.uploads.again(1)
    assert till.send() == []
    assert till.sent() == [(601, 610), (611, 620)]
    till.first = till.last + 1
    till.uploads.again(1)
    till.uploads.stored(Stored(op_watermark=1000))
    assert till.send() == [], "nothing is left to be sent again"
    till.uploads.stored(Stored(op_watermark=1000))
    till.last += 1
    till.uploads.recorded(till.last)
    till.send()
    assert till.sent() == [(1001, 1001)], "and new sales go on"


def test_a_cloud_that_wants_what_was_forgotten_in_the_middle_of_a_stream_gets_the_rest_in_a_new_life() -> None:
    till = Outbox(last=1001, watermark=1000)
    till.send()
    till.first = 601
    assert till.uploads.stored(Stored(op_watermark=4, expected_op_seq=5)) == []
    anew, back = till.send()
    assert anew == BeginAnew(5)
    assert isinstance(back, Reconnect)
    assert till.uploads.wanted() is None


@pytest.mark.parametrize("kept_from", [12, 21])
def test_what_was_never_acknowledged_and_is_not_there_is_a_hole(kept_from: int) -> None:
    till = Outbox(last=20, watermark=10)
    till.first = kept_from
    assert till.send() == [Complain(words.HOLE)]
    assert till.sent() == []
    assert till.uploads.wanted() is None
