"""What follows from an attempt, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.webhooks.outcomes import LONGEST_WAIT, Outcome, judge, result_of, retry_after
from gipos.v1.webhooks_pb2 import DeliveryStatus
from kernel.retry import WEBHOOK_DELAYS

NOW = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)
PENDING = DeliveryStatus.DELIVERY_STATUS_PENDING
SUCCEEDED = DeliveryStatus.DELIVERY_STATUS_SUCCEEDED
FAILED = DeliveryStatus.DELIVERY_STATUS_FAILED


def an_outcome(result: str, *, number: int = 1, status: int = 0, wait: float = 0, control: str = "") -> Outcome:
    return Outcome(number, result, NOW, 10, response_status=status, retry_after=wait, control=control)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, "ok"), (204, "ok"), (299, "ok"), (300, "redirect"), (301, "redirect"), (304, "redirect"), (307, "redirect"),
        (400, "http_4xx"), (401, "http_4xx"), (404, "http_4xx"), (410, "gone"), (429, "http_4xx"), (500, "http_5xx"),
        (503, "http_5xx"), (600, "http_5xx"), (999, "http_5xx"),
    ],
)  # fmt: skip
def test_each_status_has_its_class(status: int, result: str) -> None:
    assert result_of(status) == result


@pytest.mark.parametrize("result", ["http_4xx", "http_5xx", "redirect", "timeout", "connection", "internal", "target_forbidden"])
def test_the_first_failure_is_tried_again_soon(result: str) -> None:
    verdict = judge(an_outcome(result))
    assert verdict.status == PENDING
    assert 5 <= verdict.delay <= 6
    assert not verdict.disable


@pytest.mark.parametrize("number", range(1, 12))
def test_failures_follow_the_plan_and_never_come_early(number: int) -> None:
    planned = WEBHOOK_DELAYS[number - 1]
    verdict = judge(an_outcome("http_5xx", number=number, status=500))
    assert planned <= verdict.delay <= max(planned * 1.2, planned + 1)


def test_the_twelfth_failure_is_the_last() -> None:
    verdict = judge(an_outcome("timeout", number=12))
    assert verdict.status == FAILED
    assert not verdict.disable


def test_success_settles() -> None:
    assert judge(an_outcome("ok", status=200)).status == SUCCEEDED


@pytest.mark.parametrize(
    ("outcome", "status", "disable"),
    [
        (an_outcome("gone", status=410), FAILED, True),
        (an_outcome("target_forbidden", number=2), PENDING, False),
        (an_outcome("target_forbidden", number=3), FAILED, True),
        (an_outcome("http_5xx", status=500, control="disable"), FAILED, True),
        (an_outcome("ok", status=200, control="disable"), SUCCEEDED, True),
        (an_outcome("http_5xx", status=500, control="abort-message"), FAILED, False),
        (an_outcome("http_5xx", status=500, control="something else"), PENDING, False),
    ],
)
def test_receivers_can_end_it(outcome: Outcome, status: int, *, disable: bool) -> None:
    verdict = judge(outcome)
    assert (verdict.status, verdict.disable) == (status, disable)


@pytest.mark.parametrize(
    ("status", "wait", "least", "pause"),
    [
        (429, 60, 60, 60),
        (503, 60, 60, 60),
        (500, 60, 60, 0),
        (503, 1, 5, 1),  # never before the plan
        (503, 10**6, LONGEST_WAIT, LONGEST_WAIT),
        (503, 0, 5, 0),
    ],
)
def test_retry_after_only_makes_it_later(status: int, wait: float, least: float, pause: float) -> None:
    verdict = judge(an_outcome(result_of(status), status=status, wait=wait))
    assert least <= verdict.delay <= max(least, 6)
    assert verdict.pause == pause


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0), ("120", 120), (" 7 ", 7), ("0.2", 1), ("1.5", 2), ("-5", 0), ("soon", 0), ("1e9", 0), ("9" * 400, 0), ("٣", 0),
        ("Mon, 05 Jan 2026 03:02:00 GMT", 120), ("Mon, 05 Jan 2026 02:00:00 GMT", 0), ("Mon, 99 Jan 2026", 0),
        ("Mon, 05 Jan 2026 10:02:00 +0700", 120), ("Mon, 05 Jan 2026 03:02:00 -0000", 120),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(text: str, seconds: float) -> None:
    assert retry_after({"Retry-After": text}, NOW) == seconds


def test_no_retry_after_is_no_wish() -> None:
    assert retry_after({}, NOW + timedelta(days=1)) == 0


@given(
    st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d\d(:\d\d)? [+-]?\w{1,9}", fullmatch=True)
)
def test_nothing_a_receiver_says_can_break_the_plan(text: str) -> None:
    wait = retry_after({"Retry-After": text}, NOW)
    assert wait >= 0
    assert judge(an_outcome("http_5xx", status=503, wait=wait)).delay <= LONGEST_WAIT
