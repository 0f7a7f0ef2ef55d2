"""The till's clock: the one place that asks the system for the time. Business facts take their time from here and nowhere else.

What it knows is kept in store.db, so that a restart in a cellar without network still has a sensible time.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from edge.storage import facts
from edge.storage.times import SAMPLES, Anchor, Floor, Known, Now, Reading, Sample, best, read, seen, since_ms, surely_told

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        # Without it every start counts as a restart of the tablet: less is known, nothing is wrong.
        return f"process-{time.time_ns()}"


def system_clocks() -> Callable[[], Now]:
    """Reads the tablet's clocks."""
    boot_id = _boot_id()
    base = time.CLOCK_BOOTTIME if hasattr(time, "CLOCK_BOOTTIME") else time.CLOCK_MONOTONIC

    def read_all() -> Now:
        return Now(time.time_ns() // 1_000_000, time.clock_gettime_ns(base) // 1_000_000, boot_id)

    return read_all


class Clock:
    """The best known time. Called, it gives milliseconds since 1970. Safe to use from any thread."""

    def __init__(self, sources: Callable[[], Now] | None = None) -> None:
        self._sources = sources or system_clocks()
        self._known = Known()
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Milliseconds since 1970, as well as they are known."""
        return self.reading().now_ms

    @property
    def boot_id(self) -> str:
        """Changes with each start of the tablet."""
        return self._sources().boot_id

    def ticks_ms(self) -> int:
        """Milliseconds since the tablet started, which never go back."""
        return self._sources().ticks_ms

    def reading(self) -> Reading:
        """What time it is and how far that may be believed."""
        return read(self._sources(), self._known)

    def surely_told_ms(self) -> int:
        """The earliest it can be now by the cloud's word alone, milliseconds since 1970. For what cannot be taken back."""
        return surely_told(self._sources(), self._known)

    def now(self) -> datetime:
        """The best known time, UTC."""
        return moment(self())

    def measured(self, sent_ms: int, received_ms: int, answered_ms: int, arrived_ms: int) -> None:
        """Learns from one question to the cloud: the first and last value in ticks, the two between by the cloud's clock."""
        with self._lock:
            self._samples.append(Sample(sent_ms, received_ms, answered_ms, arrived_ms))
            now = self._sources()
            anchor = best(self._samples, now.boot_id, now.ticks_ms)
            if anchor is not None:
                self._known = seen(now, replace(self._known, anchor=anchor))
        self.heard()

    def heard(self) -> None:
        """The cloud has said something just now."""
        with self._lock:
            self._known = replace(self._known, heard=self.stamp())

    def silent_ms(self) -> int:
        """How long the cloud has not been heard. A till that never heard it counts from the first time it was looked at."""
        heard = self._known.heard
        return 0 if heard is None else self.since_ms(heard)

    def stamp(self) -> Floor:
        """This moment, so that `since_ms` can tell later how long ago it was."""
        now = self._sources()
        return Floor(now.boot_id, now.ticks_ms, read(now, self._known).now_ms)

    def since_ms(self, stamp: Floor) -> int:
        """How long ago a moment was, in milliseconds. Setting the wall clock back makes it no shorter."""
        return since_ms(stamp, self._sources(), self._known)

    def load(self, connection: apsw.Connection) -> None:
        """Remembers what an earlier run knew."""
        kept = json.loads(facts.text(connection, facts.CLOCK, "{}"))
        with self._lock:
            self._known = Known(
                anchor=Anchor(**kept["anchor"]) if kept.get("anchor") else None,
                floor=_floor(kept.get("floor")),
                heard=_floor(kept.get("heard")),
            )

    def save(self, connection: apsw.Connection) -> None:
        """Keeps what is known, and that this moment has passed. Belongs into the transaction of everything that has a time."""
        with self._lock:
            now = self._sources()
            self._known = seen(now, self._known)
            if self._known.heard is None:
                self._known = replace(self._known, heard=self._known.floor)
            known = self._known
        facts.put(connection, facts.CLOCK, json.dumps(asdict(known), separators=(",", ":")))


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return _EPOCH + timedelta(milliseconds=ms)


def _floor(kept: dict[str, Any] | None) -> Floor | None:
    return Floor(**kept) if kept else None
