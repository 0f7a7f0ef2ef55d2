"""The sealer: gives entries their place in their merchant's chain, in order, within a second of their commit.

Every process may run one; an advisory lock lets one work at a time: positions have no gaps, and nobody ever waits for a chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.audit import checkpoints
from cloud.audit.chain import GENESIS, Entry, digest
from cloud.audit.checkpoints import Head
from cloud.platform.database import Database
from cloud.platform.jobs import DATABASE_ERRORS
from cloud.platform.keyring import Keyring
from cloud.platform.trail import COLUMNS
from kernel import business_days

BATCH = 2000
LOOK_SECONDS = 0.5
"""Entries come from every process, mostly without a word to the others; by its index a look that finds nothing costs little."""
CHECKPOINT_SECONDS = 300.0
CHECKPOINT_ENTRIES = 1000

logger = structlog.get_logger()

_ANY = sa.text("SELECT EXISTS (SELECT FROM audit_entries WHERE seq IS NULL)")
_ALONE = sa.text("SELECT pg_try_advisory_xact_lock(7460122)")
_UNSEALED = sa.text(
    f"SELECT {', '.join(COLUMNS)} FROM audit_entries WHERE seq IS NULL ORDER BY created_at, id LIMIT :limit"  # noqa: S608 (constants)
)
_HEADS = sa.text("SELECT tenant_id, last_seq, hash FROM audit_heads WHERE tenant_id = ANY(:tenant_ids)")
_ALL_HEADS = sa.text("SELECT tenant_id, last_seq, hash FROM audit_heads")
_SEAL = sa.text(
    """
    UPDATE audit_entries a SET seq = s.seq, previous_hash = s.previous_hash, hash = s.hash
    FROM unnest(CAST(:tenant_ids AS text[]), CAST(:created_at AS timestamptz[]), CAST(:ids AS text[]), CAST(:seqs AS bigint[]),
                CAST(:previous AS bytea[]), CAST(:hashes AS bytea[])) AS s (tenant_id, created_at, id, seq, previous_hash, hash)
    WHERE a.tenant_id = s.tenant_id AND a.created_at = s.created_at AND a.id = s.id
    """
)
_MOVE_HEADS = sa.text(
    """
    INSERT INTO audit_heads AS h (tenant_id, last_seq, hash)
    SELECT * FROM unnest(CAST(:tenant_ids AS text[]), CAST(:seqs AS bigint[]), CAST(:hashes AS bytea[]))
    ON CONFLICT (tenant_id) DO UPDATE SET last_seq = excluded.last_seq, hash = excluded.hash
    """
)


class Sealer:
    """Seals, and signs checkpoints of what it sealed."""

    def __init__(self, database: Database, keyring: Keyring, folder: Path) -> None:
        self._database = database
        self._key = keyring.current
        self._keyring = keyring
        self._folder = folder
        self._tenant_keys: dict[str, bytes] = {}
        self._last: dict[str, int] | None = None
        """By merchant the last position that was signed. Not the checkpoints themselves: they become more for ever."""
        self._next_round = 0.0

    async def run(self) -> None:
        """Works until cancelled. A database that is away is waited for."""
        loop = asyncio.get_running_loop()
        self._next_round = loop.time() + CHECKPOINT_SECONDS
        while True:
            try:
                await self.seal()
                if loop.time() >= self._next_round:
                    await self.checkpoint()
                    self._next_round = loop.time() + CHECKPOINT_SECONDS
            except DATABASE_ERRORS as error:
                # A full disk under the checkpoints comes here too: they are written at the next turn.
                logger.warning("audit_not_sealed", error=str(getattr(error, "orig", None) or error))
            await asyncio.sleep(LOOK_SECONDS)

    async def finish(self) -> None:
        """Seals and signs what there is, before a graceful end."""
        try:
            await self.seal()
            await self.checkpoint()
        except DATABASE_ERRORS as error:
            logger.warning("audit_not_sealed", error=str(getattr(error, "orig", None) or error))

    async def seal(self) -> int:
        """Seals everything that waits, unless another process is at it; how many."""
        count = 0
        while True:
            async with self._database.across_tenants() as connection:
                heads, done = await self._seal(connection)
            count += done
            # Only now: a checkpoint of something that is not committed would accuse an honest database later.
            if due := [head for head in heads if head.seq - await self._signed_up_to(head.tenant_id) >= CHECKPOINT_ENTRIES]:
                await self._sign(due)
            if done < BATCH:
                return count

    async def checkpoint(self) -> int:
        """Signs every head that moved since its last checkpoint; how many."""
        async with self._database.across_tenants() as connection:
            if not (await connection.execute(_ALONE)).scalar_one():
                return 0
            heads = [Head(*row) for row in await connection.execute(_ALL_HEADS)]
        due = [head for head in heads if head.seq > await self._signed_up_to(head.tenant_id)]
        if due:
            await self._sign(due)
        return len(due)

    async def _seal(self, connection: AsyncConnection) -> tuple[Sequence[Head], int]:
        if not (await connection.execute(_ANY)).scalar_one() or not (await connection.execute(_ALONE)).scalar_one():
            return (), 0
        entries = [Entry(*row) for row in await connection.execute(_UNSEALED, {"limit": BATCH})]
        known = await connection.execute(_HEADS, {"tenant_ids": list({entry.tenant_id for entry in entries})})
        heads: dict[str, tuple[int, bytes]] = {row.tenant_id: (row.last_seq, row.hash) for row in known}
        seals: dict[str, list[Any]] = {"seqs": [], "previous": [], "hashes": []}
        for entry in entries:
            seq, previous = heads.get(entry.tenant_id, (0, GENESIS))
            new = digest(self._key_of(entry.tenant_id), entry, seq + 1, previous)
            heads[entry.tenant_id] = (seq + 1, new)
            for name, value in zip(seals, (seq + 1, previous, new), strict=True):
                seals[name].append(value)
        places = {
            "tenant_ids": [entry.tenant_id for entry in entries],
            "created_at": [entry.created_at for entry in entries],
            "ids": [entry.id for entry in entries],
        }
        await connection.execute(_SEAL, places | seals)
        moved = [Head(tenant_id, seq, last) for tenant_id, (seq, last) in sorted(heads.items())]
        await connection.execute(
            _MOVE_HEADS,
            {
                "tenant_ids": [head.tenant_id for head in moved],
                "seqs": [head.seq for head in moved],
                "hashes": [head.hash for head in moved],
            },
        )
        return moved, len(entries)

    def _key_of(self, tenant_id: str) -> bytes:
        if tenant_id not in self._tenant_keys:
            if len(self._tenant_keys) >= 10_000:
                self._tenant_keys.clear()
            self._tenant_keys[tenant_id] = self._key.derived(key_purpose(tenant_id))
        return self._tenant_keys[tenant_id]

    async def _signed_up_to(self, tenant_id: str) -> int:
        if self._last is None:
            signed = await asyncio.to_thread(checkpoints.read, self._folder, self._keyring)
            self._last = {each: signed.last(each) for each in signed.by_tenant}
        return self._last.get(tenant_id, 0)

    async def _sign(self, heads: Sequence[Head]) -> None:
        await asyncio.to_thread(checkpoints.append, self._folder, self._key, heads, business_days.now().isoformat())
        if self._last is not None:
            self._last |= {head.tenant_id: head.seq for head in heads}


def key_purpose(tenant_id: str) -> str:
    """What a merchant's key for the chain is derived for: one of its own, so that it could be handed out."""
    return f"audit chain {tenant_id}"
