"""google.rpc.Status to problem+json, in this one place. A text without a reason of ours stays inside: it may hold internals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gateway_rest import copy
from gateway_rest.channel import CallFailed
from kernel.protojson import JsonRefused
from kernel.protojson.schemas import describe

HTTP_STATUS: dict[int, int] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
    code_pb2.UNAUTHENTICATED: 401,
}
"""As the comments of google/rpc/code.proto say."""
CONTENT_TYPE = b"application/problem+json"
STALE = "VERSION_CONFLICT"
"""The reason that HTTP tells as 412 to who made the change conditional."""

_CODES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    405: 12,
    406: 3,
    408: 4,
    409: 10,
    412: 10,
    413: 11,
    414: 11,
    415: 3,
    422: 9,
    429: 8,
    431: 11,
    501: 12,
    504: 4,
}
_PLAIN_REASONS: dict[int, str] = {
    code_pb2.UNAVAILABLE: "SERVICE_UNREACHABLE",
    code_pb2.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    code_pb2.UNKNOWN: "INTERNAL",
    code_pb2.INTERNAL: "INTERNAL",
    code_pb2.DATA_LOSS: "INTERNAL",
}
"""What a status without a reason of ours comes from: the transport, or an accident. Its text stays inside."""
_RETRY_SECONDS = "1"
_HEADER_SAFE = re.compile(r"[^\x20-\x7e]|[\"\\]")


@dataclass(frozen=True)
class Problem:
    """An error as a caller of HTTP sees it."""

    status: int
    """HTTP status."""
    reason: str
    """For programs, UPPER_SNAKE."""
    detail: str
    """For people, in English; replaced by the caller's language where we have the words."""
    facts: dict[str, str] = field(default_factory=dict)
    violations: tuple[dict[str, str], ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    code: int = 0
    """The google.rpc.Code, for WebSocket close codes."""
    policies: tuple[str, ...] = ()
    """The limits that were reached, by their names in RateLimit-Policy."""

    def body(self, request_id: str, language: str) -> dict[str, Any]:
        """The JSON object."""
        facts = {"count": str(len(self.violations)), **self.facts, "request_id": request_id}
        worded = copy.detail(language, self.reason, facts)
        if self.reason == "VALIDATION_FAILED" and not self.violations:
            worded = None
        if worded is None and self.detail and language != copy.DEFAULT:
            worded = _introduced(copy.advised(language, self.reason, self.status), self.detail)
        violations = [
            {**one, "message": _introduced(copy.violation(language, one["reason"]), one["message"])}
            if language != copy.DEFAULT
            else one
            for one in self.violations
        ]
        reached = {"violated_policies": list(self.policies)} if self.policies else {}
        return {
            "type": f"/docs/errors#{self.reason.lower().replace('_', '-')}",
            "title": copy.title(language, self.reason, self.status),
            "status": self.status,
            "detail": worded or self.detail or copy.title(language, self.reason, self.status),
            "reason": self.reason,
            "request_id": request_id,
            "errors": violations,
            **reached,
        }

    def encode(self, request_id: str, language: str) -> bytes:
        """The JSON text."""
        return orjson.dumps(self.body(request_id, language))


def _introduced(general: str, particular: str) -> str:
    """What can be said in the caller's language, then the service's own words: they name the values, but are English."""
    return f"{general} ({particular})" if general and particular else general or particular


class Refusal(Exception):
    """The gateway itself refuses the request."""

    def __init__(
        self, status: int, reason: str, headers: Iterable[tuple[bytes, bytes]] = (), detail: str = "", **facts: str
    ) -> None:
        super().__init__(reason)
        self.problem = Problem(
            status=status,
            reason=reason,
            detail=detail,
            facts=facts,
            headers=tuple(headers),
            code=_CODES.get(status, code_pb2.UNAVAILABLE),
        )


def from_json(refusal: JsonRefused) -> Problem:
    """A request that could not be read."""
    first = refusal.violations[0]
    if first.reason == "MALFORMED_JSON":
        return Problem(400, "MALFORMED_JSON", refusal.message, {"problem": first.message}, _listed(refusal), (), 3)
    return Problem(400, "VALIDATION_FAILED", refusal.message, {}, _listed(refusal), (), 3)


def unidentified() -> Refusal:
    """A request without any credential. Told before its body is read; whether a credential is right, the cloud decides."""
    # RFC 6750 §3.1: no error code when the caller may simply not have known that one is needed.
    challenge = (b"www-authenticate", b'Bearer realm="gipos"')
    detail = "An API key is missing. Send the header Authorization: Bearer gipos_test_… or gipos_live_…."
    return Refusal(401, "UNAUTHENTICATED", headers=[challenge], detail=detail)


def internal() -> Problem:
    """An accident of ours. The log knows more, the caller gets the request id."""
    return Problem(500, "INTERNAL", "", code=code_pb2.INTERNAL)


HTTP_BY_REASON = {
    "IDEMPOTENCY_MISMATCH": 422,
    "NOT_REFUNDABLE": 409,
    "LIMIT_REACHED": 409,
    "NOT_ENOUGH_STOCK": 409,
    "RESERVATION_ENDED": 409,
    "CONFLICT_SETTLED": 409,
    "KEY_ENDED": 409,
    "LOCK_OUT": 409,
    "CURSOR_INVALID": 404,  # well formed as far as anybody can tell; there is just no such page
}
"""Where HTTP has a better word than the gRPC code's."""


def from_call(failed: CallFailed, *, if_match: bool = False, body_field: str = "") -> Problem:
    """The answer of a service.

    `if_match` tells whether the caller made the change conditional by a header; `body_field` is the request field that the
    HTTP body is, which callers never wrote and must not see in paths.
    """
    status = failed.status
    info, bad, retry, words, quota = _details(status)
    if info is None or not info.reason:
        return _plain(status)
    http = HTTP_BY_REASON.get(info.reason, HTTP_STATUS.get(status.code, 500))
    if info.reason == STALE and status.code == code_pb2.ABORTED and if_match:
        http = 412
    violations = tuple(
        {
            "field": violation.field.removeprefix(f"{body_field}.") if body_field else violation.field,
            "reason": violation.reason,
            "message": violation.description,
        }
        for violation in (bad.field_violations if bad is not None else ())
    )
    reason = info.reason
    if reason == "VALIDATION_FAILED" and violations and all(one["reason"] == "NOT_FOUND" for one in violations):
        # Nothing is wrong with the request but that what it refers to is not there.
        http, reason = 404, "RESOURCE_NOT_FOUND"
    headers: list[tuple[bytes, bytes]] = []
    if http == 401:
        headers.append((b"www-authenticate", _challenge(info.reason, status.message)))
    if http in {429, 503} or retry is not None:
        headers.append((b"retry-after", _retry_after(retry, failed)))
    return Problem(
        status=http,
        reason=reason,
        detail=words.message if words is not None and words.message else status.message,
        facts=dict(info.metadata),
        violations=violations,
        headers=tuple(headers),
        code=status.code,
        policies=tuple(violation.subject for violation in quota.violations) if quota is not None else (),
    )


def _plain(status: status_pb2.Status) -> Problem:
    http = HTTP_STATUS.get(status.code, 500)
    reason = _PLAIN_REASONS.get(status.code)
    if reason is not None:
        headers = ((b"retry-after", _RETRY_SECONDS.encode()),) if http == 503 else ()
        return Problem(http, reason, "", headers=headers, code=status.code)
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if http == 401:
        extra = ((b"www-authenticate", _challenge("UNAUTHENTICATED", "")),)
    elif http == 429:
        extra = ((b"retry-after", _RETRY_SECONDS.encode()),)
    name = code_pb2.Code.Name(status.code) if status.code in HTTP_STATUS else "INTERNAL"
    return Problem(http, name, status.message[:500], headers=extra, code=status.code)


def _details(
    status: status_pb2.Status,
) -> tuple[
    error_details_pb2.ErrorInfo | None,
    error_details_pb2.BadRequest | None,
    error_details_pb2.RetryInfo | None,
    error_details_pb2.LocalizedMessage | None,
    error_details_pb2.QuotaFailure | None,
]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, words = error_details_pb2.RetryInfo(), error_details_pb2.LocalizedMessage()
    quota = error_details_pb2.QuotaFailure()
    has: set[int] = set()
    for detail in status.details:
        for item in (info, bad, retry, words, quota):
            if detail.Is(describe(type(item))) and detail.Unpack(item):
                has.add(id(item))
    return (
        info if id(info) in has else None,
        bad if id(bad) in has else None,
        retry if id(retry) in has else None,
        words if id(words) in has else None,
        quota if id(quota) in has else None,
    )


def _retry_after(retry: error_details_pb2.RetryInfo | None, failed: CallFailed) -> bytes:
    if retry is not None:
        return str(max(1, math.ceil(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9))).encode()
    for key, value in failed.metadata:
        if key == "retry-after" and isinstance(value, str) and value.isdecimal():
            return value.encode()
    return _RETRY_SECONDS.encode()


def _challenge(reason: str, message: str) -> bytes:
    text = _HEADER_SAFE.sub("", message)[:200]
    tail = f', error_description="{text}"' if text else ""
    error = "invalid_token" if reason else "invalid_request"
    return f'Bearer realm="gipos", error="{error}"{tail}'.encode("ascii")


def _listed(refusal: JsonRefused) -> tuple[dict[str, str], ...]:
    return tuple({"field": item.field, "reason": item.reason, "message": item.message} for item in refusal.violations)
