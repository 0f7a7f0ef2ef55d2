"""Receipts as files, for demonstrations and for shops without a printer. Each job becomes one file, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import ClassVar

from edge.hardware.transport import Connection, Disconnected, Unreachable

_numbers = count(1)


class FileConnection:
    """A file that appears when it is finished."""

    replies = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[bytes] = []

    async def write(self, data: bytes) -> None:
        """Keeps the bytes until the file is finished."""
        self._written.append(data)

    async def read(self) -> bytes:
        """Files say nothing."""
        return b""

    async def finish(self) -> None:
        """Writes the file and waits until the disk has it."""
        try:
            await asyncio.to_thread(_write, self._folder, b"".join(self._written))
        except OSError as error:
            raise Disconnected(f"The receipt could not be written to {self._folder}: {error.strerror}") from error


class FileTransport:
    """file:///folder."""

    scheme: ClassVar[str] = "file"

    @asynccontextmanager
    async def open(self, location: str) -> AsyncIterator[Connection]:
        """Makes the folder when it is missing.

        Raises:
            ValueError: not an absolute path.
            Unreachable: the folder cannot be made.
        """
        if not location.startswith("/"):
            raise ValueError(f"{location!r} is not an absolute path. Write file:///folder, with three slashes.")
        folder = Path(location)
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(f"The folder {folder} cannot be used: {error.strerror}") from error
        yield FileConnection(folder)


def _write(folder: Path, data: bytes) -> None:
    # Time and process keep names unique over restarts and between tills, the counter within one.
    name = f"{time.time_ns() // 1_000_000}-{os.getpid()}-{next(_numbers)}.escpos"
    unfinished = folder / f".{name}.part"
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / name)
