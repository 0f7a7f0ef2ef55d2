"""The gateway's channel to a cloud in the same process: messages are handed over, not sent."""

from __future__ import annotations

from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2

from cloud.platform.local import Answered, Expired, LocalServer, LocalStream, Refused, Stopped
from cloud.platform.printed import Printed
from cloud.platform.rpc import status_of
from gateway_rest.channel import CallFailed, Metadata, PrintedReply, Reply, ReplyMetadata, Stream, StreamCall, UnaryCall


class LocalChannel:
    """Has the shape of gateway_rest.channel.Channel; see there."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def unary(self, path: str, request: type[Message], response: type[Message]) -> UnaryCall:  # noqa: ARG002 (the shape; classes are shared)
        """See Channel."""
        if not self._server.has(path):
            return _missing
        method = self._server.unary(path)

        async def call(message: Message, metadata: Metadata, timeout: float) -> Reply:  # noqa: ASYNC109 (handed to the server, which keeps it)
            try:
                answered: Answered = await method(message, dict(metadata), timeout)
            except Refused as refused:
                raise failure(refused) from refused
            except Expired:
                raise _failed(code_pb2.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            except Stopped:
                raise _failed(code_pb2.UNAVAILABLE, "The cloud is going down.") from None
            answer = answered.message
            if type(answer) is Printed:
                return PrintedReply(answer.json, answer.etag, answer.next_page_token, answer.parse, answered.headers)
            return Reply(answer, answered.headers)

        return call

    def stream(self, path: str, request: type[Message], response: type[Message]) -> StreamCall:  # noqa: ARG002 (as above)
        """See Channel."""
        known = self._server.has(path)

        def call(message: Message, metadata: Metadata) -> Stream:
            if not known:
                raise _failed(code_pb2.UNIMPLEMENTED, f"Nobody answers {path}.")
            try:
                return _Stream(self._server.stream(path)(message, dict(metadata)))
            except Stopped:
                raise _failed(code_pb2.UNAVAILABLE, "The cloud is going down.") from None

        return call

    async def is_serving(self, timeout: float) -> bool:  # noqa: ARG002, ASYNC109 (the shape; nothing is waited for here)
        """See Channel."""
        return self._server.is_serving

    async def close(self) -> None:
        """The server is not ours to stop."""


class _Stream:
    def __init__(self, stream: LocalStream) -> None:
        self._stream = stream

    async def opened(self) -> ReplyMetadata:
        try:
            return await self._stream.opened()
        except Refused as refused:
            raise failure(refused) from refused

    async def read(self) -> Message | None:
        try:
            return await self._stream.read()
        except Refused as refused:
            raise failure(refused) from refused

    def cancel(self) -> None:
        self._stream.cancel()


def failure(refused: Refused) -> CallFailed:
    """The refusal with its full status and the reply headers, as it would come over the wire."""
    return CallFailed(status_of(refused.error, refused.call.request_id), tuple(refused.call.headers))


def _failed(code: int, message: str) -> CallFailed:
    return CallFailed(status_pb2.Status(code=code, message=message))


async def _missing(_message: Message, _metadata: Metadata, _timeout: float) -> Reply:
    raise _failed(code_pb2.UNIMPLEMENTED, "Nobody answers this method.")
