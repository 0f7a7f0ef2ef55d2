"""When and from where a key was used last: noted in memory by the call, written in the background, at most once a minute per key.

What a process knew when it was killed is lost, a minute at most; a graceful stop loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from cloud.accounts.tables import credential_uses
from cloud.platform.database import Database

KEY_SECONDS = 60.0
"""How often one key is written at most."""
TURN_SECONDS = 2.0
"""How soon a first use is written."""
IDLE_SECONDS = 600.0
"""A key that was not looked up for so long is forgotten. Longer than any look-up is believed: nobody holds its place any more."""

logger = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Use:
    """What is known of the uses of one key since it was written last. Filled by the calls themselves."""

    tenant_id: str
    key_id: str
    used_at: float = 0.0
    """On the monotonic clock; 0 when it was not used."""
    address: str = ""
    foreign_count: int = 0
    """Calls from addresses the key does not name."""
    due_at: float = 0.0
    """Before this moment of the monotonic clock it is not written again."""
    asked_at: float = 0.0
    """On the monotonic clock: when the key was looked up last."""


class Uses:
    """The uses of every key this process has seen."""

    def __init__(self, database: Database, *, key_seconds: float = KEY_SECONDS, turn_seconds: float = TURN_SECONDS) -> None:
        self._database = database
        self._key_seconds = key_seconds
        self._turn_seconds = turn_seconds
        self._uses: dict[str, Use] = {}

    def of(self, tenant_id: str, key_id: str) -> Use:
        """The place where uses of this key are noted."""
        use = self._uses.get(key_id)
        if use is None:
            use = self._uses[key_id] = Use(tenant_id, key_id)
        use.asked_at = time.monotonic()
        return use

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await asyncio.sleep(self._turn_seconds)  # calls wake nobody: noting a use must cost them nothing
            await self.flush(time.monotonic())

    async def flush(self, until: float = float("inf")) -> None:
        """Writes every use that is due by this moment; all of them when none is given. Failing keeps them for the next turn."""
        now = time.monotonic()
        due = [use for use in self._uses.values() if use.due_at <= until and (use.used_at or use.foreign_count)]
        written = [(use, use.used_at, use.address, use.foreign_count) for use in sorted(due, key=_place)]
        if written:
            try:
                await self._write(written, now)
            except Exception as error:  # noqa: BLE001 (the driver has errors of many families; none may end this task)
                logger.warning("key_uses_not_written", count=len(written), error=repr(error))
                return
        for use, used_at, _, foreign_count in written:
            use.due_at = now + self._key_seconds
            use.foreign_count -= foreign_count
            if use.used_at == used_at:
                use.used_at = 0.0
        self._uses = {
            key_id: use
            for key_id, use in self._uses.items()
            if use.used_at or use.foreign_count or now < max(use.due_at, use.asked_at + IDLE_SECONDS)
        }

    async def _write(self, written: list[tuple[Use, float, str, int]], now: float) -> None:
        today = datetime.now(UTC)
        rows = [
            {
                "tenant_id": use.tenant_id,
                "subject_id": use.key_id,
                "last_used_at": today - timedelta(seconds=now - used_at) if used_at else None,
                "last_used_address": address,
                "foreign_count": foreign_count,
            }
            for use, used_at, address, foreign_count in written
        ]
        statement = insert(credential_uses).values(rows)
        new, old = statement.excluded, credential_uses.c
        is_newer = new.last_used_at > sa.func.coalesce(old.last_used_at, sa.func.to_timestamp(0))
        async with self._database.across_tenants() as connection:
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["tenant_id", "subject_id"],
                    set_={
                        # Other processes write the same key: the newest use wins, counts add up.
                        "last_used_at": sa.func.greatest(old.last_used_at, new.last_used_at),
                        "last_used_address": sa.case((is_newer, new.last_used_address), else_=old.last_used_address),
                        "foreign_count": old.foreign_count + new.foreign_count,
                    },
                )
            )


def _place(use: Use) -> tuple[str, str]:
    """One order for every process, so that no two wait for each other."""
    return use.tenant_id, use.key_id
