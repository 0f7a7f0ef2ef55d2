"""The buttons of a virtual printer, as lines of text over TCP: "paper out" is answered with "ok", mistakes with "error: ...".

paper out | paper out after N | paper near | paper ok | cover open | cover closed | stall on | stall off | drop N | power off |
power on | status (answered with one JSON object)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxes.printer import VirtualPrinter

_COUNTED = re.compile(r"(drop|paper out after) (\d{1,9})")


class PrinterControl:
    """Serves the control port of one printer."""

    def __init__(self, printer: VirtualPrinter) -> None:
        self._printer = printer
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._buttons: dict[str, Callable[[], Awaitable[None]]] = {
            "paper out": printer.paper_out,
            "paper near": printer.paper_near_end,
            "paper ok": printer.load_paper,
            "cover open": printer.open_cover,
            "cover closed": printer.close_cover,
            "stall on": printer.stall,
            "stall off": printer.resume,
            "power off": printer.power_off,
            "power on": printer.power_on,
        }

    async def start(self, port: int) -> int:
        """Listens on loopback; returns the port.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stops listening and hangs up."""
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write((await self._press(line.decode(errors="replace").strip()) + "\n").encode())
        except (ConnectionError, ValueError):
            return  # who hung up, or sent a line without end, gets no answer
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _press(self, line: str) -> str:
        if line == "status":
            return json.dumps(self._status())
        counted = _COUNTED.fullmatch(line)
        try:
            if counted is not None:
                act = self._printer.drop_after if counted[1] == "drop" else self._printer.run_out_after
                await act(int(counted[2]))
            elif line in self._buttons:
                await self._buttons[line]()
            else:
                return (
                    f"error: {line!r} is not known; write status or one of {', '.join(self._buttons)}, drop N, paper out after N"
                )
        except OSError as error:
            return f"error: {error.strerror}"
        return "ok"

    def _status(self) -> dict[str, object]:
        printer = self._printer
        return {
            "power": "on" if printer.is_on else "off",
            "paper": printer.paper,
            "cover": "open" if printer.is_cover_open else "closed",
            "stalled": printer.is_stalled,
            "receipts": printer.receipts.count,
            "drawer_pulses": printer.drawer_pulses,
        }
