"""The codec against google.protobuf.json_format wherever the two rules agree, on messages nobody thought of."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gipos.v1 import sales_pb2
from kernel import protojson
from kernel.errors import Violation
from kernel.protojson import EnumNames
from kernel.protojson.scalars import single_precision

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
whole = {5: 32, 17: 32, 15: 32, 3: 64, 18: 64, 16: 64}
unsigned = {13: 32, 7: 32, 4: 64, 6: 64}


def scalar(field: Any) -> st.SearchStrategy[Any]:
    kind = field.type
    if kind in whole:
        bits = whole[kind]
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if kind in unsigned:
        return st.integers(0, 2 ** unsigned[kind] - 1)
    if kind == 1:
        return st.floats(allow_nan=False) | st.just(float("nan"))  # JSON knows one NaN, not the sign and payload of each
    if kind == 2:
        return st.floats(width=32, allow_nan=False) | st.just(float("nan"))
    if kind == 8:
        return st.booleans()
    if kind == 9:
        return text
    if kind == 12:
        return st.binary(max_size=6)
    return st.sampled_from([value.number for value in field.enum_type.values])


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def messages(draw: st.DrawFn, message_class: Any, depth: int = 2) -> Any:
    message = message_class()
    for field in draw(
        st.lists(st.sampled_from(list(message_class.DESCRIPTOR.fields)), max_size=6, unique_by=lambda item: item.name)
    ):
        fill(draw, message, field, depth)
    return message


def fill(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    inner = field.message_type
    target = getattr(message, field.name)
    if inner is not None and inner.GetOptions().map_entry:
        key = draw(scalar(inner.fields_by_name["key"]))
        value = inner.fields_by_name["value"]
        if value.message_type is None:
            target[key] = draw(scalar(value))
        else:
            target[key].size = draw(st.integers(0, 9))
    elif inner is None:
        if field.is_repeated:
            target.extend(draw(st.lists(scalar(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalar(field)))
    elif field.is_repeated:
        if inner.full_name == "google.protobuf.Value":
            json_format.ParseDict(draw(json_values), target.add())
        elif depth:
            target.add().CopyFrom(draw(messages(type(message), depth - 1)))
    else:
        fill_message(draw, target, depth)


def fill_message(draw: st.DrawFn, target: Any, depth: int) -> None:
    name = target.DESCRIPTOR.full_name
    target.SetInParent()
    if name == "google.protobuf.Timestamp":
        target.seconds = draw(st.integers(-62_135_596_800, 253_402_300_799))
        target.nanos = draw(st.integers(0, 999_999_999))
    elif name == "google.protobuf.Duration":
        sign = draw(st.sampled_from([1, -1]))
        target.seconds = sign * draw(st.integers(0, 315_575_999_999))
        target.nanos = sign * draw(st.integers(0, 999_999_999))
    elif name == "google.protobuf.FieldMask":
        target.paths.extend(draw(st.lists(st.sampled_from(["a", "b_c", "d.e_f"]), max_size=2)))
    elif name == "google.protobuf.Struct":
        json_format.ParseDict(draw(st.dictionaries(text, json_values, max_size=2)), target)
    elif name == "google.protobuf.ListValue":
        items: Any = draw(st.lists(json_values, max_size=2))
        json_format.ParseDict(items, target)
    elif name == "google.protobuf.Value":
        json_format.ParseDict(draw(json_values), target)
    elif name == "google.protobuf.Any":
        leaf = target.DESCRIPTOR.file.pool.FindMessageTypeByName("google.protobuf.Duration")
        from google.protobuf import message_factory

        target.Pack(message_factory.GetMessageClass(leaf)(seconds=draw(st.integers(0, 9))))
    elif name.endswith("Value"):
        target.value = draw(scalar(target.DESCRIPTOR.fields_by_name["value"]))
    elif name == "shapes.v1.Shape" and depth:
        target.CopyFrom(draw(messages(type(target), depth - 1)))


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
        *_refusal(lambda: protojson.decode_parsed(value, sales_pb2.Sale)),
    ]
    assert all(violation.reason and violation.message for violation in told)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_either_read_or_refused_in_our_words(data: bytes) -> None:
    told = _refusal(lambda: protojson.decode(data, sales_pb2.Sale))
    assert told[-1].reason == "READ" or len(told) > 1


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_single_precision_number_prints_short_and_true(value: float) -> None:
    short = single_precision(value)
    assert struct.pack("<f", short) == struct.pack("<f", value)
    assert len(repr(short)) <= len(repr(value))
