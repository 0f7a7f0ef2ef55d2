"""Print jobs: what is printed once, and what is known about it. Keeping them is the business of the till's storage."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge.hardware.printers.status import Problem

RECEIPT = "receipt"
DRAWER = "drawer"
"""Nothing but a drawer pulse. It is given up when it cannot happen at once."""


class JobState(StrEnum):
    """Where a job is. See `Printer` for how it moves."""

    QUEUED = "queued"
    SENDING = "sending"
    AWAITING_CONFIRM = "awaiting_confirm"
    BLOCKED = "blocked"
    """Nothing was sent. The printer must be seen to; the job goes on by itself afterwards."""
    PRINTED = "printed"
    UNKNOWN = "unknown"
    """Something was sent and nobody knows what came out. A person must look; it is never repeated by itself."""
    FAILED = "failed"
    """It was not printed and will not be. Printing after all is a new job with a new key."""


SETTLED = frozenset({JobState.PRINTED, JobState.UNKNOWN, JobState.FAILED})
"""The printer does nothing more by itself."""
UNDER_WAY = frozenset({JobState.SENDING, JobState.AWAITING_CONFIRM})
"""Bytes may have left."""


@dataclass(frozen=True, slots=True)
class PrintJob:
    """One piece of paper, or one opening of the drawer."""

    key: str
    """Document, revision and copy number, for example "sal_…:1". A reprint has another copy number, hence another key."""
    data: bytes
    """Exactly what the printer gets, without the fence."""
    kind: str = RECEIPT
    state: JobState = JobState.QUEUED
    problem: Problem = Problem.NONE
    attempt: int = 0
    """How often sending began."""
    bytes_sent: int = 0
    """How many bytes may have left; 0 means surely none."""
    confirmed: bool = False
    """Whether the printer itself said so. False for printed jobs of printers that never answer, and when a person said so."""


class JobStore(Protocol):
    """Where jobs survive a crash."""

    async def save(self, job: PrintJob) -> None:
        """Writes a job, new or known by its key, durably before returning."""

    async def load(self, key: str) -> PrintJob | None:
        """The job with this key."""

    async def unfinished(self) -> list[PrintJob]:
        """Jobs that are not settled, in the order in which they were first saved."""
