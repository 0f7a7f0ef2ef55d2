"""What the code writers ask about message types: options, map entries, and how a field is spelt in Python source."""

from __future__ import annotations

import keyword
from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from gipos.v1 import common_pb2


def describe(message_class: type[Message]) -> Descriptor:
    """The descriptor of a message class."""
    # The stubs know two classes for descriptors; at run time there is one.
    return cast("Descriptor", message_class.DESCRIPTOR)


@cache
def spellings(message: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields of a message by both of their names; where one field's JSON name is another's name, the name wins."""
    return {**{field.json_name: field for field in message.fields}, **message.fields_by_name}


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum of an enum field."""
    assert field.enum_type is not None
    return field.enum_type


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message type of a message field."""
    assert field.message_type is not None
    return field.message_type


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The key and value pair behind a map field; None for other fields."""
    entry = field.message_type
    return entry if field.is_repeated and entry is not None and entry.GetOptions().map_entry else None


def is_decimal(field: FieldDescriptor) -> bool:
    """Whether the string is a decimal number that may arrive as a JSON number."""
    return bool(field.GetOptions().Extensions[common_pb2.decimal])


def is_plain_json(field: FieldDescriptor) -> bool:
    """Whether the Any is printed without "@type"."""
    return bool(field.GetOptions().Extensions[common_pb2.plain_json])


def is_output_only(field: FieldDescriptor) -> bool:
    """Whether only the server sets it: callers may send it back, and it is passed over."""
    return bool(field.GetOptions().Extensions[common_pb2.output_only])


def most_items(field: FieldDescriptor) -> int:
    """How many items the contract lets a list have; 0 where it does not say."""
    return int(field.GetOptions().Extensions[common_pb2.bounds].max_items)


def is_number_asked_for(field: FieldDescriptor) -> bool:
    """Whether the number must be given and the message could not tell 0 from nothing: then only the JSON can.

    Other fields that must be given are the services' business; they see whether they are there.
    """
    if field.has_presence or field.is_repeated or field.cpp_type > FieldDescriptor.CPPTYPE_FLOAT:
        return False
    return bool(field.GetOptions().Extensions[common_pb2.required])


def is_real_oneof(field: FieldDescriptor) -> bool:
    """Whether the field shares a oneof with others, and not only with itself as proto3 writes `optional`."""
    oneof = field.containing_oneof
    return oneof is not None and not (len(oneof.fields) == 1 and oneof.name == f"_{field.name}")


def own_text(field: FieldDescriptor) -> str:
    """Python source that reads the field of a message `m`."""
    return f"m.{field.name}" if not keyword.iskeyword(field.name) else f"getattr(m, {field.name!r})"


def assignment_text(field: FieldDescriptor, value: str) -> str:
    """Python source that sets the field of a message `m`."""
    return f"m.{field.name} = {value}" if not keyword.iskeyword(field.name) else f"setattr(m, {field.name!r}, {value})"
