"""Pieces of a snapshot on disk: compressed, written once, read by any number of tills at any speed. Knows not what they hold.

A spool is a file without a name, so that it is gone with the process that made it, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import zlib
from pathlib import Path

LEVEL = 1
"""Of compression: a snapshot is built while somebody waits, and the higher ones save a tenth at three times the work."""


class Spool:
    """An append-only row of pieces.

    Args:
        folder: Where the file is; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by close())
        self._places: list[tuple[int, int]] = []
        self.size = 0
        """Bytes on disk."""

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._places)

    @property
    def closed(self) -> bool:
        """Whether the disk space was given back."""
        return self._file.closed

    def __del__(self) -> None:
        """The disk space is given back even if somebody forgot to."""
        self._file.close()

    async def add(self, piece: bytes) -> None:
        """Adds a piece, in a thread: compressing and writing wait for nobody's event loop.

        Raises:
            OSError: there is no room on the disk.
        """
        await asyncio.to_thread(self._add, piece)

    def _add(self, piece: bytes) -> None:
        packed = zlib.compress(piece, LEVEL)
        view = memoryview(packed)
        while view:
            view = view[os.pwrite(self._file.fileno(), view, self.size + len(packed) - len(view)) :]
        self._places.append((self.size, len(packed)))
        self.size += len(packed)

    async def packed(self, index: int) -> bytes:
        """A piece as it is kept: zlib.

        Raises:
            IndexError: there is no such piece.
        """
        return await asyncio.to_thread(self._packed, index)

    async def plain(self, index: int) -> bytes:
        """A piece as it was added; raises as `packed`."""
        return await asyncio.to_thread(lambda: zlib.decompress(self._packed(index)))

    def _packed(self, index: int) -> bytes:
        start, length = self._places[index]
        return os.pread(self._file.fileno(), length, start)

    def close(self) -> None:
        """Gives the disk space back."""
        self._file.close()
