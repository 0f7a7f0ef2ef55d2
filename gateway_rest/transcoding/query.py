"""Query strings into request fields. What a binding's query may say is a table made at start; anything else is a violation."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from google.protobuf.message import Message

from gateway_rest.transcoding.leaves import Leaf, MapLeaf, leaf_at, query_leaves
from gateway_rest.transcoding.rules import SYSTEM_PARAMETERS, Binding
from kernel.protojson.findings import Findings, Path, shown

MOST = 1000
"""Parameters in one query."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class QueryTable:
    """The query parameters of one binding."""

    def __init__(self, binding: Binding) -> None:
        self._message = binding.input
        self._body = binding.body
        self._bound = {variable.field for variable in binding.template.variables}
        self._leaves: dict[str, Leaf | MapLeaf] = {}
        """Names as callers wrote them, once they were found; at most MOST, for a message that holds itself has no end of them."""
        self._names = [
            leaf.path for _, leaf in query_leaves(binding.input) if leaf.path not in self._bound and not self._in_body(leaf.path)
        ]

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
        leaf, key = self._leaf(name), None
        if leaf is None and name.endswith("]"):
            # One entry of a map: attributes[brand]=x.
            owner, _, key = name[:-1].partition("[")
            leaf = self._leaf(owner)
            if not isinstance(leaf, MapLeaf):
                leaf = None
        if leaf is None and (self._body == "*" or not self._in_body(name)):
            found.unknown(None, name, self._names)
        elif leaf is None or (leaf.path not in self._bound and self._in_body(leaf.path)):
            found.add((shown(name),), "UNKNOWN_FIELD", "belongs in the body, not in the query")
        elif isinstance(leaf, MapLeaf):
            if key is None:
                found.add((leaf.path,), "WRONG_TYPE", f"names a map; write {leaf.path}[key]=value")
            elif f"{leaf.path}[{key}]" in seen:
                found.add((None, leaf.path, key), "DUPLICATE_FIELD", "is given more than once")
            else:
                seen.add(f"{leaf.path}[{key}]")
                leaf.put(request, key, value or "", found)
        else:
            self._set_leaf(leaf, value, request, seen, found)

    def _set_leaf(self, leaf: Leaf, value: str | None, request: Message, seen: set[str], found: Findings) -> None:
        if value is None:
            value = "true" if leaf.is_bool else ""
        converted = leaf.convert(value, (leaf.path,), found)
        if converted is None:
            return
        if leaf.path in self._bound:
            if not leaf.holds(request, converted):
                found.add((leaf.path,), "CONFLICT", "differs from the value in the path")
        elif not leaf.is_list and leaf.path in seen:
            found.add((leaf.path,), "DUPLICATE_FIELD", "is given more than once")
        else:
            seen.add(leaf.path)
            leaf.put(request, converted, found)

    def _leaf(self, name: str) -> Leaf | MapLeaf | None:
        leaf = self._leaves.get(name)
        if leaf is None:
            leaf = leaf_at(self._message, name)
            if leaf is not None and len(self._leaves) < MOST:
                self._leaves[name] = leaf
        return leaf

    def _in_body(self, path: str) -> bool:
        return bool(self._body) and self._body in {"*", path.partition(".")[0]}


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
