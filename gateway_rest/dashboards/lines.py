"""WebSocket connections that carry frames made beforehand: a server sends the same frame to every socket, so it is made once.

uvicorn's own protocol, without compression for dashboards, and with a way to give a socket up that nobody drains.
"""

from __future__ import annotations

from typing import Any, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import OPEN

PATH = "/api/v1/dashboard"
EXTENSION = "gipos.line"
"""Where the scope of a WebSocket has its line."""
PARTING_SECONDS = 2.0
"""How long a socket that nobody drains may still take to hear why it is given up."""

_TEXT = 0x81


def frame(text: bytes) -> bytes:
    """A whole text frame of a server (RFC 6455 §5.2): not masked, not fragmented."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    if size < 65_536:
        return bytes((_TEXT, 126)) + size.to_bytes(2) + text
    return bytes((_TEXT, 127)) + size.to_bytes(8) + text


class Line(Protocol):
    """What a dashboard's writer needs of its socket."""

    def write(self, made: bytes) -> bool:
        """Hands over a frame; whether another one may follow at once. A socket that is closed swallows it."""

    @property
    def waiting_bytes(self) -> int:
        """What was handed over and not taken by the network yet."""

    async def drained(self) -> None:
        """Returns when another frame may follow, or the socket is closed."""

    def give_up(self, code: int, reason: str) -> None:
        """Closes without waiting for anything; the connection is cut soon."""


class LineProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection of the gateway."""

    def handle_connect(self, event: Request) -> None:
        """Begins the handshake."""
        if event.path.partition("?")[0] == PATH:
            self.conn.available_extensions = []
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def write(self, made: bytes) -> bool:
        """See Line."""
        if not self.disconnected and self.conn.state is OPEN:
            self.transport.write(made)
        return self.writable.is_set()

    @property
    def waiting_bytes(self) -> int:
        """See Line."""
        return self.transport.get_write_buffer_size()

    async def drained(self) -> None:
        """See Line."""
        await self.writable.wait()

    def give_up(self, code: int, reason: str) -> None:
        """See Line."""
        if self.disconnected or self.close_sent or self.conn.state is not OPEN:
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.loop.call_later(PARTING_SECONDS, self.transport.abort)
