"""The door of every call: request id, caller, log line, and errors turned into google.rpc.Status. Rules never see gRPC."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from cloud.platform import telemetry
from kernel import errors
from kernel.ids import new_id

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

DOMAIN = "gipos"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPEN_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")

logger = structlog.get_logger()


@dataclass(frozen=True)
class Caller:
    """Who makes the call."""

    tenant_id: str
    key_id: str
    mode: str
    """"test" or "live"."""
    scopes: frozenset[str]
    till_id: str = ""
    """Set when the caller is a till."""
    outlet_id: str = ""


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """The authenticated caller of the call being served."""
    return _caller.get()


Authenticate = Callable[[Mapping[str, str], str], Awaitable[Caller]]
"""Metadata and method to caller; raises Unauthenticated or PermissionDenied."""


class Door(grpc.aio.ServerInterceptor):
    """Wraps every handler. Written against unary-unary, unary-stream and stream-stream, the three kinds we have."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Called by grpc for each call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN_SERVICES):
            return handler
        if handler.response_streaming:
            inner_stream: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
            assert inner_stream is not None
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
            return make(
                self._streaming(method, inner_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        inner = handler.unary_unary
        assert inner is not None
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _enter(self, method: str, context: Context) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        given = metadata.get("x-request-id", "")
        telemetry.request_id.set(given if _REQUEST_ID.fullmatch(given) else new_id("req"))
        _caller.set(await self._authenticate(metadata, method))

    def _unary(self, method: str, inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def serve(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            outcome = "OK"
            try:
                await self._enter(method, context)
                return await inner(request, context)
            except errors.GiposError as error:
                outcome = error.reason
                await refuse(context, error)
            except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError):
                outcome = "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001 (the last line of defence: logged here, answered with an id only)
                outcome = "INTERNAL"
                await refuse(context, unexpected(method, error))
            finally:
                logger.info(
                    "rpc",
                    method=method,
                    outcome=outcome,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                    tenant_id=who.tenant_id if (who := _caller.get(None)) else "",
                )

        return serve

    def _streaming(
        self, method: str, inner: Callable[[Any, Any], AsyncIterator[Any]]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self._enter(method, context)
                logger.info("stream_opened", method=method, tenant_id=caller().tenant_id)
                async for response in inner(request, context):
                    yield response
            except errors.GiposError as error:
                await refuse(context, error)
            except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError, GeneratorExit):
                raise
            except Exception as error:  # noqa: BLE001 (as above)
                await refuse(context, unexpected(method, error))
            finally:
                logger.info("stream_closed", method=method)

        return serve


def unexpected(method: str, error: Exception) -> errors.GiposError:
    """What the caller hears of an error nobody foresaw: an id to quote. The log gets the rest."""
    logger.error("rpc_failed", method=method, exc_info=error)
    return errors.GiposError(
        "Something went wrong on our side. Nothing is known to be changed; try again, or tell us the request id."
    )


async def refuse(context: Context, error: errors.GiposError) -> NoReturn:
    """Ends the call with the error as google.rpc.Status: one ErrorInfo, the violations, the request id."""
    status = status_pb2.Status(code=error.code, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.facts)
    details: list[Any] = [info, error_details_pb2.RequestInfo(request_id=telemetry.request_id.get())]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, reason=violation.reason, description=violation.message)
        details.append(bad)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    converted = rpc_status.to_status(status)
    context.set_trailing_metadata(converted.trailing_metadata)
    await context.abort(converted.code, converted.details, converted.trailing_metadata)
    raise AssertionError  # abort never returns
