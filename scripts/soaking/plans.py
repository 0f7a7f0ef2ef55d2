"""Chooses which faults come next, from a random generator with a seed: the same seed, the same faults in the same order."""

from __future__ import annotations

import random

from scripts.soaking.cloud_faults import (
    BacklogKill,
    Backup,
    KillCloud,
    KillPostgres,
    PauseCloud,
    PausePostgres,
    Restore,
    RestoreTwice,
    SecondCloud,
    TerminateBackends,
)
from scripts.soaking.device_faults import Revoke, Suspend, TornSnapshot
from scripts.soaking.faults import Fault, OfTablet
from scripts.soaking.fork_faults import Fork, OldImage
from scripts.soaking.lane_faults import Flood, RestoreUnseen, Retention
from scripts.soaking.tablet_faults import (
    ClockJump,
    ClockSwing,
    Cut,
    CutDown,
    CutUp,
    DiskFull,
    DiskTrickle,
    KillTablet,
    LongCut,
    LoseReplica,
    PauseTablet,
    SlowCut,
    StuckTablet,
)
from scripts.soaking.world import World

KINDS: tuple[type[Fault], ...] = (
    *(KillCloud, KillPostgres, KillTablet, Cut, CutUp, CutDown, PauseCloud, PausePostgres, PauseTablet, TerminateBackends),
    *(DiskFull, DiskTrickle, ClockJump, ClockSwing, Restore, RestoreTwice, LoseReplica, Backup, Retention, RestoreUnseen),
    *(SlowCut, LongCut, StuckTablet, BacklogKill, SecondCloud, Fork, OldImage, Flood, TornSnapshot, Suspend, Revoke),
)
NAMES = {kind.kind: kind for kind in KINDS}


MOST_PACKED = 5
"""Faults at the same time in a brief soak: one for each tablet, and one for what they hang on."""
LONGEST_PACKED = 1.5
"""Seconds."""


class Plan:
    """Which faults come next. Every kind comes once before any comes again, so that a short run has seen all of them.

    Args:
        world: Where they happen.
        seed: Of the generator.
        kinds: Those to choose from, by name; all without.
        packed: As many at the same time as can be, and none for long.
    """

    def __init__(self, world: World, seed: int, kinds: tuple[str, ...] = (), *, packed: bool = False) -> None:
        self._world = world
        self.packed = packed
        if unknown := set(kinds) - set(NAMES):
            raise ValueError(f"There are no faults {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._kinds = [NAMES[name] for name in kinds] if kinds else list(KINDS)
        self._bag: list[type[Fault]] = []
        self.seen: set[str] = set()

    def next(self, most: int = 3) -> list[Fault]:
        """One to three faults that happen at the same time, more when they are packed."""
        chosen = self._pack() if self.packed else self._draw(most)
        self.seen.update(fault.kind for fault in chosen)
        return chosen

    def _draw(self, most: int) -> list[Fault]:
        count = self._random.choice((1, 1, 2, 2, 3)[: 2 * most - 1])
        chosen: list[Fault] = []
        for _ in range(count):
            if not self._bag:
                self._bag = list(self._kinds)
                self._random.shuffle(self._bag)
            fault = self._made(self._bag.pop())
            if any(_collide(fault, other) for other in chosen):
                self._bag.insert(0, type(fault))
                continue
            chosen.append(fault)
        return chosen

    def _pack(self) -> list[Fault]:
        if not self._bag:
            self._bag = list(self._kinds)
            self._random.shuffle(self._bag)
        chosen: list[Fault] = []
        free = self._random.sample(self._world.tablets, len(self._world.tablets))
        for kind in list(self._bag):
            fault = self._made(kind)
            if isinstance(fault, OfTablet):
                if not free:
                    continue
                fault.tablet = free[-1]
            if len(chosen) == MOST_PACKED or any(_collide(fault, other) for other in chosen):
                continue
            if isinstance(fault, OfTablet):
                free.pop()
            self._bag.remove(kind)
            chosen.append(fault)
        return chosen

    def _made(self, kind: type[Fault]) -> Fault:
        return kind(self._world, random.Random(self._random.randrange(1 << 62)))  # noqa: S311 (as above)

    @property
    def has_seen_all(self) -> bool:
        """Whether every kind has come once."""
        return self.seen.issuperset(kind.kind for kind in self._kinds)

    def seconds(self, faults: list[Fault]) -> float:
        """How long they last."""
        longest = max(self._random.uniform(*fault.seconds) for fault in faults)
        return min(longest, LONGEST_PACKED) if self.packed else longest


def _collide(one: Fault, other: Fault) -> bool:
    return one.target == other.target or one.kind in other.excludes or other.kind in one.excludes
