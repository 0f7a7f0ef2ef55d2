"""The disk budget of a till: how much room is left, and a reserve that is given up so that what was begun can be finished.

It deletes nothing but its own reserve file. Sales are never overwritten to make room.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Self

import structlog

from edge.storage.database import StorageFull

_log = structlog.get_logger(__name__)

RESERVE_NAME = "reserve.bin"
MEBIBYTE = 1024 * 1024
SMALL_DISK = 512 * MEBIBYTE


class Room(Enum):
    """How much room there is."""

    AMPLE = "ample"
    SPARSE = "sparse"
    """What is optional stops: hourly copies, old acknowledged operations."""
    LOW = "low"
    """People are warned."""
    FULL = "full"
    """The reserve is gone: what was begun is finished, and nothing new is begun."""


@dataclass(frozen=True)
class Budget:
    """The limits, in bytes of free space."""

    sparse: int = 500 * 1000 * 1000
    low: int = 100 * 1000 * 1000
    reserve: int = 32 * MEBIBYTE
    margin: int = 16 * MEBIBYTE
    """What must be free beside a new reserve, so that it is not made and given up in turns."""
    least: int = 4 * MEBIBYTE
    """A checkout is only tried with so much room or a reserve behind it."""

    @classmethod
    def of(cls, total: int) -> Self:
        """The limits for a disk of this size: on one below half a gibibyte the reserve must not take it all."""
        usual = cls()
        if total >= SMALL_DISK:
            return usual
        sizes = {name: getattr(usual, name) * total // SMALL_DISK for name in ("reserve", "margin", "least")}
        return replace(usual, **sizes)


FULL_MESSAGE = (
    "Penyimpanan tablet penuh: penjualan tidak disimpan, jangan terima uang dulu. Hapus berkas lain lalu coba lagi."
    " / The tablet's disk is full: nothing was sold, do not take money yet. Delete other files, then try again."
)


class Space:
    """Watches the disk of one data folder."""

    def __init__(self, folder: Path, budget: Budget | None = None) -> None:
        self.budget = budget or Budget.of(_size(folder))
        self._folder = folder
        self._reserve = folder / RESERVE_NAME

    def free(self) -> int:
        """Bytes an ordinary program may still write."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @property
    def has_reserve(self) -> bool:
        """Whether there is something left to give up."""
        return self._reserve.exists()

    def room(self) -> Room:
        """How much room there is now. The reserve, while it is there, does not count as free."""
        free = self.free()
        if not self.has_reserve and free < self.budget.reserve + self.budget.margin:
            return Room.FULL
        if free < self.budget.low:
            return Room.LOW
        return Room.SPARSE if free < self.budget.sparse else Room.AMPLE

    def keep_reserve(self) -> bool:
        """Makes the reserve if there is room for it; whether there is one now."""
        if self.has_reserve:
            return True
        if self.free() < self.budget.reserve + self.budget.margin:
            return False
        fresh = self._reserve.with_suffix(".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.budget.reserve)
            finally:
                os.close(descriptor)
            fresh.rename(self._reserve)
        except OSError as error:
            _log.warning("reserve_not_made", problem=error.strerror)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Frees the reserve, for something that was begun and did not fit; whether there was one."""
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.error("reserve_not_given_up", problem=error.strerror)
            return False
        _log.error("disk_full_reserve_given_up", free=self.free())
        return True

    def check_beginning(self) -> None:
        """Before something new is begun, for example a cart.

        Raises:
            StorageFull: the reserve is gone and cannot be made again.
        """
        if not self.has_reserve and not self.keep_reserve():
            raise StorageFull(FULL_MESSAGE)

    def check_finishing(self) -> None:
        """Before something begun is finished, for example a checkout.

        Raises:
            StorageFull: even the reserve is used up.
        """
        if not self.has_reserve and self.free() < self.budget.least:
            raise StorageFull(FULL_MESSAGE)


def _size(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
