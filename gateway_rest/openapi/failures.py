"""Error answers as OpenAPI describes them: one schema, and one response per HTTP status with an example of each reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway_rest import copy, errors
from kernel.errors import GiposError

PROBLEM = "Problem"
REQUEST_ID = "req_01jd0000000000000000000000"

ERROR_SCHEMAS: dict[str, Any] = {
    PROBLEM: {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "Where this kind of error is explained."},
            "title": {"type": "string", "description": "The kind of error, in the caller's language."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What happened and what to do."},
            "reason": {"type": "string", "description": "For programs, for example VALIDATION_FAILED. Never changes."},
            "request_id": {"type": "string", "description": "Quote it when you ask us."},
            "errors": {
                "type": "array",
                "description": "Everything wrong with the request, by field.",
                "items": {"$ref": "#/components/schemas/ProblemField"},
            },
            "violated_policies": {
                "type": "array",
                "description": "With 429: the limits that were reached, by their names in the header RateLimit-Policy.",
                "items": {"type": "string"},
            },
        },
        "required": ["type", "title", "status", "detail", "reason", "request_id", "errors"],
    },
    "ProblemField": {
        "type": "object",
        "description": "One thing wrong with a request.",
        "properties": {
            "field": {"type": "string", "description": "Path in the request, for example lines[0].quantity."},
            "reason": {"type": "string", "description": "For programs, for example OUT_OF_RANGE."},
            "message": {"type": "string", "description": "For people."},
        },
        "required": ["field", "reason", "message"],
    },
}

_OWN = {
    400: ("VALIDATION_FAILED", "MALFORMED_JSON"),
    401: ("UNAUTHENTICATED",),
    403: ("PERMISSION_DENIED",),
    404: ("RESOURCE_NOT_FOUND",),
    409: ("ALREADY_EXISTS",),
    412: ("VERSION_CONFLICT",),
    413: ("PAYLOAD_TOO_LARGE",),
    415: ("UNSUPPORTED_MEDIA_TYPE",),
    422: ("IDEMPOTENCY_MISMATCH",),
    429: ("RATE_LIMITED",),
    503: ("SERVICE_UNREACHABLE",),
}
"""The statuses that operations list, each with what the gateway itself says or what one meets first."""
_FIELD = {"field": "price", "reason": "REQUIRED", "message": 'price is required, for example {"amount": 15000}.'}


def kinds() -> Iterator[type[GiposError]]:
    """Every class of error that services raise, in order of declaration."""

    def below(parent: type[GiposError]) -> Iterator[type[GiposError]]:
        for kind in parent.__subclasses__():
            yield kind
            yield from below(kind)

    yield from (kind for kind in below(GiposError) if kind.__module__ == GiposError.__module__)


def status_of(kind: type[GiposError]) -> int:
    """The HTTP status of a class of error."""
    return errors.HTTP_BY_REASON.get(kind.reason, errors.HTTP_STATUS[kind.code])


def name(status: int) -> str:
    """The component name of a status."""
    return f"Error{status}"


def reference(status: int) -> dict[str, str]:
    """A reference to the response of a status."""
    return {"$ref": f"#/components/responses/{name(status)}"}


def responses() -> dict[str, Any]:
    """The response components, `Error` being any other."""
    reasons = {status: list(own) for status, own in _OWN.items()}
    for kind in kinds():
        listed = reasons.get(status_of(kind))
        if listed is not None and kind.reason not in listed:
            listed.append(kind.reason)
    result = {name(status): _response(status, found) for status, found in reasons.items()}
    return {"Error": _response(500, ["INTERNAL"], description="Any other error."), **result}


def _response(status: int, reasons: list[str], description: str = "") -> dict[str, Any]:
    examples = {
        reason: {"summary": copy.title(copy.DEFAULT, reason, status), "value": _problem(status, reason)} for reason in reasons
    }
    headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    if status in {429, 503}:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    if status == 429:
        headers |= {header: {"$ref": f"#/components/headers/{header}"} for header in ("RateLimit", "RateLimit-Policy")}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "How to identify oneself (RFC 6750).", "schema": {"type": "string"}}
    content = {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}, "examples": examples}
    return {
        "description": description or f"{copy.title(copy.DEFAULT, '', status)}.",
        "headers": headers,
        "content": {"application/problem+json": content},
    }


def _problem(status: int, reason: str) -> dict[str, Any]:
    violations = (_FIELD,) if reason == "VALIDATION_FAILED" else ()
    detail = copy.advice(copy.DEFAULT, reason) or copy.title(copy.DEFAULT, reason, status)
    return errors.Problem(status, reason, detail, violations=violations).body(REQUEST_ID, copy.DEFAULT)
