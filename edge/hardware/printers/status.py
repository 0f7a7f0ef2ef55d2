"""What a printer answers: pure decoding of status bytes and of the mixed stream they arrive in.

Sources: manuals of Epson TM-U220, TM-L90 and TM-T85, Bixolon SRP-350, Citizen CT-S2000; they agree on these bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Problem(StrEnum):
    """Why a job is where it is. For programs; screens have a text for each."""

    NONE = ""
    PAPER = "paper"
    COVER = "cover"
    OFFLINE = "offline"
    """Does not answer, cannot be reached, or reports an error that a person must clear."""
    UNCONFIRMED = "unconfirmed"
    """Everything was sent and the printer is well, but it never confirmed."""
    DISCONNECTED = "disconnected"
    """The connection broke after the first byte."""
    INTERRUPTED = "interrupted"
    """The till stopped in the middle."""
    LATE = "late"
    """A drawer that could not be opened in time stays closed."""
    CANCELLED = "cancelled"
    NOT_PRINTED = "not_printed"
    """A person looked and saw no paper."""
    UNPRINTABLE = "unprintable"
    """The paper cannot be made: what it should show is missing or broken."""


class ReplyKind(StrEnum):
    """What a piece of the incoming stream is."""

    STATUS = "status"
    """The answer to DLE EOT. It does not say to which; ask one at a time."""
    FENCE = "fence"
    """The answer to GS r."""
    PUSHED = "pushed"
    """Automatic status, four bytes."""
    BLOCK = "block"
    """A longer answer, such as a model name, without its final NUL."""


@dataclass(frozen=True)
class Reply:
    """One piece of the incoming stream."""

    kind: ReplyKind
    data: bytes


_BLOCK_HEADS = frozenset(b"\x35\x37\x3b\x3d\x5f")


class Replies:
    """Cuts the incoming stream into replies. Bytes that fit nothing are dropped, as flow control and line noise are."""

    def __init__(self) -> None:
        self._pending = b""

    def receive(self, data: bytes) -> list[Reply]:
        """The replies that are complete now."""
        self._pending += data
        replies = []
        while self._pending:
            size, kind = _first(self._pending)
            if size == 0:
                break
            if kind is not None:
                replies.append(
                    Reply(kind, self._pending[:size].rstrip(b"\0") if kind is ReplyKind.BLOCK else self._pending[:size])
                )
            self._pending = self._pending[size:]
        return replies


def _first(pending: bytes) -> tuple[int, ReplyKind | None]:
    """Length and kind of the first reply; length 0 when more bytes are needed."""
    head = pending[0]
    # Blocks first: their heads look like the answer of GS r.
    if head in _BLOCK_HEADS:
        return pending.find(b"\0") + 1, ReplyKind.BLOCK
    if head & 0x93 == 0x12:
        return 1, ReplyKind.STATUS
    if head & 0x93 == 0x10:
        if len(pending) < 4:
            return 0, None
        return (4, ReplyKind.PUSHED) if all(byte & 0x90 == 0 for byte in pending[1:4]) else (1, None)
    if head & 0x90 == 0:
        return 1, ReplyKind.FENCE
    return 1, None


def problem_of(printer: int, cause: int | None, paper: int | None) -> Problem:
    """What keeps a printer from printing, from its answers to DLE EOT 1, 2 and 4 (None when it gave none)."""
    if cause is not None and cause & 0x04:
        return Problem.COVER
    if (paper is not None and paper & 0x60) or (cause is not None and cause & 0x20):
        return Problem.PAPER
    if printer & 0x08 or (cause is not None and cause & 0x40):
        return Problem.OFFLINE
    return Problem.NONE
