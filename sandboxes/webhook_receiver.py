"""A subscriber as merchants would write one: verifies Standard Webhooks signatures by itself and remembers what came.

It can be told to fail, to be slow or to hang up. It shares no code with the sender, so it cannot share its mistakes.
`python -m sandboxes.webhook_receiver --port P --secret-file F --log FILE` runs it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

TOLERANCE_SECONDS = 300
"""In both directions, as the published Standard Webhooks libraries have it."""

Secrets = Callable[[], list[str]] | list[str]
"""The secrets that are accepted; a function is asked at each delivery, so that a secret can be added while this runs."""


@dataclass(frozen=True)
class Received:
    """One POST."""

    time: str
    id: str
    type: str
    valid: bool
    attempt_timestamp: str
    duplicate: bool
    """Whether this id was accepted before."""
    body: Any
    """The parsed JSON; the text itself when it is none."""


@dataclass
class Faults:
    """What the next deliveries meet. Each counter goes down with each delivery it hits."""

    fail_next: int = 0
    status: int = 500
    drop: int = 0
    """How many connections to close without an answer."""
    delay: float = 0.0
    """Seconds before each answer."""
    retry_after: int = 0
    """Seconds, sent along with failures when above 0."""


def is_authentic(secrets: list[str], headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether any of the signatures was made with any of the secrets, recently."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    valid = False
    for secret in secrets:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            continue  # a half-written secret file; the sender tries again
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        for entry in headers.get("webhook-signature", "").split(" "):
            version, _, given = entry.partition(",")
            # No early exit: the time taken tells nothing about which one matched.
            valid |= version == "v1" and hmac.compare_digest(given.encode(), expected.encode())
    return valid


class WebhookReceiver:
    """An HTTP server on loopback, used as an async context manager. Port 0 chooses a free one."""

    def __init__(self, port: int, secrets: Secrets, log_path: Path | None = None) -> None:
        self.port = port
        self.deliveries: list[Received] = []
        self.faults = Faults()
        self.changed = asyncio.Event()
        """Set with every delivery; whoever waits clears it."""
        self._secrets = secrets
        self._log_path = log_path
        self._accepted: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens. Every path takes deliveries."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._read_log()
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/healthz", self._healthy),
                web.get("/deliveries", self._list),
                web.post("/_sandbox", self._control),
                web.post("/{path:.*}", self._receive),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _read_log(self) -> None:
        """Remembers what came before a restart: a delivery repeated later is still a duplicate."""
        if self._log_path is None or not self._log_path.exists():
            return
        for line in self._log_path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError):  # a line cut short by a crash
                received = Received(**json.loads(line))
                self._remember(received)

    def _remember(self, received: Received) -> None:
        self.deliveries.append(received)
        if received.valid:
            self._accepted[received.id] += 1

    async def _healthy(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _list(self, request: web.Request) -> web.Response:
        wanted = request.query.get("type")
        shown = [asdict(received) for received in self.deliveries if wanted in (None, received.type)]
        duplicates = sum(1 for received in shown if received["duplicate"])
        return web.json_response({"deliveries": shown, "count": len(shown), "duplicates": duplicates})

    async def _control(self, request: web.Request) -> web.Response:
        try:
            given = await request.json()
            for name, value in given.items():
                kind = type(getattr(self.faults, name))
                setattr(self.faults, name, kind(value))
        except (ValueError, TypeError, AttributeError):
            known = ", ".join(asdict(Faults()))
            return web.json_response({"error": f"Send a JSON object with numbers for any of {known}."}, status=400)
        return web.json_response(asdict(self.faults))

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.faults.delay:
            await asyncio.sleep(self.faults.delay)
        if self.faults.drop > 0:
            self.faults.drop -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        if self.faults.fail_next > 0:
            self.faults.fail_next -= 1
            headers = {"Retry-After": str(self.faults.retry_after)} if self.faults.retry_after else {}
            return web.Response(status=self.faults.status, headers=headers, text="told to fail")
        secrets = self._secrets if isinstance(self._secrets, list) else self._secrets()
        received = self._read(request.headers, body, valid=is_authentic(secrets, request.headers, body, time.time()))
        # Written down before it is answered: what was said to be received is never lost.
        if self._log_path is not None:
            with self._log_path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(received), ensure_ascii=False) + "\n")
        self._remember(received)
        self.changed.set()
        return web.Response(status=204 if received.valid else 401)

    def _read(self, headers: Mapping[str, str], body: bytes, *, valid: bool) -> Received:
        try:
            content = json.loads(body)
        except ValueError:
            content = body.decode("utf-8", "replace")
        message_id = headers.get("webhook-id", "")
        return Received(
            time=datetime.now(UTC).isoformat(),
            id=message_id,
            type=str(content.get("type", "")) if isinstance(content, dict) else "",
            valid=valid,
            attempt_timestamp=headers.get("webhook-timestamp", ""),
            duplicate=valid and self._accepted[message_id] > 0,
            body=content,
        )


def read_secrets(path: Path) -> list[str]:
    """One secret a line. A file that is not there yet holds none."""
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


async def _serve(port: int, secret_file: Path, log: Path | None) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with WebhookReceiver(port, lambda: read_secrets(secret_file), log):
        await stopped.wait()


def main() -> int:
    """Runs the receiver until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m sandboxes.webhook_receiver", description="Receives and verifies webhooks.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True, help="one whsec_… a line; read again at each delivery")
    parser.add_argument("--log", type=Path, help="gets one JSON line per delivery")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options.port, options.secret_file, options.log))
    except OSError as error:
        sys.stderr.write(f"The webhook receiver cannot listen on port {options.port}: {error.strerror}. Choose another --port.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
