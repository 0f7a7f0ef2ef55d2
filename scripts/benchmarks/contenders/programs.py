"""Starts and stops the programs that are measured, and makes the environment of those that are not ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = Path(__file__).with_name("requirements.lock")
CACHE = ROOT / ".cache"
START_SECONDS = 60


def foreign_python() -> Path:
    """The Python of an environment with what `requirements.lock` names; made on first use, below the checkout.

    Raises:
        RuntimeError: the packages cannot be installed; the text says what pip said.
    """
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"bench-{digest}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print("  making the environment of the contenders", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        made = subprocess.run([*command, "-r", str(LOCK)], check=False, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"The contenders' packages cannot be installed: {made.stderr.strip()[-500:]}")
        done.touch()
    return python


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """A program until the block ends; its process id. It is ready when its port answers.

    Raises:
        RuntimeError: it ended, or did not answer in time; the text ends with what it wrote last. Or something else has its port.
    """
    if _answers(port):
        raise RuntimeError(f"{name} cannot have port {port}: something else answers there.")
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {log.read_text('utf-8', 'replace')[-800:]}")
            time.sleep(0.1)  # another program's start has no event we could wait for
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0


def resident_megabytes(pid: int) -> float:
    """Memory of a process that is its own or shared, in MB (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0
