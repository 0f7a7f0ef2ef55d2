"""What the two ends of the link can do beyond its first version, by the names they tell each other. Used when both can."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.unknown_fields import UnknownFieldSet

BOOKMARKS: Final = "bookmarks"
"""Progress.reached moves the till's positions. Without it the cloud sends empty Changes instead."""
NOT_APPLIED: Final = "not_applied"
"""A frame that does not fit is disputed within the stream. Without it the till comes back and asks for a snapshot."""
PART_CREDIT: Final = "part_credit"
"""The till confirms the pieces of a snapshot, and gets no more than a few ahead of that."""
COMMANDS: Final = "commands"
POLICIES: Final = "policies"
NEW_STORE_EPOCHS: Final = "new_store_epochs"
"""The till begins a new life of its store when Welcome says so."""
RESUMED_SNAPSHOTS: Final = "resumed_snapshots"
"""A snapshot whose download was cut off goes on with the next piece."""
PACKED_SNAPSHOTS: Final = "packed_snapshots"
"""The till reads SnapshotPart.packed."""

ALL: Final = frozenset(
    {BOOKMARKS, NOT_APPLIED, PART_CREDIT, COMMANDS, POLICIES, NEW_STORE_EPOCHS, RESUMED_SNAPSHOTS, PACKED_SNAPSHOTS}
)


def agreed(theirs: Iterable[str], ours: frozenset[str] = ALL) -> frozenset[str]:
    """What both ends can do. Names nobody here knows are passed over."""
    return ours.intersection(theirs)


def unknown_fields(message: Any) -> int:
    """How many fields of a newer contract a message has, not counting those inside its parts. They are ignored."""
    return len(UnknownFieldSet(message))
