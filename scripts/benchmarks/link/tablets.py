"""One tablet on a real gRPC client (grpc.aio, the channel options of the product's own tills), speaking the published contract.

It confirms what it gets, keeps at most two batches under way, and comes back as docs/reference/link.md says. It stores nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc

from edge.link.client import CHANNEL_OPTIONS
from gipos.edge.v1.link_pb2 import Applied, LinkRequest, LinkResponse, Ping
from scripts.benchmarks.link.crowd import hello
from scripts.benchmarks.link.stage import LINK

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
UNDER_WAY = 2
BEAT_SECONDS = 10.0


def channel(port: int) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[*CHANNEL_OPTIONS, OWN_CONNECTION])


class Tablet:
    """One tablet and its stream."""

    def __init__(self, port: int, greeting: dict[str, Any]) -> None:
        self._port = port
        self._token, self._hello = hello(greeting)
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self.watermark = 0
        self.next_seq = 1
        self.frames: list[tuple[float, int, int]] = []
        """Of every range: when it came, its last position, its bytes."""
        self.changes = 0
        self.ended = ""
        """How the stream ended by itself."""

    async def arrive(self, attempts: Counter[str]) -> float:
        """Connects until it is welcomed; when that was. Every attempt is counted by how it ended."""
        failures = 0
        while True:
            delay = await self._attempt(attempts)
            if delay is None:
                return time.monotonic()
            if delay < 0:
                failures += 1
                delay = random.uniform(0.1, min(10.0, 0.5 * 2**failures))  # noqa: S311 (spreads load)
            await asyncio.sleep(delay)

    async def _attempt(self, attempts: Counter[str]) -> float | None:
        """None when welcomed, else the seconds to wait; negative when nobody said how long."""
        if self._channel is None:
            self._channel = channel(self._port)
        metadata = (("authorization", f"Bearer {self._token}"),)
        call: Any = self._channel.stream_stream(LINK)(metadata=metadata)
        try:
            await call.write(self._hello)
            data = await call.read()
            first = LinkResponse.FromString(data) if data is not grpc.aio.EOF else LinkResponse()
            if first.HasField("welcome"):
                attempts["welcomed"] += 1
                self.watermark, self.next_seq = first.welcome.op_watermark, first.welcome.op_watermark + 1
                self._call, self.ended = call, ""
                self._reader = asyncio.create_task(self._read(call))
                return None
            attempts[first.WhichOneof("frame") or await _status(call)] += 1
            if first.HasField("drain"):
                return random.uniform(first.drain.reconnect_earliest_ms, first.drain.reconnect_latest_ms) / 1000  # noqa: S311 (as below)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            attempts[await _status(call)] += 1
        except asyncio.CancelledError:
            if not call.done() or asyncio.current_task().cancelling():  # type: ignore[union-attr]  # there is one: it runs this
                raise
            attempts[await _status(call)] += 1  # how grpc.aio tells that the other side cancelled a call
        return -1.0

    async def _read(self, call: Any) -> None:
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                at = time.monotonic()
                frame = LinkResponse.FromString(data)
                match frame.WhichOneof("frame"):
                    case "changes":
                        changes = frame.changes
                        self.frames.append((at, changes.upto_inclusive, len(data)))
                        self.changes += changes.upto_inclusive - changes.from_exclusive
                        applied = Applied(lane=changes.lane, epoch=changes.epoch, upto=changes.upto_inclusive)
                        await self._send(LinkRequest(applied=applied).SerializeToString())
                        self._news.set()
                    case "stored":
                        if frame.stored.expected_op_seq or frame.stored.quarantined:
                            raise RuntimeError(f"The cloud did not take the sales as they are: {frame.stored}")
                        self.watermark = frame.stored.op_watermark
                        self._news.set()
                    case "snapshot" | "reset" | "drain" as kind:
                        raise RuntimeError(f"A tablet was sent a {kind} in the middle of a measurement.")
            self.ended = await _status(call)
        except (grpc.aio.AioRpcError, RuntimeError) as error:
            self.ended = str(error) or type(error).__name__
        finally:
            self._news.set()

    async def _send(self, data: bytes) -> None:
        async with self._turn:  # grpc.aio takes one message at a time
            try:
                await self._call.write(data)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise RuntimeError(f"A stream has ended: {await _status(self._call)}") from None

    async def stored(self, seq: int) -> None:
        """Until everything up to this number is stored.

        Raises:
            RuntimeError: the stream has ended.
        """
        while self.watermark < seq:
            self._news.clear()
            if self.ended:
                raise RuntimeError(f"A stream has ended: {self.ended}")
            await self._news.wait()

    async def followed(self, position: int) -> None:
        """Until a range that ends there, or later, is here. Raises RuntimeError as `stored`."""
        while not self.frames or self.frames[-1][1] < position:
            self._news.clear()
            if self.ended:
                raise RuntimeError(f"A stream has ended: {self.ended}")
            await self._news.wait()

    async def upload(self, batches: Iterable[tuple[int, bytes]]) -> None:
        """Sends these, two under way, until the last is stored."""
        under_way: list[int] = []
        for last, frame in batches:
            if len(under_way) == UNDER_WAY:
                await self.stored(under_way.pop(0))
            await self._send(frame)
            under_way.append(last)
        await self.stored(under_way[-1])

    async def beat(self) -> None:
        """Pings until cancelled, or until the stream has ended."""
        while not self.ended:
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(RuntimeError):  # the reader says how it ended
                await self._send(LinkRequest(ping=Ping(number=1)).SerializeToString())

    async def cut(self) -> None:
        """Closes the connection, whatever is under way."""
        if self._reader is not None:
            self._reader.cancel()
        if self._channel is not None:
            await self._channel.close()
        self._channel = None


async def _status(call: Any) -> str:
    """How a call ended: its status, and whether it came without words."""
    code, words = await call.code(), await call.details()
    return f"{code.name}: {words[:80]}" if words else f"{code.name} without words"
