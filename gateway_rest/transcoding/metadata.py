"""Headers to gRPC metadata and back, by allow-lists: nothing a caller invents reaches a service as if we had said it."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from gateway_rest.channel import ReplyMetadata
from gateway_rest.errors import Refusal
from gateway_rest.heads import Head
from kernel.errors import Violation
from kernel.ids import new_id
from kernel.protojson import JsonRefused

Headers = dict[bytes, bytes]

_FORWARDED = tuple(
    (name.encode(), name)
    for name in (
        *("authorization", "x-api-key", "accept-language", "idempotency-key", "if-match", "if-none-match"),
        *("traceparent", "tracestate", "baggage", "origin"),
    )
)
_ANSWERED = {
    name: name.encode()
    for name in (
        *("etag", "location", "retry-after", "deprecation", "sunset", "link", "idempotent-replayed", "ratelimit"),
        *("ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "access-control-allow-origin"),
    )
}
_ANSWERED_PREFIXES = ("ratelimit", "x-ratelimit-", "access-control-")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,6})?")
_LONGEST = 4096


def request_id(headers: Headers) -> str:
    """The caller's request id when it is sane, else a new one."""
    given = headers.get(b"x-request-id")
    return given.decode("ascii") if given and _REQUEST_ID.fullmatch(given) else new_id("req")


def told(head: Head, request: str, client: str) -> list[tuple[str, str]]:
    """As outgoing, for headers that may have come before: what follows from them is worked out once."""
    if head.forwarded is None:
        head.forwarded = _forwarded(head.fields)
    return _outgoing(head.forwarded, request, client)


def outgoing(headers: Headers, request: str, client: str) -> list[tuple[str, str]]:
    """The metadata of a call. Values that gRPC could not carry are left out.

    `client` is the caller's address as far as it is known. It is the only one that is told: what a caller claims about its own
    way here (X-Forwarded-For) was judged before, or is worth nothing.
    """
    return _outgoing(_forwarded(headers), request, client)


def _outgoing(forwarded: list[tuple[str, str]], request: str, client: str) -> list[tuple[str, str]]:
    metadata = [("x-request-id", request), *forwarded]
    if client:
        metadata.append(("x-forwarded-for", client))
    return metadata


def _forwarded(headers: Headers) -> list[tuple[str, str]]:
    metadata = []
    for raw, name in _FORWARDED:
        value = headers.get(raw)
        if value is not None and len(value) <= _LONGEST and _PRINTABLE.fullmatch(value):
            if raw == b"origin" and value.partition(b"://")[2] == headers.get(b"host"):
                continue  # a page of our own (the documentation) is no stranger, and browsers name it with every POST
            metadata.append((name, value.decode("ascii")))
    agent = headers.get(b"user-agent")
    if agent is not None:
        metadata.append(("x-forwarded-user-agent", _agent(agent[:_LONGEST])))
    return metadata


@lru_cache(maxsize=256)
def _agent(value: bytes) -> str:
    return quote(value, safe=" !#$&'()*+,/:;=?@[]~")


def answered(metadata: ReplyMetadata) -> list[tuple[bytes, bytes]]:
    """What of a service's metadata becomes response headers."""
    return [header for key, value in metadata if isinstance(value, str) and (header := _answered(key, value)) is not None]


@lru_cache(maxsize=1024)
def _answered(key: str, value: str) -> tuple[bytes, bytes] | None:
    name = _ANSWERED.get(key)
    if name is None:
        if not key.startswith(_ANSWERED_PREFIXES):
            return None
        name = key.encode()
    return (name, value.encode()) if value.isascii() and value.isprintable() else None


def status_override(metadata: ReplyMetadata) -> int:
    """The HTTP status of a success that the service asks for; 0 when it does not."""
    for key, value in metadata:
        if key == "x-http-code" and isinstance(value, str) and re.fullmatch(r"2\d\d", value):
            return int(value)
    return 0


def deadline(headers: Headers, longest: float) -> float:
    """Seconds the call may take; the caller can only shorten them.

    Raises:
        JsonRefused: the header X-Request-Timeout is no number of seconds.
    """
    given = headers.get(b"x-request-timeout")
    if given is None:
        return longest
    text = given.decode("latin-1").strip()
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        raise JsonRefused(
            [Violation("X-Request-Timeout", "INVALID_FORMAT", 'must be a number of seconds above 0, for example "2.5"')]
        )
    return min(longest, float(text))


def require_json(headers: Headers) -> None:
    """Refuses a body that is no JSON in UTF-8.

    Raises:
        Refusal: 415.
    """
    content_type = headers.get(b"content-type", b"")
    kind, _, parameters = content_type.lower().partition(b";")
    kind = kind.strip()
    charset = re.search(rb'charset\s*=\s*"?([^\s";]+)', parameters)
    is_json = kind == b"application/json" or (b"/" in kind and kind.endswith(b"+json"))
    is_utf8 = charset is None or charset[1] in {b"utf-8", b"utf8", b"us-ascii"}
    if not is_json or not is_utf8:
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", headers=[(b"accept", b"application/json")])
