"""What the link is compared with: a plain grpc.aio server whose streams only echo, broadcast or push bytes. A program.

Its generators are the cheapest that grpc.aio has, its messages are bytes on both sides, it knows nobody and stores nothing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from scripts.benchmarks.link import lines

SERVICE = "bench.Echo"
ROOMY = [("grpc.server.max_pending_requests", 100_000), ("grpc.server.max_pending_requests_hard_limit", 100_000)]
"""Without these gRPC refuses calls at random when a thousand come at once; the crowd that reconnects is measured without."""
_waiting: dict[str, set[asyncio.Queue[bytes]]] = {"Broadcast": set(), "Confirmed": set()}


async def echo(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """What comes goes back."""
    async for message in requests:
        yield message


async def broadcast(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """The first message goes back; then whatever is broadcast."""
    yield await anext(aiter(requests))
    async for message in _told("Broadcast"):
        yield message


async def confirmed(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """As broadcast; what comes back in the meantime is read, as a link reads confirmations."""
    incoming = aiter(requests)
    yield await anext(incoming)
    reading = asyncio.create_task(_read(incoming))
    try:
        async for message in _told("Confirmed"):
            yield message
    finally:
        reading.cancel()


async def _read(incoming: AsyncIterator[bytes]) -> None:
    async for _ in incoming:
        pass


async def _told(kind: str) -> AsyncIterator[bytes]:
    mine: asyncio.Queue[bytes] = asyncio.Queue()
    _waiting[kind].add(mine)
    try:
        while True:
            yield await mine.get()
    finally:
        _waiting[kind].discard(mine)


async def push(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """The first message says how large the messages are that come down, as numbers with spaces between."""
    sizes = [int(size) for size in (await anext(aiter(requests))).split()]
    prepared = {size: bytes(size) for size in set(sizes)}
    for size in sizes:
        yield prepared[size]


async def serve(*, roomy: bool) -> None:
    """Until the input ends. Says its port; broadcasts what it is told to, and says when it began."""
    output = lines.claim_output()
    kinds = {"Echo": echo, "Broadcast": broadcast, "Confirmed": confirmed, "Push": push}
    handlers: Any = {name: grpc.stream_stream_rpc_method_handler(kind) for name, kind in kinds.items()}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *(ROOMY if roomy else ())])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    lines.say(output, {"port": port})
    async for command in lines.commands():
        data = bytes.fromhex(command["data"])
        began = time.monotonic()
        for queue in _waiting[command["kind"]]:
            queue.put_nowait(data)
        lines.say(output, {"began": began, "streams": len(_waiting[command["kind"]])})
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve(roomy="--plain" not in sys.argv))
