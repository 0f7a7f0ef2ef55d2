"""One soak: faults, healing, a bounded wait until everything has arrived, and the judge; again and again while the shops sell."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import apsw
import asyncpg

from scripts.soaking import judge
from scripts.soaking.evidence import Cloud, TabletFiles, read_cloud, read_tablet
from scripts.soaking.faults import Fault
from scripts.soaking.judge import Finding
from scripts.soaking.plans import Plan
from scripts.soaking.programs import NotReady
from scripts.soaking.traffic import Cashier, Gate, Office
from scripts.soaking.world import World

DRAIN_SECONDS = 5.0
"""What the platform promises: after healing everything that waited has arrived."""
LATEST_SECONDS = 45.0
"""After so long it will never arrive: then the judge is asked all the same, because that says more."""
STILL_SECONDS = 60.0
"""So long a cashier may need to get an answer once everything is healed."""
MOST_CROWDED = 4.0
_POLL_SECONDS = 0.1
_CHUNK = 20_000


@dataclass
class Round:
    """What one round was."""

    faults: list[str]
    seconds: float
    drained: float
    limit: float


@dataclass
class Result:
    """What came out of a soak."""

    seed: int
    rounds: list[Round] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    step: int = 0
    """The round in which something broke."""
    receipts: int = 0
    facts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def load() -> float:
    """How much longer work takes on this machine now than its own time: 1 when nobody else wants the processors."""
    wall, own = time.perf_counter(), time.process_time()
    sum(number * number for number in range(_CHUNK))
    spent = time.process_time() - own
    return max(1.0, (time.perf_counter() - wall) / spent) if spent > 0 else 1.0


def _middle(crowds: list[float]) -> float:
    """What the machine was like in between, a burst of somebody else's aside. More than MOST_CROWDED is no excuse."""
    return min(MOST_CROWDED, statistics.median(crowds))


class Soak:
    """Runs rounds on a world.

    Args:
        world: What runs.
        plan: What goes wrong.
        seed: For the traffic.
        say: Receives one line per fault.
        pace: Seconds between two sales of a cashier, about.
    """

    def __init__(self, world: World, plan: Plan, seed: int, say: Callable[[str], None], pace: float = 0.25) -> None:
        self.world = world
        self.result = Result(seed)
        self._plan = plan
        self._say = say
        self._gate = Gate()
        self._cashiers = [Cashier(world, tablet, seed * 31 + n, pace) for n, tablet in enumerate(world.tablets)]
        self._office = Office(world, seed * 31 + 17, pace * 1.5)

    async def run(self, until: float, *, all_kinds: bool = False) -> Result:
        """Rounds until this moment of the monotonic clock, or until something is wrong.

        With `all_kinds` it also goes on until every kind of fault has come once.
        """
        began = time.monotonic()
        works = [self._office.run(self._gate), *(cashier.run(self._gate) for cashier in self._cashiers)]
        workers = [asyncio.create_task(work) for work in works]
        try:
            while not self.result.findings and (time.monotonic() < until or (all_kinds and not self._plan.has_seen_all)):
                self.result.step += 1
                await self._round()
                for worker in workers:
                    if worker.done():
                        worker.result()
        except NotReady as error:
            self.result.findings.append(
                Finding("NOT_READY", "A program did not come back after its fault was healed.", str(error))
            )
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self.result.receipts = len(self.world.journal.receipts)
            self.result.facts = sum(bool(fact.done) for fact in self.world.journal.facts)
            self.result.seconds = time.monotonic() - began
        return self.result

    async def _round(self) -> None:
        began = time.monotonic()
        faults = self._plan.next()
        said = []
        for fault in faults:
            said.append(await fault.begin())
            self.result.kinds[fault.kind] += 1
        await asyncio.sleep(self._plan.seconds(faults))
        await self._heal(faults)
        healed = time.monotonic()
        stood_still = await self._stand_still()
        drained, crowd, waits = await self._drain(healed)
        limit = DRAIN_SECONDS * max(1.0, crowd)
        cloud, tablets = await self._look()
        found = judge.findings(self.world.journal, cloud, tablets)
        if not stood_still:
            found.append(Finding("STUCK", f"A till or REST gave no answer within {STILL_SECONDS:.0f} s after healing."))
        if drained is None:
            found.append(Finding("STUCK", f"After {LATEST_SECONDS:.0f} s not everything had arrived.", "; ".join(waits)))
        elif drained > limit:
            sentence = f"It took {drained:.1f} s until everything had arrived; {limit:.1f} s are allowed."
            found.append(Finding("SLOW", sentence, f"{DRAIN_SECONDS:.0f} s times {crowd:.2f} for what others do on this machine"))
        self.result.findings = found
        took = drained if drained is not None else LATEST_SECONDS
        self.result.rounds.append(Round([fault.kind for fault in faults], healed - began, took, limit))
        verdict = "nothing wrong" if not found else ", ".join(sorted({finding.kind for finding in found}))
        for index, sentence in enumerate(said):
            last = index == len(said) - 1
            tail = (
                f"; drained in {took:.1f} of {limit:.1f} s, {len(self.world.journal.receipts)} receipts: {verdict}"
                if last
                else ""
            )
            self._say(f"{self.result.step:3d}  {'+ ' if index else ''}{sentence}{tail}")
        if not found:
            self._gate.go()
            await asyncio.sleep(0.5)

    async def _heal(self, faults: list[Fault]) -> None:
        """Heals databases before clouds before tablets: what starts needs what it stands on."""
        order = {"postgres": 0, "terminate-backends": 0, "cloud": 1}
        for fault in sorted(faults, key=lambda fault: order.get(fault.target, 2)):
            await fault.heal()

    async def _stand_still(self) -> bool:
        try:
            async with asyncio.timeout(STILL_SECONDS):
                await self._gate.stop()
        except TimeoutError:
            return False
        return True

    async def _drain(self, healed: float) -> tuple[float | None, float, list[str]]:
        """Seconds from healing until everything has arrived (None for never), the crowding meanwhile, and what still waits."""
        crowds = [load() for _ in range(5)]
        waits = ["nothing could be read"]
        while time.monotonic() - healed < LATEST_SECONDS:
            with suppress(OSError, asyncpg.PostgresError, TimeoutError, apsw.Error):
                cloud, tablets = await self._look()
                waits = judge.outstanding(cloud, tablets)
                if not waits:
                    return time.monotonic() - healed, _middle(crowds), []
            crowds.append(load())
            await asyncio.sleep(_POLL_SECONDS)
        return None, _middle(crowds), waits

    async def _look(self) -> tuple[Cloud, list[TabletFiles]]:
        # Tablets first: what the cloud has by then is at least what they know of.
        tablets = [read_tablet(one.folder, one.name, one.till_id, one.outlet_id) for one in self.world.tablets]
        return await read_cloud(self.world.dsn, self.world.facts["tenant_id"]), tablets
