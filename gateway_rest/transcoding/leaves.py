"""Fields of a request that are set from plain text, as in a path or a query: found once at start, strict about their text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway_rest.transcoding.rules import TEXT_MESSAGES
from kernel.protojson import EnumNames, JsonRefused, Reader
from kernel.protojson.decoders import filler
from kernel.protojson.findings import DEPTH, Findings, Path
from kernel.protojson.scalars import enum_reader, float_reader, read_bytes, read_decimal, read_string
from kernel.protojson.schemas import describe, enum_of, is_decimal, is_real_oneof, map_entry, message_of, spellings
from kernel.protojson.wellknown import INTEGER_READERS

Convert = Callable[[str, Path, Findings], Any]
"""Text to the field's value; None after noting a violation."""

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_JSON_MESSAGES = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"}
_LOST_PLUS = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)$")
_LISTED_DEPTH = 8
"""Messages within messages whose query parameters are listed. Deeper ones are understood all the same, to DEPTH."""


class Leaf:
    """One settable field of a request message, wherever it lies."""

    def __init__(self, fields: list[FieldDescriptor]) -> None:
        self._parents = tuple(field.name for field in fields[:-1])
        field = fields[-1]
        self._name = field.name
        self._is_message = field.message_type is not None
        self._has_presence = field.has_presence
        # A message on the way may be one of several, too.
        self._choices = tuple(
            (self._parents[:depth], step.containing_oneof.name, step.name)
            for depth, step in enumerate(fields)
            if is_real_oneof(step) and step.containing_oneof is not None
        )
        self.path = ".".join((*self._parents, field.name))
        self.is_list = field.is_repeated and map_entry(field) is None
        self.is_bool = field.type == FieldDescriptor.TYPE_BOOL
        self.convert = converter(field)

    def put(self, request: Message, value: Any, found: Findings) -> None:
        """Sets the field, or appends to it when it is a list."""
        for steps, oneof, member in self._choices:
            other = _below_steps(request, steps).WhichOneof(oneof)
            if other is not None and other != member:
                found.add((self.path,), "DUPLICATE_FIELD", f"excludes {'.'.join((*steps, other))}; give one of the two")
                return
        parent = self._parent(request)
        if self.is_list:
            getattr(parent, self._name).append(value)
        elif self._is_message:
            getattr(parent, self._name).CopyFrom(value)
        else:
            setattr(parent, self._name, value)

    def differs(self, request: Message, value: Any) -> bool:
        """Whether the request already holds another value, which somebody must have given on purpose."""
        parent = self._parent(request)
        current = getattr(parent, self._name)
        if self._has_presence:
            return bool(parent.HasField(self._name)) and current != value
        return bool(current) and current != value

    def holds(self, request: Message, value: Any) -> bool:
        """Whether the field has exactly this value."""
        return bool(getattr(self._parent(request), self._name) == value)

    def _parent(self, request: Message) -> Any:
        return _below_steps(request, self._parents)


class MapLeaf:
    """A map field: `attributes[brand]=x` sets one entry."""

    def __init__(self, fields: list[FieldDescriptor], entry: Descriptor) -> None:
        self._parents = tuple(field.name for field in fields[:-1])
        self._name = fields[-1].name
        self.path = ".".join((*self._parents, self._name))
        self._convert_key = converter(entry.fields_by_name["key"])
        self._convert = converter(entry.fields_by_name["value"])

    def put(self, request: Message, key: str, text: str, found: Findings) -> None:
        """Sets one entry."""
        place: Path = (None, self.path, key)
        name, value = self._convert_key(key, place, found), self._convert(text, place, found)
        if name is None or value is None:
            return
        getattr(_below_steps(request, self._parents), self._name)[name] = value


def _below_steps(request: Message, steps: tuple[str, ...]) -> Any:
    """The message that a path of field names leads to."""
    message: Any = request
    for step in steps:
        message = getattr(message, step)
    return message


def query_leaves(message: Descriptor) -> Iterator[tuple[list[FieldDescriptor], Leaf | MapLeaf]]:
    """The query parameters of a message, for documents and suggestions: of a message that holds itself, the first level."""
    yield from _below(message, [])


def _below(message: Descriptor, parents: list[FieldDescriptor]) -> Iterator[tuple[list[FieldDescriptor], Leaf | MapLeaf]]:
    for field in message.fields:
        fields = [*parents, field]
        leaf = _leaf(fields)
        if leaf is not None:
            yield fields, leaf
        elif _holds_parameters(field) and len(fields) < _LISTED_DEPTH:
            inner = message_of(field)
            if sum(inner == step.containing_type for step in fields) < 2:
                yield from _below(inner, fields)


