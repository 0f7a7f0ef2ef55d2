"""The two machines of the link against each other, over a wire that loses, cuts and delays, with simulated stores."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.sync import sessions as clouds
from cloud.sync.lanes import Begin, Lane, LaneState, More, Piece
from edge.link.lanes import Begun, Place
from edge.link.orders import Acknowledge, Adopt, Apply, BeginStore, ClockSample, Execute, Reconnect, Refuse, Stage
from edge.link.session import Session, Standing
from gipos.edge.v1.link_pb2 import (
    Change,
    Changes,
    Command,
    CommandResult,
    LinkRequest,
    LinkResponse,
    Operation,
    ResetReason,
    SnapshotPart,
    Stored,
    Welcome,
)
from gipos.v1.catalog_pb2 import Product
from kernel.capabilities import ALL

LANES = ("tenant", "out_1")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FIRST_VERSION: frozenset[str] = frozenset()


@dataclass
class Log:
    """A lane of the cloud: what happened, by position from 1. An empty key is something that concerns no till."""

    epoch: int = 1
    rows: list[tuple[str, str]] = field(default_factory=list)
    floor: int = 0

    def fold(self, after: int, upto: int) -> dict[str, str]:
        return {key: value for key, value in self.rows[after:upto] if key}


@dataclass
class Copy:
    """The same lane on the till."""

    place: Place
    rows: dict[str, str]


@dataclass
class World:
    """One till, one cloud and the wire."""

    offered: frozenset[str]
    logs: dict[str, Log] = field(default_factory=lambda: {name: Log() for name in LANES})
    stored: list[str] = field(default_factory=list)
    copies: dict[str, Copy] = field(default_factory=dict)
    staged: dict[str, list[SnapshotPart]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    acknowledged: int = 0
    snapshot_lanes: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    down: deque[bytes] = field(default_factory=deque)
    up: deque[bytes] = field(default_factory=deque)
    seconds: float = 0.0
    till_fails: bool = False
    commands: int = 0
    snapshot: dict[str, tuple[int, list[tuple[str, str]]]] = field(default_factory=dict)
    resumed: int = 0

    def connect(self) -> None:
        self.down.clear()
        self.up.clear()
        begun = {
            lane: Begun(parts[0].snapshot_id, parts[0].epoch, parts[0].seq, len(parts))
            for lane, parts in self.staged.items()
            if parts and "resumed_snapshots" in self.offered and lane not in self.snapshot_lanes
        }
        self.till = Session(
            Standing(
                store_epoch=1,
                till_id="dev_1",
                positions={
                    lane: copy.place
                    for lane, copy in self.copies.items()
                    if lane not in self.snapshot_lanes and lane not in begun
                },
                begun=begun,
                last_op_seq=len(self.made),
                capabilities=self.offered,
            )
        )
        self.cloud = clouds.Session(self.seconds)
        self.till.open()
        self.flush()

    # The till.

    def flush(self) -> None:
        while (want := self.till.wanted()) is not None:
            chosen = [
                Operation(op_seq=number, op_id=self.made[number - 1]) for number in range(want[0], want[0] + min(want[1], 3))
            ]
            self.till.upload(chosen, want)
        self.up.extend(frame.SerializeToString() for frame in self.till.outgoing)
        self.till.outgoing.clear()

    def hear(self) -> None:
        if not self.down:
            return
        frame = LinkResponse.FromString(self.down.popleft())
        self.obey(self.till.receive(frame, int(self.seconds * 1000)))

    def obey(self, orders: object) -> None:
        assert isinstance(orders, list)
        for order in orders:
            match order:
                case Apply() | Stage() if self.till_fails:
                    self.till_fails = False
                    self.obey(self.till.failed(order.changes if isinstance(order, Apply) else order.part))
                case Apply(changes):
                    copy = self.copies[changes.lane]
                    assert changes.epoch == copy.place.epoch
                    assert changes.from_exclusive == copy.place.seq, "only what follows on is ever applied"
                    copy.rows |= {change.product.id: change.product.name for change in changes.changes}
                    copy.place = Place(changes.epoch, changes.upto_inclusive)
                    self.till.applied(changes)
                case Stage(part):
                    parts = self.staged.setdefault(part.lane, [])
                    if part.index == 0:
                        parts.clear()
                    assert part.index == len(parts)
                    parts.append(part)
                    if part.last:
                        rows = {change.product.id: change.product.name for piece in parts for change in piece.changes}
                        self.copies[part.lane] = Copy(Place(part.epoch, part.seq), rows)
                        del self.staged[part.lane]
                        self.snapshot_lanes.discard(part.lane)
                    self.till.staged(part)
                case Acknowledge(op_watermark):
                    assert self.acknowledged <= op_watermark <= len(self.stored)
                    self.acknowledged = op_watermark
                case Execute(command):
                    if command.command_id not in self.executed:
                        self.executed.append(command.command_id)
                    self.till.executed(CommandResult(command_id=command.command_id))
                case Reconnect(snapshot_lane=lane):
                    self.snapshot_lanes |= {lane} - {""}
                    self.connect()
                    return
                case Adopt(welcome):
                    self.acknowledged = welcome.op_watermark
                case ClockSample():
                    pass
                case BeginStore() | Refuse() | _:
                    raise AssertionError(order)
        self.check()
        self.flush()

    # The cloud.

    def listen(self) -> None:
        if not self.up:
            return
        frame = LinkRequest.FromString(self.up.popleft())
        for order in self.cloud.receive(frame, self.seconds, int(self.seconds * 1e9)):
            match order:
                case clouds.Open(hello):
                    self.greet(hello)
                case clouds.Store(operations):
                    self.store(operations)
                case _:
                    pass
        self.work()

    def greet(self, hello: object) -> None:
        lanes = []
        for name, log in self.logs.items():
            given = {place.lane: place for place in hello.positions}.get(name)  # type: ignore[attr-defined]  # a Hello
            begun = {one.lane: one for one in hello.begun}.get(name)  # type: ignore[attr-defined]  # as above
            if given is None or given.epoch != log.epoch or not log.floor <= given.seq <= len(log.rows):
                reason = ResetReason.RESET_REASON_NEW if given is None else ResetReason.RESET_REASON_TOO_OLD
                lane = Lane(name, LaneState.OWED, reason=reason)
                if begun is not None:
                    lane.begun, lane.index = begun.snapshot_id, begun.next_index
            else:
                lane = Lane(name, LaneState.FOLLOWING, given.epoch, given.seq, given.seq)
            lanes.append(lane)
        welcome = Welcome(op_watermark=len(self.stored))
        welcome.till.id, welcome.outlet.id = "dev_1", "out_1"
        self.cloud.opened(clouds.Opened(welcome, lanes), hello.capabilities, self.seconds)  # type: ignore[attr-defined]  # as above
        if self.commands:
            self.cloud.command(Command(command_id=f"cmd_{self.commands}"))

    def store(self, operations: object) -> None:
        expected = 0
        for operation in operations:  # type: ignore[attr-defined]  # a list of them
            if operation.op_seq == len(self.stored) + 1:
                self.stored.append(operation.op_id)
            elif operation.op_seq > len(self.stored):
                expected = len(self.stored) + 1
                break
        self.cloud.stored(Stored(op_watermark=len(self.stored), expected_op_seq=expected))

    def work(self) -> None:
        self.cloud.touch()
        while (want := self.cloud.wanted()) is not None:
            log = self.logs[want.lane]
            match want:
                case More(lane, epoch, seq):
                    if epoch != log.epoch or not log.floor <= seq <= len(log.rows):
                        self.cloud.owe(want, ResetReason.RESET_REASON_TOO_OLD)
                    elif seq < len(log.rows):
                        upto = min(len(log.rows), seq + 4)
                        rows = log.fold(seq, upto)
                        changes = [Change(product=Product(id=key, name=value)) for key, value in rows.items()]
                        frame = Changes(lane=lane, epoch=epoch, from_exclusive=seq, upto_inclusive=upto, changes=changes)
                        data = LinkResponse(changes=frame).SerializeToString()
                        self.cloud.frame(want, upto, data, self.seconds, is_empty=not rows)
                case Begin(lane, _, begun, index):
                    goes_on = begun == f"{lane}-{log.epoch}-{self.snapshot.get(lane, (0, []))[0]}" and index > 0
                    if not goes_on:
                        self.snapshot[lane] = (len(log.rows), list(log.fold(0, len(log.rows)).items()))
                    self.resumed += goes_on
                    seq, rows_of = self.snapshot[lane]
                    if goes_on and index * 2 >= len(rows_of):
                        index = 0
                    self.cloud.sending(want, log.epoch, seq, index if goes_on else 0)
                case Piece(lane, index):
                    seq, rows_of = self.snapshot[lane]
                    last = (index + 1) * 2 >= len(rows_of)
                    part = SnapshotPart(
                        lane=lane,
                        epoch=log.epoch,
                        seq=seq,
                        index=index,
                        last=last,
                        changes=[
                            Change(product=Product(id=key, name=value)) for key, value in rows_of[index * 2 : index * 2 + 2]
                        ],
                        snapshot_id=f"{lane}-{log.epoch}-{seq}",
                    )
                    self.cloud.piece(want, LinkResponse(snapshot=part).SerializeToString(), self.seconds, last=last)
        for sent in self.cloud.outgoing:
            self.down.append(sent if isinstance(sent, bytes) else sent.SerializeToString())
        self.cloud.outgoing.clear()

    # What happens.

    def step(self, kind: str, number: int) -> None:
        lane = LANES[number % 2]
        match kind:
            case "change":
                self.logs[lane].rows.append((f"key_{number % 5}", f"value {len(self.logs[lane].rows)}"))
                self.work()
            case "something else":
                self.logs[lane].rows.append(("", ""))
                self.work()
            case "sell":
                self.made.append(f"sal_{len(self.made)}")
                self.till.recorded(len(self.made))
                self.flush()
            case "hear":
                self.hear()
            case "listen":
                self.listen()
            case "lose down" if self.down:
                self.down.popleft()
            case "lose up" if self.up:
                self.up.popleft()
            case "cut":
                self.connect()
            case "time":
                self.seconds += 6.0
                self.cloud.tick(self.seconds)
                self.work()
                if self.cloud.phase is clouds.Phase.ENDED and not self.down:
                    self.connect()
                else:
                    self.obey(self.till.beat(NOW, int(self.seconds * 1000)))
            case "fail":
                self.till_fails = True
            case "trim":
                self.logs[lane].floor = len(self.logs[lane].rows)
            case "restore":
                self.logs[lane].epoch += 1
            case "command":
                self.commands += 1
                self.cloud.command(Command(command_id=f"cmd_{self.commands}"))
                self.work()
            case "refresh":
                self.obey(self.till.refresh(lane))
        self.check()

    def check(self) -> None:
        """What holds at every moment: a copy is the log as of its position, and nothing is stored twice or out of order."""
        assert self.stored == self.made[: len(self.stored)]
        assert self.acknowledged <= len(self.stored)
        for name, copy in self.copies.items():
            log = self.logs[name]
            if copy.place.epoch == log.epoch:
                assert copy.rows == log.fold(0, copy.place.seq)

    def settle(self) -> None:
        """An undisturbed wire until nothing moves; what is passed over is told by the heartbeat."""
        self.till_fails = False
        self.connect()
        for _ in range(3):
            while self.up or self.down:
                self.listen()
                self.hear()
            self.step("time", 0)
            self.step("time", 0)


KINDS = st.sampled_from(
    [
        *["change"] * 4, *["hear"] * 6, *["listen"] * 6, *["sell"] * 2, *["something else"] * 2, "time", "time", "lose down",
        "lose up", "cut", "fail", "trim", "restore", "command", "refresh",
    ]
)  # fmt: skip


@pytest.mark.parametrize("offered", [ALL, FIRST_VERSION], ids=["today", "first version"])
@settings(max_examples=250, deadline=None)
@given(steps=st.lists(st.tuples(KINDS, st.integers(0, 9)), max_size=120))
def test_whatever_happens_on_the_wire_both_ends_agree_and_nothing_is_lost_doubled_or_out_of_order(
    offered: frozenset[str], steps: list[tuple[str, int]]
) -> None:
    world = World(offered)
    world.connect()
    for kind, number in steps:
        world.step(kind, number)
    world.settle()
    assert world.stored == world.made
    assert world.acknowledged == len(world.made)
    for name, log in world.logs.items():
        copy = world.copies[name]
        assert (copy.place.epoch, copy.place.seq) == (log.epoch, len(log.rows))
        assert copy.rows == log.fold(0, len(log.rows))
    assert len(set(world.executed)) == len(world.executed)
    if world.commands and offered:
        assert f"cmd_{world.commands}" in world.executed


def test_a_snapshot_whose_download_was_cut_goes_on_where_it_was() -> None:
    world = World(ALL)
    for number in range(40):
        world.logs["tenant"].rows.append((f"key_{number}", f"value {number}"))
    world.connect()
    for _ in range(6):
        world.listen()
        world.hear()
    parts = len(world.staged["tenant"])
    assert parts > 1
    world.connect()
    world.settle()
    assert world.resumed > 0
    assert len(world.copies["tenant"].rows) == 40
