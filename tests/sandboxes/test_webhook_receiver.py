"""The receiver believes what is signed, refuses the rest, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from sandboxes.webhook_receiver import WebhookReceiver, is_authentic, read_secrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def signed(
    message_id: str = "evt_1", body: bytes = b'{"type": "sale.created"}', *, secret: str = SECRET, age: int = 0
) -> dict[str, str]:
    """Headers made by the official library."""
    moment = datetime.fromtimestamp(int(time.time()) - age, UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body.decode()),
    }


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


BODY = b'{"type": "sale.created"}'


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"webhook-signature": lambda value: "v1,AAAA " + value}, True),
        ({"webhook-signature": lambda value: value + " v2,xyz  nonsense"}, True),
        ({"webhook-signature": lambda value: value.replace("v1,", "v2,")}, False),
        ({"webhook-signature": lambda value: value[:-3] + "AA="}, False),
        ({"webhook-signature": lambda _value: ""}, False),
        ({"webhook-signature": lambda _value: "v1,é"}, False),
        ({"webhook-id": lambda value: value + "2"}, False),
        ({"webhook-id": lambda _value: ""}, False),
        ({"webhook-timestamp": lambda value: str(int(value) + 1)}, False),
        ({"webhook-timestamp": lambda _value: ""}, False),
        ({"webhook-timestamp": lambda _value: "soon"}, False),
        ({"webhook-timestamp": lambda _value: "²"}, False),
        ({"webhook-timestamp": lambda value: "-" + value}, False),
    ],
)
def test_only_what_was_signed_is_believed(change: dict[str, Any], *, valid: bool) -> None:
    headers = signed()
    for name, edit in change.items():
        headers[name] = edit(headers[name])
    assert is_authentic([SECRET], headers, BODY, time.time()) is valid


@pytest.mark.parametrize(("age", "valid"), [(0, True), (299, True), (-299, True), (302, False), (-302, False), (86_400, False)])
def test_old_and_future_timestamps_are_refused(age: int, *, valid: bool) -> None:
    now = time.time()
    assert is_authentic([SECRET], signed(age=age), BODY, int(now)) is valid


def test_any_of_several_secrets_will_do() -> None:
    assert is_authentic([OTHER, SECRET], signed(), BODY, time.time())
    assert is_authentic(["whsec_half writ", SECRET], signed(), BODY, time.time())
    assert not is_authentic([OTHER], signed(), BODY, time.time())
    assert not is_authentic([], signed(), BODY, time.time())


def test_a_changed_body_is_refused() -> None:
    assert not is_authentic([SECRET], signed(), BODY + b" ", time.time())


async def test_deliveries_are_answered_listed_and_written_down(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    log = tmp_path / "deliveries.jsonl"
    async with WebhookReceiver(0, [SECRET], log) as receiver:
        statuses = []
        for headers in (signed(), signed(), signed("evt_2"), signed("evt_3", secret=OTHER)):
            async with session.post(receiver.url + "/any/path", data=BODY, headers=headers) as response:
                statuses.append(response.status)
        async with session.get(receiver.url + "/deliveries") as response:
            listed = await response.json()
        async with session.get(receiver.url + "/deliveries?type=product.created") as response:
            assert (await response.json())["count"] == 0
    assert statuses == [204, 204, 204, 401]
    assert (listed["count"], listed["duplicates"]) == (4, 1)
    assert [(each["id"], each["valid"], each["duplicate"]) for each in listed["deliveries"]] == [
        ("evt_1", True, False),
        ("evt_1", True, True),
        ("evt_2", True, False),
        ("evt_3", False, False),
    ]
    assert [json.loads(line) for line in log.read_text().splitlines()] == listed["deliveries"]
    first = listed["deliveries"][0]
    assert set(first) == {"time", "id", "type", "valid", "attempt_timestamp", "duplicate", "body"}
    assert first["type"] == "sale.created"


async def test_a_restart_still_knows_what_came_before(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    log = tmp_path / "deliveries.jsonl"
    for _ in range(2):
        async with WebhookReceiver(0, [SECRET], log) as receiver:
            await session.post(receiver.url, data=BODY, headers=signed())
        with log.open("a") as broken:
            broken.write('{"time": "half a li\n')
    assert [delivery.duplicate for delivery in receiver.deliveries] == [False, True]


async def test_what_is_no_json_is_kept_as_text(session: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(0, lambda: [SECRET]) as receiver:
        for body in (b"\xff\x00", b"[1]", b""):
            async with session.post(receiver.url, data=body) as response:
                assert response.status == 401
    assert [delivery.body for delivery in receiver.deliveries] == ["\ufffd\x00", [1], ""]


async def test_it_fails_drops_and_waits_when_told(session: aiohttp.ClientSession) -> None:
    async with WebhookReceiver(0, [SECRET]) as receiver:
        told = {"fail_next": 2, "status": 503, "retry_after": 7, "drop": 1, "delay": 0}
        async with session.post(receiver.url + "/_sandbox", json=told) as response:
            assert (await response.json())["fail_next"] == 2
        with pytest.raises(aiohttp.ClientError):
            await session.post(receiver.url, data=BODY, headers=signed())
        seen = []
        for _ in range(3):
            async with session.post(receiver.url, data=BODY, headers=signed()) as response:
                seen.append((response.status, response.headers.get("Retry-After")))
        assert seen == [(503, "7"), (503, "7"), (204, None)]
        assert len(receiver.deliveries) == 1
        for nonsense in (b"", b"[]", b'{"unknown": 1}', b'{"status": "high"}'):
            async with session.post(receiver.url + "/_sandbox", data=nonsense) as response:
                assert response.status == 400


def test_a_secret_file_has_one_secret_a_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_secrets(path) == []
    path.write_text(f"{SECRET}\n{OTHER}\n")
    assert read_secrets(path) == [SECRET, OTHER]
    path.write_bytes(b"\xff")
    assert read_secrets(path) == []


async def test_it_runs_alone_and_stops_when_told(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with WebhookReceiver(0, []) as free:
        port = free.port
    secret, log = tmp_path / "secret", tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "sandboxes.webhook_receiver",
        "--port",
        str(port),
        "--secret-file",
        str(secret),
        "--log",
        str(log),
    ]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(20):
            while True:
                try:
                    async with session.get(url + "/healthz") as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        secret.write_text(SECRET)  # known only after it started
        async with session.post(url, data=BODY, headers=signed()) as response:
            assert response.status == 204
        second = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, complaint = await second.communicate()
        assert second.returncode == 1
        assert f"cannot listen on port {port}" in complaint.decode()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert json.loads(log.read_text())["valid"] is True
