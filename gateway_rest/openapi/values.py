"""Single values as JSON Schema: scalars, well-known types, and the bounds of what a caller may send."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway_rest.openapi import fields
from kernel.event_types import EVENT_TYPES
from kernel.protojson.schemas import is_decimal
from kernel.scopes import SCOPES

Schema = dict[str, Any]

_PLACES = r"-?[0-9]{1,9}(\.[0-9]{1,3})?"
_SUMS = r"-?[0-9]{1,15}(\.[0-9]{1,3})?"
"""What is counted together can be more than what one may say."""
_DAY = "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_INTEGERS: dict[int, tuple[str, int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
    "google.protobuf.DoubleValue": {"type": "number", "format": "double"},
    "google.protobuf.FloatValue": {"type": "number", "format": "float"},
    "google.protobuf.Int64Value": {"type": "integer", "format": "int64"},
    "google.protobuf.UInt64Value": {"type": "integer", "format": "uint64", "minimum": 0},
    "google.protobuf.Int32Value": {"type": "integer", "format": "int32"},
    "google.protobuf.UInt32Value": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BytesValue": {"type": "string", "contentEncoding": "base64"},
}
_CONTROL = r"\u0000-\u0008\u000b-\u001f"
_NO_NUL = r"^[^\u0000]*$"
_LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "scope": ("What a key or an application may do.", tuple(SCOPES)),
    "event-type": (
        "A kind of event, a group of them, or all.",
        ("*", *dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENT_TYPES), *EVENT_TYPES),
    ),
}
"""Formats of ours that are one of many words kept elsewhere in the code."""
_TEXT = f"^[^{_CONTROL}]*$"
_WORDS = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"
"""Texts for people have no control characters but line breaks and tabs; a required one is not blank either."""


def well_known(full_name: str) -> Schema | None:
    """The schema of a well-known type; None when it is none."""
    found = _WELL_KNOWN.get(full_name)
    return None if found is None else dict(found)


def scalar(field: FieldDescriptor, *, is_input: bool) -> Schema:
    """The schema of a scalar field. Requests have the limits of its type, which answers cannot break."""
    if field.cpp_type in _INTEGERS:
        name, lowest, highest = _INTEGERS[field.cpp_type]
        schema: Schema = {"type": "integer"} | ({"format": name} if name else {})
        if is_input or lowest == 0:
            schema |= {"minimum": lowest} | ({} if highest > 2**63 else {"maximum": highest})
        return schema
    if is_decimal(field):
        if not is_input:
            return {"type": "string", "format": "decimal", "pattern": f"^({_SUMS})?$"}
        pattern = f"^({_PLACES}){'' if fields.is_required(field) else '?'}$"
        return {"type": ["string", "integer"], "pattern": pattern, "minimum": -(10**9), "maximum": 10**9}
    schema = dict(_SCALARS[field.type])
    if name := fields.text_format(field):
        schema["format"] = name
    return schema


def bounded(schema: Schema, field: FieldDescriptor) -> Schema:
    """The schema of one value (or of one item) with what the field's bounds ask for."""
    limits = fields.bounds(field)
    result = dict(schema)
    if schema.get("type") == "integer":
        result |= ({"minimum": limits.minimum} if limits.HasField("minimum") else {}) | (
            {"maximum": limits.maximum} if limits.HasField("maximum") else {}
        )
    if limits.max_length:
        result["maxLength"] = limits.max_length
    if limits.min_length:
        result["minLength"] = limits.min_length
    if limits.format:
        result["format"] = limits.format
    if limits.format == "date" and not fields.is_required(field):
        # Empty counts as left out, which the format would not let pass.
        del result["format"]
        result["pattern"] = f"^({_DAY})?$"
    if limits.pattern:
        result["pattern"] = limits.pattern
    elif limits.max_length and not limits.format:
        required = fields.is_required(field)
        result["pattern"] = _WORDS if required else _TEXT
        if required:
            result["minLength"] = 1
    elif limits.format in _LISTS:
        result["enum"] = list(_LISTS[limits.format][1])
        del result["format"]
    elif not limits.format and field.type == FieldDescriptor.TYPE_STRING and schema.keys() <= {"type"}:
        result["pattern"] = _NO_NUL
        if fields.is_required(field):
            result["minLength"] = 1
    if limits.values:
        result.pop("pattern", None)
        result["enum"] = list(limits.values)
    return result


def meaning(field: FieldDescriptor) -> str:
    """What the words of a list that is kept elsewhere are; empty for other fields."""
    return _LISTS.get(fields.bounds(field).format, ("", ()))[0]


def listed(items: Schema, field: FieldDescriptor) -> Schema:
    """An array of these, as long as the field's bounds let it be."""
    limits = fields.bounds(field)
    result: Schema = {"type": "array", "items": items}
    if limits.min_items:
        result["minItems"] = limits.min_items
    if limits.max_items:
        result["maxItems"] = limits.max_items
    return result
