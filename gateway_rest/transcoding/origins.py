"""Web pages as callers (CORS). The cloud says which pages may use a key; the gateway only lets browsers ask, and read errors.

A preflight carries neither key nor data, so it is answered for every page. What a page may read of a success is decided by the
cloud, which knows the key; an error may always be read, or nobody could find out what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection

Headers = dict[bytes, bytes]

REQUEST_HEADERS = (
    *("authorization", "x-api-key", "content-type", "content-encoding", "accept-language", "idempotency-key"),
    *("if-match", "if-none-match", "last-event-id", "x-request-id", "x-request-timeout", "traceparent", "tracestate", "baggage"),
)
"""What a page may send besides what every page may."""
EXPOSED = (
    *("x-request-id", "etag", "link", "location", "retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit"),
    *("x-ratelimit-remaining", "x-ratelimit-reset", "idempotent-replayed", "deprecation", "sunset", "www-authenticate", "allow"),
    "x-left-out",
)
"""What a page may read of an answer besides what every page may."""
MAX_AGE_SECONDS = 600
EXPOSE = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

_ORIGIN = re.compile(rb"[\x21-\x7e]{1,255}")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PREFLIGHT_VARY = (b"vary", b"origin, access-control-request-method, access-control-request-headers")
_ALLOW_HEADERS = (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode())
_MAX_AGE = (b"access-control-max-age", str(MAX_AGE_SECONDS).encode())


def is_preflight(headers: Headers) -> bool:
    """Whether an OPTIONS request is a browser asking on behalf of a page."""
    return b"origin" in headers and b"access-control-request-method" in headers


def preflight(headers: Headers, methods: Collection[str]) -> list[tuple[bytes, bytes]]:
    """The headers of the answer; `methods` are those of the path, empty when it takes any."""
    wanted = headers[b"access-control-request-method"]
    allowed = ", ".join(methods).encode() or (wanted if _TOKEN.fullmatch(wanted) else b"GET")
    return [
        *_echo(headers),
        (b"access-control-allow-methods", allowed),
        _ALLOW_HEADERS,
        _MAX_AGE,
        _PREFLIGHT_VARY,
    ]


def readable(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that let the page that called read an error; none when no page called."""
    echo = _echo(headers)
    return [*echo, EXPOSE] if echo else []


def _echo(headers: Headers) -> list[tuple[bytes, bytes]]:
    origin = headers.get(b"origin", b"")
    return [(b"access-control-allow-origin", origin)] if _ORIGIN.fullmatch(origin) else []
