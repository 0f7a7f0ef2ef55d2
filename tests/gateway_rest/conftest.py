"""A real gRPC server that records and answers as it is told, the real gateway in front of it, and a client on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import google.api
import grpc
import pytest
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc

import gipos
from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.contract import Contract, installed

HERE = Path(__file__).parent


class Cloud:
    """Answers every method of a contract: with what the test says, else with an empty message."""

    def __init__(self, contract: Contract) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.deadlines: list[float | None] = []
        self.answers: dict[str, Callable[[Any, Any], Any]] = {}
        self.cancelled = asyncio.Event()
        self.contract = contract
        self.health = health.aio.HealthServicer()
        self.server: Any = None
        self.port = 0

    async def start(self) -> None:
        # One port for the whole test, also over restarts; two servers on it by accident would share the calls.
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for file in self.contract.files.file:
            if file.package not in self.contract.packages:
                continue
            for service in file.service:
                name = f"{file.package}.{service.name}"
                handlers = {
                    method.name: self._handler(self.contract.pool.FindMethodByName(f"{name}.{method.name}"))
                    for method in service.method
                }
                self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    def answer(self, method: str, behaviour: Any) -> None:
        """`behaviour` is a message, or an async function of request and context; async generator for streams."""
        if callable(behaviour):
            self.answers[method] = behaviour
        else:

            async def same(_request: Any, _context: Any) -> Any:
                return behaviour

            self.answers[method] = same

    def _handler(self, rpc: Any) -> Any:
        request_class = message_factory.GetMessageClass(rpc.input_type)
        response_class = message_factory.GetMessageClass(rpc.output_type)

        def note(request: Any, context: Any) -> None:
            self.requests.append(request)
            self.metadata.append({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
            self.deadlines.append(context.time_remaining())

        async def unary(request: Any, context: Any) -> Any:
            note(request, context)
            behaviour = self.answers.get(rpc.name)
            if behaviour is None:
                return request if request_class is response_class else response_class()
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            note(request, context)
            try:
                async for item in self.answers[rpc.name](request, context):
                    yield item
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled.set()
                raise

        make = grpc.unary_stream_rpc_method_handler if rpc.server_streaming else grpc.unary_unary_rpc_method_handler
        return make(
            stream if rpc.server_streaming else unary,
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )


async def refuse(
    context: Any,
    code: grpc.StatusCode,
    reason: str,
    message: str,
    violations: tuple[tuple[str, str, str], ...] = (),
    details: tuple[Any, ...] = (),
    **facts: str,
) -> None:
    """Ends a call as the cloud does: one ErrorInfo, the violations, further details."""
    status = status_pb2.Status(code=code.value[0], message=message)
    bad = error_details_pb2.BadRequest()
    for field, why, text in violations:
        bad.field_violations.add(field=field, reason=why, description=text)
    info = error_details_pb2.ErrorInfo(reason=reason, domain="gipos", metadata=facts)
    for detail in (info, *((bad,) if violations else ()), *details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    converted = rpc_status.to_status(status)
    await context.abort(converted.code, converted.details, converted.trailing_metadata)


@pytest.fixture(name="refuse")
def refuse_fixture() -> Any:
    return refuse


class Rest:
    """A gateway on a port, and a client of it."""

    def __init__(self, gateway: Gateway, server: Server, url: str, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.server = server
        self.url = url
        self.session = session

    def __call__(self, method: str, path: str, **options: Any) -> Any:
        from yarl import URL

        return self.session.request(method, URL(self.url + path, encoded=True), allow_redirects=False, **options)


KEY = {"Authorization": "Bearer gipos_test_key"}
"""The gateway itself asks for a credential, whatever it is."""


async def _serve(
    contract: Contract, address: str, *, server_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Rest]:
    gateway = Gateway(contract, lambda: GrpcChannel(address), **options)
    config = configured(gateway, graceful_seconds=2, **(server_options or {}))
    server = Server(config, gateway)
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done()
    scheme = "https" if server_options and "tls_cert" in server_options else "http"
    async with aiohttp.ClientSession(headers=KEY if contract.needs_credentials else None) as session:
        yield Rest(gateway, server, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", session)
    server.should_exit = True
    await task


@pytest.fixture(name="serve")
def serve_fixture() -> Any:
    """Serves a contract before any gRPC server."""
    return _serve


@pytest.fixture(scope="session")
def fake_cloud() -> type[Cloud]:
    """Makes a cloud for a contract of the test's own."""
    return Cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    """A cloud with the product's contract."""
    running = Cloud(installed())
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def rest(cloud: Cloud) -> AsyncIterator[Rest]:
    """The gateway before it."""
    async for running in _serve(cloud.contract, f"127.0.0.1:{cloud.port}"):
        yield running


@pytest.fixture
async def chatty_rest(cloud: Cloud) -> AsyncIterator[Rest]:
    """A gateway that keeps quiet streams alive many times a second."""
    async for running in _serve(cloud.contract, f"127.0.0.1:{cloud.port}", keep_alive_seconds=0.05):
        yield running


@pytest.fixture(scope="session")
def compile_proto(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Contract]:
    """Compiles the text of a proto file into a contract with a pool of its own."""

    def compile_text(text: str, package: str) -> Contract:
        folder = tmp_path_factory.mktemp("proto")
        (folder / "test.proto").write_text(text)
        roots = [str(folder), str(Path(next(iter(gipos.__path__))).parent), str(Path(next(iter(google.api.__path__))).parents[1])]
        includes = [f"-I{root}" for root in (*roots, str(Path(protoc.__file__).parent / "_proto"))]
        target = folder / "set.binpb"
        arguments = ["protoc", *includes, "--include_imports", "--include_source_info", f"-o{target}", "test.proto"]
        assert protoc.main(arguments) == 0
        files = FileDescriptorSet.FromString(target.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.AddSerializedFile(file.SerializeToString())
        return Contract(files, pool, (package,))

    return compile_text


@pytest.fixture(scope="session")
def routes_contract(compile_proto: Callable[[str, str], Contract]) -> Contract:
    return compile_proto((HERE / "routes.proto").read_text(), "routes.v1")


@pytest.fixture
async def echo(routes_contract: Contract) -> AsyncIterator[Cloud]:
    """A cloud with the contract of routes.proto; unary calls echo their request."""
    running = Cloud(routes_contract)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def echo_rest(echo: Cloud) -> AsyncIterator[Rest]:
    """The gateway before the echo."""
    async for running in _serve(echo.contract, f"127.0.0.1:{echo.port}"):
        yield running


async def _everything(reader: asyncio.StreamReader) -> bytes:
    """What came until the end, also when the other side closed while something was still on its way to it."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(65536):
            data += piece
    return data


@pytest.fixture
def talk() -> Callable[..., Any]:
    """Writes bytes to a port piece by piece, as no client library would, and reads what comes until the other side closes."""

    async def exchange(url: str, *pieces: bytes, pause: float = 0.0) -> bytes:
        host, _, port = url.partition("//")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        reading = asyncio.ensure_future(_everything(reader))
        try:
            async with asyncio.timeout(20):
                for piece in pieces:
                    if reading.done():
                        break
                    writer.write(piece)
                    await asyncio.sleep(pause)
                return await reading
        finally:
            reading.cancel()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    return exchange


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
