"""What this process remembers of merchants and keys between charges. The ledger alone decides; nothing here is exact.

It is enough to refuse at once what would be refused anyway, and to tell where work may begin before the ledger has answered.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from cloud.limits import headers
from cloud.limits.ledger import Outcome

Headers = tuple[tuple[str, str], ...]
BELIEVED_SECONDS = 1.0
"""How long a used-up day is believed without asking again: the plan may have been changed."""


@dataclass(slots=True, eq=False)
class Merchant:
    """One merchant, all keys together."""

    tenant_id: str
    inside: int = 0
    """Calls between the gate's two sides, admitted or not."""
    held: int = 0
    """Calls that were granted and are not over."""
    told: int = 0
    """What the ledger was last told of `held`."""
    told_at: float = 0.0
    streams: int = 0
    streams_told: int = 0
    streams_told_at: float = 0.0
    till_messages: int = 0
    debt: int = 0
    """Admitted while the ledger was away, not yet charged."""
    daily_limit: int | None = None
    daily_left: int = 0
    day_ends: float = 0.0
    used_up_until: float = 0.0
    at_once: int = 0
    """How many may run at the same time; 0 while not known."""
    elsewhere: int = 0
    """Calls that ran in other replicas at the last charge."""
    answered_at: float = 0.0
    """When the ledger last spoke of this merchant; 0 for never."""
    refusals_at: float = 0.0
    """The moment for which the last refusal was planned."""
    seen_at: float = 0.0


@dataclass(slots=True, eq=False)
class Meter:
    """One key."""

    merchant: Merchant
    key_id: str
    own_rate: int
    rate: int = 0
    left: float = 0.0
    """What the key could have made at once at `answered_at`."""
    answered_at: float = 0.0
    unsettled: int = 0
    """Calls whose charge is not answered yet."""
    spent_until: float = 0.0
    """Before this moment the rate allows no further call."""
    refused: int = 0
    """Refused here, not yet told to the ledger."""
    debt: int = 0
    seen_at: float = 0.0

    def left_at(self, now: float) -> float:
        """What the key could probably make at once."""
        return min(float(self.rate), self.left + (now - self.answered_at) * self.rate)

    def is_at_ease(self, now: float) -> bool:
        """Whether the next call will be granted as far as can be told from here."""
        merchant = self.merchant
        return (
            self.rate > 0
            and self.left_at(now) >= self.unsettled + 1
            and (merchant.daily_limit is None or (merchant.daily_left > self.unsettled and now < merchant.day_ends))
            and merchant.inside + merchant.elsewhere <= merchant.at_once
        )

    def learn(self, outcome: Outcome, now: float) -> None:
        """Takes over what the ledger said."""
        merchant = self.merchant
        self.rate, self.left, self.answered_at = outcome.rate, outcome.left, now
        self.spent_until = 0.0 if outcome.left >= 1 else now + (1 - outcome.left) / outcome.rate
        merchant.daily_limit = outcome.day_limit
        merchant.daily_left = max(0, outcome.day_limit - outcome.day_used) if outcome.day_limit is not None else 0
        merchant.day_ends = now + outcome.day_left
        is_used_up = outcome.day_limit is not None and merchant.daily_left == 0
        merchant.used_up_until = min(now + BELIEVED_SECONDS, merchant.day_ends) if is_used_up else 0.0
        merchant.at_once, merchant.answered_at = outcome.at_once, now

    def headers(self, now: float) -> Headers:
        """What a caller is told."""
        merchant = self.merchant
        if not self.rate:
            return ()
        return headers.standing(
            self.rate,
            max(0, math.floor(self.left_at(now) + 1e-6)),
            merchant.daily_limit,
            merchant.daily_left,
            max(0, math.ceil(merchant.day_ends - now)),
            merchant.at_once,
        )


@dataclass(slots=True, eq=False)
class Charge:
    """The calls of one key that are charged together. A call's number is its place in the order they came."""

    meter: Meter
    count: int = 0
    granted: int = 0
    paced: int = 0
    is_settled: bool = False
    is_counted: bool = True
    """False when the ledger was away and no more calls can be admitted on trust."""
    headers: Headers = ()
    left_early: list[int] = field(default_factory=list)
    """Calls that ended before they were settled."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def join(self) -> int:
        """Adds a call; its number."""
        number = self.count
        self.count += 1
        self.meter.unsettled += 1
        return number

    def waiter(self) -> asyncio.Future[None]:
        """Done when the ledger has answered. Each call has its own: cancelling one must not end the wait of the others."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(mine)
        return mine

    def settle(self, granted: int, paced: int) -> None:
        """Lets the calls go on: the first `granted` of them are admitted."""
        self.granted, self.paced, self.is_settled = granted, paced, True
        self.meter.unsettled -= self.count
        self.meter.merchant.held += granted - sum(number < granted for number in self.left_early)
        for each in self.waiting:
            if not each.done():
                each.set_result(None)
        self.waiting.clear()

    def leave(self, number: int) -> bool:
        """A call is over; whether it held a place."""
        if not self.is_settled:
            self.left_early.append(number)
            return False
        if number >= self.granted:
            return False
        self.meter.merchant.held -= 1
        return True
