"""The messages of google.protobuf that have a JSON form of their own, except Any (which needs the compiled codecs)."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from kernel.protojson.findings import DEPTH, Findings, Path
from kernel.protojson.scalars import (
    float_reader,
    integer_reader,
    read_bool,
    read_bytes,
    read_string,
    single_precision,
)
from kernel.protojson.wellknown_texts import (
    duration_text,
    parse_duration,
    parse_mask,
    parse_timestamp,
    timestamp_text,
)

ANY = "google.protobuf.Any"
_WHOLE = 2**53
"""Doubles below this print without a point when they are whole."""

_read_double = float_reader(single=False)

INTEGER_READERS: dict[int, Callable[[Any, Path, Findings], Any]] = {
    FieldDescriptor.CPPTYPE_INT32: integer_reader(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: integer_reader(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: integer_reader(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: integer_reader(0, 2**64 - 1),
}


def finite(value: float) -> Any:
    """A double as JSON: NaN and the infinities are words."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def finite_single(value: float) -> Any:
    """A 32-bit float as JSON, with as few digits as tell it apart."""
    return finite(single_precision(value))


def base64_text(value: bytes) -> str:
    """Standard alphabet, padded."""
    return base64.b64encode(value).decode("ascii")


def _value_out(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _struct_out(message.struct_value)
    if kind == "list_value":
        return _list_out(message.list_value)
    if kind == "number_value":
        number = message.number_value
        if not math.isfinite(number):
            raise ValueError("a google.protobuf.Value holds a number that JSON has not")
        return int(number) if number.is_integer() and abs(number) < _WHOLE else number
    return None if kind in {None, "null_value"} else getattr(message, kind)


def _struct_out(message: Any) -> Any:
    return {key: _value_out(value) for key, value in sorted(message.fields.items())}


def _list_out(message: Any) -> Any:
    return [_value_out(value) for value in message.values]


def _wrapper_out(message: Any) -> Any:
    return message.value


PRINTERS: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": lambda message: timestamp_text(message.seconds, message.nanos),
    "google.protobuf.Duration": lambda message: duration_text(message.seconds, message.nanos),
    "google.protobuf.FieldMask": lambda message: ",".join(message.paths),
    "google.protobuf.Struct": _struct_out,
    "google.protobuf.ListValue": _list_out,
    "google.protobuf.Value": _value_out,
    "google.protobuf.DoubleValue": lambda message: finite(message.value),
    "google.protobuf.FloatValue": lambda message: finite_single(message.value),
    "google.protobuf.Int64Value": _wrapper_out,
    "google.protobuf.UInt64Value": _wrapper_out,
    "google.protobuf.Int32Value": _wrapper_out,
    "google.protobuf.UInt32Value": _wrapper_out,
    "google.protobuf.BoolValue": _wrapper_out,
    "google.protobuf.StringValue": _wrapper_out,
    "google.protobuf.BytesValue": lambda message: base64_text(message.value),
}
"""Full name to printer."""


def _text_filler(parse: Callable[[str], tuple[int, int]], expected: str) -> Callable[[Any, Any, Path, Findings], None]:
    def fill(message: Any, value: Any, path: Path, found: Findings) -> None:
        if type(value) is not str:
            found.wrong_type(path, expected, value)
            return
        try:
            message.seconds, message.nanos = parse(value)
        except ValueError as error:
            found.add(path, "INVALID_FORMAT", str(error))

    return fill


def _mask_in(message: Any, value: Any, path: Path, found: Findings) -> None:
    if type(value) is not str:
        found.wrong_type(path, 'a string such as "name,price"', value)
        return
    if read_string(value, path, found) is None:
        return
    try:
        message.paths.extend(parse_mask(value))
    except ValueError as error:
        found.add(path, "INVALID_FORMAT", str(error))


def _value_in(message: Any, value: Any, path: Path, found: Findings) -> None:
    if value is None:
        message.null_value = 0
    elif value is True or value is False:
        message.bool_value = value
    elif isinstance(value, str):
        text = read_string(value, path, found)
        if text is not None:
            message.string_value = text
    elif isinstance(value, (int, float, Decimal)):
        number = _read_double(value, path, found)
        if number is not None:
            message.number_value = number
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        _struct_in(message.struct_value, value, path, found)
    else:
        message.list_value.SetInParent()
        _list_in(message.list_value, value, path, found)


def _struct_in(message: Any, value: Any, path: Path, found: Findings) -> None:
    if type(value) is not dict:
        found.wrong_type(path, "an object", value)
        return
    found.depth += 1
    if found.depth > DEPTH:
        found.too_deep(path)
    else:
        found.keys += len(value)
        fields = message.fields
        for key, item in value.items():
            name = read_string(key, (path, key), found)
            if name is not None:
                _value_in(fields[name], item, (path, key), found)
    found.depth -= 1


def _list_in(message: Any, value: Any, path: Path, found: Findings) -> None:
    if type(value) is not list:
        found.wrong_type(path, "a list", value)
        return
    found.depth += 1
    if found.depth > DEPTH:
        found.too_deep(path)
    else:
        items = message.values
        for index, item in enumerate(value):
            _value_in(items.add(), item, (path, "", index), found)
    found.depth -= 1


def _wrapper_filler(read: Callable[[Any, Path, Findings], Any]) -> Callable[[Any, Any, Path, Findings], None]:
    def fill(message: Any, value: Any, path: Path, found: Findings) -> None:
        inner = read(value, path, found)
        if inner is not None:
            message.value = inner

    return fill


FILLERS: dict[str, Callable[[Any, Any, Path, Findings], None]] = {
    "google.protobuf.Timestamp": _text_filler(parse_timestamp, "a time as a string"),
    "google.protobuf.Duration": _text_filler(parse_duration, 'a duration as a string, for example "1.5s"'),
    "google.protobuf.FieldMask": _mask_in,
    "google.protobuf.Struct": _struct_in,
    "google.protobuf.ListValue": _list_in,
    "google.protobuf.Value": _value_in,
    "google.protobuf.DoubleValue": _wrapper_filler(_read_double),
    "google.protobuf.FloatValue": _wrapper_filler(float_reader(single=True)),
    "google.protobuf.Int64Value": _wrapper_filler(INTEGER_READERS[FieldDescriptor.CPPTYPE_INT64]),
    "google.protobuf.UInt64Value": _wrapper_filler(INTEGER_READERS[FieldDescriptor.CPPTYPE_UINT64]),
    "google.protobuf.Int32Value": _wrapper_filler(INTEGER_READERS[FieldDescriptor.CPPTYPE_INT32]),
    "google.protobuf.UInt32Value": _wrapper_filler(INTEGER_READERS[FieldDescriptor.CPPTYPE_UINT32]),
    "google.protobuf.BoolValue": _wrapper_filler(read_bool),
    "google.protobuf.StringValue": _wrapper_filler(read_string),
    "google.protobuf.BytesValue": _wrapper_filler(read_bytes),
}
"""Full name to filler: (message, JSON value, path, findings)."""
