"""Questions one can ask a program from outside: does it accept connections, does it answer, is it serving, is it online.

Each check answers True or False and never raises for a program that is not there yet. Standard library but for gRPC, which is
loaded when first needed. `python -m scripts.stack.health HOST:PORT` asks a gRPC server and ends with 0 when it is serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

PATIENCE: Final = 2.0  # seconds one question may take
SERVING: Final = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING} on the wire


@contextlib.contextmanager
def _no_answer() -> Iterator[None]:
    with contextlib.suppress(OSError, TimeoutError, EOFError, ValueError):
        yield


async def is_open(host: str, port: int) -> bool:
    """Whether somebody listens on the TCP port."""
    with _no_answer():
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


async def fetch(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a plain HTTP GET on this machine. Raises OSError, TimeoutError or EOFError."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            # HTTP/1.0: the answer comes in one piece and the connection's end is its end.
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode("ascii"))
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split(b" ", 2)[1]), await reader.read()
        finally:
            writer.close()


async def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    with _no_answer():
        return (await fetch(host, port, path))[0] == 200
    return False


async def till_is_online(host: str, port: int) -> bool:
    """Whether the till serves its screen and its link to the cloud stands."""
    with _no_answer():
        status, body = await fetch(host, port, "/status")
        state: Any = json.loads(body) if status == 200 else {}
        return isinstance(state, dict) and state.get("link", {}).get("state") == "online"
    return False


async def is_serving(address: str) -> bool:
    """Whether a gRPC server's health service says SERVING for the whole server (grpc.health.v1)."""
    import grpc.aio

    # Plain bytes in and out: the two messages are too small to load generated code for.
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await check(b"", timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return False
    return answer == SERVING


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(is_serving(sys.argv[1])) else 1)
