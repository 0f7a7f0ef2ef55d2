"""Proves that the trail is as it was written: in the database against its heads and checkpoints, or in an exported file.

It only reads. Whoever holds the key can prove; whoever does not can neither prove nor forge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.audit.chain import Entry, Finding, Walk, from_proto
from cloud.audit.checkpoints import Checkpoints
from cloud.audit.sealing import key_purpose
from cloud.audit.tables import audit_entries, audit_heads
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.platform.trail import COLUMNS
from gipos.v1.audit_pb2 import AuditEntry
from kernel import protojson
from kernel.protojson import JsonRefused

BATCH = 1000
_COLUMN = audit_entries.c
ROW = [_COLUMN[name] for name in (*COLUMNS, "seq", "previous_hash", "hash")]
"""What an Entry is made of, in its order."""


@dataclass(frozen=True)
class Verdict:
    """What became of a verification."""

    tenant_id: str
    checked: int
    head_seq: int
    head_hash: bytes
    finding: Finding | None

    def __str__(self) -> str:
        """One line for people."""
        if self.finding is None:
            return f"{self.tenant_id}: intact, {self.checked} entries, head {self.head_seq} {self.head_hash.hex()}"
        return f"{self.tenant_id}: BROKEN at {self.finding.seq} after {self.checked} good entries: {self.finding.problem}."


async def sealed(connection: AsyncConnection, tenant_id: str, first: int = 0, last: int | None = None) -> AsyncIterator[Entry]:
    """The sealed entries of a merchant, in order of their positions."""
    # By position and id: with the index gone, somebody could have put two entries at one position.
    mine = sa.select(*ROW).where(_COLUMN.tenant_id == tenant_id).order_by(_COLUMN.seq, _COLUMN.id).limit(BATCH)
    if last is not None:
        mine = mine.where(_COLUMN.seq <= last)
    query = mine.where(_COLUMN.seq >= first)
    while True:
        rows = (await connection.execute(query)).all()
        for row in rows:
            yield Entry(*row)
        if len(rows) < BATCH:
            return
        query = mine.where(sa.tuple_(_COLUMN.seq, _COLUMN.id) > sa.tuple_(rows[-1].seq, rows[-1].id))


async def tenant(database: Database, keyring: Keyring, known: Checkpoints, tenant_id: str) -> Verdict:
    """Walks the whole chain of one merchant, as of one moment."""
    walk = Walk(_keys(keyring, tenant_id), known.of(tenant_id), whole=True)
    finding: Finding | None = None
    async with database.snapshot(tenant_id) as connection:
        query = sa.select(audit_heads.c.last_seq, audit_heads.c.hash).where(audit_heads.c.tenant_id == tenant_id)
        head = (await connection.execute(query)).one_or_none()
        async for entry in sealed(connection, tenant_id, first=-(2**62)):
            if finding := walk.follow(entry):
                break
    finding = finding or walk.end((head.last_seq, head.hash) if head is not None else None)
    return Verdict(tenant_id, walk.checked, walk.seq, walk.hash, finding)


async def everybody(database: Database, keyring: Keyring, known: Checkpoints) -> AsyncIterator[Verdict]:
    """Walks every merchant's chain, also those of which only checkpoints are left."""
    union = sa.union(sa.select(_COLUMN.tenant_id).distinct(), sa.select(audit_heads.c.tenant_id))
    async with database.across_tenants() as connection:
        tenants = {row.tenant_id for row in await connection.execute(union)}
    for tenant_id in sorted(tenants | set(known.by_tenant)):
        yield await tenant(database, keyring, known, tenant_id)


def file(path: Path, keyring: Keyring, known: Checkpoints) -> Verdict:
    """Walks an export of one merchant, one entry as JSON a line. A part of a chain is judged as that part.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no export; the text says where.
    """
    entries = list(_exported(path))
    if not entries:
        raise ValueError(f"{path} holds no entries")
    tenants = {entry.tenant_id for entry in entries}
    if len(tenants) > 1:
        raise ValueError(f"{path} holds entries of several merchants; export and verify one at a time")
    tenant_id = tenants.pop()
    seqs = [entry.seq for entry in entries]
    # The file may end before the newest entry, so only checkpoints within it can be missed.
    within = {seq: seen for seq, seen in known.of(tenant_id).items() if min(seqs) <= seq <= max(seqs)}
    walk = Walk(_keys(keyring, tenant_id), within, whole=False)
    finding = _first(walk, entries)
    return Verdict(tenant_id, walk.checked, walk.seq, walk.hash, finding)


def _first(walk: Walk, entries: Iterable[Entry]) -> Finding | None:
    for entry in entries:
        if finding := walk.follow(entry):
            return finding
    return walk.end(None)


def _exported(path: Path) -> Iterable[Entry]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield from_proto(protojson.decode(line, AuditEntry))
            except (JsonRefused, ValueError) as error:
                raise ValueError(f"line {number} of {path} is no audit entry: {error}") from error


def _keys(keyring: Keyring, tenant_id: str) -> Sequence[bytes]:
    return [key.derived(key_purpose(tenant_id)) for key in keyring.keys]
