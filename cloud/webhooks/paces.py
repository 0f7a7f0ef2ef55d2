"""How much each webhook is given: few attempts at a time, a queue for those that answer quickly, one place for those that fail.

Kept in memory only: a process that starts anew learns it again within a few attempts.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from cloud.webhooks.outcomes import Outcome

AT_ONCE = 4
"""Attempts under way at the same time."""
LARGEST_SHARE = 32
"""Deliveries fetched ahead for an address that answers quickly; at four at a time they are soon done."""
QUICK_MS = 1000
KNOWN = 10_000
"""Webhooks whose pace is remembered at most; the one heard of longest ago is forgotten first, and begins as a new one does."""


class Paces:
    """What this process knows of the webhooks it serves."""

    def __init__(self) -> None:
        self._shares: dict[str, int] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def share_of(self, webhook_id: str) -> int:
        """How many deliveries of this webhook the process may hold."""
        return self._shares.get(webhook_id, AT_ONCE)

    def turn(self, webhook_id: str) -> asyncio.Semaphore:
        """What to enter for the time of an attempt; first come, first served."""
        turn = self._turns.get(webhook_id)
        if turn is None:
            turn = self._turns[webhook_id] = asyncio.Semaphore(AT_ONCE)
        return turn

    def note(self, webhook_id: str, outcome: Outcome) -> None:
        """Learns from an attempt: quick answers double the share, slow ones bring it back, a failure leaves one place."""
        share = self.share_of(webhook_id)
        if outcome.result != "ok":
            share = 1
        elif outcome.duration_ms > QUICK_MS:
            share = min(AT_ONCE, share * 2)
        else:
            share = min(LARGEST_SHARE, share * 2)
        self._shares.pop(webhook_id, None)
        if share != AT_ONCE:
            if len(self._shares) >= KNOWN:
                del self._shares[next(iter(self._shares))]
            self._shares[webhook_id] = share
