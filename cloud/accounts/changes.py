"""Says at once, in every process, that a credential changed: a revoked key must not live on in somebody's memory.

A row in the transaction of the change is the truth. After the commit this process hears at once and the others are woken to look;
every process also looks twice a second. So what was remembered holds as of the last look, and whoever could not look remembers
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from cloud.accounts.tables import credential_changes
from cloud.platform.database import Database, Transaction
from cloud.platform.wakeups import Wakeups

TOPIC = "credentials"
"""What the wake-ups call it; no merchant has this id."""
LOOK_SECONDS = 0.5
LATE_SECONDS = 60
"""How much later than it was written a change may become visible: longer than any transaction lives."""
KEPT_SECONDS = 3600

_RECENT = sa.text(
    f"SELECT subject_id, changed_at FROM credential_changes WHERE changed_at > now() - interval '{LATE_SECONDS} seconds'"  # noqa: S608 (a constant)
)
_FORGET = sa.text(
    f"DELETE FROM credential_changes WHERE changed_at < now() - interval '{KEPT_SECONDS} seconds'"  # noqa: S608 (a constant)
)

logger = structlog.get_logger()


async def note(tx: Transaction, *subject_ids: str) -> None:
    """Writes down, in the transaction of the change, that these credentials changed."""
    moment = sa.func.clock_timestamp()
    rows = [{"tenant_id": tx.tenant_id, "subject_id": subject_id, "changed_at": moment} for subject_id in sorted(subject_ids)]
    statement = insert(credential_changes).values(rows)
    await tx.run(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "subject_id"], set_={"changed_at": statement.excluded.changed_at}
        )
    )


async def forget_old(database: Database) -> int:
    """Removes rows every process has read long ago; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET)).rowcount


class Changes:
    """Hears of changes and tells of them. `heard` gets the ids."""

    def __init__(self, database: Database, wakeups: Wakeups, heard: Callable[[Iterable[str]], None]) -> None:
        self._database = database
        self._wakeups = wakeups
        self._heard = heard
        self._seen: dict[str, datetime] = {}
        self.looked_at = float("-inf")
        """On the monotonic clock: every change that was committed before this moment has been heard."""

    def announce(self, *subject_ids: str) -> None:
        """Called after the commit: this process hears at once, the others look at once."""
        self._heard(subject_ids)
        self._wakeups.touch(TOPIC, {})

    async def run(self) -> None:
        """Works until cancelled."""
        with self._wakeups.waiting(TOPIC) as woken:
            while True:
                woken.clear()
                try:
                    await self.look()
                except Exception as error:  # noqa: BLE001 (the driver has errors of many families; none may end this task)
                    logger.warning("credential_changes_not_read", error=repr(error))
                    await asyncio.sleep(LOOK_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await woken.wait()

    async def look(self) -> None:
        """Reads what changed since the last look."""
        began = time.monotonic()
        async with self._database.across_tenants() as connection:
            recent = {row.subject_id: row.changed_at for row in await connection.execute(_RECENT)}
        new = [subject_id for subject_id, changed_at in recent.items() if self._seen.get(subject_id) != changed_at]
        self._seen = recent
        if new:
            self._heard(new)
        self.looked_at = began
