"""One stream to the cloud as tasks: one reader, one writer, a watchdog. Moves frames and decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from edge import words
from edge.link.effects import StreamOver
from edge.link.orders import Reconnect
from gipos.edge.v1.link_pb2 import LinkRequest, LinkResponse


class Signal(Enum):
    """What moves the link besides frames."""

    OPERATIONS = "operations"
    BEAT = "beat"
    RESULT = "result"


class Arrived(NamedTuple):
    """A frame and when it came."""

    frame: LinkResponse
    ticks_ms: int


Signals: TypeAlias = "asyncio.Queue[Arrived | Signal | Exception]"
"""What moves a session, in order. The end of the stream is in line with its frames: a Drain must not be overtaken."""


class Watchdog:
    """Ends a stream on which nothing arrives."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._timeout: asyncio.Timeout | None = None

    def feed(self) -> None:
        """Something arrived."""
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def bark(self) -> None:
        """Waits for silence.

        Raises:
            StreamOver: there was silence for too long.
        """
        try:
            async with asyncio.timeout(self._patience) as self._timeout:
                await asyncio.Event().wait()
        except TimeoutError as silence:
            message = f"nothing was heard from the cloud for {self._patience:g} seconds"
            raise StreamOver(Reconnect(message, message=words.SILENT)) from silence


async def read(call: Any, signals: Signals, alive: Watchdog, ticks_ms: Callable[[], int], errors: type[Exception]) -> None:
    """The one reader: a timeout around a read would end the whole call, so time is the watchdog's business."""
    while True:
        try:
            frame = await call.read()
        except errors as error:
            signals.put_nowait(error)
            return
        if not isinstance(frame, LinkResponse):
            signals.put_nowait(StreamOver(Reconnect("the cloud closed the connection")))
            return
        alive.feed()
        signals.put_nowait(Arrived(frame, ticks_ms()))


async def write(call: Any, frames: asyncio.Queue[LinkRequest], errors: type[Exception]) -> None:
    """The one writer: two writes at once kill a call."""
    while True:
        frame = await frames.get()
        try:
            await call.write(frame)
        except (errors, asyncio.InvalidStateError):
            # Writing to an ended call fails with a made-up status; the reader is told the real one.
            return


async def beat(seconds: int, signals: Signals) -> None:
    """Rings at once, so that the clocks are measured early, and then at every heartbeat."""
    while True:
        signals.put_nowait(Signal.BEAT)
        await asyncio.sleep(seconds)
