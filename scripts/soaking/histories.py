"""What a till can have seen of a log that was put back to a backup: by what the cloud noted, and by when it was put back."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum

from scripts.soaking.evidence import Cloud, Restored
from scripts.soaking.journal import Journal

SLACK = 50_000
"""Microseconds: what was begun before a restore was noticed may end a little after."""

FIRST = 1
"""The epoch a lane begins with."""


class Seen(Enum):
    """What became of what a till had seen."""

    THERE = "there"
    """It is part of the log."""
    UNDONE = "undone"
    """It is gone, and the cloud knew that."""
    UNSURE = "unsure"
    """It may be gone: between a restore and the moment it is noticed positions mean something else than tills take them for."""


class Histories:
    """Judges positions by the log as it is now.

    Args:
        journal: Says when the database was put back.
        cloud: Its log, and what it noted when it noticed.
    """

    def __init__(self, journal: Journal, cloud: Cloud) -> None:
        self._heads = cloud.heads
        self._undone = journal.undone
        self._noted: defaultdict[str, list[Restored]] = defaultdict(list)
        for each in cloud.restores:
            self._noted[each.lane].append(each)
        self._times: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._kept: dict[tuple[str, int], int] = {}
        for event in cloud.events:
            if event.at:
                self._times[event.lane].append((event.at, event.seq))

    def present(self, lane: str) -> int:
        """The epoch a lane is in."""
        return self._heads.get(lane, (0, 0, 1))[0]

    def knows(self, lane: str, epoch: int) -> bool:
        """Whether the log says when an epoch began. Of one that began between two restores of one backup it does not."""
        return epoch == FIRST or any(each.epoch == epoch for each in self._noted[lane])

    def left(self, lane: str, epoch: int) -> int | None:
        """Up to where the log is that of this epoch, by what the cloud noted; None for the present one, and for none."""
        if epoch in {0, self.present(lane)}:
            return None
        return min((each.last_seq for each in self._noted[lane] if each.epoch > epoch), default=0)

    def seen(self, lane: str, epoch: int, seq: int, at: int) -> Seen:
        """What had become of a position of an epoch at that moment."""
        if not any(self._takes(lane, epoch, seq, undone) for undone in self._undone if undone <= at):
            return Seen.THERE
        noted = any(each.epoch > epoch and each.at <= at - SLACK and seq > each.last_seq for each in self._noted[lane])
        return Seen.UNDONE if noted and epoch else Seen.UNSURE

    def _takes(self, lane: str, epoch: int, seq: int, undone: int) -> bool:
        """Whether a position that was seen in an epoch was not in the backup that took the place of the database at that time."""
        began = next((each.at for each in self._noted[lane] if each.epoch == epoch), 0)
        # What a till saw in an epoch that began later it saw later.
        return began < undone and seq > self._backed_up(lane, undone)

    def _backed_up(self, lane: str, undone: int) -> int:
        """Up to where the backup that took the place of the database had this lane."""
        if (lane, undone) not in self._kept:
            floor = self._heads.get(lane, (0, 0, 1))[2]
            self._kept[lane, undone] = max((seq for at, seq in self._times[lane] if at < undone), default=floor - 1)
        return self._kept[lane, undone]
