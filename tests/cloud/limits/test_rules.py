"""The parts of the limits that need no database: header texts, forecasts, and the pace of refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.limits import headers, refusals, usage
from cloud.limits.ledger import Outcome
from cloud.limits.meters import Charge, Merchant, Meter
from kernel.errors import Busy, QuotaExceeded, RateLimited, TooManyConcurrent


def test_headers_are_those_of_the_draft_and_the_older_ones_tell_the_day() -> None:
    assert dict(headers.standing(20, 12, 10_000, 8750, 30_211, 100)) == {
        "ratelimit-policy": '"per-second";q=20;w=1, "daily";q=10000;w=86400, "concurrent";q=100;qu="concurrent-requests"',
        "ratelimit": '"per-second";r=12;t=1, "daily";r=8750;t=30211',
        "x-ratelimit-limit": "10000",
        "x-ratelimit-remaining": "8750",
        "x-ratelimit-reset": "30211",
    }


def test_without_a_daily_limit_none_is_told() -> None:
    assert dict(headers.standing(200, 199, None, 0, 30_211, 100)) == {
        "ratelimit-policy": '"per-second";q=200;w=1, "concurrent";q=100;qu="concurrent-requests"',
        "ratelimit": '"per-second";r=199;t=1',
        "x-ratelimit-limit": "200",
        "x-ratelimit-remaining": "199",
        "x-ratelimit-reset": "1",
    }


NOON = datetime(2026, 3, 10, 5, tzinfo=UTC)  # 12:00 in Jakarta


@pytest.mark.parametrize(
    ("now", "used", "limit", "expected"),
    [
        (NOON, 400, 1000, None),  # 800 by midnight
        (NOON, 500, 1000, None),  # exactly at midnight
        (NOON, 600, 1000, NOON + timedelta(hours=8)),
        (NOON, 0, 1000, None),
        (NOON, 1000, 1000, NOON),
        (NOON, 1200, 1000, NOON),  # the plan was made smaller
        # Ten requests within the first ten seconds of the day are no pace of one a second.
        (NOON - timedelta(hours=12) + timedelta(seconds=10), 10, 1000, None),
        (NOON + timedelta(hours=11, minutes=59), 999, 1000, NOON + timedelta(hours=11, minutes=59, seconds=86.34635)),
    ],
)
def test_a_forecast_goes_by_the_pace_of_the_day(now: datetime, used: int, limit: int, expected: datetime | None) -> None:
    found = usage.exhausted_at(now, used, limit)
    if expected is None or expected >= usage.day_start(usage.day_of(now) + timedelta(days=1)):
        assert found is None
    else:
        assert found is not None
        assert abs(found - expected) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 3, 10, 16, 59, 59, tzinfo=UTC), "2026-03-10"),
        (datetime(2026, 3, 10, 17, 0, 0, tzinfo=UTC), "2026-03-11"),
    ],
)
def test_a_day_ends_at_midnight_in_jakarta(moment: datetime, day: str) -> None:
    assert usage.day_of(moment).isoformat() == day
    assert usage.day_start(usage.day_of(moment)) <= moment


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=300))
def test_refusals_of_a_flood_leave_at_a_measured_pace(pauses: list[float]) -> None:
    merchant, now = Merchant("ten"), 50.0
    answered = []
    for pause in pauses:
        now += pause
        delay = refusals.delay(merchant, now)
        assert 0 <= delay <= refusals.LONGEST_SECONDS
        answered.append((now + delay, delay))
    assert all(delay == 0 for _, delay in answered[: refusals.AT_ONCE])
    # Within any second: what may be answered at once, and the pace; only a refusal that waited the longest time is let go anyway.
    for moment, _ in answered:
        within = [d for m, d in answered if moment <= m < moment + 1 and d < refusals.LONGEST_SECONDS]
        assert len(within) <= refusals.AT_ONCE + refusals.PER_SECOND + 1


def outcome(**changes: object) -> Outcome:
    fields: dict[str, object] = {
        "granted": 1,
        "paced": 1,
        "rate": 10,
        "left": 5.0,
        "day_limit": 1000,
        "day_used": 10,
        "at_once": 100,
        "at_once_now": 1,
        "day_left": 3600.0,
    }
    return Outcome(**(fields | changes))  # type: ignore[arg-type]  # by name


def meter(now: float = 50.0, **changes: object) -> Meter:
    made = Meter(Merchant("ten"), "key", 0)
    made.learn(outcome(**changes), now)
    return made


@pytest.mark.parametrize(
    ("changes", "after", "kind", "policies"),
    [
        ({}, 0.0, None, ()),
        ({"left": 0.4}, 0.0, RateLimited, ("per-second",)),
        ({"left": 0.4}, 0.061, None, ()),  # 0.6 of a token at 10 a second
        ({"day_used": 1000}, 0.0, QuotaExceeded, ("daily",)),
        ({"day_used": 1000}, 1.1, None, ()),  # the plan may have changed: the ledger is asked again
    ],
)
def test_what_would_be_refused_anyway_is_refused_without_asking(
    changes: dict[str, Any], after: float, kind: type[Exception] | None, policies: tuple[str, ...]
) -> None:
    error = refusals.known(meter(**changes), 50.0 + after)
    assert type(error) is (kind or type(None))
    if error is not None:
        assert error.policies == policies
        assert error.retry_seconds > 0


def test_more_than_may_run_at_once_are_refused_without_asking() -> None:
    made = meter()
    made.merchant.inside = 99
    assert refusals.known(made, 50.0) is None
    made.merchant.inside = 100
    assert isinstance(refusals.known(made, 50.0), TooManyConcurrent)


@pytest.mark.parametrize(
    ("changes", "granted", "paced", "number", "kind", "policies"),
    [
        ({}, 2, 2, 1, None, ()),
        ({"left": 0.0}, 2, 2, 2, RateLimited, ("per-second",)),
        ({"day_used": 1000}, 2, 5, 3, QuotaExceeded, ("daily",)),
        ({"day_used": 1000, "left": 0.0}, 2, 5, 5, QuotaExceeded, ("daily", "per-second")),
        ({"at_once": 2}, 2, 5, 3, TooManyConcurrent, ("concurrent",)),
        ({"at_once": 2, "left": 0.0}, 2, 3, 4, RateLimited, ("per-second", "concurrent")),
    ],
)
def test_a_refusal_names_every_limit_that_was_reached(
    changes: dict[str, Any], granted: int, paced: int, number: int, kind: type[Exception] | None, policies: tuple[str, ...]
) -> None:
    made = meter(**changes)
    charge = Charge(made)
    for _ in range(6):
        charge.join()
    charge.settle(granted, paced)
    error = refusals.of(charge, number)
    assert type(error) is (kind or type(None))
    assert error is None or error.policies == policies


def test_the_time_to_wait_is_spread_so_that_callers_do_not_return_together() -> None:
    made = meter(day_used=1000)
    seconds = [refusals.daily(made.merchant, 50.0).retry_seconds for _ in range(50)]
    assert all(3600 <= value <= 3960 for value in seconds)
    assert len(set(seconds)) > 1


def test_calls_beyond_trust_hear_that_it_is_not_their_fault() -> None:
    charge = Charge(meter(), is_counted=False)
    charge.join()
    charge.settle(0, 1)
    assert isinstance(refusals.of(charge, 0), Busy)


def test_a_call_that_left_early_holds_no_place() -> None:
    charge = Charge(meter())
    numbers = [charge.join() for _ in range(3)]
    assert not charge.leave(numbers[1])
    charge.settle(2, 3)
    assert charge.meter.merchant.held == 1
    assert charge.leave(numbers[0])
    assert not charge.leave(numbers[2])
    assert charge.meter.merchant.held == 0
    assert charge.meter.unsettled == 0
