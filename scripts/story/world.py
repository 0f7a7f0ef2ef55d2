"""What the story can touch: REST with an API key, the tills' local APIs, the receiver, the printed receipts and process ids.

Everything here is what an outsider has, too: `up.json` and public interfaces. It knows no module of the platform.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


class StoryFailed(AssertionError):
    """Something is not as the story says."""


def expect(condition: object, sentence: str) -> None:
    """Raises StoryFailed with the sentence unless the condition holds."""
    if not condition:
        raise StoryFailed(sentence)


async def until(what: str, found: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_SECONDS) -> Any:
    """Waits for other processes: asks until the answer is true, and returns it.

    Raises:
        StoryFailed: it did not become true in time.
    """
    end = time.monotonic() + seconds
    last: BaseException | None = None
    while time.monotonic() < end:
        try:
            if value := await found():
                return value
            last = None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            last = error  # a process that is being restarted does not answer
        await asyncio.sleep(POLL_SECONDS)
    raise StoryFailed(f"Waited {seconds:.0f} s in vain: {what}" + (f" ({last!r})" if last else ""))


class Till:
    """A till, by its local API and the paper in its printer."""

    def __init__(self, http: aiohttp.ClientSession, facts: dict[str, Any], name: str) -> None:
        self._http = http
        self.id: str = facts["id"]
        self.outlet_id: str = facts["outlet_id"]
        self.url: str = facts["url"]
        self.receipts = Path(facts["receipts_dir"])
        self.name = name
        """Of its process."""

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """A call of the local API that must succeed."""
        async with self._http.request(method, self.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            expect(answer.status < 300, f"{method} {path} at {self.name}: {answer.status} {text}")
            return json.loads(text)

    async def sell(self, barcode: str, quantity: int, cash: int, *, wait: bool = True) -> Any:
        """Scans a barcode so many times and takes cash."""
        await self.call("DELETE", "/cart")
        for _ in range(quantity):
            await self.call("POST", "/scan", {"barcode": barcode})
        body = {"tenders": [{"method": "cash", "amount": cash}], "cashier": "Sari"}
        return await self.call("POST", f"/checkout?wait={int(wait)}", body)

    async def stock(self, product_id: str) -> str:
        """What the till shows as on hand."""
        return str((await self.call("GET", f"/stock/{product_id}"))["on_hand"])

    async def online(self) -> bool:
        """Whether its link is up and everything it did is stored in the cloud."""
        link = (await self.call("GET", "/status"))["link"]
        return bool(link["state"] == "online" and link["waiting"] == 0)

    async def network(self, *, enabled: bool) -> None:
        """The cashier's switch "work offline"."""
        await self.call("PUT", "/link", {"enabled": enabled})

    def printed(self) -> list[dict[str, Any]]:
        """What came out of the printer, in order: the events of each receipt."""
        return [{"path": path, **json.loads(path.read_text())} for path in sorted(self.receipts.glob("*.json"))]


class World:
    """A running platform."""

    def __init__(self, up: Path, http: aiohttp.ClientSession) -> None:
        self._up = up
        self._http = http
        self.facts = json.loads(up.read_text())
        self.outlets: list[dict[str, str]] = self.facts["outlets"]
        self.tills = [Till(http, facts, f"till-{number}") for number, facts in enumerate(self.facts["tills"], start=1)]
        self._auth = {"Authorization": f"Bearer {self.facts['api_key']}"}

    @classmethod
    @asynccontextmanager
    async def open(cls, up: Path) -> AsyncIterator[Self]:
        """The platform that this state file describes."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            yield cls(up, http)

    async def api(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """A REST call that must succeed."""
        url = self.facts["gateway_url"] + path
        async with self._http.request(method, url, json=body, headers={**self._auth, **headers}) as answer:
            text = await answer.text()
            if answer.status >= 500:
                answer.raise_for_status()  # somebody is being restarted
            expect(answer.status < 300, f"{method} {path}: {answer.status} {text}")
            return json.loads(text) if text else None

    async def events(self, cursor: str, types: str) -> tuple[list[Any], str]:
        """All events of these types after a cursor, and the cursor behind them."""
        found: list[Any] = []
        while True:
            page = await self.api("GET", f"/api/v1/events?page_size=200&types={types}&cursor={cursor}")
            found += page["events"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return found, cursor

    async def stock(self, product_id: str, outlet_id: str) -> str:
        """What REST says is on hand in an outlet."""
        return str((await self.api("GET", f"/api/v1/inventory/{product_id}?outlet_id={outlet_id}"))["on_hand"])

    async def deliveries(self) -> list[Any]:
        """What the webhook receiver got."""
        base = self.facts["webhook_receiver_url"].rsplit("/", 1)[0]
        async with self._http.get(base + "/deliveries") as answer:
            got: list[Any] = (await answer.json())["deliveries"]
            return got

    @asynccontextmanager
    async def dashboard(self) -> AsyncIterator[list[dict[str, Any]]]:
        """A dashboard: the events that come over a WebSocket while this is open."""
        url = self.facts["gateway_url"].replace("http", "ws", 1) + "/api/v1/events:watch"
        seen: list[dict[str, Any]] = []
        async with self._http.ws_connect(url, headers=self._auth, timeout=aiohttp.ClientWSTimeout(ws_close=2)) as socket:

            async def read() -> None:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        seen.append(json.loads(message.data)["event"])  # noqa: PERF401 (seen by the reader one by one, as it comes)

            reading = asyncio.create_task(read())
            try:
                yield seen
            finally:
                reading.cancel()

    @property
    def cloud_name(self) -> str:
        """The program the cloud is in; where it hosts the gateway, too, REST goes down with it."""
        names = {process["name"] for process in json.loads(self._up.read_text())["processes"]}
        return "cloud" if "cloud" in names else "host"

    def pid(self, name: str) -> int:
        """The process id of a program, as it is now."""
        processes = json.loads(self._up.read_text())["processes"]
        return next(int(process["pid"]) for process in processes if process["name"] == name)

    def kill(self, name: str) -> int:
        """Ends a program as a power cut would; the id it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def restarted(self, name: str, old: int) -> None:
        """Waits until the program runs again."""

        async def has_new_pid() -> bool:
            return self.pid(name) != old

        await until(f"{name} is started again", has_new_pid)
