"""Frames recorded from every version of the protocol mean today what they meant then: old tablets come back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import ParseDict
from google.protobuf.unknown_fields import UnknownFieldSet

from cloud.sync import sessions as clouds
from cloud.sync.lanes import Lane, LaneState, More
from edge.link.lanes import Begun, Place
from edge.link.orders import Apply, Stage
from edge.link.session import Phase, Session, Standing
from gipos.edge.v1.link_pb2 import (
    Changes,
    Command,
    LinkRequest,
    LinkResponse,
    OfflinePolicy,
    ResetReason,
    Stored,
    Welcome,
)
from kernel.capabilities import ALL

FOLDER = Path(__file__).parent / "golden"
RELEASED = Path(__file__).parents[3] / "protos" / "released" / "api.binpb"
VERSIONS = sorted(path.stem for path in FOLDER.glob("*.json"))
OUTLET = "out_06h0k6a491z2njzvw5a1xq11b6"


def corpus(version: str) -> list[tuple[str, Any, dict[str, Any], bytes]]:
    """Direction, frame, its JSON and its bytes."""
    classes: dict[str, Any] = {"up": LinkRequest, "down": LinkResponse}
    return [
        (one["direction"], classes[one["direction"]].FromString(wire), one["frame"], wire)
        for one in json.loads((FOLDER / f"{version}.json").read_text())
        for wire in [base64.b64decode(one["wire"])]
    ]


def kinds(orders: Any) -> list[str]:
    return [type(order).__name__ for order in orders]


def test_both_versions_are_there() -> None:
    assert VERSIONS == ["1", "2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_bytes_still_say_what_they_said(version: str) -> None:
    for direction, frame, shown, wire in corpus(version):
        assert frame == ParseDict(shown, type(frame)()), direction
        assert frame.SerializeToString(deterministic=True) == wire
        assert not UnknownFieldSet(frame)


def test_the_first_version_holds_nothing_that_came_later() -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes()).file:
        pool.Add(file)
    for direction, _, _, wire in corpus("1"):
        name = {"up": "gipos.edge.v1.LinkRequest", "down": "gipos.edge.v1.LinkResponse"}[direction]
        released = message_factory.GetMessageClass(pool.FindMessageTypeByName(name)).FromString(wire)
        kind = released.WhichOneof("frame")
        assert kind
        assert not UnknownFieldSet(getattr(released, kind))


TILL_HEARS = {
    "1": [
        ["Adopt"], [], ["Stage"], ["Stage"], ["Acknowledge"], ["Apply"], [], ["Acknowledge"], ["Reconnect"],
    ],
    "2": [
        ["Adopt"], ["AdoptPolicy"], ["Stage"], ["Acknowledge"], [], ["Apply"], ["ClockSample", "Apply"], ["Execute"], [],
        ["Stage"], ["Reconnect"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_todays_till_understands_every_clouds_frames(version: str) -> None:
    begun = {"tenant": Begun("snp_1", 1, 9, 1)} if version == "2" else {}
    session = Session(
        Standing(
            store_epoch=5,
            positions={OUTLET: Place(1, 7)},
            begun=begun,
            last_op_seq=44 if version == "2" else 42,
            capabilities=ALL,
        )
    )
    session.open()
    heard = []
    for direction, frame, _, _ in corpus(version):
        if direction == "up":
            if frame.HasField("ping"):
                session.beat(frame.ping.device_time.ToDatetime(), 1)
            if frame.HasField("operations"):
                sold = frame.operations.operations
                session.upload(sold, (sold[0].op_seq, len(sold)))
            continue
        orders = session.receive(frame, 2)
        heard.append(kinds(orders))
        for order in orders:
            if isinstance(order, Apply):
                session.applied(order.changes)
            if isinstance(order, Stage):
                session.staged(order.part)
    assert heard == TILL_HEARS[version]
    assert session.phase is Phase.ENDED
    assert session.unknown == 0


CLOUD_HEARS = {
    "1": [["Open"], ["Store"], [], [], ["Heard"]],
    "2": [["Open"], [], ["Store"], ["Disputed"], [], ["Heard"], ["Settle"], []],
}


@pytest.mark.parametrize("version", VERSIONS)
def test_todays_cloud_understands_every_tills_frames(version: str) -> None:
    session = clouds.Session(0.0)
    heard = []
    for direction, frame, _, _ in corpus(version):
        if direction == "down":
            continue
        orders = session.receive(frame, 0.0, 1)
        heard.append(kinds(orders))
        for order in orders:
            match order:
                case clouds.Open(hello):
                    (place,) = hello.positions
                    lanes = [
                        Lane("tenant", LaneState.OWED, reason=ResetReason.RESET_REASON_NEW),
                        Lane(place.lane, LaneState.FOLLOWING, place.epoch, place.seq, place.seq),
                    ]
                    welcome = Welcome(op_watermark=41)
                    session.opened(clouds.Opened(welcome, lanes), hello.capabilities, 0.0)
                case clouds.Store(operations):
                    session.stored(Stored(op_watermark=operations[-1].op_seq))
    assert heard == CLOUD_HEARS[version]
    assert session.phase is clouds.Phase.LIVE
    assert session.unknown == 0
    assert session.capabilities == (ALL if version == "2" else frozenset())


def test_a_cloud_says_nothing_new_to_a_till_of_the_first_version() -> None:
    """Whatever today's machine sends after a Hello without abilities has only frames of the first version."""
    known = {"welcome", "stored", "changes", "progress", "reset", "snapshot", "drain"}
    hello = next(frame for direction, frame, _, _ in corpus("1") if direction == "up")
    session = clouds.Session(0.0)
    session.receive(hello, 0.0)
    lane = Lane(OUTLET, LaneState.FOLLOWING, 1, 7, 7)
    session.opened(clouds.Opened(Welcome(), [lane]), hello.hello.capabilities, 0.0)
    session.policy(OfflinePolicy(rules=b"x"))
    session.command(Command(command_id="cmd_1"))
    want = session.wanted()
    assert isinstance(want, More)
    session.frame(want, 9, LinkResponse(changes=Changes(lane=OUTLET)).SerializeToString(), 0.0, is_empty=True)
    session.tick(20.0)
    session.drain(0, 1, "x")
    sent = [frame if isinstance(frame, LinkResponse) else LinkResponse.FromString(frame) for frame in session.outgoing]
    assert {frame.WhichOneof("frame") for frame in sent} <= known
    assert [frame.WhichOneof("frame") for frame in sent] == ["welcome", "changes", "progress", "drain"]
    assert not any(frame.progress.reached for frame in sent)
