"""Messages of any type with any values, for Hypothesis. Values that JSON cannot hold are left out."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, message_factory
from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
WHOLE = {5: 32, 17: 32, 15: 32, 3: 64, 18: 64, 16: 64}
"""Signed types and their bits."""
UNSIGNED = {13: 32, 7: 32, 4: 64, 6: 64}


def scalar(field: Any) -> st.SearchStrategy[Any]:
    """Values of a field that is no message."""
    kind = field.type
    if kind in WHOLE:
        bits = WHOLE[kind]
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if kind in UNSIGNED:
        return st.integers(0, 2 ** UNSIGNED[kind] - 1)
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
    """Messages of a class with a few fields set, and messages in them to a depth."""
    message = message_class()
    _fill_plain(draw, message, depth)
    return message


def _fill_plain(draw: st.DrawFn, message: Any, depth: int) -> None:
    fields = list(message.DESCRIPTOR.fields)
    if fields:
        for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda item: item.name)):
            _fill_field(draw, message, field, depth)


def _fill_field(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        target, value = getattr(message, field.name), inner.fields_by_name["value"]
        for key in draw(st.lists(scalar(inner.fields_by_name["key"]), max_size=2)):
            if value.message_type is None:
                target[key] = draw(scalar(value))
            else:
                fill(draw, target[key], depth - 1)
    elif inner is None:
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalar(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalar(field)))
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, 2))):
            fill(draw, getattr(message, field.name).add(), depth - 1)
    else:
        target = getattr(message, field.name)
        target.SetInParent()
        fill(draw, target, depth - 1)


def fill(draw: st.DrawFn, target: Any, depth: int) -> None:
    """Fills a message, by the rules of its type where it is a well-known one."""
    name = target.DESCRIPTOR.full_name
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
        inner = target.DESCRIPTOR.file.pool.FindMessageTypeByName("google.protobuf.Duration")
        target.Pack(message_factory.GetMessageClass(inner)(seconds=draw(st.integers(0, 9))))
    elif name.startswith("google.protobuf.") and name.endswith("Value"):
        target.value = draw(scalar(target.DESCRIPTOR.fields_by_name["value"]))
    elif depth >= 0:
        _fill_plain(draw, target, depth)
