"""Talking with a printer over one connection: questions, answers and limits of patience. Knows nothing of jobs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edge.hardware.printers.escpos import FENCE, status_request
from edge.hardware.printers.status import Problem, Replies, ReplyKind, problem_of
from edge.hardware.transport import Connection, Disconnected

SLICE = 4096
"""Bytes handed over at a time, so that stopping is prompt and progress is known."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for a printer, in seconds."""

    status: float = 0.3
    """For the answer to one status question."""
    confirm: float = 2.0
    """For the fence, on top of the time that printing takes."""
    bytes_per_second: int = 1000
    """A slow printer's speed with text."""
    stall: float = 10.0
    """For the printer to take one more slice."""
    retry: float = 2.0
    """Between looks at a printer that cannot print."""
    drawer: float = 5.0
    """After this a drawer stays closed: it must not open by surprise."""
    stop: float = 3.0
    """For a job that is under way when the till stops."""


class Dialogue:
    """One connection, used by one task."""

    def __init__(self, connection: Connection, timing: Timing) -> None:
        self._connection = connection
        self._timing = timing
        self._replies = Replies()
        self._fences = 0

    async def write(self, data: bytes) -> None:
        """Sends bytes, at most a slice at a time.

        Raises:
            Disconnected: the connection broke, or the printer took nothing for too long.
        """
        try:
            async with asyncio.timeout(self._timing.stall):
                await self._connection.write(data)
        except TimeoutError as error:
            raise Disconnected(f"The printer took no more bytes for {self._timing.stall} seconds.") from error

    async def ask(self, number: int) -> int | None:
        """The answer to DLE EOT n, None when there is none in time.

        Raises:
            Disconnected: the connection broke.
        """
        await self.write(status_request(number))
        try:
            async with asyncio.timeout(self._timing.status):
                while True:
                    answers = await self._receive()
                    if answers:
                        return answers[-1]
        except TimeoutError:
            return None

    async def look(self) -> Problem | None:
        """What keeps the printer from printing; None when it does not say.

        Raises:
            Disconnected: the connection broke.
        """
        printer = await self.ask(1)
        if printer is None:
            return None
        return problem_of(printer, await self.ask(2), await self.ask(4))

    async def send_fence(self) -> None:
        """Asks for an answer once everything before has been processed.

        Raises:
            Disconnected: the connection broke.
        """
        self._fences = 0
        await self.write(FENCE)

    async def passed_fence(self, seconds: float) -> bool:
        """Whether the fence was answered within so many seconds, or before.

        Raises:
            Disconnected: the connection broke.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._fences:
                    await self._receive()
        except TimeoutError:
            return False
        return True

    async def _receive(self) -> list[int]:
        """Waits for bytes; returns the status answers among them and counts fences."""
        data = await self._connection.read()
        if not data:
            raise Disconnected("The printer closed the connection.")
        replies = self._replies.receive(data)
        self._fences += sum(reply.kind is ReplyKind.FENCE for reply in replies)
        return [reply.data[0] for reply in replies if reply.kind is ReplyKind.STATUS]
