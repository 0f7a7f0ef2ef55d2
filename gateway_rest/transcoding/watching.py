"""Looks after calls that take long. Most are over before anybody could hang up: they get no watcher and no timer of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

AFTER_SECONDS = 0.05
"""A call is watched once it has taken about so long, twice that at most."""


class Watched:
    """One call under way."""

    __slots__ = ("_gone", "_is_old", "_watcher", "hung_up", "task")

    def __init__(self, gone: Callable[[], Awaitable[None]], task: asyncio.Task[object]) -> None:
        self.hung_up = False
        """Whether the caller has left; the task was cancelled then."""
        self._gone = gone
        self.task = task
        self._is_old = False
        self._watcher: asyncio.Task[None] | None = None

    def grow_older(self) -> None:
        """Begins to watch at the second time."""
        if self._is_old and self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())
        self._is_old = True

    async def _watch(self) -> None:
        await self._gone()
        self.hung_up = True
        self.task.cancel()

    def end(self) -> None:
        """The call is over."""
        if self._watcher is not None and not self.hung_up:
            self._watcher.cancel()
            self._watcher = None  # it holds us and we it: requests and bodies would wait for the garbage collector


class Watch:
    """All calls under way. One timer for all of them, and none while nothing goes on."""

    def __init__(self) -> None:
        self._calls: set[Watched] = set()
        self._ticks = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Kept: until Python 3.12 asking which loop runs is a system call."""

    def begin(self, gone: Callable[[], Awaitable[None]]) -> Watched:
        """A call by the running task; `gone` returns when its caller hangs up, and the task is cancelled then."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "requests are served by tasks"
        call = Watched(gone, task)
        self._calls.add(call)
        if not self._ticks:
            self._ticks = True
            loop.call_later(AFTER_SECONDS, self._tick, context=Context())
        return call

    def end(self, call: Watched) -> None:
        """The call is over."""
        self._calls.discard(call)
        call.end()

    def _tick(self) -> None:
        for call in self._calls:
            call.grow_older()
        self._ticks = bool(self._calls)
        if self._ticks:
            asyncio.get_running_loop().call_later(AFTER_SECONDS, self._tick, context=Context())
