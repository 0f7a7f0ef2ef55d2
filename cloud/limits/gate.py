"""The gate of limits: every call of an integration is charged before it is answered. Tills pass, their messages are only counted.

A change waits for its charge. A read that will be granted as far as can be told begins at once, and its answer waits for the
charge: a read that is refused after all was work for nothing, never an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Any, NoReturn

import structlog

from cloud.limits import refusals
from cloud.limits.charges import Charges
from cloud.limits.ledger import LedgerAway
from cloud.limits.meters import Meter
from cloud.limits.turns import Turns
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from cloud.platform.door import Serve
from kernel.errors import GiposError

_SHOWS_CHARGES = "/gipos.v1.UsageService/GetUsage"
"""The one read that must not begin before its charge: it would not show itself."""

logger = structlog.get_logger()


class Limits:
    """A Gate.

    Args:
        connections: How many connections to the database the calls share.
    """

    def __init__(self, database: Database, *, connections: int) -> None:
        self._charges = Charges(database)
        self._turns = Turns(connections // 2, monotonic)

    async def run(self) -> None:
        """Until cancelled: what has to be told to other replicas from time to time."""
        await self._charges.run()

    async def stop(self) -> None:
        """Tells what is left to tell. Call it after the last call."""
        await self._charges.stop()

    def count_till_messages(self, tenant_id: str, count: int) -> None:
        """Counts messages from a merchant's tills. Costs next to nothing and never refuses."""
        self._charges.note_till_messages(tenant_id, count)

    async def unary(self, call: Call, serve: Serve) -> Any:
        """See Gate.

        Raises:
            QuotaExceeded, RateLimited, TooManyConcurrent: a limit is reached.
            Busy: calls cannot be counted, and too many were already admitted on trust.
        """
        who = call.caller
        if who is None or not who.tenant_id or who.kind == "till":
            return await serve()
        charges = self._charges
        now = monotonic()
        meter = charges.meter(who, now)
        merchant = meter.merchant
        if (refusal := refusals.known(meter, now)) is not None:
            await self._refuse_unasked(call, meter, refusal, now)
        merchant.inside += 1
        charges.inside += 1
        charge = charges.join(meter, now)
        may_begin = call.is_read and meter.is_at_ease(now) and call.method != _SHOWS_CHARGES
        number = charge.join()
        failure: GiposError | None = None
        answer: Any = None
        turns, tenant_id = self._turns, who.tenant_id
        try:
            if not may_begin:
                if not charge.is_settled:
                    await charge.waiter()
                refusal = refusals.of(charge, number)
            if refusal is None:
                if not turns.enter(tenant_id):
                    await turns.wait(tenant_id)
                try:
                    answer = await serve()
                except GiposError as error:
                    failure = error
                finally:
                    turns.leave(tenant_id)
                if may_begin:
                    if not charge.is_settled:
                        await charge.waiter()
                    refusal = refusals.of(charge, number)
        finally:
            call.headers.extend(charge.headers)
            merchant.inside -= 1
            charges.inside -= 1
            if charge.leave(number):
                charges.note_left(merchant, monotonic())
        if refusal is not None:
            await refusals.keep_back(merchant)
            raise refusal
        if failure is not None:
            try:
                raise failure
            finally:
                # Its traceback holds this frame; held by the frame in turn, it would stay until a collection, request and all.
                del failure
        return answer

    def stream(self, call: Call) -> AbstractAsyncContextManager[None] | None:
        """See Gate. Opening counts as a request; while it is open a stream takes a place of its own kind."""
        who = call.caller
        return None if who is None or not who.tenant_id or who.kind == "till" else self._held(call, who)

    @asynccontextmanager
    async def _held(self, call: Call, who: Caller) -> AsyncIterator[None]:
        charges = self._charges
        now = monotonic()
        meter = charges.meter(who, now)
        merchant = meter.merchant
        if (refusal := refusals.known(meter, now)) is not None:
            await self._refuse_unasked(call, meter, refusal, now)
        charge = charges.join(meter, now)
        number = charge.join()
        try:
            if not charge.is_settled:
                await charge.waiter()
        finally:
            if charge.leave(number):
                charges.note_left(merchant, monotonic())
        call.headers.extend(charge.headers)
        if (refusal := refusals.of(charge, number)) is not None:
            await refusals.keep_back(merchant)
            raise refusal
        merchant.streams += 1
        try:
            try:
                is_free = await charges.ledger.hold_streams(merchant.tenant_id, merchant.streams, merchant.at_once or None)
            except LedgerAway as error:
                logger.warning("stream_not_counted", error=str(error))
                is_free = not merchant.at_once or merchant.streams <= merchant.at_once
            if not is_free:
                raise refusals.streams(merchant.at_once)
            merchant.streams_told = max(merchant.streams_told, merchant.streams)
            yield
        finally:
            merchant.streams -= 1

    async def _refuse_unasked(self, call: Call, meter: Meter, error: GiposError, now: float) -> NoReturn:
        self._charges.note_refused(meter)
        call.headers.extend(meter.headers(now))
        await refusals.keep_back(meter.merchant)
        raise error
