"""The codec against google.protobuf.json_format wherever the two rules agree, on messages nobody thought of."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format, wrappers_pb2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gipos.v1 import sales_pb2
from kernel import protojson
from kernel.errors import Violation
from kernel.protojson import EnumNames
from kernel.protojson.scalars import single_precision

from .strategies import messages


def house_value(field: Any, value: Any) -> Any:
    """A value of json_format as our rules print it."""
    inner = field.message_type
    if inner is None:
        if field.type in {3, 4, 6, 16, 18}:
            return int(value)
        if field.type == 14:
            names = EnumNames(field.enum_type)
            number = field.enum_type.values_by_name[value].number if isinstance(value, str) else value
            return None if field.enum_type.name == "NullValue" else names.printed.get(number, number)
        return value
    if inner.full_name == "google.protobuf.Int64Value":
        return int(value)
    if inner.full_name == "google.protobuf.FieldMask":
        return (
            ",".join("".join(f"_{c.lower()}" if c.isupper() else c for c in path) for path in value.split(",")) if value else ""
        )
    return house(inner, value) if inner.full_name.startswith("shapes.") else value


def house(descriptor: Any, printed: dict[str, Any]) -> dict[str, Any]:
    """A message of json_format as our rules print it."""
    result: dict[str, Any] = {}
    for name, value in printed.items():
        field = descriptor.fields_by_name[name]
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            result[name] = {key: house_value(inner.fields_by_name["value"], item) for key, item in value.items()}
        elif field.is_repeated:
            result[name] = [house_value(field, item) for item in value]
        else:
            result[name] = house_value(field, value)
    return result


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return not isinstance(one, bool) and one == other
    return type(one) is type(other) and bool(one == other)


def test_what_is_printed_is_what_json_format_prints(shapes: Any) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(shapes.Shape))
    def check(message: Any) -> None:
        printed = json_format.MessageToDict(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=shapes.pool,
        )
        ours = json.loads(protojson.encode(message))
        assert same(ours, json.loads(json.dumps(house(message.DESCRIPTOR, printed))))

    check()


def test_what_json_format_prints_is_read_back_as_the_same_message(shapes: Any) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(shapes.Shape))
    def check(message: Any) -> None:
        printed = json_format.MessageToJson(message, descriptor_pool=shapes.pool)
        assert protojson.decode(printed.encode(), shapes.Shape).SerializeToString(
            deterministic=True
        ) == message.SerializeToString(deterministic=True)

    check()


def test_what_is_printed_is_read_back_as_the_same_message(shapes: Any) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(shapes.Shape))
    def check(message: Any) -> None:
        again = protojson.decode(protojson.encode(message), shapes.Shape)
        assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)

    check()


pieces = st.sampled_from(
    [
        *(
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "1.0",
            "1.5",
            "1e2",
            "1E-2",
            "2147483648",
            "4294967296",
            "1e19",
            "1e400",
        ),
        *(
            "18446744073709551615",
            "9007199254740993",
            "123456789012345678901234567890",
            "[]",
            "{}",
            "[null]",
            '[""]',
            '["a"]',
            "[0]",
        ),
        *('""', '"a"', '"0"', '"-1"', '"1e2"', '"1.5"', '" 1"', '"0x1"', '"NaN"', '"Infinity"', '"-Infinity"', '"inf"', '"true"'),
        *('"QQ=="', '"QQ"', '"_-8"', '"A"', '"1s"', '"-1.5s"', '"1.0000000001s"', '"a,bC"', '"COLOR_RED"', '"NULL_VALUE"'),
        *('"2026-11-23T04:05:06Z"', '"2026-11-23T04:05:06.5+07:00"', '"2026-02-30T00:00:00Z"', '"\\ud83d\\ude00"', '"\\u0000"'),
        *(
            '{"a":1}',
            '{"1":1}',
            '{"true":1}',
            '{"a":"b"}',
            '{"1":{"size":2}}',
            '{"a":null}',
            '{"a":"COLOR_RED"}',
            '[[1],{"a":[]}]',
        ),
        *('{"@type":"type.googleapis.com/shapes.v1.Leaf","size":1}', '{"size":1}', '{"i32":5}', '[{"i32":5}]', "[{}]", "[1,2]"),
    ]
)


def test_what_both_accept_is_the_same_message(shapes: Any) -> None:
    fields = list(shapes.Shape.DESCRIPTOR.fields)
    names = st.sampled_from([field.name for field in fields] + [field.json_name for field in fields])
    both = 0

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, pieces, max_size=2))
    def check(values: dict[str, str]) -> None:
        nonlocal both
        document = "{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}"
        try:
            ours = protojson.decode(document.encode(), shapes.Shape)
            theirs = json_format.Parse(document, shapes.Shape(), descriptor_pool=shapes.pool)
        except (protojson.JsonRefused, json_format.ParseError):
            return
        both += bool(values)
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True), document

    check()
    # Else the pieces fit nothing, and agreement means little.
    assert both > 50


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["lines", "quantity", "unit_price", "amount", "sale_time", "tenders", "status", "saleTime", "x\0", "\ud800"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


def _refusal(read: Callable[[], Any]) -> list[Violation]:
    """What a reading was refused for; any other error is the test's failure."""
    try:
        read()
    except protojson.JsonRefused as refusal:
        return [*refusal.violations, Violation("", "END", "end")]
    return [Violation("", "READ", "read")]


@settings(max_examples=300, deadline=None)
@given(anything)
def test_any_json_is_either_read_or_refused_in_our_words(value: Any) -> None:
    document = json.dumps(value).encode()
    told = [
        *_refusal(lambda: protojson.decode(document, sales_pb2.Sale)),
        *_refusal(lambda: protojson.Reader(sales_pb2.Sale).fill(value, sales_pb2.Sale())),
    ]
    assert all(violation.reason and violation.message for violation in told)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_either_read_or_refused_in_our_words(data: bytes) -> None:
    told = _refusal(lambda: protojson.decode(data, sales_pb2.Sale))
    assert told[-1].reason == "READ" or len(told) > 1


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(3.4028234663852886e38)  # the largest: its short form is larger, and still rounds to it
def test_a_single_precision_number_prints_short_and_true(value: float) -> None:
    short = single_precision(value)
    assert struct.pack("<f", short) == struct.pack("<f", value)
    assert len(repr(short)) <= len(repr(value))
    assert short == json.loads(json_format.MessageToJson(wrappers_pb2.FloatValue(value=value)))
