"""The virtual printer as a stranger meets it: over TCP, by its control port, and as a program."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxes.printer import VirtualPrinter

FENCE = b"\x1dr\x01"
STATUS = {number: bytes((0x10, 0x04, number)) for number in (1, 2, 4)}


@pytest.fixture
async def printer(tmp_path: Path) -> AsyncIterator[VirtualPrinter]:
    async with VirtualPrinter(0, tmp_path, control_port=0) as printer:
        yield printer


class Client:
    """One connection to a port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, data: bytes, size: int = 1) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(20):
            return await self.reader.readexactly(size)

    async def line(self, text: str) -> str:
        self.writer.write(text.encode() + b"\n")
        async with asyncio.timeout(20):
            return (await self.reader.readline()).decode().strip()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def receipts(folder: Path, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        while len(found := sorted(folder.glob("*.json"))) < count:
            await asyncio.sleep(0.02)
    return [json.loads(path.read_bytes()) | {"text": path.with_suffix(".txt").read_text("utf-8")} for path in found]


async def print_job(port: int, data: bytes) -> None:
    client = await Client.connect(port)
    client.writer.write(data)
    await client.close()


async def test_each_connection_with_print_is_one_receipt_of_four_files(printer: VirtualPrinter, tmp_path: Path) -> None:
    await print_job(printer.port, b"first \x1bp\x00\x19\xfa\n")
    await print_job(printer.port, STATUS[1] + b"\x1b@")
    await print_job(printer.port, b"second\n")
    first, second = await receipts(tmp_path, 2)
    assert (first["text"], second["text"]) == ("first\n", "second\n")
    assert (first["drawer_pulses"], first["ended_by"], first["number"], second["number"]) == (1, "close", 1, 2)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == sorted([".png", ".txt", ".bin", ".json"] * 2)


async def test_a_cut_and_a_quiet_fence_end_receipts_of_one_connection(printer: VirtualPrinter, tmp_path: Path) -> None:
    client = await Client.connect(printer.port)
    assert await client.ask(b"a\n\x1dV\x01b\n" + FENCE + b"c\n" + FENCE, 2) == b"\0\0"
    cut, quiet = await receipts(tmp_path, 2)
    assert (cut["text"], cut["ended_by"]) == ("a\n", "cut")
    assert (quiet["text"], quiet["ended_by"]) == ("b\nc\n", "fence")
    await client.close()


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for count in (1, 2):
        async with VirtualPrinter(0, tmp_path) as printer:
            await print_job(printer.port, b"x\n")
            found = await receipts(tmp_path, count)
    assert [each["number"] for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("state", "answers"),
    [
        ("load_paper", "12 12 12"),
        ("paper_near_end", "12 12 1e"),
        ("paper_out", "1a 32 7e"),
        ("open_cover", "1a 16 12"),
    ],
)
async def test_status_is_answered_at_once_whatever_the_state(printer: VirtualPrinter, state: str, answers: str) -> None:
    await getattr(printer, state)()
    client = await Client.connect(printer.port)
    client.writer.write(b"waiting in the buffer\n")
    assert b"".join([await client.ask(STATUS[number]) for number in (1, 2, 4)]).hex(" ") == answers
    await client.close()


async def test_it_names_its_maker_and_model_in_order(printer: VirtualPrinter) -> None:
    client = await Client.connect(printer.port)
    assert await client.ask(b"\x1dIB\x1dIC" + FENCE, 17) == b"_EPSON\0_TM-T82X\0\0"
    await client.close()


async def test_without_paper_the_fence_waits_and_printing_goes_on_later(printer: VirtualPrinter, tmp_path: Path) -> None:
    await printer.run_out_after(1)
    client = await Client.connect(printer.port)
    client.writer.write(b"one\ntwo\n" + FENCE)
    while await client.ask(STATUS[4]) != b"\x7e":
        pass
    await printer.load_paper()
    async with asyncio.timeout(20):
        assert await client.reader.readexactly(1) == b"\0"
    await client.close()
    (receipt,) = await receipts(tmp_path, 1)
    assert receipt["text"] == "one\ntwo\n"


async def test_one_client_at_a_time_and_the_others_wait(printer: VirtualPrinter, tmp_path: Path) -> None:
    first, second = await Client.connect(printer.port), await Client.connect(printer.port)
    assert await first.ask(STATUS[1]) == b"\x12"
    second.writer.write(b"second\n" + STATUS[1])
    assert await first.ask(b"first\n" + FENCE) == b"\0"
    await first.close()
    async with asyncio.timeout(20):
        assert await second.reader.readexactly(1) == b"\x12"
    await second.close()
    assert [each["text"] for each in await receipts(tmp_path, 2)] == ["first\n", "second\n"]


async def test_a_dropped_connection_leaves_what_was_printed(printer: VirtualPrinter, tmp_path: Path) -> None:
    await printer.drop_after(6)
    client = await Client.connect(printer.port)
    client.writer.write(b"12\n45\n78\n")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.reader.readexactly(1)
    client.writer.transport.abort()
    await print_job(printer.port, b"next\n")
    assert [each["text"] for each in await receipts(tmp_path, 2)] == ["12\n45\n", "next\n"]


async def test_a_stalled_printer_answers_after_the_stall(printer: VirtualPrinter) -> None:
    await printer.stall()
    client = await Client.connect(printer.port)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.ask(STATUS[1])
    await printer.resume()
    async with asyncio.timeout(20):
        assert await client.reader.readexactly(1) == b"\x12"
    await client.close()


async def test_without_power_it_refuses_and_forgets(printer: VirtualPrinter, tmp_path: Path) -> None:
    await printer.paper_out()
    await print_job(printer.port, b"forgotten\n")
    await printer.power_off()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(printer.port)
    await printer.load_paper()
    await printer.power_on()
    await print_job(printer.port, b"remembered\n")
    assert [each["text"] for each in await receipts(tmp_path, 1)] == ["remembered\n"]


async def test_every_button_works_by_the_control_port(printer: VirtualPrinter) -> None:
    assert printer.control_port is not None
    control = await Client.connect(printer.control_port)
    for button in ("paper out", "cover open", "stall on", "power off"):
        assert await control.line(button) == "ok"
    status = json.loads(await control.line("status"))
    assert status == {
        "power": "off",
        "paper": "out",
        "cover": "open",
        "stalled": False,
        "receipts": 0,
        "drawer_pulses": 0,
    }
    for button in ("power on", "paper near", "cover closed", "stall off", "paper ok", "drop 5", "paper out after 1"):
        assert await control.line(button) == "ok"
    assert json.loads(await control.line("status"))["power"] == "on"
    assert (await control.line("paper maybe")).startswith("error: 'paper maybe' is not known; write status or one of paper out")
    await control.close()


async def test_it_runs_as_a_program_and_stops_when_told(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandboxes.printer", "--port", "0", "--receipts", str(tmp_path),
        "--control-port", "0", "--paper", "80",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            ready = (await process.stdout.readline()).decode()
        port = int(ready.split("127.0.0.1:")[1].split(",")[0])
        await print_job(port, b"x" * 48 + b"\n")
        (receipt,) = await receipts(tmp_path, 1)
        assert receipt["text"] == "x" * 48 + "\n"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_is_one_sentence(printer: VirtualPrinter, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandboxes.printer", "--port", str(printer.port), "--receipts", str(tmp_path),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        _, complaint = await process.communicate()
    assert process.returncode == 1
    assert complaint.decode().startswith("The printer cannot start: ")
    assert len(complaint.splitlines()) == 1
