"""What many ask for at the same moment is asked once: questions gather until the last ones are answered, and go out together.

An answer is never older than its question: a question joins only what has not gone out yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import Context
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
C = TypeVar("C")
LONGEST_GATHER_SECONDS = 0.003
SLICE = 24
"""How many of a bundle hear of their answers in one turn of the loop: fewer cost more turns than they save waiting (measured)."""


class Coalescer(Generic[K, V]):
    """Gathers questions of one kind.

    Args:
        answer: Answers several distinct questions at once; those it leaves out are answered by None.
        most: How many questions go out together.
        at_once: How many such bundles may be under way.
        gather: Seconds that a bundle waits behind the beginning of the last one for each question of it: one question alone waits
            for nobody, of many each bundle carries many.
    """

    def __init__(
        self, answer: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, most: int, at_once: int, gather: float = 0.0
    ) -> None:
        self._answer = answer
        self._gather = gather
        self._next_at = 0.0
        self._most = most
        self._at_once = at_once
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Kept: until Python 3.12 asking which loop runs is a system call."""

    async def ask(self, question: K) -> V | None:
        """The answer; raises what answering raised."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        self._waiting.setdefault(question, []).append(future)
        if not self._is_due and len(self._tasks) < self._at_once:
            self._soon(loop)
        return await future

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_due = True
        wait = self._next_at - loop.time() if self._gather else 0.0
        # At the end of this turn of the loop at the soonest: whatever else has arrived in the same turn goes along.
        if wait <= 0:
            loop.call_soon(self._go, context=Context())
        else:
            loop.call_later(wait, self._go, context=Context())

    def _go(self) -> None:
        self._is_due = False
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if len(self._waiting) <= self._most:
            bundle, self._waiting = self._waiting, {}
        else:
            bundle = {question: self._waiting.pop(question) for question in list(self._waiting)[: self._most]}
        if self._gather:
            self._next_at = loop.time() + min(self._gather * len(bundle), LONGEST_GATHER_SECONDS)
        task = loop.create_task(self._run(bundle), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting and not self._is_due:
            self._soon(task.get_loop())

    async def _run(self, bundle: dict[K, list[asyncio.Future[V | None]]]) -> None:
        failure: BaseException | None = None
        answers: Mapping[K, V] = {}
        try:
            answers = await self._answer(list(bundle))
        except BaseException as error:  # noqa: BLE001 (whoever asked gets it, whatever it is)
            failure = error if isinstance(error, Exception) else ConnectionAbortedError("The process is going down.")
        for question, futures in bundle.items():
            for future in futures:
                if future.done():
                    continue  # who asked has left
                if failure is not None:
                    future.set_exception(failure)
                else:
                    future.set_result(answers.get(question))


class Bundler(Generic[K, C, V]):
    """Gathers changes by key (the merchant) while the last ones of that key are being made, and makes them together.

    The next bundle begins before those of the last one hear of their answers, and they hear of them a few at a time: what each
    does with its answer takes the process longer than the database takes for a statement, which would wait for all of it.

    Args:
        make: Makes several changes of one key at once; an answer for each, None for those it leaves to their callers.
        most: How many changes are made together.
    """

    def __init__(self, make: Callable[[K, list[C]], Awaitable[Sequence[V | None]]], *, most: int) -> None:
        self._make = make
        self._most = most
        self._waiting: dict[K, list[tuple[C, asyncio.Future[V | None]]]] = {}
        self._busy: set[K] = set()
        """Keys of which a bundle is under way or about to begin."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def make(self, key: K, change: C) -> V | None:
        """The answer of a change, None when it has to be made in another way; raises what making it raised.

        A change that was taken along is made even if its caller leaves in the meantime.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [(change, future)]
            if key not in self._busy:
                self._busy.add(key)
                # At the end of this turn of the loop: whatever else has arrived in the same turn goes along.
                loop.call_soon(self._go, key, context=Context())
        else:
            waiting.append((change, future))
        return await future

    def _go(self, key: K) -> None:
        """Begins the next bundle of a key, in the place of one that is over."""
        # Whoever has left before anything was begun wants nothing any more.
        waiting = [each for each in self._waiting.pop(key, ()) if not each[1].done()]
        if not waiting:
            self._busy.discard(key)
            return
        if len(waiting) > self._most:
            waiting, self._waiting[key] = waiting[: self._most], waiting[self._most :]
        task = asyncio.get_running_loop().create_task(self._run(key, waiting), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: K, waiting: list[tuple[C, asyncio.Future[V | None]]]) -> None:
        answers: Sequence[V | None] = ()
        failure: Exception | None = None
        try:
            answers = await self._make(key, [change for change, _ in waiting])
            if len(answers) != len(waiting):
                raise ValueError("an answer for each change")
        except BaseException as error:  # noqa: BLE001 (whoever asked gets it, whatever it is)
            failure = error if isinstance(error, Exception) else ConnectionAbortedError("The process is going down.")
        self._go(key)
        if failure is not None:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(failure)
            return
        for place, ((_, future), answer) in enumerate(zip(waiting, answers, strict=True)):
            if not place % SLICE:
                await asyncio.sleep(0)
            if not future.done():
                future.set_result(answer)
