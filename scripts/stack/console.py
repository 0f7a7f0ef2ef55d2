"""The live console: follows the event stream, the webhook receiver and the printers, and prints readable lines.

It only watches. A gateway that restarts is found again and the stream goes on after the last event seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from scripts.stack import lines, watching
from scripts.stack.arguments import Layout
from scripts.stack.lines import Line, Names, Tide
from scripts.stack.plan import Demo

COUNT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.5


class Console:
    """Follows one running stack."""

    def __init__(self, layout: Layout, demo: Demo) -> None:
        self._layout = layout
        self._demo = demo
        self._is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        outlets = {outlet["id"]: outlet["name"] for outlet in demo["outlets"]}
        self._names = Names(outlets, {till["id"]: f"till {till['number']}" for till in demo["tills"]})
        self._tide = Tide()

    async def follow(self) -> None:
        """Prints until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_events())
            tasks.create_task(self._follow_files())
            tasks.create_task(self._count())

    async def _follow_events(self) -> None:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._demo['api_key']}", "Accept": "application/x-ndjson"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        cursor = ""
        # Products with long descriptions make long lines.
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, read_bufsize=2**22) as session:
            while True:
                params = {"cursor": cursor} if cursor else {}
                try:
                    async with session.get(f"{self._layout.gateway_url}/api/v1/events:watch", params=params) as answer:
                        answer.raise_for_status()
                        async for raw in answer.content:
                            record = json.loads(raw) if raw.strip() else {}
                            cursor = record.get("cursor", cursor)
                            if "event" in record:
                                await self._show_event(session, record["event"])
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    pass  # the gateway or the cloud restarts; the supervisor says so
                await asyncio.sleep(RETRY_SECONDS)

    async def _show_event(self, session: Any, event: dict[str, Any]) -> None:
        self._names.learn(event)
        product_id = event.get("data", {}).get("product_id")
        if product_id and self._names.product(product_id) is None and self._tide.has_room("stock", time.monotonic()):
            async with session.get(f"{self._layout.gateway_url}/api/v1/products/{product_id}") as answer:
                if answer.status == 200:
                    self._names.add_product(await answer.json())
        line = lines.event(event, self._names, _now())
        if line is not None:
            self._show(line)

    async def _follow_files(self) -> None:
        log = self._layout.receiver_log
        position = log.stat().st_size if log.exists() else 0
        receipts = [self._layout.receipts_folder(till["id"]) for till in self._demo["tills"]]
        seen: set[Path] = set()
        async for path in watching.changes([log.parent, *receipts]):
            if path == log:
                position = self._show_deliveries(log, position)
            elif path.suffix == ".png" and path not in seen:
                seen.add(path)
                self._show_receipt(path)

    def _show_receipt(self, path: Path) -> None:
        shorter = os.path.relpath(path)
        shown = str(path) if shorter.startswith("..") else shorter
        self._show(lines.receipt(path.parent.name, shown, self._names, _now()))

    def _show_deliveries(self, log: Path, position: int) -> int:
        with log.open("rb") as file:
            if file.seek(0, os.SEEK_END) < position:
                position = 0  # a new file
            file.seek(position)
            content = file.read()
        complete, newline, _ = content.rpartition(b"\n")
        for raw in complete.splitlines():
            self._show(lines.delivery(json.loads(raw), _now()))
        return position + len(complete) + len(newline)

    def _show(self, line: Line) -> None:
        if self._tide.admit(line.kind, time.monotonic()):
            self._print(line)

    async def _count(self) -> None:
        """Tells, while things pour in, how many were not shown."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            for kind, count in self._tide.held():
                self._print(Line(_now(), kind, f"… and {count} more"))

    def _print(self, line: Line) -> None:
        print(line.coloured() if self._is_coloured else line.plain(), flush=True)


def _now() -> str:
    return time.strftime("%H:%M:%S")
