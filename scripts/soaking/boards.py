"""A dashboard as a browser has it: follows what is sold, is cut off with everything else, and goes on where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from scripts.soaking.evidence import Cloud, dump
from scripts.soaking.finding import Finding
from scripts.soaking.namespaces import CLOUD
from scripts.soaking.traffic import NO_ANSWER
from scripts.soaking.world import REST_PORT, World

COMES_BACK_SECONDS = 0.3
TODAY, RECENT = "sales.today:", "sales.recent:"
SURELY_SHOWN = 10
"""Of twenty; of the oldest of them two may have one moment."""


class Board:
    """One dashboard. What it shows is in `values`, by topic."""

    def __init__(self, world: World) -> None:
        self.values: dict[str, Any] = {}
        self._versions: dict[str, str] = {}
        self._epoch = ""
        self._world = world

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            with suppress(*NO_ANSWER):
                status, made = await self._world.rest("POST", "/api/v1/dashboard-tickets", {"viewer": "soak"})
                if status < 300:
                    await self._watch(made["ticket"])
            await asyncio.sleep(COMES_BACK_SECONDS)

    async def _watch(self, ticket: str) -> None:
        async with self._world.http.ws_connect(f"http://{CLOUD}:{REST_PORT}/api/v1/dashboard") as socket:
            await socket.send_str(json.dumps({"ticket": ticket, "epoch": self._epoch, "topics": self._versions}))
            async for message in socket:
                if isinstance(message.data, str):
                    self._take(json.loads(message.data))

    def _take(self, said: dict[str, Any]) -> None:
        topic = said.get("topic", "")
        match said["t"]:
            case "hello":
                self._epoch = said["epoch"]
            case "value":
                self.values[topic], self._versions[topic] = said["value"], said["version"]
            case "patch":
                if self._versions.get(topic, "").rpartition("-")[2] != said["from"]:
                    self._world.journal.wonder(
                        f"A dashboard that has {self._versions.get(topic)} was sent a change of {said['from']}."
                    )
                self.values[topic], self._versions[topic] = merged(self.values.get(topic), said["patch"]), said["version"]
            case "ended":
                self.values.pop(topic, None)
                self._versions.pop(topic, None)


def merged(value: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), change)
    return result


def shown(cloud: Cloud, values: Mapping[str, Any]) -> Iterator[Finding]:
    """What a dashboard shows of the sales of each outlet is what there is."""
    for outlet in cloud.zones:
        today, recent = values.get(TODAY + outlet), values.get(RECENT + outlet)
        if today is None or recent is None:
            yield Finding("DASHBOARD", "A dashboard shows nothing of an outlet.", outlet)
            continue
        mine = [sale for sale in cloud.sales if sale.outlet_id == outlet]
        that_day = [sale.total for sale in mine if sale.day == today["business_date"]]
        if (today["count"], today["total"]) != (len(that_day), sum(that_day)):
            sentence = f"A dashboard shows {today['count']} sales of {today['business_date']}; there are {len(that_day)}."
            yield Finding("DASHBOARD", sentence, dump([outlet, today["total"], sum(that_day)]))
        newest = {sale.id for sale in sorted(mine, key=lambda sale: sale.sold_at)[-SURELY_SHOWN:]}
        if missing := sorted(newest - set(recent["sales"])):
            yield Finding("DASHBOARD", "A dashboard does not show the last sales of an outlet.", dump([outlet, missing]))
