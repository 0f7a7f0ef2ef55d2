"""The door of every call, whatever brought it: request id, caller, gates, log line, and no error that is not one of ours.

gRPC (rpc.py) and calls within one process (local.py) are two ways to the same door.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import structlog

from cloud.platform import calls, precedence, telemetry
from cloud.platform.calls import Call, Caller
from kernel import errors
from kernel.ids import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = structlog.get_logger()

Authenticate = Callable[[Call], Awaitable[Caller]]
"""Call to caller; raises Unauthenticated or PermissionDenied. May add reply headers."""
Hold = Callable[[Call], AbstractAsyncContextManager[None]]
"""Is held as long as a stream is open; sets the call's refusal when its caller is not let in any more, and wakes it."""
Serve = Callable[[], Awaitable[Any]]


class Gate(Protocol):
    """Stands between the door and every service: limits, audit. Gates are passed in order and left in reverse."""

    async def unary(self, call: Call, serve: Serve) -> Any:
        """Answers `await serve()`, or raises a GiposError before or after it."""

    def stream(self, call: Call) -> AbstractAsyncContextManager[None] | None:
        """What is held as long as a stream is open, entering may raise a GiposError; None when this gate lets it pass."""


Witness = Callable[[Call, errors.GiposError], None]
"""Told of every call that was refused or has failed."""


class Door:
    """Everything a call passes before and after its service."""

    def __init__(
        self,
        authenticate: Authenticate,
        gates: Sequence[Gate] = (),
        witness: Witness | None = None,
        hold: Hold | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._gates = tuple(gates)
        self._inwards = tuple(gate.unary for gate in reversed(self._gates))
        self._witness = witness
        self._hold = hold

    def arrive(self, method: str, metadata: dict[str, str], address: str) -> Call:
        """Notes a call that has arrived, metadata and all; the code that serves it finds it by `calls.call()`."""
        given = metadata.get("x-request-id", "")
        call = Call(method, metadata, address, given if _REQUEST_ID.fullmatch(given) else new_id("req"))
        calls.current.set(call)
        telemetry.request_id.set(call.request_id)
        return call

    async def unary(self, call: Call, inner: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any) -> Any:
        """The answer of a service to a call that has arrived.

        Raises:
            GiposError: every failure, also those nobody foresaw; those are logged here and told by an id only.
        """
        started = time.perf_counter()
        outcome = "OK"
        try:
            call.caller = await self._authenticate(call)
            serve: Serve = partial(_serve, call, inner, request, context)
            for gate in self._inwards:
                serve = partial(gate, call, serve)
            with precedence.calls.call():
                return await serve()
        except errors.GiposError as error:
            outcome = error.reason
            if self._witness is not None:
                self._witness(call, error)
            raise
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except Exception as error:
            if isinstance(error, tuple(_PASSING)):
                outcome = "CANCELLED"
                raise
            outcome = "INTERNAL"
            failure = unexpected(call.method, error)
            if self._witness is not None:
                self._witness(call, failure)
            raise failure from error
        finally:
            telemetry.note(
                {
                    "event": "rpc",
                    "method": call.method,
                    "outcome": outcome,
                    "ms": round((time.perf_counter() - started) * 1000, 1),
                    "tenant_id": call.caller.tenant_id if call.caller else "",
                    "request_id": call.request_id,
                }
            )

    async def stream(
        self,
        call: Call,
        inner: Callable[[Any, Any], AsyncGenerator[Any, None]],
        request: Any,
        context: Any,
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Sends the answers of a streaming service, one after the other; raises as `unary`, and whatever `send` does.

        A coroutine with few things in it: there is one for each till that is online.
        """
        try:
            call.caller = await self._authenticate(call)
            held = [self._hold(call)] if self._hold is not None else []
            held += [holds for gate in self._gates if (holds := gate.stream(call)) is not None]
            async with held[0] if len(held) == 1 else _all_of(held):
                logger.info("stream_opened", method=call.method, tenant_id=call.caller.tenant_id)
                call.request = request
                answers = inner(request, context)
                try:
                    async for response in answers:
                        await send(response)
                        call.go_on()
                finally:
                    await answers.aclose()
        except (errors.GiposError, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(error, tuple(_PASSING)):
                raise
            raise unexpected(call.method, error) from error
        finally:
            logger.info("stream_closed", method=call.method)


@asynccontextmanager
async def _all_of(held: Sequence[AbstractAsyncContextManager[None]]) -> AsyncGenerator[None, None]:
    async with AsyncExitStack() as stack:
        for one in held:
            await stack.enter_async_context(one)
        yield


def _serve(call: Call, inner: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any) -> Awaitable[Any]:
    call.request = request
    return inner(request, context)


_PASSING: list[type[BaseException]] = []
"""What a transport raises to end a call from inside; it goes through the door untouched."""


def let_pass(*kinds: type[BaseException]) -> None:
    """Names exceptions of a transport that are no failures of a service."""
    _PASSING.extend(kind for kind in kinds if kind not in _PASSING)


def unexpected(method: str, error: Exception) -> errors.GiposError:
    """What the caller hears of an error nobody foresaw: an id to quote. The log gets the rest."""
    logger.error("rpc_failed", method=method, exc_info=error)
    return errors.GiposError(
        "Something went wrong on our side. Nothing is known to be changed; try again, or tell us the request id."
    )
