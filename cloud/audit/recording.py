"""What the trail learns at the door: reads of personal data before their answer leaves, and writes that were refused or failed.

Changes that succeed need nothing here: their entries commit with them (cloud/platform/trail.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from google.rpc import code_pb2

from cloud.platform import trail
from cloud.platform.calls import Call
from cloud.platform.database import Database
from cloud.platform.door import Serve
from cloud.platform.jobs import DATABASE_ERRORS
from kernel.errors import GiposError

WAITING = 10_000
"""Refusals that wait to be stored at most; a flood of more is counted, not kept."""
BATCH = 500
GATHER_SECONDS = 0.2
RETRY_SECONDS = 1.0

# A commit whose answer was lost leaves its entries waiting here: they are there already when they are stored again.
_STORE = sa.text(f"{trail.INSERT.text} ON CONFLICT DO NOTHING")

logger = structlog.get_logger()


class Recorder:
    """The gate and the witness of the door."""

    def __init__(self, database: Database, waiting: int = WAITING) -> None:
        self._database = database
        self._waiting: deque[dict[str, Any]] = deque()
        self._limit = waiting
        self._lost = 0
        self._woken = asyncio.Event()
        self._storing = asyncio.Lock()

    async def unary(self, call: Call, serve: Serve) -> Any:
        """The answer; one that shows personal data leaves only when the trail has it."""
        answer = await serve()
        if call.seen:
            assert call.caller is not None, "the door sets the caller first"
            ids = list(dict.fromkeys(call.seen))
            entry = trail.entry_for(
                call,
                action=trail.READ_PERSONAL_DATA,
                resource_type="customer",
                resource_ids=ids,
                fields=(),
                count=len(ids),
                outcome="ok",
            )
            async with self._database.reading(call.caller.tenant_id) as connection:
                await connection.execute(trail.INSERT, entry)
        return answer

    def stream(self, call: Call) -> AbstractAsyncContextManager[None] | None:
        """An export of the trail is itself part of it, also one that was broken off: what was sent by then has been read."""
        return self._exported(call) if call.name == "ExportAuditEntries" else None

    @asynccontextmanager
    async def _exported(self, call: Call) -> AsyncIterator[None]:
        outcome = "CANCELLED"
        try:
            yield
            outcome = call.outcome
        except Exception as error:
            outcome = error.reason if isinstance(error, GiposError) else GiposError.reason
            raise
        finally:
            self._keep(trail.entry_for(call, resource_ids=(), fields=(), outcome=outcome))

    def refused(self, call: Call, error: GiposError) -> None:
        """The door's witness: keeps what was refused or has failed, to be stored soon."""
        known = call.caller is not None and call.caller.tenant_id != ""
        # What a limit turned away was not attempted; a flood of it must not fill the trail.
        if not known or call.is_read or call.is_recorded or error.code == code_pb2.RESOURCE_EXHAUSTED:
            return
        self._keep(trail.entry_for(call, outcome=error.reason))

    def _keep(self, entry: dict[str, Any]) -> None:
        if len(self._waiting) >= self._limit:
            self._lost += 1
            return
        self._waiting.append(entry)
        self._woken.set()

    async def run(self) -> None:
        """Stores what waits until cancelled. A database that is away is waited for."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await asyncio.sleep(GATHER_SECONDS)  # refusals come in bursts; one statement then stores many
            try:
                await self.flush()
            except DATABASE_ERRORS as error:
                logger.warning("audit_entries_wait", count=len(self._waiting), error=str(getattr(error, "orig", None) or error))
                await asyncio.sleep(RETRY_SECONDS)
                self._woken.set()

    async def finish(self) -> None:
        """Stores what still waits, before a graceful end."""
        try:
            await self.flush()
        except DATABASE_ERRORS as error:
            logger.error(  # noqa: TRY400 (the database is away; where we are in the code tells nothing)
                "audit_entries_lost", count=len(self._waiting), error=str(getattr(error, "orig", None) or error)
            )

    async def flush(self) -> None:
        """Stores everything that waits.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: the database is away; what is not stored still waits.
        """
        async with self._storing:
            while self._waiting:
                batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
                async with self._database.across_tenants() as connection:
                    await connection.execute(_STORE, batch)
                for _ in batch:
                    self._waiting.popleft()
            if self._lost:
                logger.error("audit_entries_lost", count=self._lost)
                self._lost = 0
