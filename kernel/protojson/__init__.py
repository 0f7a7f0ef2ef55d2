"""JSON in and out of protobuf messages by the house rules, compiled once per message type. Pure: bytes and messages, no I/O.

The rules are ProtoJSON with four differences, on purpose: names are snake_case (both spellings are accepted), 64-bit integers are
numbers (strings are accepted), fields without presence are always printed, and enums print as "completed" instead of
"SALE_STATUS_COMPLETED" (both, and the number of a known value, are accepted). Two field options of gipos.v1 change a field:
`decimal` (a string that may also arrive as a number, digits kept exactly) and `plain_json` (an Any printed without "@type").
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message

from kernel.protojson.encoders import EncodingFailed, Writer
from kernel.protojson.enums import EnumNames
from kernel.protojson.findings import JsonRefused
from kernel.protojson.readers import Reader
from kernel.protojson.sparing import LeftOut, marked, spared

__all__ = [
    "EncodingFailed",
    "EnumNames",
    "JsonRefused",
    "LeftOut",
    "Reader",
    "Writer",
    "decode",
    "encode",
    "marked",
    "spared",
    "to_dict",
]

M = TypeVar("M", bound=Message)

_writers: dict[type[Message], Writer] = {}
_readers: dict[type[Message], Reader] = {}


def encode(message: Message) -> bytes:
    """The message as JSON text.

    Raises:
        EncodingFailed: a value has no JSON form, for example a timestamp after the year 9999.
    """
    writer = _writers.get(type(message)) or _writers.setdefault(type(message), Writer(type(message)))
    return writer.write(message)


def to_dict(message: Message) -> Any:
    """The message as plain Python values, ready for any JSON printer. A dict, except for well-known types such as Timestamp.

    Raises:
        EncodingFailed: as for `encode`.
    """
    writer = _writers.get(type(message)) or _writers.setdefault(type(message), Writer(type(message)))
    return writer.convert(message)


def decode(data: bytes, message_class: type[M], *, ignore_unknown: bool = False) -> M:
    """The message a JSON text stands for.

    Raises:
        JsonRefused: with every violation found, each with its field path.
    """
    reader = _readers.get(message_class) or _readers.setdefault(message_class, Reader(message_class))
    message = message_class()
    reader.read(data, message, ignore_unknown=ignore_unknown)
    return message
