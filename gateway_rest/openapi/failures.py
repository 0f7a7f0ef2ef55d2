"""Error answers as OpenAPI describes them: one schema, and one response per HTTP status that can come."""

from __future__ import annotations

from typing import Any

from gateway_rest import copy

PROBLEM = "Problem"

ERROR_SCHEMAS: dict[str, Any] = {
    PROBLEM: {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string", "description": "A URN of the reason."},
            "title": {"type": "string", "description": "The kind of error, in the caller's language."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What happened and what to do."},
            "reason": {"type": "string", "description": "For programs, for example VALIDATION_FAILED. Never changes."},
            "request_id": {"type": "string", "description": "Quote it when you ask us."},
            "errors": {
                "type": "array",
                "description": "Everything wrong with the request, by field.",
                "items": {"$ref": "#/components/schemas/ProblemField"},
            },
        },
        "required": ["type", "title", "status", "detail", "reason", "request_id", "errors"],
    },
    "ProblemField": {
        "type": "object",
        "properties": {
            "field": {"type": "string", "description": "Path in the request, for example lines[0].quantity."},
            "reason": {"type": "string", "description": "For programs, for example OUT_OF_RANGE."},
            "message": {"type": "string", "description": "For people."},
        },
        "required": ["field", "reason", "message"],
    },
}

_REASONS = {
    400: "VALIDATION_FAILED",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "VERSION_CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "IDEMPOTENCY_MISMATCH",
    429: "RATE_LIMITED",
    503: "SERVICE_UNREACHABLE",
}
_FIELD_EXAMPLE = {"field": "price", "reason": "REQUIRED", "message": 'price is required, for example {"amount": 15000}.'}


def name(status: int) -> str:
    """The component name of a status."""
    return f"Error{status}"


def reference(status: int) -> dict[str, str]:
    """A reference to the response of a status."""
    return {"$ref": f"#/components/responses/{name(status)}"}


def responses() -> dict[str, Any]:
    """The response components, `Error` being any other."""
    result = {name(status): _response(status, reason) for status, reason in _REASONS.items()}
    return {"Error": _response(500, "INTERNAL", description="Any other error."), **result}


def _response(status: int, reason: str, description: str = "") -> dict[str, Any]:
    title = copy.title(copy.DEFAULT, reason, status)
    example = {
        "type": f"urn:gipos:error:{reason.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": title + ".",
        "reason": reason,
        "request_id": "req_01jd0000000000000000000000",
        "errors": [_FIELD_EXAMPLE] if status == 400 else [],
    }
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}}}
    if status in {429, 503}:
        headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    return {
        "description": description or f"{title}.",
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}, "example": example}},
    }
