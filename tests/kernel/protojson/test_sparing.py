"""Messages without what JSON cannot express: nothing else is missing, and what is missing is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gipos.v1 import events_pb2, sales_pb2
from kernel import protojson

from .strategies import messages

NO_TIME = {"seconds": 10**15}


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
def test_what_can_be_printed_is_kept_to_the_last_bit(shapes: Any, data: st.DataObject) -> None:
    message = data.draw(messages(shapes.Shape))
    assert protojson.spared(message) == (message, [])


BROKEN: list[tuple[dict[str, Any], list[str]]] = [
    ({"time": NO_TIME}, ["time"]),
    ({"time": {"nanos": -1}}, ["time"]),
    ({"wait": {"seconds": 1, "nanos": -1}}, ["wait"]),
    ({"child": {"child": {"time": NO_TIME, "wait": {"seconds": 2**60}}}}, ["child.child.time", "child.child.wait"]),
    ({"children": [{"time": NO_TIME}, {}, {"time": NO_TIME}]}, ["children[0].time", "children[2].time"]),
    ({"value": {"number_value": float("nan")}}, ["value"]),
    ({"values": [{"number_value": float("inf")}, {"number_value": 5}]}, ["values[0]"]),
    ({"list": {"values": [{"number_value": 1}, {"number_value": float("-inf")}]}}, ["list[1]"]),
    ({"free": {"a": {"b": float("nan"), "c": 1}}}, ["free.a.b"]),
]


@pytest.mark.parametrize(("fields", "paths"), BROKEN, ids=[",".join(paths) for _, paths in BROKEN])
def test_only_what_cannot_be_printed_is_missing_and_the_message_itself_stays_as_it_is(
    shapes: Any, fields: dict[str, Any], paths: list[str]
) -> None:
    message = shapes.Shape(text="kept", tags=["a"], **fields)
    before = message.SerializeToString(deterministic=True)
    with pytest.raises(protojson.EncodingFailed):
        protojson.encode(message)
    copy, left_out = protojson.spared(message)
    assert [each.field for each in left_out] == paths
    printed = protojson.to_dict(copy)
    assert (printed["text"], printed["tags"]) == ("kept", ["a"])
    assert len(printed["children"]) == len(message.children)
    assert message.SerializeToString(deterministic=True) == before
    assert protojson.spared(copy) == (copy, [])


def test_a_value_within_an_any_is_found_and_told_by_the_id_it_is_about() -> None:
    sale = sales_pb2.Sale(id="sal_1", number="A-1", refunds=[sales_pb2.Refund(create_time=Timestamp(**NO_TIME))])
    page = events_pb2.ListEventsResponse(events=[events_pb2.Event(id="evt_1"), events_pb2.Event(id="evt_2")])
    page.events[1].data.Pack(sale)
    copy, left_out = protojson.spared(page)
    assert left_out == [protojson.LeftOut("events[1].data.refunds[0].create_time", "sal_1")]
    data = protojson.to_dict(copy)["events"][1]["data"]
    assert (data["id"], data["number"], "create_time" in data["refunds"][0]) == ("sal_1", "A-1", False)
    page.events[1].data.value = b"\xff"  # is printed as bytes, whatever they are
    assert protojson.spared(page) == (page, [])


@pytest.mark.parametrize("text", [b"{}", b'{"a":1}', b'{\n  "a": 1\n}\n', b'{"a":{}}'])
def test_the_mark_is_one_more_member_of_the_object(text: bytes) -> None:
    made = json.loads(protojson.marked(text, [protojson.LeftOut('odd".key', "")]))
    assert made == {**json.loads(text), "$left_out": ['odd".key']}


def test_what_is_nested_too_deeply_to_be_looked_through_fails_as_printing_it_does() -> None:
    event = events_pb2.Event()
    for _ in range(2_000):
        outer = events_pb2.Event()
        outer.data.Pack(event)
        event = outer
    look: Callable[[Any], Any]
    for look in (protojson.encode, protojson.spared):
        with pytest.raises(protojson.EncodingFailed):
            look(event)
