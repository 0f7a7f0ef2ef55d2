"""Chooses which faults come next, from a random generator with a seed: the same seed, the same faults in the same order."""

from __future__ import annotations

import random

from scripts.soaking.cloud_faults import (
    Backup,
    KillCloud,
    KillPostgres,
    PauseCloud,
    PausePostgres,
    Restore,
    RestoreUnseen,
    TerminateBackends,
)
from scripts.soaking.faults import Fault
from scripts.soaking.tablet_faults import (
    ClockJump,
    Cut,
    CutDown,
    CutUp,
    DiskFull,
    KillTablet,
    LongCut,
    LoseReplica,
    PauseTablet,
    Retention,
)
from scripts.soaking.world import World

KINDS: tuple[type[Fault], ...] = (
    *(KillCloud, KillPostgres, KillTablet, Cut, CutUp, CutDown, PauseCloud, PausePostgres, PauseTablet, TerminateBackends),
    *(DiskFull, ClockJump, Restore, LoseReplica, Backup, Retention, RestoreUnseen, LongCut),
)
NAMES = {kind.kind: kind for kind in KINDS}


class Plan:
    """Which faults come next. Every kind comes once before any comes again, so that a short run has seen all of them.

    Args:
        world: Where they happen.
        seed: Of the generator.
        kinds: Those to choose from, by name; all without.
    """

    def __init__(self, world: World, seed: int, kinds: tuple[str, ...] = ()) -> None:
        self._world = world
        if unknown := set(kinds) - set(NAMES):
            raise ValueError(f"There are no faults {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._kinds = [NAMES[name] for name in kinds] if kinds else list(KINDS)
        self._bag: list[type[Fault]] = []
        self.seen: set[str] = set()

    def next(self, most: int = 3) -> list[Fault]:
        """One to three faults that happen at the same time."""
        count = self._random.choice((1, 1, 2, 2, 3)[: 2 * most - 1])
        chosen: list[Fault] = []
        for _ in range(count):
            if not self._bag:
                self._bag = list(self._kinds)
                self._random.shuffle(self._bag)
            fault = self._bag.pop()(self._world, random.Random(self._random.randrange(1 << 62)))  # noqa: S311 (as above)
            if any(_collide(fault, other) for other in chosen):
                self._bag.insert(0, type(fault))
                continue
            chosen.append(fault)
        self.seen.update(fault.kind for fault in chosen)
        return chosen

    @property
    def has_seen_all(self) -> bool:
        """Whether every kind has come once."""
        return self.seen.issuperset(kind.kind for kind in self._kinds)

    def seconds(self, faults: list[Fault]) -> float:
        """How long they last."""
        return max(self._random.uniform(*fault.seconds) for fault in faults)


def _collide(one: Fault, other: Fault) -> bool:
    return one.target == other.target or one.kind in other.excludes or other.kind in one.excludes
