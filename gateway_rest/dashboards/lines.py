"""WebSocket connections that carry frames made beforehand: a server sends the same frame to every socket, so it is made once.

uvicorn's own protocol, without compression for dashboards, and with a way to give a socket up that nobody drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import OPEN

PATH = "/api/v1/dashboard"
EXTENSION = "gipos.line"
"""Where the scope of a WebSocket has its line."""
PARTING_SECONDS = 2.0
"""How long a peer that takes nothing may still take to hear why it is cut off."""

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

    stuck_since: float | None
    """When the network stopped taking what is written, on the loop's clock; None while it takes it."""
    on_drained: Callable[[], None] | None
    """Called when it takes more again."""

    def write(self, made: bytes) -> bool:
        """Hands over frames; whether others may follow at once. A socket that is closed swallows them."""

    @property
    def waiting_bytes(self) -> int:
        """What was handed over and not taken by the network yet."""

    def end(self, code: int, reason: str) -> None:
        """Closes, and waits for nothing: who does not hear it is cut off soon."""


class LineProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection of the gateway, of whichever path.

    Beside what dashboards need: who does not take what is sent is not listened to either, since every ping wants an answer; and
    no end waits for a peer that takes nothing, as closing a transport would, for as long as the peer's machine answers.
    """

    stuck_since: float | None = None
    on_drained: Callable[[], None] | None = None

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
        return self.stuck_since is None

    @property
    def waiting_bytes(self) -> int:
        """See Line."""
        return 0 if self.disconnected else self.transport.get_write_buffer_size()

    def end(self, code: int, reason: str) -> None:
        """See Line."""
        if self.disconnected or self.close_sent or self.conn.state is not OPEN:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        is_stuck = self.stuck_since is not None
        if not is_stuck and self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(PARTING_SECONDS if is_stuck else self.close_timeout, self.transport.abort)

    def pause_writing(self) -> None:
        """The network takes no more."""
        super().pause_writing()
        self.stuck_since = self.loop.time()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The network takes more."""
        super().resume_writing()
        self.stuck_since = None
        if not self.read_paused:
            self.transport.resume_reading()
        if self.on_drained is not None:
            self.on_drained()

    def handle_close(self, event: Frame) -> None:
        """The peer hangs up, or answers that we did."""
        super().handle_close(event)
        self._part()

    def handle_parser_exception(self) -> None:
        """The peer breaks the protocol."""
        super().handle_parser_exception()
        self._part()

    def keepalive_timeout(self) -> None:
        """The peer answers no ping."""
        super().keepalive_timeout()
        self._part()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Whoever served the connection is done with it."""
        super().on_task_complete(task)
        if self.close_timer is None:
            self._part()

    def _part(self) -> None:
        if not self.disconnected:
            self.loop.call_later(PARTING_SECONDS, self.transport.abort)