def leaf_at(message: Descriptor, name: str) -> Leaf | MapLeaf | None:
    """The query parameter of a dotted name, each part in either spelling; None when a query cannot set it."""
    fields: list[FieldDescriptor] = []
    current: Descriptor | None = message
    for part in name.split(".", DEPTH):
        field = spellings(current).get(part) if current is not None else None
        if field is None:
            return None
        fields.append(field)
        current = message_of(field) if _holds_parameters(field) else None
    return _leaf(fields)


def _holds_parameters(field: FieldDescriptor) -> bool:
    """Whether the fields below a field are parameters: it is one message, and not one that is written as a single word."""
    inner = field.message_type
    return inner is not None and not field.is_repeated and inner.full_name not in TEXT_MESSAGES | _JSON_MESSAGES


def _leaf(fields: list[FieldDescriptor]) -> Leaf | MapLeaf | None:
    field = fields[-1]
    entry = map_entry(field)
    if entry is not None:
        return MapLeaf(fields, entry) if entry.fields_by_name["value"].message_type is None else None
    inner = field.message_type
    if inner is None or inner.full_name in TEXT_MESSAGES:
        return Leaf(fields)
    # A list of free-form values has no form in a query that a reader would guess.
    return Leaf(fields) if inner.full_name in _JSON_MESSAGES and not field.is_repeated else None


def converter(field: FieldDescriptor) -> Convert:
    """How the text of a field is read. Stricter than JSON: "1.0" is no integer here."""
    if field.message_type is not None:
        return _message_converter(message_of(field))
    if field.type == FieldDescriptor.TYPE_STRING:
        return read_decimal if is_decimal(field) else read_string
    if field.cpp_type in INTEGER_READERS:
        return _integer_converter(INTEGER_READERS[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_converter(EnumNames(enum_of(field)))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _boolean
    if field.type == FieldDescriptor.TYPE_BYTES:
        return read_bytes
    return float_reader(single=field.type == FieldDescriptor.TYPE_FLOAT)


def _integer_converter(read: Convert) -> Convert:
    def convert(text: str, path: Path, found: Findings) -> Any:
        if not _INTEGER.fullmatch(text):
            found.add(path, "WRONG_TYPE", "must be a whole number")
            return None
        # int() and not the JSON reader's grammar: "007" is a fine number in an address.
        return read(int(text), path, found)  # type: ignore[arg-type]  # readers take any JSON value

    return convert


def _enum_converter(names: EnumNames) -> Convert:
    read = enum_reader(names)

    def convert(text: str, path: Path, found: Findings) -> Any:
        return read(int(text) if _INTEGER.fullmatch(text) else text, path, found)

    return convert


def _boolean(text: str, path: Path, found: Findings) -> bool | None:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        found.add(path, "WRONG_TYPE", "must be true or false")
    return value


def _message_converter(descriptor: Descriptor) -> Convert:
    message_class = message_factory.GetMessageClass(descriptor)
    if descriptor.full_name in _JSON_MESSAGES:
        return _json_converter(message_class)
    value_field = descriptor.fields_by_name.get("value")
    if value_field is not None:
        inner = converter(value_field)

        def convert_wrapper(text: str, path: Path, found: Findings) -> Any:
            value = inner(text, path, found)
            return None if value is None else message_class(value=value)

        return convert_wrapper
    fill = filler(describe(message_class))
    is_time = descriptor.full_name == "google.protobuf.Timestamp"

    def convert(text: str, path: Path, found: Findings) -> Any:
        # A "+" that the client did not encode arrives as a space; before an offset it cannot be anything else.
        message, count = message_class(), len(found.violations)
        fill(message, _LOST_PLUS.sub(r"\1+\2", text) if is_time else text, path, found)
        return message if len(found.violations) == count else None

    return convert


def _json_converter(message_class: type[Message]) -> Convert:
    reader = Reader(message_class)

    def convert(text: str, path: Path, found: Findings) -> Any:
        message = message_class()
        try:
            reader.fill(orjson.loads(text), message)
        except orjson.JSONDecodeError:
            found.add(path, "INVALID_FORMAT", "must be JSON")
        except JsonRefused as refusal:
            for violation in refusal.violations:
                found.add((path, violation.field) if violation.field else path, violation.reason, violation.message)
        else:
            return message
        return None

    return convert
