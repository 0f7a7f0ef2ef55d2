"""Two copies of one tablet: its folder is copied, as a disk is cloned, and both work for a while under one name."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import apsw

from scripts.soaking.cashiers import Cashier
from scripts.soaking.faults import OfTablet
from scripts.soaking.namespaces import Cable, Namespace
from scripts.soaking.programs import Program
from scripts.soaking.reading import read_tablet
from scripts.soaking.traffic import Gate
from scripts.soaking.world import Tablet, World, copy_folder, session

DELIVERY_SECONDS = 40.0
"""So long the copy may take to hand over what it has sold: a tablet that was fenced off comes back after ten."""
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

    async def begin(self) -> str:
        """Copies the tablet, starts both, and sells at both."""
        one, journal = self.one, self.world.journal
        one.cable.sever("up", "down")  # so that something waits, and is on both
        await asyncio.sleep(1.5)
        await one.program.kill()
        one.cable.mend("up", "down")
        self.copy = copy = await cloned(self.world, one)
        journal.forked.setdefault(one.till_id, 0.0)
        self.sold_before = self._sold(one.name)
        for tablet in (one, copy):
            tablet.program.start()
        for tablet in (one, copy):
            await tablet.ready()
        self.cashier = Cashier(self.world, copy, _COPIES, self.random.randrange(1 << 30), 0.25)
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
        await one.program.kill()
        await self.world.cloud_ready()
        if self.random.random() < OFF_AND_ON:
            await copy.program.kill()
            copy.program.start()
        end = time.monotonic() + DELIVERY_SECONDS
        while waiting := self._waiting(copy):
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

    @staticmethod
    def _waiting(copy: Tablet) -> int:
        try:
            files = read_tablet(copy.folder, copy.name, copy.till_id, copy.outlet_id, places_only=True)
        except apsw.Error:
            return 1
        return sum(not acknowledged for _, acknowledged in files.operations.values())


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
