"""What all streams of a process share. Put together by servicer.py; does nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.platform.turns import Turns
from cloud.platform.wakeups import Wakeups
from cloud.sync import uploads
from cloud.sync.admission import Admission
from cloud.sync.frames import Frames
from cloud.sync.sessions import Session
from cloud.sync.snapshots import Snapshots
from cloud.tills.presences import Presences


class Link(Protocol):
    """An open stream, as it is known to who looks after all of them (streams.py)."""

    session: Session
    wake: asyncio.Event
    who: Caller

    @property
    def standing(self) -> tuple[int, int, int] | None:
        """Life of the store, session, and the highest operation the till was told to be stored; None before it was greeted."""

    def has_mail(self) -> None:
        """There may be a command or a policy that nobody rang for."""

    def ask_back(self) -> None:
        """Asks the till to say hello again: the cloud was restored beneath it."""


@dataclass(frozen=True)
class Process:
    """What all streams of a process share."""

    database: Database
    wakeups: Wakeups
    frames: Frames
    snapshots: Snapshots
    presences: Presences
    intake: uploads.Intake
    admission: Admission
    hellos: Turns
    """Places for hellos being looked at, merchants in turn."""
    count: Callable[[str, int], None]
    """Told how many messages the tills of a merchant have sent."""
    streams: set[Link]
    now: Callable[[], float] = time.monotonic
    """Seconds of a clock that only goes forward."""
