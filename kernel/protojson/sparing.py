"""Messages without what JSON cannot express: for what was stored before somebody checked it, so that one value hides no others.

Never asked unless printing has failed already: it copies the whole message and looks at every field of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from kernel.protojson.encoders import EncodingFailed
from kernel.protojson.schemas import map_entry
from kernel.protojson.wellknown import ANY, PRINTERS

M = TypeVar("M", bound=Message)

MEMBER = "$left_out"
"""Of an object that is sent by itself: the fields that it lacks. No field of a message can be called so."""

_FREE = {"google.protobuf.Struct", "google.protobuf.ListValue", "google.protobuf.Value"}
"""They print as what is in them, which may be looked at one by one; the fields that hold it have no name in JSON."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A value that has no JSON form."""

    field: str
    """Where it was: `sales[3].sale_time`. Places in lists are counted as they were."""
    within: str
    """The id of the innermost message around it that has one; empty when none has."""


def spared(message: M) -> tuple[M, list[LeftOut]]:
    """A copy that can be printed, and what it lacks: nothing else is changed.

    A field is left out, as one that was never set; of a list or a map the element.

    Raises:
        EncodingFailed: it is nested so deeply that it cannot be looked through.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    found: list[LeftOut] = []
    try:
        _look(copy, "", "", found)
    except RecursionError as error:
        raise EncodingFailed(str(error)) from error
    return copy, found


def marked(text: bytes, left_out: Sequence[LeftOut]) -> bytes:
    """The JSON text of an object, with a member more that says what it lacks."""
    head = text.rstrip()[:-1].rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b"".join((head, comma, b'"', MEMBER.encode(), b'":', orjson.dumps([each.field for each in left_out]), b"}"))


def _look(message: Any, path: str, within: str, found: list[LeftOut]) -> bool:
    """Takes away what cannot be printed within a message; whether the message can be."""
    kind: str = message.DESCRIPTOR.full_name
    if kind in PRINTERS and (
        kind not in _FREE or (kind == "google.protobuf.Value" and message.WhichOneof("kind") == "number_value")
    ):
        return _is_printable(PRINTERS[kind], message)
    if kind == ANY:
        return _look_inside(message, path, within, found)
    own = message.DESCRIPTOR.fields_by_name.get("id")
    if own is not None and own.type == FieldDescriptor.TYPE_STRING and not own.is_repeated:
        within = message.id or within
    for field, value in message.ListFields():
        if field.message_type is not None:
            place = path if kind in _FREE else f"{path}.{field.name}".lstrip(".")
            parts = list(_parts(field, value))
            lost = [key for key, name, part in parts if not _looked_at(part, place + name, within, found)]
            for key in reversed(lost):
                if field.is_repeated:
                    del value[key]
                else:
                    message.ClearField(field.name)
    return True


def _looked_at(part: Any, path: str, within: str, found: list[LeftOut]) -> bool:
    is_printable = _look(part, path, within, found)
    if not is_printable:
        found.append(LeftOut(path, within))
    return is_printable


def _parts(field: FieldDescriptor, value: Any) -> Iterator[tuple[Any, str, Any]]:
    """The messages of a field, with their key or place in it and what their path ends with."""
    entry = map_entry(field)
    if entry is not None:
        if entry.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield key, f".{key}", value[key]
    elif field.is_repeated:
        for index, part in enumerate(value):
            yield index, f"[{index}]", part
    else:
        yield None, "", value


def _look_inside(message: Any, path: str, within: str, found: list[LeftOut]) -> bool:
    """As `_look` for an Any; one of a type that is not known here is printed as its bytes."""
    try:
        descriptor = message.DESCRIPTOR.file.pool.FindMessageTypeByName(message.type_url.rpartition("/")[2])
        inner = message_factory.GetMessageClass(descriptor).FromString(message.value)
    except (KeyError, DecodeError):
        return True
    before = len(found)
    if not _look(inner, path, within, found):
        return False
    if len(found) > before:
        message.value = inner.SerializePartialToString()
    return True


def _is_printable(printer: Callable[[Any], Any], message: Any) -> bool:
    try:
        printer(message)
    except ValueError:
        return False
    return True
