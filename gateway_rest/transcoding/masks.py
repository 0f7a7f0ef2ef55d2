"""Which fields a PATCH changes: read from the keys of its JSON body, so that an empty value clears a field."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor

from kernel.protojson.schemas import is_output_only, spellings

_WELL_KNOWN = "google.protobuf."


def paths(body: Any, message: Descriptor) -> list[str]:
    """The mask of a body that was already read into the message, sorted. Fields only the server sets are left out."""
    found: list[str] = []
    _collect(body, message, "", found)
    return sorted(found)


def _collect(body: Any, message: Descriptor, prefix: str, found: list[str]) -> None:
    for key, value in body.items():
        field = spellings(message).get(key)
        if field is None or is_output_only(field):
            continue
        path = prefix + field.name
        inner = field.message_type
        descends = inner is not None and not field.is_repeated and not inner.full_name.startswith(_WELL_KNOWN)
        if descends and inner is not None and isinstance(value, dict) and value:
            _collect(value, inner, path + ".", found)
        else:
            found.append(path)
