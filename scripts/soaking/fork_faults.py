"""Two copies of one tablet: its folder is copied, as a disk is cloned, and both work for a while, or the old one comes back."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import asyncpg

from scripts.soaking.cashiers import Cashier
from scripts.soaking.faults import OfTablet
from scripts.soaking.namespaces import Cable, Namespace
from scripts.soaking.programs import Program
from scripts.soaking.reading import read_cloud, read_receipts, read_tablet
from scripts.soaking.traffic import Gate
from scripts.soaking.world import Tablet, World, copy_folder, session

DELIVERY_SECONDS = 40.0
"""So long the copy may take to hand over what it has sold: a tablet that was fenced off comes back after ten."""
PUT_BACK = 0.5
"""How often the cloud is put back to its backup while both are on: what either did in earlier lives is asked for again."""
BEHIND = 0.5
"""How often the copy sells less than the tablet: a cloud that heard of the copy alone then knows less than the tablet does."""
WAITS_SECONDS = (1.5, 4.5)
"""So long a tablet is cut off before it is copied: what waits then is one batch, or several."""
PACE, SLOW_PACE = 0.25, 0.8
"""Seconds between two sales of the copy's cashier."""
COUNTS_SECONDS = 3.0
"""So long the tablet counts shelves as well, before and after it is copied: of earlier lives not only sales are to come back."""
MOST_LOOKS = 300
OFF_AND_ON = 0.7
"""How often somebody turns the copy off and on, so that it does not wait until it comes back by itself."""
_COPIES = 9
"""What the copy's cashier is told from others by."""


@dataclass
class Fork(OfTablet):
    """See above. At the end the copy is taken out of use, as a merchant would, once it has handed over what it has."""

    kind = "fork"
    seconds = (3.0, 7.0)
    excludes = frozenset({"retention", "restore", "restore-twice", "restore-unseen", "backup"})
    copy: Tablet | None = None
    cashier: Cashier | None = None
    work: asyncio.Task[None] | None = None
    gate: Gate = field(default_factory=Gate)
    sold_before: int = 0

    @property
    def one(self) -> Tablet:
        """One that has lived twice before, if there is one: of those less can be said, of the others everything."""
        self.tablet = self.tablet or self.random.choice(_lived_twice(self.world) or self.world.tablets)
        return self.tablet

    async def begin(self) -> str:
        """Copies the tablet, starts both, and sells at both."""
        one, journal = self.one, self.world.journal
        one.cable.sever("up", "down")  # so that something waits, and is on both
        one.counts_until = time.monotonic() + COUNTS_SECONDS
        await asyncio.sleep(self.random.choice(WAITS_SECONDS))
        await one.program.kill()
        one.cable.mend("up", "down")
        self.copy = copy = await cloned(self.world, one)
        journal.forked.setdefault(one.till_id, 0.0)
        self.sold_before = self._sold(one.name)
        for tablet in (one, copy):
            tablet.program.start()
        for tablet in (one, copy):
            await tablet.ready()
        pace = SLOW_PACE if self.random.random() < BEHIND else PACE
        self.cashier = Cashier(self.world, copy, _COPIES, self.random.randrange(1 << 30), pace)
        self.work = asyncio.create_task(self.cashier.run(self.gate))
        return f"{one.name} is copied, and both work under its name"

    def _sold(self, name: str) -> int:
        return sum(receipt.tablet == name for receipt in self.world.journal.receipts)

    async def heal(self) -> None:
        """Turns the tablet off until the copy has handed over everything, then the copy for good."""
        one, copy = self.one, self.copy
        assert copy is not None
        assert self.work is not None
        await self.gate.stop()
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)
        if self._sold(copy.name) and self._sold(one.name) > self.sold_before:
            self.world.journal.forked[one.till_id] = time.monotonic()
        await self.world.cloud_ready()
        if self.random.random() < PUT_BACK:
            await self.world.restore()
            await self.world.cloud_ready()
        await one.program.kill()
        if self.random.random() < OFF_AND_ON:
            await copy.program.kill()
            copy.program.start()
        end = time.monotonic() + DELIVERY_SECONDS
        while waiting := await _waiting(self.world, copy):
            if time.monotonic() > end:
                self.world.journal.wonder(f"A copy of {one.name} cannot hand over its {waiting} operations.")
                break
            await asyncio.sleep(0.1)
        await copy.program.kill()
        await copy.http.close()
        copy.namespace.close()
        self.world.retired.append(copy)
        # What it handed over a cloud that is restored would ask of it again, in vain: from now on every backup has it.
        await self.world.backup()
        await self.world.cloud_ready()
        one.program.start()
        await one.ready()


