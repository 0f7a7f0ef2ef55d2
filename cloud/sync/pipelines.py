"""A till's batches on their way into the database: the second is read while the first is stored, and a third waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cloud.sync.ranges import Own, Watermark

DEPTH = 2
"""Batches of one till that are under way at most: one at the database, one being read."""


class Pipeline:
    """The batches of one link.

    Args:
        own: What the link knows of its till. It is told when uploads begin and end, and what is stored when the last has ended.
        failed: Told what a batch failed with.
    """

    __slots__ = ("_failed", "_own", "_tasks")

    def __init__(self, own: Own, failed: Callable[[Exception], None]) -> None:
        self._own = own
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []

    async def push(self, storing: Coroutine[Any, Any, Watermark | None]) -> None:
        """Begins with a batch; returns when there is room for the next. `storing` says what is stored then, if that is known."""
        if not self._tasks:
            self._own.uploading()
        self._tasks.append(asyncio.create_task(self._store(storing)))
        if len(self._tasks) >= DEPTH:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def settle(self) -> None:
        """Waits until all are over."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Leaves what is under way: it is stored or not, and the till asks when it comes back."""
        for task in self._tasks:
            task.cancel()

    async def _store(self, storing: Coroutine[Any, Any, Watermark | None]) -> None:
        stored = None
        try:
            stored = await storing
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends the link, which says so)
            self._failed(error)
        finally:
            mine = asyncio.current_task()
            self._tasks = [task for task in self._tasks if task is not mine]
            if not self._tasks:
                self._own.uploading()
                if stored is not None:
                    self._own.learn(stored, self._own.uploads)
