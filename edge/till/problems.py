"""Errors of the local API as application/problem+json: what happened, what to do, every violation; nothing of our insides."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import orjson
import structlog
from google.rpc import code_pb2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kernel.errors import GiposError, Violation

_log = structlog.get_logger(__name__)

STATUS: dict[int, int] = {
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ABORTED: 409,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.FAILED_PRECONDITION: 409,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.UNAVAILABLE: 503,
}
"""HTTP status by google.rpc.Code; anything else is a fault of ours."""


class BodyRefused(Exception):
    """A request body that cannot be read at all."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


def problem(request: Request, status: int, reason: str, detail: str, violations: Sequence[Violation] = ()) -> Response:
    """A problem+json answer."""
    content: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
        "request_id": request.state.request_id,
    }
    if violations:
        content["errors"] = [
            {"field": violation.field, "reason": violation.reason, "message": violation.message} for violation in violations
        ]
    return Response(orjson.dumps(content), status, media_type="application/problem+json")


async def of_rule(request: Request, error: Exception) -> Response:
    """A rule said no."""
    assert isinstance(error, GiposError)
    status = STATUS.get(error.code)
    if status is None:
        return await of_fault(request, error)
    return problem(request, status, error.reason, error.message, error.violations)


async def of_body(request: Request, error: Exception) -> Response:
    """The body cannot be read."""
    assert isinstance(error, BodyRefused)
    return problem(request, error.status, error.reason, error.message)


async def of_route(request: Request, error: Exception) -> Response:
    """There is no such address, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(request, 404, "ROUTE_NOT_FOUND", f"There is nothing at {request.url.path}.")
    reason = HTTPStatus(error.status_code).name
    response = problem(request, error.status_code, reason, f"{request.method} is not possible at {request.url.path}.")
    response.headers.update(error.headers or {})
    return response


async def of_full_disk(request: Request, error: Exception) -> Response:
    """The disk is full; nothing was changed."""
    return problem(request, HTTPStatus.INSUFFICIENT_STORAGE, "STORAGE_FULL", str(error))


async def of_damage(request: Request, error: Exception) -> Response:
    """A file of the till is broken and is being mended."""
    _log.error("request_met_damage", request_id=request.state.request_id, path=request.url.path, error=repr(error))
    text = (
        "Berkas tablet rusak dan sedang dipulihkan; tidak ada yang dijual. Coba lagi sebentar lagi."
        " / A file of this tablet is damaged and is being restored; nothing was sold. Try again in a moment."
    )
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, "STORAGE_DAMAGED", text)


async def of_fault(request: Request, error: Exception) -> Response:
    """Our fault; the log has the rest."""
    request_id = request.state.request_id
    _log.error("request_fault", request_id=request_id, path=request.url.path, exc_info=error)
    text = (
        f"Program kasir bermasalah. Beri tahu bantuan GiPos kode {request_id}."
        f" / Something went wrong in the till's program. Tell support the code {request_id}."
    )
    return problem(request, 500, "INTERNAL", text)
