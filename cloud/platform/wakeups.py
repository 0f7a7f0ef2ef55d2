"""Tells readers of the log that there is something to read. A wake-up is a hint: losing one costs a second, never an event.

Within the process: an asyncio event per reader. Between processes: one debounced NOTIFY per process (never inside a business
transaction, where it takes a global lock at commit), and a poll of the heads once a second as the net.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import orjson
import structlog

from cloud.platform.database import Database

CHANNEL = "gipos_log"
DEBOUNCE_SECONDS = 0.005
PAUSE_SECONDS = 0.02
"""Between two NOTIFYs of a process: under load a commit comes every few milliseconds, and nobody elsewhere reads that often."""
POLL_SECONDS = 1.0

_HEADS = "SELECT tenant_id, lane, last_seq FROM log_heads WHERE tenant_id = ANY($1)"
_NOTIFY = "SELECT pg_notify($1, $2)"

logger = structlog.get_logger()


class Wakeups:
    """Who waits for which merchant's log, and the tasks that wake them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._heads: dict[str, dict[str, int]] = {}
        """What this process knows of the heads, of the merchants somebody here waits for."""
        self._touched: set[str] = set()
        self._dirty = asyncio.Event()
        self._name = uuid4().hex

    def touch(self, tenant_id: str, heads: dict[str, int]) -> None:
        """Called after a commit: wakes this process at once and the others soon."""
        if tenant_id in self._waiting:
            known = self._heads.setdefault(tenant_id, {})
            for lane, seq in heads.items():
                known[lane] = max(seq, known.get(lane, 0))
            self._wake(tenant_id)
        self._touched.add(tenant_id)
        self._dirty.set()

    def may_have_more(self, tenant_id: str, lane: str, seq: int) -> bool:
        """Whether a reader at this position should look. Spares the question where this process knows the answer."""
        return self._heads.get(tenant_id, {}).get(lane, -1) != seq

    @contextmanager
    def waiting(self, tenant_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the merchant's log may have grown. The waiter clears it before it reads."""
        event = asyncio.Event()
        event.set()
        self._waiting[tenant_id].add(event)
        try:
            yield event
        finally:
            self._waiting[tenant_id].discard(event)
            if not self._waiting[tenant_id]:
                del self._waiting[tenant_id]
                self._heads.pop(tenant_id, None)

    def _wake(self, tenant_id: str) -> None:
        for event in self._waiting.get(tenant_id, ()):
            event.set()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notify())
            tasks.create_task(self._listen())
            tasks.create_task(self._poll())

    async def _notify(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(DEBOUNCE_SECONDS)  # gathers what comes in the meantime into one NOTIFY
            self._dirty.clear()
            touched, self._touched = sorted(self._touched), set()
            for start in range(0, len(touched), 200):  # a payload must stay under 8,000 bytes
                payload = orjson.dumps([self._name, *touched[start : start + 200]]).decode()
                try:
                    await self._database.notices.fetch(_NOTIFY, CHANNEL, payload)
                except Exception as error:  # noqa: BLE001 (the driver has errors of many families; none may end this task)
                    logger.warning("wakeup_not_sent", error=repr(error))  # the others' poll finds it within a second
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._database.listening(CHANNEL, self._heard) as closed:
                    for tenant_id in list(self._waiting):
                        self._heads.pop(tenant_id, None)
                        self._wake(tenant_id)  # whatever was said while nobody listened
                    await closed.wait()
            except Exception as error:  # noqa: BLE001 (as above)
                logger.warning("wakeups_not_heard", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)  # the poll covers the pause

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        name, *tenants = orjson.loads(str(payload))
        if name != self._name:
            for tenant_id in tenants:
                self._heads.pop(tenant_id, None)  # another process wrote: what was known of the heads no longer holds
                self._wake(tenant_id)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._waiting:
                continue
            try:
                rows = await self._database.notices.fetch(_HEADS, list(self._waiting))
            except Exception as error:  # noqa: BLE001 (as above)
                logger.warning("heads_not_polled", error=repr(error))
                continue
            for tenant_id, lane, last_seq in rows:
                if tenant_id in self._waiting and self.may_have_more(tenant_id, lane, last_seq):
                    self._heads.setdefault(tenant_id, {})[lane] = last_seq
                    self._wake(tenant_id)
