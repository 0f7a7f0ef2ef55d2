"""Network printers: raw TCP, usually port 9100. Refuses to retry; that is the business of the caller.

Open one connection per job: most printers serve one client only, and some take the next one before they have drained the last.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from edge.hardware.transport import Connection, Disconnected, Unreachable

CONNECT_SECONDS = 1.0
"""On a shop's network a printer answers in milliseconds; one that is switched off would block for minutes."""
DEFAULT_PORT = 9100
_CLOSE_SECONDS = 1.0


class TcpConnection:
    """A socket to a printer."""

    replies = True

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Sends bytes; returns when the kernel has them."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise Disconnected(f"The printer closed the connection: {error}") from error

    async def read(self) -> bytes:
        """Waits for bytes; empty at the end of the stream."""
        try:
            return await self._reader.read(4096)
        except OSError as error:
            raise Disconnected(f"The printer closed the connection: {error}") from error

    async def finish(self) -> None:
        """Half-closes, so that the printer sees the end and can still answer."""
        try:
            self._writer.write_eof()
            await self._writer.drain()
        except OSError as error:
            raise Disconnected(f"The printer closed the connection: {error}") from error


class TcpTransport:
    """tcp://host:port."""

    scheme: ClassVar[str] = "tcp"

    @asynccontextmanager
    async def open(self, location: str) -> AsyncIterator[Connection]:
        """Connects within a second.

        Raises:
            ValueError: not host:port.
            Unreachable: nobody listens there.
        """
        host, port = _split(location)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:  # TimeoutError is one
            raise Unreachable(f"No printer answers at {location}. Switch it on or check the cable.") from error
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Without a high-water mark of zero, drain() would return while bytes still wait in this process.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            yield TcpConnection(reader, writer)
        finally:
            await _close(writer)


def _split(location: str) -> tuple[str, int]:
    parts = urlsplit("//" + location)
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ValueError(f"{location!r} has no valid port. Write host:port, for example 192.168.1.50:9100.") from error
    if not parts.hostname:
        raise ValueError(f"{location!r} names no host. Write host:port, for example 192.168.1.50:9100.")
    return parts.hostname, port


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await writer.wait_closed()
    except OSError:
        # A peer that is gone or takes nothing any more: there is nobody left to say goodbye to.
        writer.transport.abort()
