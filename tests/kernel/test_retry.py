"""Back-off plans: never early, bounded, and spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.retry import WEBHOOK_DELAYS, full_jitter, webhook_delay


def test_twelve_attempts_take_about_three_days() -> None:
    assert len(WEBHOOK_DELAYS) == 11
    assert WEBHOOK_DELAYS[:5] == (5, 30, 120, 600, 1800)
    assert 75 * 3600 < sum(WEBHOOK_DELAYS) < 77 * 3600
    assert list(WEBHOOK_DELAYS) == sorted(WEBHOOK_DELAYS)


@pytest.mark.parametrize("attempt_count", range(1, 12))
def test_a_retry_never_comes_before_its_time_and_not_much_later(attempt_count: int) -> None:
    planned = WEBHOOK_DELAYS[attempt_count - 1]
    drawn = [webhook_delay(attempt_count) for _ in range(500)]
    assert all(delay is not None and planned <= delay <= max(planned * 1.2, planned + 1) for delay in drawn)
    assert len(set(drawn)) > 400


@pytest.mark.parametrize("attempt_count", [12, 13, 1000])
def test_after_the_twelfth_attempt_it_is_given_up(attempt_count: int) -> None:
    assert webhook_delay(attempt_count) is None


@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(1, 600))
def test_full_jitter_stays_within_its_bound(failures: int, first: float, cap: float) -> None:
    assert 0 <= full_jitter(failures, first, cap) <= min(cap, first * 2 ** min(failures, 16))


def test_full_jitter_grows() -> None:
    late = [full_jitter(10, first=1, cap=60) for _ in range(1000)]
    assert max(full_jitter(0, first=1, cap=60) for _ in range(1000)) <= 1
    assert max(late) > 30
    assert min(late) < 10
