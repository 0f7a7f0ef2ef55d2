"""What a fault is: it begins, lasts, and is healed.

Those of tablets and their network are in tablet_faults.py, those of cloud and database in cloud_faults.py; plans.py chooses.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from scripts.soaking.world import Tablet, World

BRIEF = (0.3, 2.5)
"""Seconds a fault usually lasts."""


@dataclass
class Fault:
    """One fault. `begin` says in a few words what it does; `heal` ends it and waits until the process concerned answers."""

    world: World
    random: random.Random
    kind: ClassVar[str] = ""
    seconds: ClassVar[tuple[float, float]] = BRIEF
    excludes: ClassVar[frozenset[str]] = frozenset()
    """Kinds that cannot happen at the same time."""
    tablet: Tablet | None = None

    @property
    def is_private(self) -> bool:
        """Whether it touches nothing but its tablet, so that others may begin at the same time."""
        return False

    @property
    def target(self) -> str:
        """What it happens to: nothing happens twice to the same thing at the same time."""
        return self.tablet.name if self.tablet is not None else self.kind

    async def begin(self) -> str:
        """Begins it."""
        raise NotImplementedError

    async def heal(self) -> None:
        """Ends it."""


class OfTablet(Fault):
    """Happens to one of the tablets."""

    @property
    def one(self) -> Tablet:
        """The tablet."""
        if self.tablet is None:
            self.tablet = self.random.choice(self.world.tablets)
        return self.tablet

    @property
    def target(self) -> str:
        """The tablet."""
        return self.one.name


class OfTabletAlone(OfTablet):
    """Happens to one of the tablets, and touches nothing else."""

    @property
    def is_private(self) -> bool:
        """Nothing but the tablet."""
        return True
