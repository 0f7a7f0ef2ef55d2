"""A network receipt printer that prints into a folder. It answers, runs out of paper, stalls and breaks off like a real one.

Each receipt becomes NNNN-time.png, .txt, .bin (the commands as received, without questions) and .json, the last one last. What
arrived is kept and goes on after paper is loaded; half a command stays half over connections, as in a real buffer.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from sandboxes.escpos_commands import Command, CommandParser
from sandboxes.escpos_paper import Interpreter, TextLine
from sandboxes.printer_control import PrinterControl
from sandboxes.printer_receipts import ReceiptFolder

_QUIET_SECONDS = 0.5
"""A fence followed by so much silence ends a receipt."""
_MAKER, _MODEL = b"_EPSON\0", b"_TM-T82X\0"


class _End:
    """Stands in the buffer where a connection ended."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()


class VirtualPrinter:
    """One printer. Use it as an async context manager; several may live in one process.

    Args:
        port: Where it listens on loopback; 0 chooses one.
        folder: Where receipts go. Numbering goes on from what is there.
        control_port: Where a line protocol changes the printer's state (see `printer_control`); 0 chooses one, None has none.
        paper_mm: 58 or 80.
        on_receipt: Called with the path of the .json of each receipt.
    """

    def __init__(
        self,
        port: int,
        folder: Path,
        control_port: int | None = None,
        paper_mm: int = 58,
        on_receipt: Callable[[Path], None] | None = None,
    ) -> None:
        self.port = port
        self.control_port = control_port
        self.receipts = ReceiptFolder(folder)
        self.drawer_pulses = 0
        self.paper = "ok"
        self.is_cover_open = False
        self.is_stalled = False
        self.is_on = True
        self._paper_mm = paper_mm
        self._on_receipt = on_receipt
        self._interpreter = Interpreter(paper_mm)
        self._parser = CommandParser()
        self._buffer: asyncio.Queue[tuple[Command, asyncio.StreamWriter] | _End] = asyncio.Queue()
        self._client = asyncio.Lock()
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._able = asyncio.Event()
        self._reads = asyncio.Event()
        self._drop_in: int | None = None
        self._lines_left: int | None = None
        self._server: asyncio.Server | None = None
        self._control = PrinterControl(self)
        self._executor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Switches it on.

        Raises:
            OSError: a port is taken.
        """
        self._update()
        await self._listen()
        try:
            if self.control_port is not None:
                self.control_port = await self._control.start(self.control_port)
        except OSError:
            await self._hang_up()
            raise
        self._executor = asyncio.create_task(self._execute(), name="virtual printer")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Switches it off. A receipt that is half out is written as it is."""
        await self._control.stop()
        await self._hang_up()
        await self._lose_power()

    async def paper_out(self) -> None:
        """Takes the paper away. The printer goes offline and keeps what it has."""
        self.paper = "out"
        self._update()

    async def run_out_after(self, lines: int) -> None:
        """Takes the paper away after so many more printed lines."""
        self._lines_left = lines

    async def paper_near_end(self) -> None:
        """Little paper is left. Printing goes on."""
        self.paper = "near"
        self._update()

    async def load_paper(self) -> None:
        """Puts in a new roll; printing goes on where it stopped."""
        self.paper = "ok"
        self._lines_left = None
        self._update()

    async def open_cover(self) -> None:
        """Opens the cover. The printer goes offline."""
        self.is_cover_open = True
        self._update()

    async def close_cover(self) -> None:
        """Closes the cover."""
        self.is_cover_open = False
        self._update()

    async def stall(self) -> None:
        """Stops reading, printing and answering; connections stay open."""
        self.is_stalled = True
        self._update()

    async def resume(self) -> None:
        """Ends a stall."""
        self.is_stalled = False
        self._update()

    async def drop_after(self, size: int) -> None:
        """Breaks the connection after so many more received bytes, questions included. Happens once."""
        self._drop_in = size

    async def power_off(self) -> None:
        """Refuses connections, forgets what was not printed, and tears off what was."""
        if not self.is_on:
            return
        self.is_on = False
        await self._hang_up()
        await self._lose_power()
        self.is_stalled = False
        self._update()

    async def power_on(self) -> None:
        """Listens again, at the same port."""
        if self.is_on:
            return
        self._interpreter = Interpreter(self._paper_mm)
        self._parser = CommandParser()
        await self._listen()
        self._executor = asyncio.create_task(self._execute(), name="virtual printer")
        self.is_on = True

    def _update(self) -> None:
        for event, is_set in (
            (self._reads, not self.is_stalled),
            (self._able, not self.is_stalled and not self.is_cover_open and self.paper != "out"),
        ):
            if is_set:
                event.set()
            else:
                event.clear()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        assert self._server is not None
        self._server.close()
        # A stalled handler would wait for ever; the connection it would read is gone.
        self._reads.set()
        for writer in tuple(self._writers):
            writer.transport.abort()
        if self._handlers:
            await asyncio.wait(self._handlers)

    async def _lose_power(self) -> None:
        if self._executor is not None:
            self._executor.cancel()
            await asyncio.gather(self._executor, return_exceptions=True)
            self._executor = None
        while not self._buffer.empty():
            self._buffer.get_nowait()
        await self._tear_off("power")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._writers.add(writer)
        end = _End()
        try:
            async with self._client:
                await self._receive(reader, writer)
                self._buffer.put_nowait(end)
            if self.is_on and not writer.is_closing() and self._able.is_set():
                # Who half-closed may still wait for a fence; the next client is served meanwhile.
                await self._reached_or_unable(end)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._handlers.discard(task)

    async def _reached_or_unable(self, end: _End) -> None:
        while self.is_on and self._able.is_set() and not end.reached.is_set():
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    await end.reached.wait()
            except TimeoutError:
                continue

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._reads.wait()
            try:
                data = await reader.read(4096)
            except ConnectionError:
                return  # a client that vanished ends its connection like one that closed it
            await self._reads.wait()
            if not data:
                return
            dropped = self._drop_in is not None and len(data) >= self._drop_in
            if self._drop_in is not None:
                data, self._drop_in = data[: self._drop_in], None if dropped else self._drop_in - len(data)
            for command in self._parser.feed(data):
                if command.is_real_time:
                    self._answer_now(command, writer)
                else:
                    self._buffer.put_nowait((command, writer))
            if dropped:
                writer.transport.abort()
                return

    def _answer_now(self, command: Command, writer: asyncio.StreamWriter) -> None:
        if command.name == b"\x10\x04":
            is_offline = self.is_cover_open or self.paper == "out"
            bits = {
                1: 0x08 if is_offline else 0,
                2: (0x04 if self.is_cover_open else 0) | (0x20 if self.paper == "out" else 0),
                4: {"ok": 0, "near": 0x0C, "out": 0x6C}[self.paper],
            }
            _reply(writer, bytes((0x12 | bits.get(command.raw[2], 0),)))

    async def _execute(self) -> None:
        passed_fence = False
        while True:
            try:
                async with asyncio.timeout(_QUIET_SECONDS if passed_fence else None):
                    item = await self._buffer.get()
            except TimeoutError:
                await self._tear_off("fence")
                passed_fence = False
                continue
            if isinstance(item, _End):
                # What waits for paper is printed later; so this is reached later, too.
                await self._able.wait()
                await self._tear_off("close")
                item.reached.set()
                passed_fence = False
                continue
            command, writer = item
            await self._able.wait()
            await self._obey(command, writer)
            passed_fence = command.name == b"\x1dr"

    async def _obey(self, command: Command, writer: asyncio.StreamWriter) -> None:
        printed = len(self._interpreter.paper.elements)
        self._interpreter.execute(command)
        if command.name == b"\x1bp":
            self.drawer_pulses += 1
        elif command.name == b"\x1dV":
            await self._tear_off("cut")
        elif command.name == b"\x1dr":
            _reply(writer, bytes((0x03 if self.paper == "near" and command.raw[2] in {1, 49} else 0,)))
        elif command.name == b"\x1dI":
            _reply(writer, {b"B": _MAKER, b"C": _MODEL}.get(command.raw[2:], b"_\0"))
        if self._lines_left is not None:
            new = self._interpreter.paper.elements[printed:]
            self._lines_left -= sum(isinstance(element, TextLine) for element in new)
            if self._lines_left <= 0:
                self._lines_left = None
                await self.paper_out()

    async def _tear_off(self, ended_by: str) -> None:
        paper = self._interpreter.tear_off()
        if paper.is_blank:
            return  # a question or an opened drawer makes no receipt
        written = await self.receipts.write(paper, ended_by)
        if self._on_receipt is not None:
            self._on_receipt(written)


