"""`python -m host` as a process: both doors open, one sentence when it cannot start, a clean end on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scripts.stack import health

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(rb'^.*"host_serving".*$', re.MULTILINE)


def environment(url: str, folder: Path) -> dict[str, str]:
    return os.environ | {"GIPOS_DATABASE_URL": url, "GIPOS_DATA_DIR": str(folder / "data")}


@asynccontextmanager
async def started(url: str, folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any], Path]]:
    path = folder / "host.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "host", "--port", "0", "--grpc-port", "0"), env=environment(url, folder), stderr=log, cwd=ROOT
        )
    try:
        async with asyncio.timeout(60):
            while (found := READY.search(path.read_bytes())) is None:
                assert process.returncode is None, path.read_text()
                await asyncio.sleep(0.05)
        yield process, json.loads(found[0]), path
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_one_process_serves_rest_and_grpc_and_ends_when_asked(database_url: str, tmp_path: Path) -> None:
    async with started(database_url, tmp_path) as (process, facts, log), aiohttp.ClientSession() as http:
        base = f"http://127.0.0.1:{facts['rest_port']}"
        async with http.get(f"{base}/healthz") as answer:
            assert (answer.status, (await answer.json())["cloud"]) == (200, "reachable")
        async with http.get(f"{base}/api/v1/products") as answer:
            assert answer.status == 401
        assert await health.is_serving(f"127.0.0.1:{facts['grpc_port']}")
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]  # Linux has the line
        assert resident < 200 * 1024
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert events[-1] == "cloud_stopped"
    assert {"request", "host_serving"} <= set(events)


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_taken_port_is_said_in_one_sentence(database_url: str, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = {"--port": "0", "--grpc-port": "0", option: str(port)}
        command = [sys.executable, "-m", "host", *(word for pair in arguments.items() for word in pair)]
        done = subprocess.run(
            command, env=environment(database_url, tmp_path), capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
        )
    assert done.returncode == 1
    grpc = re.compile(r"[IWE]\d{4} ")  # its own lines begin with a level, month and day
    said = [line for line in done.stderr.splitlines() if not line.startswith("{") and not grpc.match(line)]
    assert len(said) == 1
    assert str(port) in said[0]
