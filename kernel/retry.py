"""When to try again: back-off plans as lists of seconds, and the jitter on them."""

from __future__ import annotations

import random

WEBHOOK_DELAYS = (5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds after attempt 1, 2, …: twelve attempts over about 76 hours, the long tail of the Standard Webhooks example."""


def webhook_delay(attempt_count: int) -> float | None:
    """Seconds until the next attempt after so many, with jitter that only adds; None when it is given up."""
    if attempt_count > len(WEBHOOK_DELAYS):
        return None
    delay = WEBHOOK_DELAYS[attempt_count - 1]
    return max(delay * (1 + random.uniform(0, 0.2)), delay + random.uniform(0, 1))  # noqa: S311 (spreads load, guards nothing)


def full_jitter(failures: int, first: float = 0.5, cap: float = 60.0) -> float:
    """Seconds to wait after so many failures in a row: anything between 0 and a bound that doubles."""
    return random.uniform(0, min(cap, first * 2 ** min(failures, 16)))  # noqa: S311 (spreads load, guards nothing)
