"""A platform of the benchmark's own: fresh folder, free ports, gone afterwards."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud.platform.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
SPAN = 40
"""Ports a platform uses, from its base on."""


@dataclass(frozen=True)
class Platform:
    """Where it is."""

    up: Path
    database_url: str


def free_port_base() -> int:
    """A base from which all ports are free at this moment; a random one, because others look for theirs at the same time.

    Raises:
        RuntimeError: there is none.
    """
    bases = list(range(20_000, 32_000, SPAN))  # below the ports that the system hands out by itself
    secrets.SystemRandom().shuffle(bases)
    for base in bases:
        if all(_is_free(base + offset) for offset in (0, 1, 2, 11, 12, 13, 21, 22, 23, 31, 32, 33)):
            return base
    raise RuntimeError("There is no free range of ports on this machine.")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def started() -> Iterator[Platform]:
    """Starts a platform and stops it.

    Raises:
        RuntimeError: it did not start; what it said is on standard error.
    """
    data = Path(tempfile.mkdtemp(prefix="gipos-bench-"))
    try:
        command = [str(ROOT / "scripts" / "up"), "--detach", "--data", str(data), "--port-base", str(free_port_base())]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise RuntimeError("The platform did not start.")
        try:
            yield Platform(data / "up.json", EmbeddedPostgres(data / "postgres").url)
        finally:
            subprocess.run([str(ROOT / "scripts" / "down"), "--data", str(data)], stdout=subprocess.DEVNULL, check=True)
    finally:
        shutil.rmtree(data, ignore_errors=True)
