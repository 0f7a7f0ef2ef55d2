"""The one way to the cloud, behind a small interface: grpc.aio between hosts, anything with the same shape inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2

Metadata = Sequence[tuple[str, str]]
ReplyMetadata = Sequence[tuple[str, str | bytes]]

_DETAILS = "grpc-status-details-bin"
_OPTIONS: list[tuple[str, Any]] = [
    # A cloud that was restarted is found again within a second; the first tries come quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    # A peer that vanished without a goodbye must not hold a stream open for ever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(slots=True)
class Reply:
    """A unary answer. Whoever gets it only reads it: inside one process it may be shared."""

    message: Message
    metadata: ReplyMetadata


class PrintedReply(Reply):
    """An answer that came printed: `json` is exactly what the codec prints of the message, which is made only if asked for."""

    __slots__ = ("_made", "_make", "etag", "json", "next_page_token")

    def __init__(
        self, json: bytes, etag: str, next_page_token: str, make: Callable[[], Message], metadata: ReplyMetadata
    ) -> None:
        self.json = json
        self.etag = etag
        """The message's own; empty when it has none."""
        self.next_page_token = next_page_token
        """As above."""
        self.metadata = metadata
        self._make = make
        self._made: Message | None = None

    @property
    def message(self) -> Message:  # type: ignore[override]  # a field of Reply, worked out when asked for
        """The message."""
        if self._made is None:
            self._made = self._make()
        return self._made


class CallFailed(Exception):
    """The call ended with another status than OK."""

    def __init__(self, status: status_pb2.Status, metadata: ReplyMetadata = ()) -> None:
        super().__init__(status.message)
        self.status = status
        self.metadata = metadata


class Stream(Protocol):
    """The answers of a server-streaming call."""

    async def opened(self) -> ReplyMetadata:
        """Waits until the service has accepted the call (or answered, or refused) and gives its headers."""

    async def read(self) -> Message | None:
        """The next message; None after the last.

        Raises:
            CallFailed: the stream ended with an error.
        """

    def cancel(self) -> None:
        """Ends the call from this side."""


UnaryCall = Callable[[Message, Metadata, float], Awaitable[Reply]]
"""Request, metadata and seconds to an answer. Raises CallFailed. Cancelling the task cancels the call.

The request belongs to the call from then on: inside one process it is handed over as it is.
"""
StreamCall = Callable[[Message, Metadata], Stream]


class Channel(Protocol):
    """What the gateway needs of the cloud."""

    def unary(self, path: str, request: type[Message], response: type[Message]) -> UnaryCall:
        """The callable of a unary method, made once per method."""

    def stream(self, path: str, request: type[Message], response: type[Message]) -> StreamCall:
        """The callable of a server-streaming method, made once per method."""

    async def is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109 (handed to the transport, which keeps it)
        """Whether the cloud answers its health check within so many seconds."""

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""


class GrpcChannel:
    """A channel over grpc.aio. Belongs to the event loop it was made in."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    def unary(self, path: str, request: type[Message], response: type[Message]) -> UnaryCall:
        """See Channel."""
        method = self._channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

        async def call(message: Message, metadata: Metadata, timeout: float) -> Reply:  # noqa: ASYNC109 (grpc keeps it, and tells the cloud)
            running: Any = method(message, metadata=tuple(metadata), timeout=timeout)
            try:
                answer = await running
                return Reply(answer, tuple(await running.initial_metadata()))
            except grpc.aio.AioRpcError as error:
                raise failure(error) from None

        return call

    def stream(self, path: str, request: type[Message], response: type[Message]) -> StreamCall:
        """See Channel."""
        method = self._channel.unary_stream(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

        def call(message: Message, metadata: Metadata) -> Stream:
            return _GrpcStream(method(message, metadata=tuple(metadata)))

        return call

    async def is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109 (handed to the transport, which keeps it)
        """See Channel."""
        try:
            answer: Any = await self._check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """See Channel."""
        await self._channel.close()


class _GrpcStream:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def opened(self) -> ReplyMetadata:
        try:
            return tuple(await self._call.initial_metadata() or ())
        except grpc.aio.AioRpcError as error:
            raise failure(error) from None

    async def read(self) -> Message | None:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise failure(error) from None
        except asyncio.CancelledError:
            if self._call.cancelled():
                return None
            raise
        if message is not grpc.aio.EOF:
            return message  # type: ignore[no-any-return]  # deserialised by the class given above
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            trailing = tuple(await self._call.trailing_metadata() or ())
            raise CallFailed(_status(code, await self._call.details() or "", trailing), trailing)
        return None

    def cancel(self) -> None:
        self._call.cancel()


def failure(error: grpc.aio.AioRpcError) -> CallFailed:
    """The error with its full status, read from the trailers where the service put it."""
    trailing = tuple(error.trailing_metadata() or ())
    both = (*(error.initial_metadata() or ()), *trailing)
    return CallFailed(_status(error.code(), error.details() or "", trailing), both)


def _status(code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]]) -> status_pb2.Status:
    for key, value in trailing:
        if key == _DETAILS and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if status.code != code_pb2.OK:
                return status
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=details)
