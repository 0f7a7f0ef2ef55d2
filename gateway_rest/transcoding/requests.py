"""Puts a request message together from path, query, body and headers. Everything a binding needs is worked out at start.

Every field belongs to one source. The path always wins, and whoever contradicts it is told so: a body that silently overrode the
path would let a caller change something else than what was authorised, logged and cached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway_rest.transcoding import masks
from gateway_rest.transcoding.leaves import Leaf
from gateway_rest.transcoding.query import QueryTable
from gateway_rest.transcoding.rules import Binding, field_at
from gateway_rest.transcoding.templates import Variable
from kernel.protojson import JsonRefused, Reader
from kernel.protojson.findings import Enough, Findings

Headers = dict[bytes, bytes]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEPT_SLASH = re.compile(rb"%2[fF]")
_VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
# In quotes as RFC 9110 asks, or bare as our own JSON has it.
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"|([0-9A-Za-z]+)')
_LONGEST_KEY = 255
_KEPT_QUERIES = 100
_KEPT_QUERY_BYTES = 256
_MASK = "google.protobuf.FieldMask"
_HTTP_BODY = "google.api.HttpBody"


@dataclass(slots=True)
class Assembled:
    """A request ready to be sent."""

    message: Message
    system: dict[str, str] = field(default_factory=dict)
    """System parameters of the query."""
    if_match: bool = False
    """Whether the caller made the change conditional."""


class RequestPlan:
    """How requests of one binding are put together."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self._class = message_factory.GetMessageClass(binding.input)
        self.takes_body = bool(binding.body)
        self.is_raw = _is_raw(binding)
        """Whether the body is taken as it comes, of whatever type it is."""
        self._reader = None
        if binding.body and not self.is_raw:
            self._reader = Reader(self._class, None if binding.body == "*" else binding.body)
        self._variables = [(variable, Leaf(field_at(binding.input, variable.field))) for variable in binding.template.variables]
        self._query = QueryTable(binding)
        self._kept: dict[bytes, tuple[bytes, dict[str, str]]] | None = None
        """What queries set, serialised, and their system parameters: programs ask the same again. None where there is more."""
        if not self._variables and not self.takes_body:
            self._kept = {}
        self._mask = self._mask_field()
        self._mask_message = None
        if self._mask and binding.method == "PATCH" and binding.body != "*":
            self._mask_message = binding.input.fields_by_name[binding.body].message_type
        self._key = self._string_field("request_id")
        self._etag = self._string_field("etag")
        version = binding.input.fields_by_name.get("expected_version")
        self._version = "expected_version" if version is not None and version.cpp_type == FieldDescriptor.CPPTYPE_INT64 else ""
        self._cursor = self._string_field("cursor") if binding.rpc.server_streaming else ""
        self._changes = binding.method in {"PUT", "PATCH", "DELETE"}

    def assemble(self, segments: list[bytes], query: bytes, headers: Headers, body: bytes) -> Assembled:
        """The request message.

        Raises:
            JsonRefused: with the violations of all sources together.
        """
        kept = self._kept.get(query) if self._kept else None
        result = Assembled(self._class()) if kept is None else Assembled(self._class.FromString(kept[0]), dict(kept[1]))
        found = Findings(exact_at_hand=False, ignore_unknown=b"ignoreUnknown=true" in query)
        tree: Any = None
        try:
            if self.is_raw:
                self._take_raw(body, headers, result.message)
            else:
                tree = self._read_body(body, result.message, found)
            for variable, leaf in self._variables:
                self._bind(variable, leaf, segments, result.message, found)
            if query and kept is None:
                result.system = self._query.apply(query, result.message, found)
                if self._kept is not None and not found.violations and len(query) <= _KEPT_QUERY_BYTES:
                    if len(self._kept) >= _KEPT_QUERIES:
                        self._kept.clear()
                    self._kept[query] = (result.message.SerializeToString(), dict(result.system))
            self._take_headers(headers, result, found)
        except Enough:
            pass  # what was found is told below
        found.settle()
        self._take_mask(result.message, tree)
        return result

    def _read_body(self, body: bytes, message: Message, found: Findings) -> Any:
        """Fills the message and answers the parsed JSON. An empty body sets nothing, so that required fields can be told."""
        if self._reader is None or not body or body.isspace():
            return None
        try:
            return self._reader.read(body, message, ignore_unknown=found.ignore_unknown)
        except JsonRefused as refusal:
            if refusal.violations[0].reason == "MALFORMED_JSON":
                raise
            found.violations.extend(refusal.violations)
            return None

    def _take_raw(self, body: bytes, headers: Headers, message: Any) -> None:
        if body:
            target = message if self.binding.body == "*" else getattr(message, self.binding.body)
            target.content_type = headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
            target.data = body

    def _bind(self, variable: Variable, leaf: Leaf, segments: list[bytes], message: Message, found: Findings) -> None:
        path = (variable.field.removeprefix(f"{self.binding.body}."),)
        text = _variable_text(segments[variable.start : variable.end], is_multi=variable.is_multi)
        if text is None:
            found.add(path, "INVALID_FORMAT", "is not properly percent-encoded UTF-8")
            return
        value = leaf.convert(text, path, found)
        if value is None:
            return
        if leaf.differs(message, value):
            found.add(path, "CONFLICT", "differs from the value in the path")
        leaf.put(message, value, found)

    def _take_headers(self, headers: Headers, result: Assembled, found: Findings) -> None:
        message: Any = result.message
        key = headers.get(b"idempotency-key")
        if key is not None and self._key:
            text = key.decode("latin-1").strip()
            if not _VISIBLE.fullmatch(text) or len(text) > _LONGEST_KEY:
                found.add(("Idempotency-Key",), "INVALID_FORMAT", f"must be 1 to {_LONGEST_KEY} printable ASCII characters")
            elif message.request_id not in {"", text}:
                found.add(("request_id",), "CONFLICT", "differs from the header Idempotency-Key")
            else:
                message.request_id = text
        condition = headers.get(b"if-match")
        if condition is not None and self._changes:
            self._take_condition(condition.decode("latin-1").strip(), result, found)
        if self._changes and headers.get(b"if-none-match") is not None:
            # RFC 9110 §13.1.2 forbids the change when the condition fails, and nothing here could tell whether it does.
            found.add(("If-None-Match",), "UNSUPPORTED", "is for reading only; use If-Match to guard a change")
        last = headers.get(b"last-event-id")
        if last and self._cursor:
            # An EventSource reconnects to the address it began with; the header is where it got to since.
            message.cursor = last.decode("ascii", "replace")

    def _take_condition(self, text: str, result: Assembled, found: Findings) -> None:
        message: Any = result.message
        if text == "*":
            return
        match = _ETAG.fullmatch(text)
        if match is None:
            found.add(("If-Match",), "INVALID_FORMAT", 'must be one entity tag in quotes, for example "7"')
            return
        result.if_match = True
        tag = match[1] if match[1] is not None else match[2]
        if self._etag:
            if message.etag not in {"", tag}:
                found.add(("etag",), "CONFLICT", "differs from the header If-Match")
            message.etag = tag
        elif self._version:
            if tag.isdecimal() and len(tag) < 19:
                message.expected_version = int(tag)
            else:
                problem = 'must be the version of the level, for example "3"; the ETag of an answer is something else'
                found.add(("If-Match",), "INVALID_FORMAT", problem)
        else:
            # A condition that nobody checks would be worse than none.
            found.add(("If-Match",), "UNSUPPORTED", "is not supported here; leave it out")

    def _take_mask(self, message: Any, tree: Any) -> None:
        if not self._mask or message.HasField(self._mask):
            return
        mask = getattr(message, self._mask)
        if self.binding.method == "PUT":
            mask.paths.append("*")
        elif self._mask_message is not None:
            # An empty mask means "all" to a service; a body that changes nothing names what cannot change.
            own = [variable.field.rpartition(".")[2] for variable in self.binding.template.variables]
            mask.paths.extend(masks.paths(tree or {}, self._mask_message) or own)

    def _mask_field(self) -> str:
        if not self.binding.body:
            return ""
        names = [
            item.name
            for item in self.binding.input.fields
            if item.message_type is not None and item.message_type.full_name == _MASK
        ]
        return names[0] if len(names) == 1 and names[0] != self.binding.body else ""

    def _string_field(self, name: str) -> str:
        found = self.binding.input.fields_by_name.get(name)
        return name if found is not None and found.type == FieldDescriptor.TYPE_STRING and not found.is_repeated else ""


def _is_raw(binding: Binding) -> bool:
    if not binding.body:
        return False
    target = binding.input if binding.body == "*" else binding.input.fields_by_name[binding.body].message_type
    return (
        target is not None
        and target.full_name == _HTTP_BODY
        and not (binding.body != "*" and binding.input.fields_by_name[binding.body].is_repeated)
    )


def _variable_text(segments: list[bytes], *, is_multi: bool) -> str | None:
    """The decoded value; an encoded slash stays as it is where a plain one would separate segments. None when malformed."""
    raw = b"/".join(segments)
    try:
        if b"%" not in raw:
            return raw.decode()
        if _BAD_ESCAPE.search(raw):
            return None
        if is_multi:
            raw = _KEPT_SLASH.sub(lambda match: b"%25" + match[0][1:], raw)
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
