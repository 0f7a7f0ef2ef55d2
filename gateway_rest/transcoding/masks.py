"""Which fields a PATCH changes: read from the keys of its JSON body, so that an empty value clears a field."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gipos.v1 import common_pb2

_WELL_KNOWN = "google.protobuf."


def paths(body: Any, message: Descriptor) -> list[str]:
    """The mask of a body that was already read into the message, sorted. Fields only the server sets are left out."""
    found: list[str] = []
    _collect(body, message, "", found)
    return sorted(found)


def _collect(body: Any, message: Descriptor, prefix: str, found: list[str]) -> None:
    for key, value in body.items():
        field = message.fields_by_name.get(key) or _by_json_name(message, key)
        if field is None or field.GetOptions().Extensions[common_pb2.output_only]:
            continue
        path = prefix + field.name
        inner = field.message_type
        descends = inner is not None and not field.is_repeated and not inner.full_name.startswith(_WELL_KNOWN)
        if descends and inner is not None and isinstance(value, dict) and value:
            _collect(value, inner, path + ".", found)
        else:
            found.append(path)


def _by_json_name(message: Descriptor, key: str) -> FieldDescriptor | None:
    return next((field for field in message.fields if field.json_name == key), None)
