"""`python -m sandboxes demo`: printers and receiver of a demo shop in one real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def run(*arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-P", "-m", "sandboxes", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=environment)


async def until_open(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_printers_and_receiver_run_until_told_to_stop(tmp_path: Path) -> None:
    first, second, control, receiver = free_ports(4)
    (tmp_path / "secrets").write_text("whsec_c2VjcmV0\n")
    program = await run(
        *("demo", "--printer", f"{first}:{control}:58:{tmp_path / 'a: b'}", "--printer", f"{second}:0:80:{tmp_path / 'b'}"),
        *("--receiver-port", str(receiver), "--receiver-secret-file", str(tmp_path / "secrets")),
        *("--receiver-log", str(tmp_path / "logs" / "webhooks.jsonl")),
    )
    for port in (first, second, control, receiver):
        await until_open(port)
    assert (tmp_path / "a: b").is_dir()

    def post_unsigned() -> int:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{receiver}/webhooks", b'{"type": "x"}'))
        return refused.value.code

    assert await asyncio.to_thread(post_unsigned) == 401
    assert json.loads((tmp_path / "logs" / "webhooks.jsonl").read_text())["valid"] is False
    program.send_signal(signal.SIGTERM)
    assert await program.wait() == 0


async def test_a_taken_port_ends_it_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        program = await run("printer", "--printer", f"{port}:0:58:{tmp_path}")
        _, errors = await program.communicate()
    assert program.returncode == 1
    assert str(port) in errors.decode()
    assert "Traceback" not in errors.decode()


@pytest.mark.parametrize("text", ["9100", "9100:0:70:x", "0:0:58:x", "9100:x:58:x", "70000:0:58:x"])
async def test_a_printer_that_makes_no_sense_is_refused(text: str) -> None:
    program = await run("printer", "--printer", text)
    _, errors = await program.communicate()
    assert program.returncode == 2
    assert "usage:" in errors.decode()
