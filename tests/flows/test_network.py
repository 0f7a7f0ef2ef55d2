"""The same story with the wire itself cut: each till talks to the cloud through a relay that the test can break."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from scripts.benchmarks.platform import free_port_base
from scripts.stack.arguments import Layout
from scripts.stack.plan import Plan
from scripts.stack.session import Session
from scripts.story.chapters import Story
from scripts.story.world import Till, World


class Relay:
    """Passes bytes between a till and the cloud until it is cut. A cut is silent: what is open hangs, as on a dead link."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()
        for (
            writer
        ) in self._writers:  # what hung meanwhile is dead; both ends learn it now, as when a phone finds its network again
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            pumps = [asyncio.create_task(self._pump(reader, far_writer)), asyncio.create_task(self._pump(far_reader, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
        finally:
            self._writers -= ends
            for one in ends:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()


class Wire:
    """The network of the story: cutting it cuts the till's relay."""

    def __init__(self, relays: dict[str, Relay]) -> None:
        self._relays = relays

    async def cut(self, till: Till) -> None:
        self._relays[till.name].cut()

    async def heal(self, till: Till) -> None:
        self._relays[till.name].heal()


@pytest.mark.timeout(600)
async def test_a_cut_wire_loses_and_doubles_nothing(tmp_path: Path) -> None:
    base = free_port_base()
    layout = Layout(tmp_path / "data", base)
    relays = {}
    for number in (1, 2, 3):
        relays[number] = Relay("127.0.0.1", base + 3)
        await relays[number].start()

    class Wired(Plan):
        def cloud_address_of(self, till_number: int) -> str:
            return f"127.0.0.1:{relays[till_number].port}"

    said: list[str] = []
    session = Session(layout, None, said.append, Wired)
    layout.logs.mkdir(parents=True)
    try:
        await session.start()
        async with World.open(layout.up) as world:
            wire = Wire({f"till-{number}": relay for number, relay in relays.items()})
            await Story(world, said.append, wire).tell()
    finally:
        await session.stop()
        for relay in relays.values():
            await relay.stop()
    assert said[-1] == "   the receiver heard of each of them under one event id"
