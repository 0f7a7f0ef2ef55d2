"""A call within the process behaves as one over the network: its own context, its deadline, its cancellation, its pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from cloud.platform import calls, telemetry
from cloud.platform.calls import Call, Caller
from cloud.platform.door import Door
from cloud.platform.local import LocalServer
from gateway_rest.channel import CallFailed
from gipos.v1.catalog_pb2 import GetProductRequest, Product
from host.channel import LocalChannel
from kernel.errors import Invalid, Violation

ONE, MANY = "/test.Service/One", "/test.Service/Many"
METADATA = [("x-request-id", "abc"), ("x-forwarded-for", "203.0.113.9, 198.51.100.7"), ("authorization", "Bearer k")]


class Service:
    """Does what the test says."""

    def __init__(self) -> None:
        self.one: Callable[[Any], Any] = self.echo
        self.many: Callable[[Any], AsyncIterator[Any]] = self.count
        self.made = 0
        self.ended = asyncio.Event()

    async def echo(self, request: Any) -> Product:
        return Product(id=request.id)

    async def count(self, _request: Any) -> AsyncIterator[Product]:
        try:
            for _ in range(1000):
                self.made += 1
                yield Product(id=str(self.made), name=calls.call().request_id)
        finally:
            self.ended.set()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def seen() -> list[Call]:
    return []


@pytest.fixture
async def server(service: Service, seen: list[Call]) -> LocalServer:
    async def authenticate(call: Call) -> Caller:
        seen.append(call)
        return Caller("ten_1", "key_1", "test", frozenset())

    async def one(request: Any, _context: Any) -> Any:
        return await service.one(request)

    async def many(request: Any, _context: Any) -> AsyncIterator[Any]:
        async for item in service.many(request):
            yield item

    server = LocalServer(Door(authenticate))
    handlers: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.unary_stream_rpc_method_handler(many),
    }
    server.add_registered_method_handlers("test.Service", handlers)
    server.is_serving = True
    return server


@pytest.fixture
def unary(server: LocalServer) -> Any:
    method = LocalChannel(server).unary(ONE, GetProductRequest, Product)
    return lambda request, seconds=5.0, metadata=METADATA: method(request, metadata, seconds)


@pytest.fixture
def stream(server: LocalServer) -> Any:
    method = LocalChannel(server).stream(MANY, GetProductRequest, Product)
    return lambda: method(GetProductRequest(), METADATA)


async def test_a_service_sees_the_call_and_its_caller_behind_the_gateway(unary: Any, seen: list[Call]) -> None:
    reply = await unary(GetProductRequest(id="prd_1"))
    assert reply.message.id == "prd_1"
    (call,) = seen
    assert (call.method, call.request_id, call.address) == (ONE, "abc", "198.51.100.7")
    assert call.metadata["authorization"] == "Bearer k"


async def test_headers_of_an_answer_and_of_an_error_arrive(unary: Any, service: Service) -> None:
    async def noted(_request: Any) -> Product:
        calls.call().headers.append(("ratelimit", "x"))
        return Product()

    service.one = noted
    assert list((await unary(GetProductRequest())).metadata) == [("ratelimit", "x")]

    async def refused(_request: Any) -> Product:
        calls.call().headers.append(("retry-after", "3"))
        raise Invalid([Violation("name", "REQUIRED", "name is required.")])

    service.one = refused
    with pytest.raises(CallFailed) as caught:
        await unary(GetProductRequest())
    assert caught.value.metadata == (("retry-after", "3"),)
    bad = error_details_pb2.BadRequest()
    info = error_details_pb2.RequestInfo()
    assert any(detail.Unpack(bad) for detail in caught.value.status.details)
    assert any(detail.Unpack(info) for detail in caught.value.status.details)
    assert (bad.field_violations[0].field, info.request_id) == ("name", "abc")


async def test_nothing_of_a_call_is_left_with_its_caller(unary: Any, service: Service) -> None:
    ids = []

    async def remember(_request: Any) -> Product:
        ids.append(calls.call().request_id)
        await asyncio.sleep(0)
        ids.append(calls.call().request_id)
        return Product()

    service.one = remember

    async def twice(name: str) -> None:
        for _ in range(2):
            await unary(GetProductRequest(), metadata=[("x-request-id", name)])
            assert calls.current.get(None) is None
            assert not telemetry.request_id.get()

    await asyncio.gather(twice("a"), twice("b"))
    assert sorted(ids) == ["a"] * 4 + ["b"] * 4
    assert calls.current.get(None) is None


async def test_a_deadline_ends_the_service_and_only_this_call(unary: Any, service: Service) -> None:
    ended = asyncio.Event()

    async def slow(_request: Any) -> Product:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Product()

    service.one = slow
    with pytest.raises(CallFailed) as caught:
        await unary(GetProductRequest(), seconds=0.05)
    assert caught.value.status.code == code_pb2.DEADLINE_EXCEEDED
    assert ended.is_set()
    service.one = service.echo
    assert (await unary(GetProductRequest(id="next"))).message.id == "next"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_inside_a_service_is_no_deadline_of_the_call(unary: Any, service: Service) -> None:
    async def impatient(_request: Any) -> Product:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
        return Product()

    service.one = impatient
    with pytest.raises(CallFailed) as caught:
        await unary(GetProductRequest())
    assert caught.value.status.code == code_pb2.INTERNAL


async def test_whoever_leaves_ends_the_service(unary: Any, service: Service) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(_request: Any) -> Product:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Product()

    service.one = slow
    task = asyncio.create_task(unary(GetProductRequest()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_nobody_foresaw_is_told_by_an_id_only(unary: Any, service: Service) -> None:
    async def broken(_request: Any) -> Product:
        raise ZeroDivisionError("secret detail")

    service.one = broken
    with pytest.raises(CallFailed) as caught:
        await unary(GetProductRequest())
    assert caught.value.status.code == code_pb2.INTERNAL
    assert "secret" not in str(caught.value.status)


async def test_a_stream_is_not_read_ahead(stream: Any, service: Service) -> None:
    running = stream()
    await running.opened()
    assert [(await running.read()).id for _ in range(3)] == ["1", "2", "3"]
    for _ in range(50):
        await asyncio.sleep(0)
    assert service.made <= 5
    running.cancel()
    await service.ended.wait()
    assert await running.read() is None


async def test_all_reads_of_a_stream_are_one_call_whichever_task_reads(stream: Any) -> None:
    running = stream()
    names = {(await asyncio.create_task(running.read())).name for _ in range(5)}
    running.cancel()
    assert names == {"abc"}
    assert calls.current.get(None) is None


async def test_a_stream_ends_with_its_last_message_or_with_its_error(stream: Any, service: Service) -> None:
    async def short(_request: Any) -> AsyncIterator[Product]:
        yield Product(id="1")
        yield Product(id="2")

    service.many = short
    running = stream()
    got = []
    while (message := await running.read()) is not None:
        got.append(message.id)
    assert got == ["1", "2"]
    assert await running.read() is None

    async def failing(_request: Any) -> AsyncIterator[Product]:
        yield Product(id="1")
        raise Invalid([Violation("cursor", "CURSOR_INVALID", "no")])

    service.many = failing
    running = stream()
    assert (await running.read()).id == "1"
    for _ in range(2):
        with pytest.raises(CallFailed) as caught:
            await running.read()
        assert caught.value.status.code == code_pb2.INVALID_ARGUMENT


async def test_a_server_that_stops_ends_streams_and_takes_no_calls(
    server: LocalServer, stream: Any, unary: Any, service: Service
) -> None:
    running = stream()
    await running.read()
    await server.stop(0.01)
    await service.ended.wait()
    assert not await LocalChannel(server).is_serving(1.0)
    for call in (unary(GetProductRequest()),):
        with pytest.raises(CallFailed) as caught:
            await call
        assert caught.value.status.code == code_pb2.UNAVAILABLE
    with pytest.raises(CallFailed) as caught:
        stream()
    assert caught.value.status.code == code_pb2.UNAVAILABLE


async def test_what_nobody_serves_is_said_to_be_so(server: LocalServer) -> None:
    channel = LocalChannel(server)
    with pytest.raises(CallFailed) as caught:
        await channel.unary("/test.Service/None", GetProductRequest, Product)(GetProductRequest(), (), 1.0)
    assert caught.value.status.code == code_pb2.UNIMPLEMENTED
    with pytest.raises(CallFailed) as caught:
        channel.stream("/test.Service/None", GetProductRequest, Product)(GetProductRequest(), ())
    assert caught.value.status.code == code_pb2.UNIMPLEMENTED
