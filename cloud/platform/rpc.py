"""gRPC's way to the door: metadata in, reply headers out, errors as google.rpc.Status. Rules never see gRPC."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from cloud.platform import door, printed
from cloud.platform.calls import Call, Caller, caller
from cloud.platform.door import Door
from kernel import errors

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

__all__ = ["Caller", "GrpcDoor", "caller", "status_of"]

DOMAIN = "gipos"
TOLD_BYTES = 4096
"""Of a status that goes over the wire. It travels as metadata, of which gRPC's clients take 8 KiB unless they say otherwise; with
more they would see RESOURCE_EXHAUSTED instead of what happened."""
_LONGEST = 300
"""Bytes of a text in such a status; a caller may have named anything."""
_TILLS = "/gipos.edge.v1."
"""Services whose callers may have shown a certificate; nobody else is asked for one."""
_OPEN_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")

door.let_pass(grpc.aio.AbortError, grpc.aio.UsageError)


class GrpcDoor(grpc.aio.ServerInterceptor):
    """Wraps every handler. Written against unary-unary, unary-stream and stream-stream, the three kinds we have."""

    def __init__(self, inside: Door) -> None:
        self._door = inside

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
                response_serializer=printed.serialiser(handler.response_serializer or bytes),
            )
        inner = handler.unary_unary
        assert inner is not None
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=printed.serialiser(handler.response_serializer or bytes),
        )

    def _arrive(self, method: str, context: Context) -> Call:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        call = self._door.arrive(method, metadata, address_of(context.peer()))
        if method.startswith(_TILLS):
            call.certificate = certificate_of(context)
        return call

    def _unary(self, method: str, inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def serve(request: Any, context: Context) -> Any:
            call = self._arrive(method, context)
            try:
                answer = await self._door.unary(call, inner, request, context)
            except errors.GiposError as error:
                await refuse(context, call, error)
            if call.headers:
                await context.send_initial_metadata(call.headers)
            return answer

        return serve

    def _streaming(
        self, method: str, inner: Callable[[Any, Any], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Any], Awaitable[None]]:
        # A coroutine that writes, where gRPC would take a generator as well: what each open stream needs is kept small.
        async def serve(request: Any, context: Context) -> None:
            call = self._arrive(method, context)
            try:
                await self._door.stream(call, inner, request, context, _Sender(call, context).send)
            except errors.GiposError as error:
                await refuse(context, call, error)

        return serve


class _Sender:
    """Writes the answers of one stream, the call's headers before the first."""

    __slots__ = ("_call", "_context")

    def __init__(self, call: Call, context: Context) -> None:
        self._call: Call | None = call
        self._context = context

    async def send(self, response: Any) -> None:
        call, self._call = self._call, None
        if call is not None and call.headers:
            # A service may have said before that it is there, with these same headers; gRPC takes them once.
            with suppress(grpc.aio.UsageError):
                await self._context.send_initial_metadata(call.headers)
        await self._context.write(response)


def certificate_of(context: Context) -> bytes:
    """The certificate of a client, DER, if its connection is one that asks for them; else nothing."""
    shown: Any = (context.auth_context() or {}).get("x509_pem_cert")
    return ssl.PEM_cert_to_DER_cert(shown[0].decode("ascii")) if shown else b""


def address_of(peer: str) -> str:
    """The address within what gRPC calls a peer: `ipv4:127.0.0.1:50312` or `ipv6:%5B::1%5D:50312`."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")


def status_of(error: errors.GiposError, request_id: str) -> status_pb2.Status:
    """The error as google.rpc.Status: one ErrorInfo, the request id, the violations."""
    status = status_pb2.Status(code=error.code, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.facts)
    details: list[Any] = [info, error_details_pb2.RequestInfo(request_id=request_id)]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, reason=violation.reason, description=violation.message)
        details.append(bad)
    if error.retry_seconds:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_seconds * 1000))
        details.append(retry)
    if error.policies:
        quota = error_details_pb2.QuotaFailure()
        for policy in error.policies:
            quota.violations.add(subject=policy, description=error.message)
        details.append(quota)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def shortened(error: errors.GiposError) -> errors.GiposError:
    """The error itself, or one that says the same in few enough bytes for any client."""
    size = len(error.message.encode()) + sum(len(value.encode()) for value in error.facts.values())
    size += sum(_cost(violation) for violation in error.violations)
    if size <= TOLD_BYTES and len(error.message.encode()) <= _LONGEST:
        return error
    told = type(error).__new__(type(error))
    facts = {name: _cut(value) for name, value in error.facts.items()}
    errors.GiposError.__init__(told, _cut(error.message), _first(error.violations), **facts)
    told.retry_seconds, told.policies = error.retry_seconds, error.policies
    return told


def _first(violations: Sequence[errors.Violation]) -> list[errors.Violation]:
    """As many as there is room for, and how many more there are."""
    found: list[errors.Violation] = []
    room = TOLD_BYTES // 2
    for violation in violations:
        short = errors.Violation(_cut(violation.field), violation.reason, _cut(violation.message))
        room -= _cost(short)
        if room < 0:
            more = f"There are {len(violations) - len(found)} more. Correct these first."
            return [*found, errors.Violation("", "MORE_VIOLATIONS", more)]
        found.append(short)
    return found


def _cost(violation: errors.Violation) -> int:
    return len(violation.field.encode()) + len(violation.reason) + len(violation.message.encode()) + 8


def _cut(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= _LONGEST else raw[:_LONGEST].decode(errors="ignore") + "…"


async def refuse(context: Context, call: Call, error: errors.GiposError) -> NoReturn:
    """Ends the call with the error; its reply headers go out with the trailers."""
    converted = rpc_status.to_status(status_of(shortened(error), call.request_id))
    trailing = (*(converted.trailing_metadata or ()), *call.headers)
    context.set_trailing_metadata(trailing)
    await context.abort(converted.code, converted.details, trailing)
    raise AssertionError  # abort never returns
