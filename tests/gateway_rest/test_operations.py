"""Health, metrics, and the process: what an operator meets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any


async def test_health_and_metrics_tell_the_truth(cloud: Any, rest: Any) -> None:
    async with rest("GET", "/healthz") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
    for path in ("/api/v1/products/a", "/api/v1/products/b"):
        async with rest("GET", path) as answer:
            await answer.read()
    async with rest("DELETE", "/api/v1/products") as answer:
        assert answer.status == 405
    async with rest("GET", "/metrics") as answer:
        text = await answer.text()
    assert 'gipos_gateway_requests_total{method="GET",route="/api/v1/products/{id}",status="200"} 2.0' in text
    assert 'gipos_gateway_requests_total{method="DELETE",route="other",status="405"} 1.0' in text
    assert "gipos_gateway_requests_in_flight 0.0" in text
    assert "gipos_gateway_request_seconds_bucket" in text


async def test_a_screen_refuses_other_methods_as_problem(rest: Any) -> None:
    async with rest("POST", "/healthz") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
        assert (await answer.json())["reason"] == "METHOD_NOT_ALLOWED"


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIPOS_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway_rest", *arguments), stderr=asyncio.subprocess.PIPE, env=environment
    )


async def test_the_process_stops_in_time_with_a_stream_open(cloud: Any, rest: Any, free_port: int) -> None:
    async def watch(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()
        yield

    cloud.answer("WatchEvents", watch)
    process = await _start("--port", str(free_port), "--cloud", f"127.0.0.1:{cloud.port}")
    assert process.stderr is not None
    base = f"http://127.0.0.1:{free_port}"
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                async with rest.session.get(f"{base}/healthz") as answer:
                    assert answer.status == 200
                    break
            await asyncio.sleep(0.05)
        async with rest.session.get(f"{base}/api/v1/events:watch") as answer:
            assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert json.loads(await answer.content.readline())["error"]["reason"] == "SHUTTING_DOWN"
        log = (await process.stderr.read()).decode().splitlines()
        assert await process.wait() == 0
    entries = [json.loads(line) for line in log]
    watched = next(entry for entry in entries if entry.get("route") == "/api/v1/events:watch")
    assert watched["event"] == "request"
    assert {"request_id", "method", "status", "ms"} <= watched.keys()


async def test_a_taken_port_is_one_clear_sentence_and_exit_code_1(rest: Any) -> None:
    port = rest.url.rpartition(":")[2]
    process = await _start("--port", port)
    _, errors = await process.communicate()
    assert process.returncode == 1
    lines = errors.decode().strip().splitlines()
    assert len(lines) == 1
    assert f"127.0.0.1:{port}" in lines[0]


async def test_a_bad_setting_is_one_clear_sentence() -> None:
    for arguments in (("--port", "99999"), ("--cloud", "nowhere")):
        process = await _start(*arguments)
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert len(errors.decode().strip().splitlines()) == 1
