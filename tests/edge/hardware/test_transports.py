"""Every transport, against the real thing."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from edge.hardware.transport import Connection, Disconnected, Unreachable
from edge.hardware.transports import TRANSPORTS, open_device


def test_schemes_are_unique() -> None:
    assert len({transport.scheme for transport in TRANSPORTS}) == len(TRANSPORTS)


@pytest.mark.parametrize("address", ["", "127.0.0.1:9100", "usb://04b8:0e15", "tcp:/127.0.0.1", "://x"])
def test_an_address_nobody_knows_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not a device address"):
        open_device(address)


@pytest.mark.parametrize(
    "address", ["tcp://", "tcp://:9100", "tcp://host:99999", "tcp://host:port", "file://relative", "file://"]
)
async def test_a_location_that_makes_no_sense_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="Write"):
        async with open_device(address):
            pass


async def test_bytes_travel_both_ways_over_tcp_and_a_half_close_is_seen() -> None:
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.write(b"\x12")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_device(f"tcp://127.0.0.1:{port}") as connection:
            assert connection.replies
            await connection.write(b"x" * 300_000)
            await connection.finish()
            assert await connection.read() == b"\x12"
            assert await connection.read() == b""
    assert heard == b"x" * 300_000


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Unreachable, match="Switch it on"):
            async with open_device(f"tcp://127.0.0.1:{port}"):
                pass


async def test_a_connection_that_breaks_says_so() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.transport.abort()

    async def write_much(connection: Connection) -> None:
        for _ in range(100):
            await connection.write(b"x" * 100_000)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_device(f"tcp://127.0.0.1:{port}") as connection:
            with pytest.raises(Disconnected):
                await write_much(connection)
            with pytest.raises(Disconnected):
                await connection.read()


async def test_a_job_becomes_one_file_and_only_when_it_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    async with open_device(f"file://{folder}") as connection:
        assert not connection.replies
        await connection.write(b"one ")
        await connection.write(b"job")
        assert list(folder.iterdir()) == []
        assert await connection.read() == b""
        await connection.finish()
    async with open_device(f"file://{folder}") as connection:
        await connection.write(b"never finished")
    (only,) = folder.iterdir()
    assert only.read_bytes() == b"one job"
    assert only.suffix == ".escpos"


async def test_a_folder_that_cannot_be_is_unreachable_or_breaks(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unreachable, match="cannot be used"):
        async with open_device(f"file://{tmp_path}/file/folder"):
            pass
    async with open_device(f"file://{tmp_path}/folder") as connection:
        (tmp_path / "folder").rmdir()
        with pytest.raises(Disconnected, match="could not be written"):
            await connection.finish()
