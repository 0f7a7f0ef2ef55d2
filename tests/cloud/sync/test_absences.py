"""Streams of a cloud whose database goes away and comes back: a relay before a real one, cut and opened again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from sqlalchemy.engine import make_url

from cloud.platform import wakeups
from cloud.sync import letters, patience
from gipos.edge.v1.link_pb2 import Hello, LanePosition, LinkRequest, Ping
from gipos.v1 import devices_pb2_grpc
from gipos.v1.devices_pb2 import SendCommandRequest
from kernel.capabilities import ALL


class Relay:
    """Passes on what goes to PostgreSQL's socket and comes from it."""

    def __init__(self) -> None:
        self.socket = ""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self.socket)
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
def relay() -> Relay:
    return Relay()


@pytest.fixture
async def database_url(database_url: str, relay: Relay) -> AsyncIterator[str]:
    """The database behind the relay."""
    url = make_url(database_url)
    relay.socket = f"{url.query['host']}/.s.PGSQL.{url.port or 5432}"
    await relay.open()
    yield url.set(host="127.0.0.1", port=relay.port, query={}).render_as_string(hide_password=False)
    await relay.cut()


@asynccontextmanager
async def following(shop: Any) -> AsyncIterator[Callable[..., Any]]:
    """A till that is up to date; what it gives says something and answers the next frame of a kind, if one is named."""
    positions = [LanePosition(lane=lane, epoch=1, seq=0) for lane in ("tenant", shop.outlets[0])]
    call = shop.link.Link(metadata=shop.till_auth(0))

    async def talk(kind: str, **said: Any) -> Any:
        if said:
            await call.write(LinkRequest(**said))
        async with asyncio.timeout(30):
            while kind:
                frame = await call.read()
                assert frame is not grpc.aio.EOF, await call.details()
                if frame.WhichOneof("frame") == kind:
                    return getattr(frame, kind)
        return None

    await talk("policy", hello=Hello(store_epoch=1, capabilities=sorted(ALL), positions=positions))
    try:
        yield talk
    finally:
        call.cancel()


async def test_a_stream_outlives_a_short_absence_of_the_database(
    shop: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 0.1)
    looks: list[object] = []
    look = letters.hand_over

    async def counted(*given: Any) -> bytes:
        looks.append(given)
        return await look(*given)

    monkeypatch.setattr(letters, "hand_over", counted)
    async with following(shop) as talk:
        before = len(looks)
        await relay.cut()
        await talk("", operations={"operations": [{"op_seq": 1, "op_id": "sal_1"}]})
        for number in (1, 2, 3):  # each wakes the stream, which then finds that it cannot read
            assert (await talk("progress", ping=Ping(number=number))).number == number
        with pytest.raises(grpc.aio.AioRpcError):
            await shop.product()
        assert (await talk("progress", ping=Ping(number=4))).number == 4
        await relay.open()
        assert (await talk("stored")).op_watermark == 1, "it is tried again here, the till need not come back with it"
        await shop.product()
        await talk("changes")
        assert len(looks) == before, "nobody rang, and all streams would have looked in the same moment"
        asked = SendCommandRequest(device_id=shop.tills[0]["id"], kind="open_drawer")
        sent = await devices_pb2_grpc.DeviceServiceStub(shop.channel).SendCommand(asked, metadata=shop.auth)
        assert (await talk("command")).command_id == sent.id


async def test_a_stream_ends_when_its_process_finds_no_database_for_long(
    shop: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    async with following(shop) as talk:
        await relay.cut()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await talk("nothing", ping=Ping(number=1))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, "another process may have one"
        await relay.open()
