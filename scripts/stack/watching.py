"""Tells when files in folders are finished or grow, through the kernel's inotify(7): nothing is polled."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

IN_MODIFY: Final = 0x2
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_TO: Final = 0x80
_HEADER: Final = struct.Struct("iIII")  # struct inotify_event without its name


async def changes(folders: Iterable[Path]) -> AsyncIterator[Path]:
    """Yields the path of each file that is written to, closed after writing, or moved into one of the folders (made if missing).

    Raises OSError when the kernel refuses (fs.inotify limits).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0:
        raise OSError(ctypes.get_errno(), "inotify is not available")
    try:
        watched: dict[int, Path] = {}
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            number = libc.inotify_add_watch(handle, os.fsencode(folder), IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO)
            if number < 0:
                raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
            watched[number] = folder
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(handle, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                for number, name in _parse(_read(handle)):
                    yield watched[number] / name
        finally:
            loop.remove_reader(handle)
    finally:
        os.close(handle)


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65_536)
    except BlockingIOError:
        return b""


def _parse(events: bytes) -> Iterable[tuple[int, str]]:
    position = 0
    while position < len(events):
        number, _, _, length = _HEADER.unpack_from(events, position)
        position += _HEADER.size
        name = events[position : position + length].rstrip(b"\0")
        position += length
        if name and number >= 0:  # -1 says that the queue overflowed; the next change tells again
            yield number, os.fsdecode(name)