@dataclass
class OldImage(OfTablet):
    """A tablet's disk is put back to an older image of it, when everything it did since has been handed over."""

    kind = "old-image"
    seconds = (2.0, 4.0)
    excludes = Fork.excludes | {"fork"}

    @property
    def one(self) -> Tablet:
        """As Fork has it."""
        self.tablet = self.tablet or self.random.choice(_lived_twice(self.world) or self.world.tablets)
        return self.tablet

    @property
    def _image(self) -> Path:
        return self.world.folder / f"{self.one.name}-image"

    async def begin(self) -> str:
        """Makes the image, and lets the tablet go on."""
        one = self.one
        await one.program.kill()
        await asyncio.to_thread(copy_folder, one.folder, self._image)
        one.program.start()
        await one.ready()
        return f"{one.name} is put back to an image of it that is a few seconds old"

    async def heal(self) -> None:
        """Waits until nothing would be lost and puts the image back. Nobody sells before it has heard of the cloud."""
        one, world = self.one, self.world
        await world.cloud_ready()
        async with one.counter:
            for _ in range(MOST_LOOKS):
                if not await _waiting(world, one):
                    break
                await asyncio.sleep(0.1)
            else:
                world.journal.wonder(f"{one.name} cannot hand over its operations.")
                return
            given = read_receipts(one.folder)
            await one.program.kill()
            await asyncio.to_thread(_exchange, one.folder, self._image)
            world.journal.put_back(one.name, one.till_id)
            one.program.start()
            await one.ready()
            for _ in range(MOST_LOOKS // 2):
                with suppress(apsw.Error):
                    if read_receipts(one.folder) >= given:
                        break
                await asyncio.sleep(0.1)
        await world.backup()  # what it has forgotten it cannot hand over again
        await world.cloud_ready()


def _exchange(folder: Path, image: Path) -> None:
    """Puts an image in the place of a folder, at once: who looks at it meanwhile finds one of them or nothing."""
    fresh, old = folder.with_name(f"{folder.name}-fresh"), folder.with_name(f"{folder.name}-old")
    copy_folder(image, fresh)
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)


def _lived_twice(world: World) -> list[Tablet]:
    return [tablet for tablet in world.tablets if tablet.till_id in world.journal.forked]


async def _waiting(world: World, one: Tablet) -> int:
    """How many operations of a tablet the cloud does not have, whatever it has acknowledged before."""
    try:
        files = read_tablet(one.folder, one.name, one.till_id, one.outlet_id, places_only=True)
        stores = (await read_cloud(world.dsn, world.facts["tenant_id"], places_only=True)).stores
    except (apsw.Error, asyncpg.PostgresError, OSError, TimeoutError):
        return 1
    waiting = sum(not acknowledged for _, acknowledged in files.operations.values())
    return max(waiting, files.last_op_seq - stores.get((files.till_id, files.epoch), 0))


async def cloned(world: World, one: Tablet) -> Tablet:
    """A copy of a tablet that does not run, with a network of its own."""
    world.copies += 1
    number = 10 + world.copies
    name = f"{one.name}-copy-{number}"
    folder = world.folder / name
    folder.mkdir()
    await asyncio.to_thread(copy_folder, one.folder, folder / "till")
    space = Namespace(name)
    cable = Cable(world.place, space, number)
    clock = world.folder / f"{name}.clock"
    clock.write_bytes(bytes(8))
    command = tuple(str(folder / "till") if word == str(one.folder) else word for word in one.program.command)
    environment = {**one.program.environment, "GIPOS_SOAK_CLOCK": str(clock)}
    program = Program(name, command, world.folder / "logs" / f"{name}.log", environment, space)
    return Tablet(name, one.till_id, one.outlet_id, folder / "till", program, space, cable, session(space), clock)
