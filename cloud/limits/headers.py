"""How limits are told to callers. Pure; called for every answer, hence plain strings.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11; the three others are older.
"""

from __future__ import annotations

from functools import lru_cache

RATE = "per-second"
DAILY = "daily"
CONCURRENT = "concurrent"
DAY_SECONDS = 86_400


@lru_cache(maxsize=1024)
def policy(rate: int, daily_limit: int | None, at_once: int) -> str:
    """The limits that hold, each by its name."""
    daily = "" if daily_limit is None else f', "{DAILY}";q={daily_limit};w={DAY_SECONDS}'
    return f'"{RATE}";q={rate};w=1{daily}, "{CONCURRENT}";q={at_once};qu="concurrent-requests"'


def standing(
    rate: int, left: int, daily_limit: int | None, daily_left: int, day_left: int, at_once: int
) -> tuple[tuple[str, str], ...]:
    """The reply headers of a call.

    Args:
        rate: Requests per second.
        left: Requests that could be made at once now.
        daily_limit: Requests a day; None without such a limit: then the older headers tell the rate.
        daily_left: Requests left of it.
        day_left: Seconds until the day ends.
        at_once: Requests at the same time.
    """
    if daily_limit is None:
        return (
            ("ratelimit-policy", policy(rate, None, at_once)),
            ("ratelimit", f'"{RATE}";r={left};t=1'),
            ("x-ratelimit-limit", str(rate)),
            ("x-ratelimit-remaining", str(left)),
            ("x-ratelimit-reset", "1"),
        )
    return (
        ("ratelimit-policy", policy(rate, daily_limit, at_once)),
        ("ratelimit", f'"{RATE}";r={left};t=1, "{DAILY}";r={daily_left};t={day_left}'),
        ("x-ratelimit-limit", str(daily_limit)),
        ("x-ratelimit-remaining", str(daily_left)),
        ("x-ratelimit-reset", str(day_left)),
    )
