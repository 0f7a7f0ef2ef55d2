"""Messages and enums as JSON Schema, exactly as the codec prints them."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway_rest.openapi.comments import Comments
from gipos.v1 import common_pb2
from kernel.protojson import EnumNames
from kernel.protojson.schemas import enum_of, is_decimal, is_plain_json, map_entry, message_of

Schema = dict[str, Any]

_INT32: Schema = {"type": "integer", "format": "int32"}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 4294967295}
_INT64: Schema = {"type": "integer", "format": "int64"}
_UINT64: Schema = {"type": "integer", "format": "uint64", "minimum": 0}
_BYTES: Schema = {"type": "string", "contentEncoding": "base64"}
_ANY: Schema = {
    "type": "object",
    "properties": {"@type": {"type": "string"}},
    "required": ["@type"],
    "additionalProperties": True,
}
DECIMAL: Schema = {"type": "string", "format": "decimal", "pattern": r"^(-?[0-9]+(\.[0-9]{1,3})?)?$"}

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: _BYTES,
}
_INTEGERS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: _INT32,
    FieldDescriptor.CPPTYPE_UINT32: _UINT32,
    FieldDescriptor.CPPTYPE_INT64: _INT64,
    FieldDescriptor.CPPTYPE_UINT64: _UINT64,
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field paths separated by commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Any": _ANY,
    "google.protobuf.DoubleValue": {"type": "number", "format": "double"},
    "google.protobuf.FloatValue": {"type": "number", "format": "float"},
    "google.protobuf.Int64Value": _INT64,
    "google.protobuf.UInt64Value": _UINT64,
    "google.protobuf.Int32Value": _INT32,
    "google.protobuf.UInt32Value": _UINT32,
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BytesValue": _BYTES,
}
EXAMPLES: dict[str, Any] = orjson.loads(resources.files(__package__).joinpath("examples.json").read_bytes())
"""By message name: a request that works as it is (with ids of one's own)."""


def option(field: FieldDescriptor, name: str) -> bool:
    """Whether a field option of gipos.v1 is set."""
    return bool(field.GetOptions().Extensions[getattr(common_pb2, name)])


class Schemas:
    """Makes schemas; those of messages and enums become components."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    def reference(self, message: Descriptor) -> Schema:
        """A reference to the message's schema, which is made on first use."""
        known = _WELL_KNOWN.get(message.full_name)
        if known is not None:
            return dict(known)
        if message.full_name not in self.components:
            self.components[message.full_name] = {}
            self.components[message.full_name] = self.message(message)
        return {"$ref": f"#/components/schemas/{message.full_name}"}

    def partial(self, message: Descriptor) -> Schema:
        """A reference to a copy of the message where nothing is required, for PATCH."""
        name = f"{message.full_name}.Patch"
        if name not in self.components:
            schema = self.message(message)
            schema.pop("required", None)
            schema.pop("example", None)
            self.components[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def message(self, message: Descriptor, without: Collection[str] = ()) -> Schema:
        """The schema of a message, some fields left out."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        comment = self._comments.of(message.full_name)
        if comment:
            schema["description"] = comment
        schema["properties"] = {field.name: self.field(field) for field in fields}
        required = [field.name for field in fields if option(field, "required")]
        if required:
            schema["required"] = required
        example = EXAMPLES.get(message.full_name)
        if example is not None:
            schema["example"] = example
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of a field, with its comment."""
        entry = map_entry(field)
        if entry is not None:
            schema: Schema = {"type": "object", "additionalProperties": self._single(entry.fields_by_name["value"])}
        elif field.is_repeated:
            schema = {"type": "array", "items": self._single(field)}
        else:
            schema = self._single(field)
        comment = self._comments.of(field.full_name)
        extra: Schema = {"description": comment} if comment else {}
        if option(field, "output_only"):
            extra["readOnly"] = True
        options: Any = field.GetOptions()
        if options.deprecated:
            extra["deprecated"] = True
        if "$ref" in schema and extra:
            # A reference may have neighbours in 3.1, but readers of 3.0 drop them.
            return {"allOf": [schema], **extra}
        return {**schema, **extra}

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            if message_of(field).full_name == "google.protobuf.Any" and is_plain_json(field):
                return {"type": "object", "additionalProperties": True}
            return self.reference(message_of(field))
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._enum(enum_of(field))
        if field.cpp_type in _INTEGERS:
            return dict(_INTEGERS[field.cpp_type])
        return dict(DECIMAL) if is_decimal(field) else dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name not in self.components:
            names = EnumNames(enum)
            lines = [self._comments.of(enum.full_name)]
            for value in enum.values:
                comment = self._comments.of(f"{enum.full_name}.{value.name}")
                lines.append(f"* `{names.printed[value.number]}`" + (f": {' '.join(comment.split())}" if comment else ""))
            self.components[enum.full_name] = {
                "type": "string",
                "enum": list(dict.fromkeys(names.printed.values())),
                "description": "\n".join(line for line in lines if line),
            }
        return {"$ref": f"#/components/schemas/{enum.full_name}"}
