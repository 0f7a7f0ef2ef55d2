"""Response messages to HTTP answers: status, ETag, Location, and the JSON body. Worked out per binding at start."""

from __future__ import annotations

import re
from typing import Any

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from gateway_rest.channel import Reply
from gateway_rest.transcoding import metadata
from gateway_rest.transcoding.rules import Binding, Rules
from kernel.protojson import Writer

JSON = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]

_TAG = re.compile(rb'(?:W/)?("[^"]*")|(\*)')
_HTTP_BODY = "google.api.HttpBody"


class ResponsePlan:
    """How answers of one binding are written."""

    def __init__(self, binding: Binding, rules: Rules) -> None:
        self.message_class = message_factory.GetMessageClass(binding.output)
        self._writer = Writer(self.message_class, binding.response_body or None)
        name = binding.rpc.name
        self._is_create = name.startswith("Create") and binding.method == "POST"
        self._is_empty = name.startswith("Delete") and not binding.output.fields
        self._status = 201 if self._is_create else 200
        etag = binding.output.fields_by_name.get("etag")
        self._has_etag = etag is not None and etag.type == FieldDescriptor.TYPE_STRING
        self._is_get = binding.method == "GET"
        self._is_raw = binding.output.full_name == _HTTP_BODY
        self._collection = _collection(binding, rules) if self._is_create else ""

    def convert(self, message: Any) -> Any:
        """The message as plain Python values."""
        return self._writer.convert(message)

    def encode(self, message: Any) -> bytes:
        """The message as JSON text."""
        return self._writer.write(message)

    def answer(self, reply: Reply, request_headers: dict[bytes, bytes], system: dict[str, str]) -> tuple[int, Headers, bytes]:
        """Status, headers and body.

        Raises:
            EncodingFailed: the message has no JSON form.
        """
        message: Any = reply.message
        headers = metadata.answered(reply.metadata)
        status = metadata.status_override(reply.metadata) or self._status
        if self._is_empty:
            return 204, headers, b""
        if self._has_etag and message.etag:
            tag = _quoted(message.etag)
            headers.append((b"etag", tag))
            if self._is_get and _matches(request_headers.get(b"if-none-match"), tag):
                return 304, headers, b""
        if self._collection and message.id:
            headers.append((b"location", f"{self._collection}/{message.id}".encode()))
        if self._is_raw:
            headers.append((b"content-type", message.content_type.encode("latin-1", "replace") or b"application/octet-stream"))
            return status, headers, message.data
        headers.append(JSON)
        if system:
            return status, headers, self._shaped(message, system)
        return status, headers, self._writer.write(message)

    def _shaped(self, message: Any, system: dict[str, str]) -> bytes:
        value = self._writer.convert(message)
        fields = system.get("fields") or "*"
        if fields != "*":
            value = prune(value, [path.strip().split(".") for path in fields.split(",")])
        pretty = (system.get("prettyPrint") or system.get("pretty_print") or "").lower() in {"true", "1"}
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 if pretty else None)


def prune(value: Any, paths: list[list[str]]) -> Any:
    """Only what the paths name; lists are passed through, so `products.id` keeps the id of each product."""
    if isinstance(value, list):
        return [prune(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        inner = [path[1:] for path in paths if path[0] in {key, "*"}]
        if inner:
            result[key] = item if any(not path for path in inner) else prune(item, inner)
    return result


def _collection(binding: Binding, rules: Rules) -> str:
    """The path under which a created resource can be read; empty when there is no such GET."""
    if "id" not in binding.output.fields_by_name or {"*", "**"} & set(binding.template.segments):
        return ""
    wanted = (*binding.template.segments, "*")
    for other in rules.bindings:
        if other.method == "GET" and other.template.segments == wanted and not other.template.verb:
            return binding.template.text
    return ""


def _quoted(etag: str) -> bytes:
    raw = etag.encode("ascii", "replace")
    return raw if raw.startswith((b'"', b'W/"')) else b'"' + raw.replace(b'"', b"") + b'"'


def _matches(condition: bytes | None, tag: bytes) -> bool:
    if not condition:
        return False
    plain = tag.removeprefix(b"W/")
    return any(match[2] or match[1] == plain for match in _TAG.finditer(condition))
