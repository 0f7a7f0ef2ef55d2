"""What a caller over a limit is told, and how soon: a flood of refusals is answered at a measured pace."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from time import monotonic

from cloud.limits import headers
from cloud.limits.meters import Charge, Merchant, Meter
from kernel import business_days
from kernel.errors import Busy, GiposError, QuotaExceeded, RateLimited, TooManyConcurrent

AT_ONCE = 20
"""So many refusals in a row are answered without delay."""
PER_SECOND = 100.0
"""Further ones of the same merchant are answered so often."""
LONGEST_SECONDS = 1.0
SPREAD = 0.1
"""Of the time to wait: callers who were refused together must not come back together."""
CONCURRENT_RETRY_SECONDS = 1.0
RESET_ZONE = "Asia/Jakarta"


def known(meter: Meter, now: float) -> GiposError | None:
    """The refusal that the ledger would give, when that can be told without asking."""
    merchant = meter.merchant
    if now < merchant.used_up_until:
        return daily(merchant, now)
    if now < meter.spent_until:
        return rate(meter, now)
    if merchant.at_once and merchant.inside >= merchant.at_once:
        return concurrent(merchant)
    return None


def of(charge: Charge, number: int) -> GiposError | None:
    """Why the call with this number was not admitted by its charge, which is settled; None when it was."""
    if number < charge.granted:
        return None
    now = monotonic()
    if not charge.is_counted:
        return Busy("Requests cannot be counted at the moment. Nothing was changed; try again in a few seconds.")
    meter, merchant = charge.meter, charge.meter.merchant
    reached = []
    if merchant.daily_limit is not None and merchant.daily_left == 0:
        reached.append(daily(merchant, now))
    if number >= charge.paced:
        reached.append(rate(meter, now))
    if not reached or merchant.held + merchant.elsewhere >= merchant.at_once:
        reached.append(concurrent(merchant))
    first = reached[0]  # the one that lasts longest
    first.policies = tuple(policy for each in reached for policy in each.policies)
    return first


def daily(merchant: Merchant, now: float) -> GiposError:
    """The day's requests are used up."""
    seconds = max(1.0, merchant.day_ends - now)
    limit = str(merchant.daily_limit)
    moment = business_days.local_time(business_days.now() + timedelta(seconds=seconds), RESET_ZONE)
    time = moment.strftime("%Y-%m-%d %H:%M WIB")
    error = QuotaExceeded(
        f"The {limit} requests of today are used up; counting begins anew at {time}. Tills are not affected. "
        "Wait until then, or ask for a larger plan.",
        limit=limit,
        time=time,
    )
    return _limited(error, headers.DAILY, seconds)


def rate(meter: Meter, now: float) -> GiposError:
    """The key is too quick."""
    seconds = max(0.05, meter.spent_until - now)
    error = RateLimited(
        f"This key made more than {meter.rate} requests per second. Wait as long as Retry-After says, then send more slowly.",
        policy=f"{meter.rate}/s",
        limit=str(meter.rate),
        seconds=str(max(1, round(seconds))),
    )
    return _limited(error, headers.RATE, seconds)


def concurrent(merchant: Merchant) -> GiposError:
    """Too many at the same time."""
    limit = str(merchant.at_once)
    error = TooManyConcurrent(
        f"More than {limit} requests are running at the same time. Wait for answers before sending further requests.", limit=limit
    )
    return _limited(error, headers.CONCURRENT, CONCURRENT_RETRY_SECONDS)


def streams(limit: int) -> GiposError:
    """Too many streams are open."""
    error = TooManyConcurrent(
        f"More than {limit} streams are open at the same time. Close some before opening further ones.", limit=str(limit)
    )
    return _limited(error, headers.CONCURRENT, CONCURRENT_RETRY_SECONDS)


def _limited(error: GiposError, policy: str, seconds: float) -> GiposError:
    error.retry_seconds = seconds * (1 + random.random() * SPREAD)  # noqa: S311 (nothing secret)
    error.policies = (policy,)
    return error


def delay(merchant: Merchant, now: float) -> float:
    """How long this refusal is kept back, in seconds."""
    earliest = max(merchant.refusals_at, now - AT_ONCE / PER_SECOND)
    merchant.refusals_at = min(earliest + 1 / PER_SECOND, now + LONGEST_SECONDS)
    return max(0.0, merchant.refusals_at - now)


async def keep_back(merchant: Merchant) -> None:
    """Waits as long as this merchant's refusals have to."""
    seconds = delay(merchant, monotonic())
    if seconds > 0:
        await asyncio.sleep(seconds)
