"""What an owner does to tablets: one is stopped for a while and keeps what it sells, another is locked out for good."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from scripts.soaking.faults import Fault, OfTablet, OfTabletAlone
from scripts.soaking.programs import NotReady, Program, python
from scripts.soaking.reading import read_cloud, read_staged
from scripts.soaking.traffic import NO_ANSWER
from scripts.soaking.world import pair

OBEYED_SECONDS = 1.0
"""So soon a stream is over once its tablet may not have it any more; times what the machine is crowded by."""
LOOKS_SECONDS = 1.5
MOST_LOOKS = 300
AROUND = frozenset(
    {
        *("kill-cloud", "pause-cloud", "kill-postgres", "pause-postgres", "terminate-backends", "backlog-kill", "second-cloud"),
        *("restore", "restore-twice", "restore-unseen", "backup", "retention", "fork", "old-image"),
    }
)
"""What the owner's call could be lost in, or undone by."""


class TornSnapshot(OfTabletAlone):
    """A tablet loses its copy of the cloud's data, and its power in the middle of getting a new one."""

    kind = "torn-snapshot"

    async def begin(self) -> str:
        """Takes the file away, starts, and kills as soon as some pieces are there."""
        one = self.one
        await one.program.kill()
        for name in ("replica.db", "replica.db-wal", "replica.db-shm"):
            (one.folder / name).unlink(missing_ok=True)
        one.program.start()
        wanted, found = self.random.randint(1, 3), 0
        for _ in range(2 * MOST_LOOKS):
            with suppress(apsw.Error):
                found = read_staged(one.folder)
            if found >= wanted:
                break
            await asyncio.sleep(0.005)
        await one.program.kill()
        return f"{one.name} loses its power with {found} pieces of a new copy"

    async def heal(self) -> None:
        """Starts it again."""
        self.one.program.start()
        await self.one.ready()


@dataclass
class Suspend(OfTablet):
    """A tablet is stopped by its owner: it goes on selling, and hands over nothing until it is let in again."""

    kind = "suspend"
    seconds = (1.5, 3.0)
    excludes = AROUND
    _stood: tuple[int, int] = (0, 0)

    async def begin(self) -> str:
        """Stops it, and notes how far the cloud has heard of it a moment later."""
        one = self.one
        await self.world.must("POST", f"/api/v1/devices/{one.till_id}:setState", {"state": "suspended", "reason": "soak"})
        await asyncio.sleep(OBEYED_SECONDS)
        self._stood = await self._heard_of()
        return f"{one.name} is suspended at operation {self._stood[1]}"

    async def _heard_of(self) -> tuple[int, int]:
        stores = (await read_cloud(self.world.dsn, self.world.facts["tenant_id"], places_only=True)).stores
        return max(((epoch, mark) for (till, epoch), mark in stores.items() if till == self.one.till_id), default=(0, 0))

    async def heal(self) -> None:
        """Nothing has come meanwhile. Lets it in again."""
        one, now = self.one, await self._heard_of()
        if now != self._stood:
            sentence = f"{one.name} is suspended, and handed over operations {self._stood[1] + 1} to {now[1]} all the same."
            self.world.journal.wonder(sentence)
        await self.world.must("POST", f"/api/v1/devices/{one.till_id}:setState", {"state": "active", "reason": "soak"})


@dataclass
class Revoke(Fault):
    """Somebody else's tablet is paired, served, and locked out: it hears nothing any more, and does not get in again."""

    kind = "revoke"
    excludes = AROUND

    async def begin(self) -> str:
        """Pairs a client that looks on, waits until it is served, and locks it out. Then looks whether it hears anything."""
        world = self.world
        world.revoked += 1
        name = f"locked-out-{world.revoked}"
        folder = world.folder / name
        command = python("scripts.soaking.probe", str(folder), "looks")
        client = Program(name, command, world.folder / "logs" / f"{name}.log", world.outside.environment, world.place)
        try:
            made = await pair(world, {"outlet_id": world.facts["outlets"][1]["id"], "name": name}, client, folder)
            before = await _until_served(folder)
            await world.must("POST", f"/api/v1/devices/{made}:setState", {"state": "revoked", "reason": "soak"})
            await asyncio.sleep(OBEYED_SECONDS)
            stood = _places(folder)
            end = time.monotonic() + LOOKS_SECONDS
            while time.monotonic() < end:
                await self._news()
                await asyncio.sleep(0.1)
            if (now := _places(folder)) != stood:
                world.journal.wonder(f"A tablet that was locked out heard of {now} after {stood}.")
        finally:
            await client.kill()
        return f"a tablet is paired, served up to {before}, and locked out"

    async def _news(self) -> None:
        """Something that everybody in the outlet hears of."""
        outlet, product = self.world.facts["outlets"][1]["id"], self.random.choice(self.world.products)
        body = {"outlet_id": outlet, "quantity": "1", "reason": "received", "note": "news"}
        with suppress(*NO_ANSWER):
            await self.world.rest("POST", f"/api/v1/inventory/{product}:adjust", body)


async def _until_served(folder: Path) -> dict[str, tuple[int, int]]:
    for _ in range(MOST_LOOKS):
        places = _places(folder)
        if len(places) > 1 and all(seq >= 0 for _, seq in places.values()):
            return places
        await asyncio.sleep(0.05)
    raise NotReady("A client that was paired was never served.")


def _places(folder: Path) -> dict[str, tuple[int, int]]:
    with suppress(FileNotFoundError):
        lanes = json.loads((folder / "probe.json").read_text())["lanes"]
        return {name: (epoch, seq) for name, (epoch, seq) in lanes.items()}
    return {}
