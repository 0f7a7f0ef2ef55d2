"""Query strings into request fields. What a binding's query may say is a table made at start; anything else is a violation."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from google.protobuf.message import Message

from gateway_rest.transcoding.leaves import Leaf, MapLeaf, query_leaves
from gateway_rest.transcoding.rules import SYSTEM_PARAMETERS, Binding
from kernel.protojson.findings import Findings, Path, shown

MOST = 1000
"""Parameters in one query."""

_MAP_ENTRY = re.compile(r"(.+?)\[([^\]]*)\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class QueryTable:
    """The query parameters of one binding."""

    def __init__(self, binding: Binding) -> None:
        self._leaves: dict[str, Leaf | MapLeaf] = {}
        self._bound = {variable.field for variable in binding.template.variables}
        self._in_body: set[str] = set()
        names: list[str] = []
        for fields, leaf in query_leaves(binding.input):
            spellings = {leaf.path, ".".join(field.json_name for field in fields)}
            if leaf.path not in self._bound and binding.body in {"*", fields[0].name}:
                self._in_body |= spellings
                continue
            if binding.body == "*":
                continue
            names.append(leaf.path)
            for spelling in spellings:
                self._leaves.setdefault(spelling, leaf)
        if binding.body == "*":
            # Only there to be compared with the path.
            for fields, leaf in query_leaves(binding.input):
                if leaf.path in self._bound:
                    for spelling in (leaf.path, ".".join(field.json_name for field in fields)):
                        self._leaves.setdefault(spelling, leaf)
        self._names = [name for name in names if name not in self._bound]

    def apply(self, query: bytes, request: Message, found: Findings) -> dict[str, str]:
        """Sets the fields a query names and answers the system parameters. Violations are noted, nothing is raised."""
        system: dict[str, str] = {}
        seen: set[str] = set()
        for count, part in enumerate(query.split(b"&")):
            if not part:
                continue
            if count >= MOST:
                found.add(None, "TOO_MANY", f"a query has at most {MOST} parameters")
                break
            raw_name, equals, raw_value = part.partition(b"=")
            name, value = _decode(raw_name), _decode(raw_value)
            if name is None or value is None:
                place: Path = (shown(name),) if name else None
                found.add(place, "INVALID_FORMAT", "is not properly percent-encoded UTF-8")
            elif name in SYSTEM_PARAMETERS:
                system[name] = value
            else:
                self._set(name, value if equals else None, request, seen, found)
        return system

    def _set(self, name: str, value: str | None, request: Message, seen: set[str], found: Findings) -> None:
        leaf = self._leaves.get(name)
        if leaf is None:
            entry = _MAP_ENTRY.fullmatch(name)
            leaf = self._leaves.get(entry[1]) if entry else None
            if entry is not None and isinstance(leaf, MapLeaf):
                leaf.put(request, entry[2], value or "", found)
            elif name in self._in_body:
                found.add((shown(name),), "UNKNOWN_FIELD", "belongs in the JSON body, not in the query")
            else:
                found.unknown(None, name, self._names)
            return
        if isinstance(leaf, MapLeaf):
            found.add((leaf.path,), "WRONG_TYPE", f"names a map; write {leaf.path}[key]=value")
            return
        if value is None:
            value = "true" if leaf.is_bool else ""
        converted = leaf.convert(value, (leaf.path,), found)
        if converted is None:
            return
        if leaf.path in self._bound:
            if leaf.differs(request, converted):
                found.add((leaf.path,), "CONFLICT", "differs from the value in the path")
        elif not leaf.is_list and leaf.path in seen:
            found.add((leaf.path,), "DUPLICATE_FIELD", "is given more than once")
        else:
            seen.add(leaf.path)
            leaf.put(request, converted, found)


def _decode(raw: bytes) -> str | None:
    """A form-encoded word; None when it is malformed."""
    try:
        if b"%" not in raw:
            return raw.replace(b"+", b" ").decode()
        if _BAD_ESCAPE.search(raw.decode("latin-1")):
            return None
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        return None
