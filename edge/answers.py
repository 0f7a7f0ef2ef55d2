"""What an error of the cloud says beside its status: a reason that programs can tell apart, and values. It judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    # Exists only for type checkers.
    from grpc import aio


def reason(error: aio.AioRpcError) -> tuple[str, Mapping[str, str]]:
    """Why the cloud said no, and what belongs to it; nothing when it was not the cloud who said it."""
    info = error_details_pb2.ErrorInfo()
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # reads the trailing metadata of this kind of error just as well
        for detail in status.details if status is not None else ():
            if detail.Unpack(info):
                return info.reason, dict(info.metadata)
    except (ValueError, DecodeError):
        # Somebody in between has changed the status, or it was never the cloud's. What is left of it still ends the call.
        return "", {}
    return "", {}
