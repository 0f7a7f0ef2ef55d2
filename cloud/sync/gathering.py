"""Batches that wait at the same moment, by outlet: a few share a transaction, and each is answered as soon as that is over.

By outlet, because tills of one outlet change the same levels and write the same lane: together they need one lock of each and
fewer statements, while transactions of different outlets never wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from cloud.platform import precedence
from cloud.sync.batches import Batch, Outcome
from kernel.errors import GiposError

Answer = Outcome | GiposError | None
"""None for a batch that has to be stored alone."""
Waiting = deque[tuple[Batch, asyncio.Future[Answer]]]

AIM_SECONDS = 0.05
"""How long a shared transaction should take: whoever needs the same level waits for its end."""
BUSY_AIM_SECONDS = 0.025
"""While somebody waits at a counter."""
LEAST, MOST = 100, 500
"""Operations in a shared transaction, whatever the aim says. One batch alone may have as many as the protocol lets it."""
_START = 250
_WEIGHT = 0.2


class Gathering:
    """Gathers batches by outlet while others of it are being stored.

    Args:
        store: Stores batches of one merchant in one transaction; an answer for each.
    """

    def __init__(self, store: Callable[[str, list[Batch]], Awaitable[Sequence[Answer]]]) -> None:
        self._store = store
        self._waiting: dict[tuple[str, str], Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pace = AIM_SECONDS / _START
        """Seconds an operation takes, of late."""

    async def make(self, tenant_id: str, batch: Batch) -> Answer:
        """The answer of a batch; raises what storing it raised.

        A batch that was taken along is stored even if its caller leaves in the meantime.
        """
        key = (tenant_id, batch.place.outlet_id)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = waiting = deque()
            # A task begins after this turn of the loop: whatever else has arrived in the same turn goes along.
            task = asyncio.get_running_loop().create_task(self._run(key, waiting), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.append((batch, future))
        return await future

    async def _run(self, key: tuple[str, str], waiting: Waiting) -> None:
        try:
            while waiting:
                await self._together(key[0], self._taken(waiting))
        finally:
            del self._waiting[key]
            for _, future in waiting:  # the process goes down
                future.cancel()

    def _taken(self, waiting: Waiting) -> list[tuple[Batch, asyncio.Future[Answer]]]:
        """The next ones. Whoever has left before anything was begun wants nothing any more."""
        aim = BUSY_AIM_SECONDS if precedence.calls.is_wanted() else AIM_SECONDS
        most = max(LEAST, min(MOST, int(aim / self._pace)))
        count = 0
        taken: list[tuple[Batch, asyncio.Future[Answer]]] = []
        while waiting and (not taken or count + len(waiting[0][0].items) <= most):
            batch, future = waiting.popleft()
            if not future.done():
                taken.append((batch, future))
                count += len(batch.items)
        return taken

    async def _together(self, tenant_id: str, taken: list[tuple[Batch, asyncio.Future[Answer]]]) -> None:
        if not taken:
            return
        batches = [batch for batch, _ in taken]
        began = time.perf_counter()
        try:
            answers = await self._store(tenant_id, batches)
        except BaseException as error:
            failure = error if isinstance(error, Exception) else ConnectionAbortedError("The process is going down.")
            for _, future in taken:
                if not future.done():
                    future.set_exception(failure)
            if not isinstance(error, Exception):
                raise
            return
        count = sum(len(batch.items) for batch in batches)
        if count >= LEAST:  # small ones say more about commits than about operations
            self._pace += _WEIGHT * ((time.perf_counter() - began) / count - self._pace)
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_result(answer)
