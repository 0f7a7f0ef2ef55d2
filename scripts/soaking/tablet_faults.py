"""What happens to one tablet: power cuts, standstill, a dead link, a full disk, a wrong clock, a lost file, a long absence."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import ClassVar

import aiohttp
import asyncpg

from scripts.soaking.evidence import read_tablet
from scripts.soaking.faults import OfTablet

FILLER = "filler.bin"


class KillTablet(OfTablet):
    """A tablet loses its power."""

    kind = "kill-tablet"

    async def begin(self) -> str:
        """SIGKILL."""
        await self.one.program.kill()
        return f"kill -9 of {self.one.name}"

    async def heal(self) -> None:
        """Starts it again."""
        self.one.program.start()
        await self.one.ready()


class PauseTablet(OfTablet):
    """A tablet stands still."""

    kind = "pause-tablet"

    async def begin(self) -> str:
        """SIGSTOP."""
        self.one.program.pause()
        return f"{self.one.name} is paused"

    async def heal(self) -> None:
        """SIGCONT."""
        self.one.program.resume()
        await self.one.ready()


class Cut(OfTablet):
    """A tablet's network is gone, and nobody is told."""

    kind = "cut"
    directions: ClassVar[tuple[str, ...]] = ("up", "down")

    async def begin(self) -> str:
        """Packets vanish."""
        self.one.cable.sever(*self.directions)
        return f"the link of {self.one.name} is cut, {' and '.join(self.directions)}"

    async def heal(self) -> None:
        """Packets pass."""
        self.one.cable.mend(*self.directions)


class CutUp(Cut):
    """Nothing reaches the cloud; what the cloud sends arrives."""

    kind = "cut-up"
    directions = ("up",)


class CutDown(Cut):
    """Nothing reaches the tablet; what it sends arrives."""

    kind = "cut-down"
    directions = ("down",)


class LongCut(Cut):
    """Long enough that every connection is given up."""

    kind = "long-cut"
    seconds = (11.0, 16.0)


class Retention(OfTablet):
    """A tablet is away while the log loses its oldest events, up to the very place where the tablet stands, give or take one."""

    kind = "retention"
    excludes = frozenset(
        {"kill-postgres", "pause-postgres", "terminate-backends", "kill-cloud", "pause-cloud", "backup", "restore-unseen"}
    )

    async def begin(self) -> str:
        """Cuts the tablet off, waits for news, and cuts the log."""
        one = self.one
        one.cable.sever("up", "down")
        await one.program.kill()
        # What changes in the merchant's lane is not changed again a moment later, as stock is: nothing hides what was missed.
        lane = "tenant" if self.random.random() < 0.75 else one.outlet_id
        place = read_tablet(one.folder, one.name, one.till_id, one.outlet_id).lanes.get(lane)
        if place is None:
            return f"{one.name} is cut, and has no copy that could be out of date"
        beyond = self.random.choice((1, 2, 2, 3))
        floor = place[1] + beyond
        where = (self.world.facts["tenant_id"], lane)
        connection = await asyncpg.connect(self.world.dsn, timeout=10)
        try:
            for number in range(60):
                head = await connection.fetchval("SELECT last_seq FROM log_heads WHERE tenant_id = $1 AND lane = $2", *where)
                if head is not None and head >= floor + 2:
                    break
                if lane == "tenant":
                    draft = {"name": f"Barang musiman {floor} {number}", "price": {"amount": 7000}}
                    with suppress(aiohttp.ClientError, TimeoutError, OSError):
                        await self.world.rest("POST", "/api/v1/products", draft)
                else:
                    await asyncio.sleep(0.1)
            else:
                return f"{one.name} is cut, and nothing happened in lane {lane}"
            async with connection.transaction():
                query = "UPDATE log_heads SET floor_seq = greatest(floor_seq, $3) WHERE tenant_id = $1 AND lane = $2"
                await connection.execute(query, *where, floor)
                await connection.execute("DELETE FROM events WHERE tenant_id = $1 AND lane = $2 AND seq < $3", *where, floor)
        finally:
            await connection.close()
        # A tablet is away for a month until this happens, and no cloud remembers in memory what it sent a month ago.
        await self.world.cloud.kill()
        self.world.cloud.start()
        await self.world.cloud_ready()
        return f"{one.name} is away at {place[1]} of lane {lane[:6]}, the log begins at {floor} now, and the cloud starts anew"

    async def heal(self) -> None:
        """Connects it again."""
        self.one.cable.mend("up", "down")
        self.one.program.start()
        await self.one.ready()


class DiskFull(OfTablet):
    """A tablet's disk is full."""

    kind = "disk-full"
    seconds = (1.0, 2.5)

    async def begin(self) -> str:
        """Fills it, leaving a random little."""
        handle = os.open(self.one.folder.parent / FILLER, os.O_WRONLY | os.O_CREAT)
        try:
            size = _grow(handle, 0, self.random.choice((4096, 40960)))
            # What the tablet gives up for sales that were begun is taken as well, so that in the end there is nothing left.
            for _ in range(20):
                await asyncio.sleep(0.05)
                size = _grow(handle, size, 4096)
        finally:
            os.close(handle)
        return f"the disk of {self.one.name} is full"

    async def heal(self) -> None:
        """Empties it."""
        (self.one.folder.parent / FILLER).unlink(missing_ok=True)
        await self.one.ready()


def _grow(handle: int, size: int, least: int) -> int:
    """Makes a file as large as the disk allows, in steps of at least so many bytes; its size."""
    step = 64 * 1024 * 1024
    while step >= least:
        try:
            os.posix_fallocate(handle, size, step)
        except OSError:
            step //= 2
        else:
            size += step
    return size


class ClockJump(OfTablet):
    """A tablet's wall clock is wrong by up to decades, sometimes with a restart in between, as with an empty clock battery."""

    kind = "clock-jump"

    async def begin(self) -> str:
        """Shifts it."""
        shift = self.random.choice((-56 * 365 * 86400, -3600, -5, 7, 86400, 40 * 86400, 30 * 365 * 86400))
        restarted = self.random.random() < 0.4 and self.one.program.is_running
        if restarted:
            await self.one.program.kill()
        self.one.shift_clock(shift)
        if restarted:
            self.one.program.start()
            await self.one.ready()
        return f"the clock of {self.one.name} is wrong by {shift} s" + (", and it starts anew" if restarted else "")

    async def heal(self) -> None:
        """Puts it right."""
        self.one.shift_clock(0)


class LoseReplica(OfTablet):
    """A tablet's copy of the cloud's data is destroyed."""

    kind = "lose-replica"

    async def begin(self) -> str:
        """Kills the tablet and tears the file, or all of it."""
        await self.one.program.kill()
        path = self.one.folder / "replica.db"
        if self.random.random() < 0.5:
            for name in ("replica.db", "replica.db-wal", "replica.db-shm"):
                (self.one.folder / name).unlink(missing_ok=True)
            return f"the copy of the cloud's data on {self.one.name} is gone"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(self.random.randrange(max(1, size // 2)))
            file.write(self.random.randbytes(8192))
        return f"the copy of the cloud's data on {self.one.name} is torn"

    async def heal(self) -> None:
        """Starts it again."""
        self.one.program.start()
        await self.one.ready()
