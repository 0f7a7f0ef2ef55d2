"""The gRPC service behind both transcoders: it keeps what it saw, by the number of the request, and echoes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import message_factory

from gateway_rest.contract import Contract

NUMBER = "x-request-id"
"""The header, and metadata, with the number of a request."""
PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff"


class EchoService:
    """One gRPC server for one transcoder."""

    def __init__(self, contract: Contract, service: str) -> None:
        self._contract = contract
        self._service = service
        self._server: Any = None
        self.port = 0
        self.seen: dict[str, tuple[str, bytes]] = {}
        """Number of the request to method and message, serialised the deterministic way."""

    async def start(self) -> None:
        """Listens on a free port of loopback."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        descriptor = self._contract.pool.FindServiceByName(self._service)
        handlers = {method.name: self._handler(method) for method in descriptor.methods}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self._service, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Ends at once."""
        await self._server.stop(None)

    def _handler(self, rpc: Any) -> Any:
        request_class = message_factory.GetMessageClass(rpc.input_type)
        response_class = message_factory.GetMessageClass(rpc.output_type)

        def note(request: Any, context: Any) -> None:
            number = dict(context.invocation_metadata()).get(NUMBER, "")
            self.seen[number] = (rpc.name, request.SerializeToString(deterministic=True))

        async def unary(request: Any, context: Any) -> Any:
            note(request, context)
            if rpc.name == "Update":
                return request.item
            await _fail(request, context)
            if rpc.name == "Picture":
                return response_class(content_type="image/png", data=PICTURE)
            return request if request_class is response_class else response_class()

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            note(request, context)
            for _ in range(min(max(request.count, 0), 5)):
                yield request
            await _fail(request, context)

        make = grpc.unary_stream_rpc_method_handler if rpc.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(
            stream if rpc.server_streaming else unary,
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )


async def _fail(request: Any, context: Any) -> None:
    for code in grpc.StatusCode:
        if code.value[0] == request.fail and code is not grpc.StatusCode.OK:
            await context.abort(code, "as asked")
