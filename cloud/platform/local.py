"""Calls within one process: the way to the door that passes messages instead of bytes. Knows neither gRPC's wire nor REST.

A request belongs to the service from the moment it is handed over, an answer to nobody: whoever gets one only reads it. That is
what makes it safe to pass the objects themselves. Every call has a context of its own: what one notes, no other sees.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from cloud.platform import calls, telemetry
from cloud.platform.calls import Call
from cloud.platform.door import Door
from kernel.errors import GiposError

Headers = Sequence[tuple[str, str]]
_ADDRESS = "127.0.0.1"
"""Of a neighbour that says nothing of a caller behind it."""
_TICK_SECONDS = 0.02


class Refused(Exception):
    """The service refused the call, or failed; what the caller is told."""

    def __init__(self, error: GiposError, call: Call) -> None:
        super().__init__(error.message)
        self.error = error
        self.call = call


class Expired(Exception):
    """The call took longer than its caller would wait; it was ended."""


class Stopped(Exception):
    """The server takes no more calls."""


@dataclass(slots=True)
class Answered:
    """An answer and its headers."""

    message: Any
    headers: Headers


class LocalContext:
    """What a service may ask of the transport here. The rest it finds by `calls.call()`."""

    def __init__(self) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        """The headers of a stream, once the service has accepted the call."""

    async def send_initial_metadata(self, metadata: Headers) -> None:
        """Says that the call is accepted."""
        if not self.opened.done():
            self.opened.set_result(tuple(metadata))


class LocalServer:
    """Takes the same servicers as a gRPC server and serves them to callers in this process."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._handlers: dict[str, Any] = {}
        self._streams: set[LocalStream] = set()
        self._deadlines = _Deadlines()
        self.is_serving = False
        """Set and cleared by the composition root. Calls are refused while it is not set."""

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Called by generated code, which registers every method by its name as well; those are what counts here."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Called by generated code (`add_…Servicer_to_server`)."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def has(self, path: str) -> bool:
        """Whether somebody answers this method."""
        return path in self._handlers

    def unary(self, path: str) -> Callable[[Any, dict[str, str], float], Any]:
        """The callable of a unary method: request, metadata and seconds to an Answered. The metadata belongs to the call then.

        The callable raises Refused, Expired and Stopped. Cancelling its task cancels the service.
        """
        inner = self._handlers[path].unary_unary
        door, deadlines = self._door, self._deadlines

        async def call(request: Any, metadata: dict[str, str], seconds: float) -> Answered:
            if not self.is_serving:
                raise Stopped
            # The task may make other calls after this one: what the door notes for services ends with the call.
            before, before_id = calls.current.set(_NOBODYS), telemetry.request_id.set("")
            arrived = door.arrive(path, metadata, _address_of(metadata))
            limit = deadlines.begin(seconds)
            try:
                return Answered(await door.unary(arrived, inner, request, None), arrived.headers)
            except GiposError as error:
                raise Refused(error, arrived) from error
            except asyncio.CancelledError:
                if limit.is_over and limit.task.uncancel() == 0:
                    raise Expired from None
                raise
            finally:
                deadlines.end(limit)
                calls.current.reset(before)
                telemetry.request_id.reset(before_id)

        return call

    def stream(self, path: str) -> Callable[[Any, dict[str, str]], LocalStream]:
        """The callable of a server-streaming method: request and metadata to a stream."""
        inner = self._handlers[path].unary_stream

        def call(request: Any, metadata: dict[str, str]) -> LocalStream:
            if not self.is_serving:
                raise Stopped
            stream = LocalStream(self._door, path, inner, request, metadata)
            self._streams.add(stream)
            stream.task.add_done_callback(lambda _: self._streams.discard(stream))
            return stream

        return call

    async def stop(self, seconds: float) -> None:
        """Takes no more calls; streams may end by themselves for so long and are cancelled then."""
        self.is_serving = False
        tasks = [stream.task for stream in self._streams]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class LocalStream:
    """A server stream within the process. The service is asked for the next message only after the last one was taken."""

    def __init__(
        self,
        door: Door,
        path: str,
        inner: Callable[[Any, Any], AsyncGenerator[Any, None]],
        request: Any,
        metadata: dict[str, str],
    ) -> None:
        self._context = LocalContext()
        self._messages: asyncio.Queue[Any] = asyncio.Queue(1)
        self._failure: BaseException | None = None
        self._is_cancelled = False
        self._is_over = asyncio.Event()
        # A task has a context of its own, and all of a generator must run in one: each read may come from another task.
        self.task = asyncio.get_running_loop().create_task(self._pump(door, path, inner, request, metadata))
        # A task that is cancelled before its first step never gets to say so itself.
        self.task.add_done_callback(lambda _: self._is_over.set())

    async def opened(self) -> Headers:
        """Waits until the service has accepted the call, answered or ended.

        Raises:
            Refused: it refused.
        """
        over = asyncio.ensure_future(self._is_over.wait())
        try:
            await asyncio.wait({self._context.opened, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if self._context.opened.done():
            return self._context.opened.result()  # type: ignore[no-any-return]  # a future of headers
        if self._failure is not None:
            raise self._failure
        return ()

    async def read(self) -> Any | None:
        """The next message; None after the last and after a cancellation.

        Raises:
            Refused: the stream ended with an error.
        """
        if self._messages.empty() and not self._is_over.is_set() and not self._is_cancelled:
            over = asyncio.ensure_future(self._is_over.wait())
            message = asyncio.ensure_future(self._messages.get())
            try:
                await asyncio.wait({over, message}, return_when=asyncio.FIRST_COMPLETED)
                if message.done():
                    return message.result()
            finally:
                over.cancel()
                message.cancel()
        if self._is_cancelled:
            return None
        if not self._messages.empty():
            return self._messages.get_nowait()
        if self._failure is not None:
            raise self._failure
        return None

    def cancel(self) -> None:
        """Ends the call from this side. What was on its way is not wanted any more."""
        self._is_cancelled = True
        self.task.cancel()

    async def _pump(
        self,
        door: Door,
        path: str,
        inner: Callable[[Any, Any], AsyncGenerator[Any, None]],
        request: Any,
        metadata: dict[str, str],
    ) -> None:
        call = door.arrive(path, metadata, _address_of(metadata))

        async def send(message: Any) -> None:
            await self._context.send_initial_metadata(call.headers)
            await self._messages.put(message)

        try:
            await door.stream(call, inner, request, self._context, send)
        except GiposError as error:
            self._failure = Refused(error, call)
        finally:
            self._is_over.set()


class _Deadline:
    __slots__ = ("is_over", "task", "when")

    def __init__(self, when: float, task: asyncio.Task[object]) -> None:
        self.when = when
        self.task = task
        self.is_over = False


class _Deadlines:
    """Ends calls that take too long. One timer for all of them, not one each: nearly all are over long before."""

    def __init__(self) -> None:
        self._calls: set[_Deadline] = set()
        self._ticks = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Kept: until Python 3.12 asking which loop runs is a system call."""

    def begin(self, seconds: float) -> _Deadline:
        """The running task is cancelled after so many seconds, a fiftieth more at most."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "calls are made by tasks"
        deadline = _Deadline(loop.time() + seconds, task)
        self._calls.add(deadline)
        if not self._ticks:
            self._ticks = True
            loop.call_later(_TICK_SECONDS, self._tick, context=Context())
        return deadline

    def end(self, deadline: _Deadline) -> None:
        self._calls.discard(deadline)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for deadline in [one for one in self._calls if one.when <= now]:
            self._calls.discard(deadline)
            deadline.is_over = True
            deadline.task.cancel()
        self._ticks = bool(self._calls)
        if self._ticks:
            loop.call_later(_TICK_SECONDS, self._tick, context=Context())


def _address_of(metadata: Mapping[str, str]) -> str:
    """Who called our neighbour. It is a part of this very process, so its word is believed whatever proxies are trusted."""
    return metadata.get("x-forwarded-for", "").rpartition(",")[2].strip() or _ADDRESS


_NOBODYS = Call("", {}, "", "")
