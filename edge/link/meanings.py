"""What the end of a stream means: whether a person must do something, and what the cashier reads meanwhile."""

from __future__ import annotations

import grpc
import structlog
from grpc import aio

from edge import answers, words
from edge.link.orders import Reconnect, Refuse

_log = structlog.get_logger(__name__)


def of(error: aio.AioRpcError) -> Reconnect | Refuse:
    """What an error of the transport, or of the cloud, means for people."""
    code = error.code()
    if code is not grpc.StatusCode.UNAVAILABLE:
        _log.warning("link_failed", code=code.name, details=error.details())
    reason, values = answers.reason(error)
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return Refuse(words.UNKNOWN_TILL)
        case grpc.StatusCode.PERMISSION_DENIED if reason == "TILL_REVOKED":
            return Refuse(words.REPLACED if values.get("cause") == "replaced" else words.LOCKED_OUT)
        case grpc.StatusCode.PERMISSION_DENIED if values.get("cause") == "session":
            return Refuse(words.TWO_TABLETS)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.FAILED_PRECONDITION:
            return Refuse(words.NOT_LET_IN.filled(details=error.details()))
        case grpc.StatusCode.UNAVAILABLE if reason == "TILL_CHANGED":
            return Reconnect("something about the till was changed", message=words.CHANGED)
        case grpc.StatusCode.UNAVAILABLE if reason:
            return Reconnect(f"the cloud cannot serve now ({reason})", message=words.RESTARTING)
        case grpc.StatusCode.UNAVAILABLE:
            return Reconnect("the cloud cannot be reached", message=words.UNREACHABLE)
        case grpc.StatusCode.INTERNAL:
            # Core reports a write after the end as INTERNAL, whatever the real status was.
            return Reconnect("the connection was interrupted")
        case _:
            return Reconnect(f"the cloud ended the connection ({code.name})")
