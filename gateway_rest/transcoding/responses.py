"""Response messages to HTTP answers: status, ETag, Location, Link, and the body. Worked out per binding at start."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_rest.channel import PrintedReply, Reply
from gateway_rest.transcoding import codings, metadata, omissions, origins, pages, selections
from gateway_rest.transcoding.exchanges import Exchange
from gateway_rest.transcoding.rules import Binding, Rules
from gipos.v1 import common_pb2
from kernel.protojson import EncodingFailed, Writer
from kernel.protojson.findings import Findings

Headers = list[tuple[bytes, bytes]]
Write = Callable[[Any], bytes]
"""A message to what is sent of it."""

HASHED = 64 * 1024
"""Bytes of an answer that are hashed for an ETag at most; more would cost more than it may save."""

_JSON = (b"content-type", b"application/json")
_VARY = (b"vary", b"accept-encoding, authorization, origin, x-api-key")
_FRESH = (b"cache-control", b"private, no-cache")
_SECRET = (b"cache-control", b"no-store")
_NO_GUESSING = (b"x-content-type-options", b"nosniff")
_TAG = re.compile(rb'(?:W/)?("[^"]*")|(\*)')
_TYPE = re.compile(r"[\x20-\x7e]+/[\x20-\x7e]+")
_HTTP_BODY = "google.api.HttpBody"


class ResponsePlan:
    """How answers of one binding are written."""

    def __init__(self, binding: Binding, rules: Rules) -> None:
        output = binding.output
        self.message_class = message_factory.GetMessageClass(output)
        self._writer = Writer(self.message_class, binding.response_body or None)
        self.write: Write = self._writer.write
        """How messages are written when nobody asks for anything."""
        name = binding.rpc.name
        self._is_create = name.startswith("Create") and binding.method == "POST"
        self._is_empty = name.startswith("Delete") and not output.fields
        self._status = 201 if self._is_create else 200
        etag = output.fields_by_name.get("etag")
        self._has_etag = etag is not None and etag.type == FieldDescriptor.TYPE_STRING
        self._is_get = binding.method == "GET"
        token = output.fields_by_name.get("next_page_token")
        self._has_next = self._is_get and token is not None and token.type == FieldDescriptor.TYPE_STRING
        self._collection = _collection(binding, rules) if self._is_create else ""
        self._field = binding.response_body
        printed = output.fields_by_name[self._field] if self._field else None
        self._root: Descriptor | None = output if printed is None else printed.message_type
        self.is_raw = self._root is not None and self._root.full_name == _HTTP_BODY and not (printed and printed.is_repeated)
        self._packs = not _holds_secret(output, set())
        """Packing a secret together with what a caller sent would let an eavesdropper guess it by the size."""
        self._headers: Headers = [_VARY]
        if not self._packs:
            self._headers.append(_SECRET)
        elif self._is_get:
            self._headers.append(_FRESH)

    def writer(self, system: dict[str, str], found: Findings) -> Write:
        """How this caller wants messages written, by the system parameters. Violations are noted."""
        text = system.get("fields") or "*"
        selection = None if text == "*" else selections.parse(text, self._root, found)
        pretty = (system.get("prettyPrint") or system.get("pretty_print") or "").lower() in {"true", "1"}
        if selection is None and not pretty:
            return self.write
        option = orjson.OPT_INDENT_2 if pretty else None

        def write(message: Any) -> bytes:
            value = self._writer.convert(message)
            return orjson.dumps(value if selection is None else selections.prune(value, selection), option=option)

        return write

    def raw(self, message: Any) -> Any:
        """The google.api.HttpBody within a message."""
        return getattr(message, self._field) if self._field else message

    async def send(self, exchange: Exchange, reply: Reply, write: Write) -> None:
        """Answers with status, headers and body.

        Raises:
            EncodingFailed: the message has no JSON form, not even without the values that have none.
        """
        # What came printed is sent as it came; a printed reply has the few fields that are looked at here.
        printed = reply if isinstance(reply, PrintedReply) and write is self.write and not self.is_raw else None
        message: Any = printed or reply.message
        headers = metadata.answered(reply.metadata) if reply.metadata else []
        if b"origin" in exchange.headers:
            headers.append(origins.EXPOSE)
        status = metadata.status_override(reply.metadata) or self._status
        if self._is_empty:
            await exchange.answer(204, headers)
            return
        headers += self._headers
        packs = self._packs
        if self.is_raw:
            body, kind = self._take_raw(message)
            headers += (kind, _NO_GUESSING)
            packs = packs and codings.is_worth_it(kind[1])
        else:
            try:
                body = write(message) if printed is None else printed.json
            except EncodingFailed:
                body, lacks = omissions.answered(message, self._field, write, exchange.request_id)
                headers.append(lacks)
            headers.append(_JSON)
        tag = self._tag(message, body)
        if tag:
            headers.append((b"etag", tag))
            if self._is_get and _matches(exchange.headers.get(b"if-none-match"), tag):
                await exchange.answer(304, [item for item in headers if item[0] != b"content-type"])
                return
        if self._collection and (made := reply.message.id):  # type: ignore[attr-defined]  # what is created has an id
            headers.append((b"location", f"{self._collection}/{quote(made, safe='')}".encode()))
        if self._has_next and message.next_page_token:
            headers.append(pages.following(exchange.raw_path, exchange.query, message.next_page_token))
        await exchange.answer(status, headers, body, packs=packs)

    def _tag(self, message: Any, body: bytes) -> bytes:
        if self._has_etag:
            return _quoted(message.etag) if message.etag else b""
        if self._is_get and len(body) <= HASHED:
            return _digest_of_printed(body) if isinstance(message, PrintedReply) else _digest(body)
        return b""

    def _take_raw(self, message: Any) -> tuple[bytes, tuple[bytes, bytes]]:
        content = self.raw(message)
        return content.data, content_type(content)


def _digest(body: bytes) -> bytes:
    return b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'


_digest_of_printed = lru_cache(64)(_digest)
"""The same bytes are sent to many: an object that was seen before is found without reading it."""


def content_type(body: Any) -> tuple[bytes, bytes]:
    """The header for a google.api.HttpBody."""
    given: str = body.content_type
    return b"content-type", given.encode("ascii") if _TYPE.fullmatch(given) else b"application/octet-stream"


def _holds_secret(message: Descriptor, seen: set[str]) -> bool:
    if message.full_name in seen:
        return False
    seen.add(message.full_name)
    return any(
        field.GetOptions().Extensions[common_pb2.data_class] == common_pb2.DATA_CLASS_SECRET
        or (field.message_type is not None and _holds_secret(field.message_type, seen))
        for field in message.fields
    )


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
    """As an entity tag; characters that cannot stand in one are encoded."""
    if etag.isalnum() and etag.isascii():
        return b'"' + etag.encode() + b'"'
    raw = quote(etag, safe="!#$%&'()*+,/:;<=>?@[\\]^`{|}~\"").encode()
    return raw if raw.startswith((b'"', b'W/"')) else b'"' + raw.replace(b'"', b"") + b'"'


def _matches(condition: bytes | None, tag: bytes) -> bool:
    if not condition:
        return False
    plain = tag.removeprefix(b"W/")
    return any(match[2] or match[1] == plain for match in _TAG.finditer(condition))
