"""What happens to one tablet: power cuts, standstill, a dead link, a full disk, a wrong clock, a lost file, a long absence."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import ClassVar

from scripts.soaking import poisons
from scripts.soaking.cashiers import give_codes
from scripts.soaking.faults import OfTabletAlone
from scripts.soaking.journal import Fact
from scripts.soaking.traffic import NO_ANSWER

FILLER = "filler.bin"
COUNTS_SECONDS = 2.0
MOST_LOOKS = 400
UPLOAD_SECONDS = 0.3
POISONED = 0.6
"""How often something poisonous waits in the queue when the cloud's answers stop."""


class KillTablet(OfTabletAlone):
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


class PauseTablet(OfTabletAlone):
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


class StuckTablet(PauseTablet):
    """A tablet stands still for longer than the cloud waits for confirmations; the others go on meanwhile."""

    kind = "stuck-tablet"
    seconds = (31.0, 36.0)


class Cut(OfTabletAlone):
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
    """Nothing reaches the tablet; what it sends arrives. Among that may be what cannot be stored: of that it must hear."""

    kind = "cut-down"
    directions = ("down",)
    _sold = -1
    """Receipts there were when something poisonous was put into the queue."""

    async def begin(self) -> str:
        """Packets vanish."""
        said = await super().begin()
        await self._told()
        self.one.counts_until = time.monotonic() + COUNTS_SECONDS
        if self.random.random() < POISONED:
            self._sold = self._receipts()
            poisons.let_in(self.world.journal, self.one, self.random.choice(self.world.products), self.random)
        return said

    async def heal(self) -> None:
        """Packets pass. Where something poisonous waited, the tablet loses its power with the answer on its way."""
        if self._sold < 0:
            await super().heal()
            return
        # Only a sale tells the link that there is something new.
        for _ in range(MOST_LOOKS):
            if self._receipts() != self._sold:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(UPLOAD_SECONDS)
        await self.one.program.kill()
        await super().heal()
        self.one.program.start()
        await self.one.ready()

    async def _told(self) -> None:
        """The tablet is told to do something: whether it hears that or not, in the end it is done, or said to have failed."""
        fact = Fact("command", f"cut-{self.random.randrange(1 << 40)}", began=time.monotonic())
        self.world.journal.facts.append(fact)
        with suppress(*NO_ANSWER):
            body = {"kind": "resend", "from_op_seq": 1, "expires_in_seconds": 3600}
            path = f"/api/v1/devices/{self.one.till_id}/commands"
            status, answer = await self.world.rest("POST", path, body, **{"Idempotency-Key": fact.key})
            if status < 300:
                fact.about, fact.done = answer["id"], time.monotonic()
                fact.is_void = fact.began <= self.world.journal.restored_at

    def _receipts(self) -> int:
        return sum(receipt.tablet == self.one.name for receipt in self.world.journal.receipts)


class SlowCut(Cut):
    """Long enough for a queue to grow, too short for anybody to give the connection up."""

    kind = "slow-cut"
    seconds = (3.0, 10.0)

    async def begin(self) -> str:
        """Packets vanish. Meanwhile another tablet and this one give barcodes to one product, and neither knows of the other."""
        said = await super().begin()
        other = self.random.choice([tablet for tablet in self.world.tablets if tablet is not self.one])
        await give_codes(self.world, (other, self.one), self.random)
        return said


class LongCut(SlowCut):
    """Long enough that every connection is given up."""

    kind = "long-cut"
    seconds = (11.0, 16.0)


class DiskFull(OfTabletAlone):
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


class DiskTrickle(DiskFull):
    """A tablet's disk gets a little room again and again, so that it ends in the middle of whatever is being written."""

    kind = "disk-trickle"

    async def begin(self) -> str:
        """Fills it, and gives a few pages back, some dozen times."""
        handle = os.open(self.one.folder.parent / FILLER, os.O_WRONLY | os.O_CREAT)
        try:
            size = _grow(handle, 0, 4096)
            for _ in range(30):
                size = max(0, size - 4096 * self.random.choice((1, 2, 3, 5, 8, 13, 21)))
                os.ftruncate(handle, size)
                await asyncio.sleep(self.random.uniform(0.02, 0.15))
                size = _grow(handle, size, 4096)
        finally:
            os.close(handle)
        return f"the disk of {self.one.name} has a few pages free, and then none, 30 times"


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


class ClockJump(OfTabletAlone):
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


class ClockSwing(OfTabletAlone):
    """A tablet's wall clock jumps forth and back several times a second, while it uploads what a short cut has left waiting."""

    kind = "clock-swing"
    excludes = frozenset({"kill-cloud", "pause-cloud"})

    async def begin(self) -> str:
        """Cuts, connects, and swings."""
        one = self.one
        one.cable.sever("up", "down")
        await asyncio.sleep(1.0)
        one.cable.mend("up", "down")
        for _ in range(20):
            one.shift_clock(self.random.choice((-400 * 86400, -3600, -61, 0, 61, 3600, 400 * 86400)))
            await asyncio.sleep(self.random.uniform(0.02, 0.2))
        return f"the clock of {one.name} swings by up to 400 days while it uploads"

    async def heal(self) -> None:
        """Puts it right."""
        self.one.shift_clock(0)


class LoseReplica(OfTabletAlone):
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
