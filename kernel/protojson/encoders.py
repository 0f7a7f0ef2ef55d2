"""Messages to JSON: one Python function per message type, written as source text once and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from kernel.protojson.elements import Elements
from kernel.protojson.enums import EnumNames
from kernel.protojson.schemas import describe, enum_of, is_plain_json, map_entry, message_of, own_text
from kernel.protojson.wellknown import ANY, PRINTERS, base64_text, finite, finite_single

PAGE_FIELD = "next_page_token"
"""A message with this field is a page, and what it lists will be listed again."""

_INFINITY = float("inf")
_namespace: dict[str, Any] = {"b64": base64_text, "finite": finite, "single": finite_single, "INF": _INFINITY}
_names: dict[Descriptor, str] = {}


class EncodingFailed(Exception):
    """The message holds a value that JSON cannot express. A fault of whoever made the message."""


class Writer:
    """Prints messages of one type, or one field of them as the whole document."""

    def __init__(self, message_class: type[Message], field: str | None = None) -> None:
        descriptor = describe(message_class)
        if field is None:
            self._convert = encoder(descriptor)
            self._print = _page_encoder(descriptor) if PAGE_FIELD in descriptor.fields_by_name else self._convert
        else:
            self._print = self._convert = _field_encoder(descriptor.fields_by_name[field])

    def convert(self, message: Message) -> Any:
        """The message (or its field) as plain Python values.

        Raises:
            EncodingFailed: a value has no JSON form.
        """
        try:
            return self._convert(message)
        except (ValueError, RecursionError) as error:
            raise EncodingFailed(str(error)) from error

    def write(self, message: Message) -> bytes:
        """The message (or its field) as JSON text.

        Raises:
            EncodingFailed: a value has no JSON form.
        """
        try:
            return orjson.dumps(self._print(message))
        except (ValueError, RecursionError, orjson.JSONEncodeError) as error:
            raise EncodingFailed(str(error)) from error


def _page_encoder(descriptor: Descriptor) -> Callable[[Any], Any]:
    """As `encoder`, but what the page lists is printed text already, kept from the last time."""
    name = f"page_{len(_namespace)}_{descriptor.name}"
    _compile(_source(descriptor, name, is_page=True), descriptor.full_name)
    result: Callable[[Any], Any] = _namespace[name]
    return result


def encoder(descriptor: Descriptor) -> Callable[[Any], Any]:
    """The compiled function of a message type; compiles it and all it holds on first use."""
    name = _name(descriptor)
    result: Callable[[Any], Any] = _namespace[name]
    return result


def _name(descriptor: Descriptor) -> str:
    name = _names.get(descriptor)
    if name is None:
        name = _names[descriptor] = f"encode_{len(_names)}_{descriptor.name}"
        if descriptor.full_name in PRINTERS:
            _namespace[name] = PRINTERS[descriptor.full_name]
        elif descriptor.full_name == ANY:
            _namespace[name] = _any_out
        else:
            _compile(_source(descriptor, name), descriptor.full_name)
    return name


def _compile(source: str, origin: str) -> None:
    exec(compile(source, f"<protojson encoder of {origin}>", "exec"), _namespace)  # noqa: S102 (source made here from descriptors only)


def _source(descriptor: Descriptor, name: str, *, is_page: bool = False) -> str:
    lines = [f"def {name}(m):", " o = {"]
    opened = True
    for field in descriptor.fields:
        key, expression = repr(field.name), _expression(field)
        if is_page and _is_listed(field):
            elements = f"elements_{len(_namespace)}"
            _namespace[elements] = Elements(encoder(message_of(field)))
            expression = f"[{elements}(x) for x in {own_text(field)}]"
        if field.has_presence and not field.is_repeated:
            if opened:
                lines.append(" }")
                opened = False
            lines.append(f" if m.HasField({key}): o[{key}] = {expression}")
        elif opened:
            lines.append(f"  {key}: {expression},")
        else:
            lines.append(f" o[{key}] = {expression}")
    if opened:
        lines.append(" }")
    lines.append(" return o")
    return "\n".join(lines)


def _is_listed(field: FieldDescriptor) -> bool:
    inner = field.message_type
    return inner is not None and field.is_repeated and map_entry(field) is None and inner.full_name not in {*PRINTERS, ANY}


def _field_encoder(field: FieldDescriptor) -> Callable[[Any], Any]:
    name = f"field_{len(_namespace)}_{field.name}"
    _compile(f"def {name}(m):\n return {_expression(field)}", field.full_name)
    result: Callable[[Any], Any] = _namespace[name]
    return result


def _expression(field: FieldDescriptor) -> str:
    """Python text that gives the JSON value of a field of `m`."""
    own, entry = own_text(field), map_entry(field)
    if entry is not None:
        value_field = entry.fields_by_name["value"]
        return f"{{{_key(entry.fields_by_name['key'])}: {_single(value_field, 'x')} for k, x in sorted({own}.items())}}"
    if field.is_repeated:
        single = _single(field, "x")
        return f"{own}[:]" if single == "x" else f"[{single} for x in {own}]"
    return _single(field, own)


def _key(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "k"
    return "('true' if k else 'false')" if field.type == FieldDescriptor.TYPE_BOOL else "str(k)"


def _single(field: FieldDescriptor, value: str) -> str:
    if field.message_type is not None:
        if message_of(field).full_name == ANY and is_plain_json(field):
            _namespace["any_plain"] = _any_plain
            return f"any_plain({value})"
        return f"{_name(message_of(field))}({value})"
    if field.type == FieldDescriptor.TYPE_ENUM:
        enum = enum_of(field)
        if enum.full_name == "google.protobuf.NullValue":
            return "None"
        table = f"enum_{enum.full_name.replace('.', '_')}_{len(_namespace)}"
        _namespace[table] = EnumNames(enum).printed
        return f"{table}.get({value}, {value})"
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return f"(y if -INF < (y := {value}) < INF else finite(y))"
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return f"single({value})"
    return f"b64({value})" if field.type == FieldDescriptor.TYPE_BYTES else value


def _inside(message: Any) -> tuple[str, Any]:
    """The full name and JSON of what an Any holds; the bytes as base64 when the type is not known here."""
    type_name = message.type_url.rpartition("/")[2]
    try:
        descriptor = message.DESCRIPTOR.file.pool.FindMessageTypeByName(type_name)
        inner = message_factory.GetMessageClass(descriptor).FromString(message.value)
    except (KeyError, DecodeError):
        return "", {"value": base64_text(message.value)}
    return type_name, encoder(descriptor)(inner)


def _any_out(message: Any) -> Any:
    if not message.type_url:
        return {}
    type_name, value = _inside(message)
    if type_name in PRINTERS or type_name == ANY:
        value = {"value": value}
    return {"@type": message.type_url, **value}


def _any_plain(message: Any) -> Any:
    if not message.type_url:
        return {}
    type_name, value = _inside(message)
    # A type this process does not know still has to say what its bytes are.
    return value if type_name else {"@type": message.type_url, **value}
