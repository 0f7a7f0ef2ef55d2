"""The chain of entries, pure: what is hashed, in which form, and how a chain is walked to find the first thing that is wrong.

hash = HMAC-SHA-256(key, previous hash || each field with its length in front). The key is not in the database: whoever can write
there can break the chain, and cannot mend it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gipos.v1.audit_pb2 import AuditEntry

GENESIS = bytes(32)
"""Stands for the entry before the first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTH = struct.Struct(">I").pack


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the trail."""

    tenant_id: str
    id: str
    created_at: datetime
    actor_type: str
    actor_id: str
    action: str
    resource_type: str
    resource_ids: Sequence[str]
    outcome: str
    fields: Sequence[str]
    request_id: str
    address: str
    user_agent: str
    mode: str
    count: int
    seq: int = 0
    previous_hash: bytes = b""
    hash: bytes = b""


@dataclass(frozen=True)
class Finding:
    """The first thing that is wrong with a chain."""

    seq: int
    problem: str


def digest(key: bytes, entry: Entry, seq: int, previous_hash: bytes) -> bytes:
    """The hash of an entry at this position, after the entry with that hash."""
    values = (
        *(entry.tenant_id, entry.id, str((entry.created_at - _EPOCH) // _MICROSECOND), entry.actor_type, entry.actor_id),
        *(entry.action, entry.resource_type, _packed(entry.resource_ids), entry.outcome, _packed(entry.fields)),
        *(entry.request_id, entry.address, entry.user_agent, entry.mode, str(entry.count), str(seq)),
    )
    return hmac.digest(key, previous_hash + _packed(values), "sha256")


def _packed(values: Iterable[str | bytes]) -> bytes:
    """Each value with its length in front: no two lists of values are packed alike."""
    raws = [value if type(value) is bytes else value.encode() for value in values]  # type: ignore[union-attr]  # a str then
    parts = [b""] * (2 * len(raws))
    parts[::2] = [_LENGTH(len(raw)) for raw in raws]
    parts[1::2] = raws
    return b"".join(parts)


class Walk:
    """Follows a chain entry by entry, from its first or from the first one given, and stops at the first finding."""

    def __init__(self, keys: Sequence[bytes], checkpoints: Mapping[int, bytes], *, whole: bool) -> None:
        self._keys = keys
        """Any of these may have been the merchant's key; after a rotation there are several."""
        self._checkpoints = checkpoints
        self._whole = whole
        self.seq = 0
        self.hash = GENESIS
        self.checked = 0

    def follow(self, entry: Entry) -> Finding | None:
        """What is wrong at the next entry; None when nothing is."""
        if not self._whole and self.checked == 0:
            # A part of a chain proves nothing about what came before it.
            self.seq, self.hash = entry.seq - 1, entry.previous_hash
        expected = self.seq + 1
        if entry.seq > expected:
            last = entry.seq - 1
            missing = f"entry {expected} is missing" if last == expected else f"entries {expected} to {last} are missing"
            return Finding(expected, missing)
        if entry.seq < expected:
            return Finding(entry.seq, f"there is more than one entry {entry.seq}, or it is out of order")
        if not hmac.compare_digest(entry.previous_hash, self.hash):
            return Finding(expected, f"entry {expected} does not continue the entry before it: it was inserted, moved or changed")
        if not any(hmac.compare_digest(digest(key, entry, expected, self.hash), entry.hash) for key in self._keys):
            return Finding(expected, f"entry {expected} was changed, or not written by us")
        seen = self._checkpoints.get(expected)
        if seen is not None and not hmac.compare_digest(seen, entry.hash):
            return Finding(expected, f"entry {expected} is not the one that a signed checkpoint saw: the end was rewritten")
        self.seq, self.hash = expected, entry.hash
        self.checked += 1
        return None

    def end(self, head: tuple[int, bytes] | None) -> Finding | None:
        """What is wrong when there are no more entries: the head of the chain and the checkpoints know how many there were."""
        known = max([head[0] if head else 0, *self._checkpoints], default=0)
        if self.seq < known:
            return Finding(self.seq + 1, f"entries {self.seq + 1} to {known} are missing: the end was cut off")
        if self._whole and (head[0] if head else 0) < self.seq:
            return Finding(self.seq, "the head of the chain was set back")
        if head is not None and head[0] == self.seq and not hmac.compare_digest(head[1], self.hash):
            return Finding(self.seq, "the head of the chain was changed")
        return None


def to_proto(entry: Entry) -> AuditEntry:
    """An entry as the contract has it. It holds everything that is hashed."""
    message = AuditEntry(
        id=entry.id,
        sequence=entry.seq,
        actor_type=entry.actor_type,
        actor_id=entry.actor_id,
        action=entry.action,
        resource_type=entry.resource_type,
        resource_id=entry.resource_ids[0] if len(entry.resource_ids) == 1 else "",
        resource_ids=entry.resource_ids,
        outcome=entry.outcome,
        fields=entry.fields,
        request_id=entry.request_id,
        address=entry.address,
        user_agent=entry.user_agent,
        mode=entry.mode,
        hash=entry.hash.hex(),
        previous_hash=entry.previous_hash.hex(),
        count=entry.count,
        tenant_id=entry.tenant_id,
    )
    message.create_time.FromDatetime(entry.created_at)
    return message


def from_proto(message: AuditEntry) -> Entry:
    """The entry of an exported one.

    Raises:
        ValueError: a hash is no hex, or the time is out of range.
    """
    return Entry(
        tenant_id=message.tenant_id,
        id=message.id,
        created_at=message.create_time.ToDatetime(tzinfo=UTC),
        actor_type=message.actor_type,
        actor_id=message.actor_id,
        action=message.action,
        resource_type=message.resource_type,
        resource_ids=tuple(message.resource_ids),
        outcome=message.outcome,
        fields=tuple(message.fields),
        request_id=message.request_id,
        address=message.address,
        user_agent=message.user_agent,
        mode=message.mode,
        count=message.count,
        seq=message.sequence,
        previous_hash=bytes.fromhex(message.previous_hash),
        hash=bytes.fromhex(message.hash),
    )
