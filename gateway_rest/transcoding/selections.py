"""Which fields of an answer a caller wants (`?fields=id,price.amount`): checked against the descriptor before the call."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway_rest.transcoding.rules import TEXT_MESSAGES
from kernel.protojson.findings import Findings
from kernel.protojson.schemas import map_entry, spellings

MOST = 200
"""Paths in one selection."""

Selection = dict[str, Any]
"""Field name to the selection within it; None for all of it."""

_OWN_PRINTING = "google.protobuf."


def parse(text: str, root: Descriptor | None, found: Findings) -> Selection | None:
    """The selection a text stands for; None for everything. Violations are noted.

    `root` is the message that is printed; None when the answer is free-form.
    """
    paths = [path.strip() for path in text.split(",")]
    if len(paths) > MOST:
        found.add(("fields",), "TOO_MANY", f"a selection has at most {MOST} paths")
        return None
    selection: Selection = {}
    is_all = False
    for path in paths:
        names = path.split(".")
        if names[-1] == "*":
            names.pop()
        if not names:
            is_all = True
            continue
        checked = _checked(names, root, found)
        if checked is not None:
            _put(selection, checked)
    return None if is_all else selection


def prune(value: Any, selection: Selection) -> Any:
    """Only what is selected; lists are passed through, so `products.id` keeps the id of each product."""
    if isinstance(value, list):
        return [prune(item, selection) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: value[name] if inner is None else prune(value[name], inner) for name, inner in selection.items() if name in value
    }


def _put(selection: Selection, names: list[str]) -> None:
    for name in names[:-1]:
        inner = selection.setdefault(name, {})
        if inner is None:
            return  # all of it was asked for already
        selection = inner
    selection[names[-1]] = None


def _checked(names: list[str], message: Descriptor | None, found: Findings) -> list[str] | None:
    """The names as they are printed; None after noting that there is no such field."""
    printed: list[str] = []
    position = 0
    while position < len(names):
        if message is None:
            # Below free-form JSON and maps, any name may be there.
            return [*printed, *names[position:]]
        field = spellings(message).get(names[position])
        if field is None:
            prefix = "".join(f"{name}." for name in printed)
            found.unknown(("fields",), ".".join(names), [prefix + item.name for item in message.fields])
            return None
        printed.append(field.name)
        position += 1
        entry = map_entry(field)
        if entry is not None:
            if position < len(names):
                printed.append(names[position])
                position += 1
            field = entry.fields_by_name["value"]
        inner = field.message_type
        is_text = inner is None or inner.full_name in TEXT_MESSAGES
        if is_text and position < len(names):
            if not found.ignore_unknown:
                found.add(("fields",), "UNKNOWN_FIELD", f"{'.'.join(printed)} has no fields of its own")
            return None
        message = None if inner is None or inner.full_name.startswith(_OWN_PRINTING) else inner
    return printed