def _reply(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _run(port: int, folder: Path, control_port: int | None, paper_mm: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with VirtualPrinter(
        port, folder, control_port, paper_mm, on_receipt=lambda path: _say(f"printed {path.with_suffix('.png')}")
    ) as printer:
        control = f", control on 127.0.0.1:{printer.control_port}" if control_port is not None else ""
        _say(f"printer on 127.0.0.1:{printer.port}{control}, receipts in {folder}")
        await stopped.wait()


def main() -> None:
    """Runs one printer until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sandboxes.printer", description="A network receipt printer without paper.")
    parser.add_argument("--port", type=int, default=9100, help="where it listens on 127.0.0.1 (default 9100, 0 chooses one)")
    parser.add_argument("--receipts", type=Path, required=True, help="the folder for PNG, text, bytes and events of each receipt")
    parser.add_argument("--control-port", type=int, help="where lines such as 'paper out' change its state")
    parser.add_argument("--paper", type=int, choices=(58, 80), default=58, help="paper width in millimetres (default 58)")
    options = parser.parse_args()
    try:
        asyncio.run(_run(options.port, options.receipts, options.control_port, options.paper))
    except OSError as error:
        raise SystemExit(f"The printer cannot start: {error.strerror}. Choose another port or folder.") from error


if __name__ == "__main__":
    main()
