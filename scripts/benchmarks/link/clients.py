"""Tablets on real gRPC clients in one process, and clients of the plain stream beside them. A program.

It is told what to do by the parts, a method each, and decides nothing about what is measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import grpc

from scripts.benchmarks.link import lines, sales
from scripts.benchmarks.link.tablets import Tablet, channel


class Clients:
    """What the parts ask for, a method each; arguments and answers are JSON."""

    def __init__(self) -> None:
        self._tablets: list[Tablet] = []
        self._jobs: list[list[tuple[int, list[tuple[int, bytes]]]]] = []
        self._beats: list[asyncio.Task[None]] = []
        self._live: list[asyncio.Task[None]] = []
        self._is_selling = False
        self._latencies: list[float] = []
        self._plain: Any = None

    async def connect(self, port: int, greetings: list[dict[str, Any]], at_once: int = 50) -> dict[str, Any]:
        """Brings tablets in, so many at a time."""
        self._tablets = [Tablet(port, greeting) for greeting in greetings]
        turns = asyncio.Semaphore(at_once)
        attempts: Counter[str] = Counter()

        async def come(tablet: Tablet) -> None:
            async with turns:
                await tablet.arrive(attempts)

        await asyncio.gather(*(come(one) for one in self._tablets))
        self._beats = [asyncio.create_task(one.beat()) for one in self._tablets]
        return {"attempts": attempts}

    async def comeback(self) -> dict[str, Any]:
        """Cuts all connections at the same moment, and comes back with all of them at once."""
        for beat in self._beats:
            beat.cancel()
        attempts: Counter[str] = Counter()
        began = time.monotonic()
        await asyncio.gather(*(one.cut() for one in self._tablets))
        cut = time.monotonic()
        times = await asyncio.gather(*(one.arrive(attempts) for one in self._tablets))
        return {"began": began, "cut": cut, "welcomed": times, "attempts": attempts}

    async def plain_herd(self, port: int, count: int) -> dict[str, Any]:
        """Opens so many plain streams at once, a connection each, each tried once; how they ended up."""
        channels = [channel(port) for _ in range(count)]
        attempts: Counter[str] = Counter()

        async def open_one(own: grpc.aio.Channel) -> None:
            call: Any = own.stream_stream("/bench.Echo/Echo")()
            try:
                await call.write(b"hello")
                if await call.read() == b"hello":
                    attempts["answered"] += 1
                    return
            except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # there is one: it runs this
                    raise
            code, words = await call.code(), await call.details()
            attempts[code.name if words else f"{code.name} without words"] += 1

        began = time.monotonic()
        await asyncio.gather(*(open_one(one) for one in channels))
        seconds = time.monotonic() - began
        await asyncio.gather(*(one.close() for one in channels))
        return {"attempts": attempts, "seconds": seconds}

    async def arrivals(self, position: int) -> dict[str, Any]:
        """Of the first tablet: when each range came, up to this position."""
        tablet = self._tablets[0]
        await tablet.followed(position)
        frames, tablet.frames = tablet.frames, []
        return {"frames": frames}

    async def echoes(self, port: int, size: int, count: int) -> dict[str, Any]:
        """Round trips of so many messages over a plain stream, as far apart as the changes are, in seconds."""
        if self._plain is None:
            self._plain = channel(port).stream_stream("/bench.Echo/Echo")()
        times, message = [], bytes(size)
        for _ in range(count):
            began = time.monotonic()
            await self._plain.write(message)
            await self._plain.read()
            times.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
        return {"seconds": times}

    async def follow(self, port: int, greeting: dict[str, Any], position: int) -> dict[str, Any]:
        """A new tablet, from hello until it has the range that ends there."""
        tablet = Tablet(port, greeting)
        began = time.monotonic()
        await tablet.arrive(Counter())
        await tablet.followed(position)
        seconds = tablet.frames[-1][0] - began
        await tablet.cut()
        return {"seconds": seconds, "changes": tablet.changes, "sizes": [size for _, _, size in tablet.frames]}

    async def pull(self, port: int, sizes: list[int]) -> dict[str, Any]:
        """Messages of these sizes down a plain stream, from its opening on."""
        own = channel(port)
        began = time.monotonic()
        call: Any = own.stream_stream("/bench.Echo/Push")()
        await call.write(" ".join(str(size) for size in sizes).encode())
        for _ in sizes:
            await call.read()
        seconds = time.monotonic() - began
        await own.close()
        return {"seconds": seconds}

    async def prepare(self, who: list[int], each: int, batch: int, products: list[str]) -> dict[str, Any]:
        """Makes a backlog on these tablets, to be uploaded by one `go`."""
        job = []
        for index in who:
            tablet = self._tablets[index]
            job.append((index, list(sales.batches(products, tablet.next_seq, each, batch))))
            tablet.next_seq += each
        self._jobs.append(job)
        return {"jobs": len(self._jobs)}

    async def go(self) -> dict[str, Any]:
        """Uploads the oldest backlog, all its tablets at once; seconds until the last sale is stored."""
        job = self._jobs.pop(0)
        began = time.monotonic()
        await asyncio.gather(*(self._tablets[index].upload(batches) for index, batches in job))
        return {"seconds": time.monotonic() - began}

    async def live(self, each_second: float, products: list[list[str]]) -> dict[str, Any]:
        """From here on the tablets sell, so many sales a second in all, each sent when it is due."""
        gap = len(self._tablets) / each_second
        self._latencies = []
        self._is_selling = True
        self._live = [asyncio.create_task(self._sell(one, gap, own)) for one, own in zip(self._tablets, products, strict=True)]
        return {"tablets": len(self._live)}

    async def _sell(self, tablet: Tablet, gap: float, products: list[str]) -> None:
        due = time.monotonic() + random.uniform(0, gap)  # noqa: S311 (spreads load)
        while self._is_selling:
            ((last, frame),) = sales.batches(products, tablet.next_seq, 1, 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tablet.next_seq += 1
            await tablet.upload([(last, frame)])
            # From the moment it was due: who waited behind a slow one has waited, too.
            self._latencies.append(time.monotonic() - due)
            due += gap

    async def quiet(self) -> dict[str, Any]:
        """The live sales end, those under way as well; seconds from each until it was stored."""
        self._is_selling = False  # nothing is cancelled: grpc.aio would end the stream
        await asyncio.gather(*self._live)
        return {"seconds": self._latencies}


async def main() -> None:
    """Carries out commands until the input ends."""
    output = lines.claim_output()
    clients = Clients()
    async for command in lines.commands():
        try:
            answer = await getattr(clients, command.pop("do"))(**command)
        except (RuntimeError, grpc.aio.AioRpcError) as error:
            answer = {"error": str(error)}
        lines.say(output, answer)


if __name__ == "__main__":
    asyncio.run(main())
