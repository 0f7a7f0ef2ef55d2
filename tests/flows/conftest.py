"""A whole platform of real processes, started and stopped by the commands of the README."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmarks.platform import free_port_base

ROOT = Path(__file__).resolve().parents[2]


def run(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / command), *map(str, arguments)], capture_output=True, text=True, timeout=170, check=False
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


@pytest.fixture(scope="module")
def platform() -> Iterator[Path]:
    """The up.json of a running platform; afterwards nothing of it may be left running."""
    data = Path(tempfile.mkdtemp(prefix="gipos-flow-"))
    up = data / "up.json"
    try:
        started = run("up", "--detach", "--data", data, "--port-base", str(free_port_base()))
        assert started.returncode == 0, started.stdout + started.stderr
        yield up
        pids = [process["pid"] for process in json.loads(up.read_text())["processes"]]
        stopped = run("down", "--data", data)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        assert not [pid for pid in pids if is_alive(pid)]
        assert not up.exists()
    finally:
        run("down", "--data", data)
        shutil.rmtree(data, ignore_errors=True)
