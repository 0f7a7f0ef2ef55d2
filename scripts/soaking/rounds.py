"""One soak: faults, healing, a bounded wait until everything has arrived, and the judge; again and again while the shops sell."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import apsw
import asyncpg

from scripts.soaking import boards, count_rules, judge, product_rules
from scripts.soaking.cashiers import Cashier, shown
from scripts.soaking.evidence import Cloud, TabletFiles
from scripts.soaking.faults import Fault
from scripts.soaking.finding import Finding
from scripts.soaking.offices import Office
from scripts.soaking.plans import Plan
from scripts.soaking.programs import NotReady
from scripts.soaking.reading import read_cloud, read_lane, read_life, read_outside, read_shelf, read_tablet
from scripts.soaking.traffic import NO_ANSWER, Gate
from scripts.soaking.wire import thousandths
from scripts.soaking.world import World

DRAIN_SECONDS = 5.0
"""What the platform promises: after healing everything that waited has arrived."""
LATEST_SECONDS = 45.0
"""After so long it will never arrive: then the judge is asked all the same, because that says more."""
STILL_SECONDS = 60.0
"""So long a cashier may need to get an answer once everything is healed."""
MOST_CROWDED = 4.0
SCREEN_LOOKS, SCREEN_SECONDS = 20, 0.5
_POLL_SECONDS = 0.1
_WATCH_SECONDS = 0.015
_CHUNK = 200_000


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
    others: Counter[str] = field(default_factory=Counter)
    """What else there was, by words."""
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
        self._conflicts = 0
        self._excused = 0
        self._say = say
        self._gate = Gate()
        self._cashiers = [Cashier(world, tablet, n, seed * 31 + n, pace) for n, tablet in enumerate(world.tablets, start=1)]
        self._board = boards.Board(world)
        self._office = Office(world, seed * 31 + 17, pace * 1.5)

    async def run(self, until: float, *, all_kinds: bool = False) -> Result:
        """Rounds until this moment of the monotonic clock, or until something is wrong.

        With `all_kinds` it also goes on until every kind of fault has come once.
        """
        began = time.monotonic()
        works = [self._board.run(), self._office.run(self._gate), *(cashier.run(self._gate) for cashier in self._cashiers)]
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
            journal = self.world.journal
            self.result.facts = sum(bool(fact.done) for fact in journal.facts)
            self.result.others["counts of shelves"] = sum(act.kind == "count" and bool(act.done) for act in journal.acts)
            self.result.others["changes of products at tills"] = sum(
                act.kind == "edit" and bool(act.done) for act in journal.acts
            )
            self.result.others["poisonous operations"] = len(journal.poisons)
            self.result.others["conflicts kept"] = self._conflicts
            self.result.others["counts of which a restore leaves nothing to say"] = self._excused
            self.result.seconds = time.monotonic() - began
        return self.result

    async def _round(self) -> None:
        began = time.monotonic()
        faults = self._plan.next()
        said = await self._begun(faults)
        self.result.kinds.update(fault.kind for fault in faults)
        await asyncio.sleep(self._plan.seconds(faults))
        watching = asyncio.gather(self._watch(), self._glance())
        try:
            await self._heal(faults)
            healed = time.monotonic()
            stood_still = await self._stand_still()
            drained, crowd, waits = await self._drain(healed)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        limit = DRAIN_SECONDS * max(1.0, crowd)
        found = await self._judged()
        if not stood_still:
            found.append(Finding("STUCK", f"A till or REST gave no answer within {STILL_SECONDS:.0f} s after healing."))
        if drained is None:
            found.append(Finding("STUCK", f"After {LATEST_SECONDS:.0f} s not everything had arrived.", "; ".join(waits)))
        elif drained > limit:
            sentence = f"It took {drained:.1f} s until everything had arrived; {limit:.1f} s are allowed."
            evidence = (
                f"{DRAIN_SECONDS:.0f} s times {crowd:.2f} for what others do on this machine; after that: {'; '.join(waits)}"
            )
            found.append(Finding("SLOW", sentence, evidence))
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
            self.world.hush(quiet=False)
            self._gate.go()
            await asyncio.sleep(0.5)

    async def _begun(self, faults: list[Fault]) -> list[str]:
        """What is said of each. What happens to one tablet alone need not wait for others; the rest begins one by one."""
        apart = [self._plan.packed and fault.is_private for fault in faults]
        begins = [asyncio.create_task(fault.begin()) for fault, alone in zip(faults, apart, strict=True) if alone]
        try:
            said = {id(fault): await fault.begin() for fault, alone in zip(faults, apart, strict=True) if not alone}
        finally:
            words = iter(await asyncio.gather(*begins))
        return [next(words) if alone else said[id(fault)] for fault, alone in zip(faults, apart, strict=True)]

    async def _heal(self, faults: list[Fault]) -> None:
        """Heals databases before clouds before tablets: what starts needs what it stands on. What takes long comes last."""
        order = {"postgres": 0, "terminate-backends": 0, "cloud": 1}
        for place in range(4):
            for fault in faults:
                if order.get(fault.target, 2 if fault.is_private else 3) == place:
                    await fault.heal()

    async def _stand_still(self) -> bool:
        self.world.hush(quiet=True)
        try:
            async with asyncio.timeout(STILL_SECONDS):
                await self._gate.stop()
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        """Looks closely where tablets stand while everything arrives: what is right at the end may be wrong in between."""
        while True:
            for one in self.world.tablets:
                with suppress(apsw.Error):
                    place = read_lane(one.folder, one.outlet_id)
                    if place is not None:
                        self.world.journal.saw(one.name, one.till_id, read_life(one.folder), place)
            await asyncio.sleep(_WATCH_SECONDS)

    async def _glance(self) -> None:
        """Looks at screens meanwhile: a till shows the level it has, and what it did that this level does not contain."""
        while True:
            for one in self.world.tablets:
                product = random.choice(self.world.products)  # noqa: S311 (guards nothing)
                with suppress(apsw.Error, *NO_ANSWER):
                    before = read_shelf(one.folder, one.outlet_id, product)
                    status, answer = await one.call("GET", f"/stock/{product}")
                    if before is None or status >= 300 or read_shelf(one.folder, one.outlet_id, product) != before:
                        continue
                    if thousandths(answer["on_hand"]) != before[2] + before[3]:
                        sentence = (
                            f"{one.name} at {before[0]} has a level of {before[2]} and {before[3]} of its own beyond that, "
                        )
                        self.world.journal.wonder(sentence + f"and shows {answer['on_hand']} of {product}.")
            await asyncio.sleep(_WATCH_SECONDS)

    async def _drain(self, healed: float) -> tuple[float | None, float, list[str]]:
        """Seconds from healing until everything has arrived (None for never), the crowding meanwhile, and what waited then."""
        crowds = [load() for _ in range(3)]
        waits = late = ["nothing could be read"]
        while time.monotonic() - healed < LATEST_SECONDS:
            with suppress(OSError, asyncpg.PostgresError, TimeoutError, apsw.Error):
                waits = judge.outstanding(*await self._look(places_only=True))
                if not waits:
                    return time.monotonic() - healed, _middle(crowds), late
                if time.monotonic() - healed <= DRAIN_SECONDS * _middle(crowds):
                    late = waits
            crowds.append(load())
            await asyncio.sleep(_POLL_SECONDS)
        return None, _middle(crowds), waits

    async def _judged(self) -> list[Finding]:
        """What the judge finds, of a moment in which everything has arrived: promises end by themselves at any time."""
        outside = read_outside(self.world.outside_folder, self.world.facts["outlets"][1]["id"])
        cloud, tablets = await self._look()
        end = time.monotonic() + DRAIN_SECONDS
        while judge.outstanding(cloud, tablets) and time.monotonic() < end:
            await asyncio.sleep(_POLL_SECONDS)
            outside = read_outside(self.world.outside_folder, self.world.facts["outlets"][1]["id"])
            cloud, tablets = await self._look()
        self._conflicts = max(self._conflicts, len(cloud.conflicts))
        self._excused = max(self._excused, count_rules.excused(self.world.journal, cloud))
        retired = [read_tablet(one.folder, one.name, one.till_id, one.outlet_id) for one in self.world.retired]
        found = judge.findings(self.world.journal, cloud, tablets, retired, outside)
        return found or await self._shown()

    async def _shown(self) -> list[Finding]:
        """What screens show is what the cloud has; looked at more than once, because promises end, and a dashboard comes back."""
        wrong: list[Finding] = []
        for _ in range(SCREEN_LOOKS):
            said = {
                (one.name, one.outlet_id, product): await shown(one, product)
                for one in self.world.tablets
                for product in (*self.world.products, self.world.journal.scarce)
            }
            cloud, tablets = await self._look()
            if judge.outstanding(cloud, tablets):
                await asyncio.sleep(_POLL_SECONDS)
                continue
            wrong = [*product_rules.screens(cloud, said), *boards.shown(cloud, self._board.values)]
            if not wrong:
                break
            await asyncio.sleep(SCREEN_SECONDS)
        return wrong

    async def _look(self, *, places_only: bool = False) -> tuple[Cloud, list[TabletFiles]]:
        # Tablets first: what the cloud has by then is at least what they know of.
        tablets = [
            read_tablet(one.folder, one.name, one.till_id, one.outlet_id, places_only=places_only) for one in self.world.tablets
        ]
        return await read_cloud(self.world.dsn, self.world.facts["tenant_id"], places_only=places_only), tablets
