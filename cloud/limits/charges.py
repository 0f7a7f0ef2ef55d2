"""Gathers the calls that wait and charges them together. One charge is under way at a time; the rest waits for the next."""

from __future__ import annotations

import asyncio
import secrets
from contextvars import Context
from time import monotonic

import structlog

from cloud.limits.ledger import ALIVE_SECONDS, Asked, Ledger, LedgerAway, Outcome, Place
from cloud.limits.meters import Charge, Merchant, Meter
from cloud.platform.calls import Caller
from cloud.platform.database import Database

GATHER_SECONDS = 0.00015
"""Charges begin at least so far apart for each call inside: one alone waits for nobody, of many each charge carries many."""
LONGEST_GATHER_SECONDS = 0.004
RELEASE_SECONDS = 0.02
"""How soon others hear of places that became free, when no charge carries the word anyway."""
BEAT_SECONDS = 1.0
AWAY_SECONDS = 0.5
"""After the ledger was found away it is not asked for so long; calls are admitted on trust."""
TRUST = 0.05
"""How much of a day's limit may be admitted on trust."""
LEAST_TRUST = 50
IDLE_SECONDS = 600.0

logger = structlog.get_logger()


class Charges:
    """Every meter of this process, and the task that charges them."""

    def __init__(self, database: Database) -> None:
        self.ledger = Ledger(database, secrets.token_hex(4))
        self.inside = 0
        """Calls between the gate's two sides."""
        self._merchants: dict[str, Merchant] = {}
        self._meters: dict[tuple[str, str], Meter] = {}
        self._pending: dict[Meter, Charge] = {}
        self._reports: set[Meter] = set()
        """Keys with something to tell: calls refused here, or admitted on trust."""
        self._dirty: set[Merchant] = set()
        """Merchants of whom the ledger should hear anyway."""
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._timer_at = 0.0
        self._flushing: asyncio.Task[None] | None = None
        self._began_at = 0.0
        self._away_until = 0.0
        self._is_stopped = False

    def merchant(self, tenant_id: str) -> Merchant:
        """What is known of a merchant."""
        found = self._merchants.get(tenant_id)
        if found is None:
            found = self._merchants[tenant_id] = Merchant(tenant_id)
        return found

    def meter(self, who: Caller, now: float) -> Meter:
        """What is known of a caller's key."""
        found = self._meters.get((who.tenant_id, who.key_id))
        if found is None:
            found = self._meters[who.tenant_id, who.key_id] = Meter(
                self.merchant(who.tenant_id), who.key_id, who.requests_per_second
            )
        if found.own_rate != who.requests_per_second:
            found.own_rate, found.rate, found.spent_until = who.requests_per_second, 0, 0.0
        found.seen_at = found.merchant.seen_at = now
        return found

    def join(self, meter: Meter, now: float) -> Charge:
        """The charge that the key's next call is part of."""
        charge = self._pending.get(meter)
        if charge is None:
            charge = self._pending[meter] = Charge(meter)
        if self._timer is None or self._timer_at > now:
            self._soon(self._next(now), now)
        return charge

    def note_refused(self, meter: Meter) -> None:
        """A call was refused without asking the ledger."""
        meter.refused += 1
        self._reports.add(meter)

    def note_left(self, merchant: Merchant, now: float) -> None:
        """A place became free."""
        self._dirty.add(merchant)
        is_crowded = merchant.told + merchant.elsewhere > merchant.at_once // 2
        self._soon(now + (LONGEST_GATHER_SECONDS if is_crowded else RELEASE_SECONDS), now)

    def note_till_messages(self, tenant_id: str, count: int) -> None:
        """Messages from tills; told within a second."""
        merchant = self.merchant(tenant_id)
        merchant.till_messages += count
        self._dirty.add(merchant)

    async def run(self) -> None:
        """Until cancelled: tells once a second what no call has told."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.beat()

    async def beat(self) -> None:
        """Tells what has not been told, says that we live, and forgets who has not called for long."""
        now = monotonic()
        for merchant in self._merchants.values():
            if merchant.held and now - merchant.told_at > ALIVE_SECONDS / 3:
                self._dirty.add(merchant)
        if self._dirty or self._reports:
            self._soon(now, now)
        try:
            for merchant in list(self._merchants.values()):
                await self._tell_streams(merchant, now)
        except LedgerAway as error:
            logger.warning("streams_not_told", error=str(error))
        quiet = now - IDLE_SECONDS
        self._meters = {
            name: meter
            for name, meter in self._meters.items()
            if meter.seen_at > quiet or meter.unsettled or meter.refused or meter.debt
        }
        kept = {meter.merchant for meter in self._meters.values()} | self._dirty
        self._merchants = {
            name: merchant
            for name, merchant in self._merchants.items()
            if merchant in kept or merchant.held or merchant.inside or merchant.streams or merchant.streams_told
        }

    async def _tell_streams(self, merchant: Merchant, now: float) -> None:
        count = merchant.streams
        if count != merchant.streams_told or (count and now - merchant.streams_told_at > ALIVE_SECONDS / 3):
            await self.ledger.hold_streams(merchant.tenant_id, count)
            merchant.streams_told, merchant.streams_told_at = count, now

    async def stop(self) -> None:
        """Tells the rest and ends the connection."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        if self._pending or self._dirty or self._reports:
            await self._flush()
        await self.ledger.close()

    def _next(self, now: float) -> float:
        return max(now, self._began_at + min(self.inside * GATHER_SECONDS, LONGEST_GATHER_SECONDS))

    def _soon(self, moment: float, now: float) -> None:
        if self._is_stopped:
            return  # calls that are cut off now have been charged; nobody is left to tell
        if self._flushing is not None or (self._timer is not None and self._timer_at <= moment):
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_at = moment
        # At the end of this turn of the loop at the soonest: what else arrives in the same turn goes along.
        if moment <= now:
            self._timer = loop.call_soon(self._go, context=Context())
        else:
            self._timer = loop.call_later(moment - now, self._go, context=Context())

    def _go(self) -> None:
        self._timer = None
        self._began_at = monotonic()
        self._flushing = asyncio.get_running_loop().create_task(self._flush(), context=Context())
        self._flushing.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._flushing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("charge_failed", exc_info=error)
        now = monotonic()
        if self._pending:
            self._soon(self._next(now), now)
        elif self._dirty:
            self._soon(now + RELEASE_SECONDS, now)

    async def _flush(self) -> None:
        charges, self._pending = self._pending, {}
        try:
            if monotonic() >= self._away_until:
                await self._charge(charges)
        except LedgerAway as error:
            # No trace: what happened is the database's story, and it repeats twice a second.
            logger.error("ledger_away", error=str(error), calls=sum(each.count for each in charges.values()))  # noqa: TRY400 (said above)
            self._away_until = monotonic() + AWAY_SECONDS
        finally:
            # Whatever happened, nobody may wait for ever.
            self._trust([charge for charge in charges.values() if not charge.is_settled])

    async def _charge(self, charges: dict[Meter, Charge]) -> None:
        reports, self._reports = self._reports, set()
        dirty, self._dirty = self._dirty, set()
        meters = sorted(charges.keys() | reports, key=lambda meter: (meter.merchant.tenant_id, meter.key_id))
        merchants = sorted({meter.merchant for meter in meters} | dirty, key=lambda merchant: merchant.tenant_id)
        asked = [_asked(meter, charges.get(meter)) for meter in meters]
        places = [Place(merchant.tenant_id, merchant.held, merchant.till_messages) for merchant in merchants]
        try:
            outcomes = await self.ledger.charge(asked, places)
        except BaseException:
            self._reports |= reports
            self._dirty |= dirty
            raise
        now = monotonic()
        granted: dict[Merchant, int] = {}
        for meter, each, outcome in zip(meters, asked, outcomes, strict=True):
            meter.refused -= each.refused
            meter.debt -= each.debt
            meter.merchant.debt -= each.debt
            meter.learn(outcome, now)
            granted[meter.merchant] = granted.get(meter.merchant, 0) + outcome.granted
            if (charge := charges.get(meter)) is not None:
                _settle(charge, outcome, meter, now)
        for place, merchant in zip(places, merchants, strict=True):
            merchant.till_messages -= place.till_messages
            merchant.told = place.held + granted.get(merchant, 0)
            merchant.told_at = now
            if merchant.told != merchant.held:
                self._dirty.add(merchant)

    def _trust(self, charges: list[Charge]) -> None:
        """Admits calls although they cannot be charged now: all where no day's limit holds, else a part of it."""
        for charge in charges:
            meter, merchant = charge.meter, charge.meter.merchant
            granted = charge.count
            if merchant.daily_limit is not None or not merchant.answered_at:
                allowance = max(LEAST_TRUST, int((merchant.daily_limit or 0) * TRUST)) - merchant.debt
                granted = max(0, min(charge.count, allowance))
            charge.is_counted = False
            charge.headers = meter.headers(monotonic())
            meter.debt += granted
            merchant.debt += granted
            self._reports.add(meter)
            charge.settle(granted, charge.count)


def _asked(meter: Meter, charge: Charge | None) -> Asked:
    count = charge.count if charge is not None else 0
    return Asked(meter.merchant.tenant_id, meter.key_id, count, meter.own_rate, meter.refused, meter.debt)


def _settle(charge: Charge, outcome: Outcome, meter: Meter, now: float) -> None:
    charge.headers = meter.headers(now)
    charge.settle(outcome.granted, outcome.paced)
    merchant = meter.merchant
    merchant.elsewhere = max(0, outcome.at_once_now - merchant.held)
