"""Gives one process a wrong wall clock: what `time.time` says is shifted by what a file says at that moment.

Python loads this module by itself when it starts, because the soak puts this folder into PYTHONPATH of tablets only. The product
knows nothing of it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_PLACE = struct.Struct("<q")
_path = os.environ.get("GIPOS_SOAK_CLOCK", "")


def _install(path: Path) -> None:
    with path.open("rb") as file:
        shift = mmap.mmap(file.fileno(), _PLACE.size, access=mmap.ACCESS_READ)
    true_ns = time.time_ns

    def time_ns() -> int:
        """Nanoseconds since 1970, as far as this tablet knows."""
        return true_ns() + int(_PLACE.unpack_from(shift)[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


if _path:
    _install(Path(_path))
