"""What an attempt means and what follows from it. Pure: the answer goes in, a verdict comes out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gipos.v1.webhooks_pb2 import DeliveryStatus
from kernel.retry import webhook_delay

LONGEST_WAIT = 86_400.0
"""Seconds. A receiver may ask for more; it does not get it."""
FORBIDDEN_ATTEMPTS = 3
"""A name may lead to a forbidden address for a moment while its owner changes it; not three times."""

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Outcome:
    """One attempt as it went."""

    number: int
    """The first is 1."""
    result: str
    """ "ok", "http_4xx", "http_5xx", "gone", "redirect", "timeout", "connection", "target_forbidden" or "internal"."""
    started_at: datetime
    duration_ms: int
    response_status: int = 0
    response_body: str = ""
    retry_after: float = 0.0
    """Seconds the receiver asks to wait."""
    control: str = ""
    """What the receiver says in `webhook-delivery`: "disable" or "abort-message"."""


@dataclass(frozen=True)
class Verdict:
    """What to do with the delivery and its webhook."""

    status: DeliveryStatus.ValueType
    delay: float = 0.0
    """Seconds until the next attempt, when it is still pending."""
    disable: bool = False
    """Whether the webhook is turned off."""
    pause: float = 0.0
    """Seconds in which nothing at all is sent to the webhook."""


def result_of(status: int) -> str:
    """The class of an HTTP status."""
    if 200 <= status < 300:
        return "ok"
    if status == 410:
        return "gone"
    if 300 <= status < 400:
        return "redirect"  # never followed: it would lead past the checks of the address
    return "http_4xx" if 400 <= status < 500 else "http_5xx"


def retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds that Retry-After asks to wait (RFC 9110, 10.2.3: seconds or a date); 0 when it says nothing readable."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(math.ceil(float(text)))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, math.ceil((moment - now).total_seconds()))


def judge(outcome: Outcome) -> Verdict:
    """What follows from an attempt."""
    if outcome.result == "ok":
        return Verdict(DeliveryStatus.DELIVERY_STATUS_SUCCEEDED, disable=outcome.control == "disable")
    hopeless = outcome.result == "target_forbidden" and outcome.number >= FORBIDDEN_ATTEMPTS
    if outcome.result == "gone" or outcome.control == "disable" or hopeless:
        return Verdict(DeliveryStatus.DELIVERY_STATUS_FAILED, disable=True)
    asked = min(outcome.retry_after, LONGEST_WAIT)
    pause = asked if outcome.response_status in (429, 503) else 0.0
    planned = webhook_delay(outcome.number)
    if planned is None or outcome.control == "abort-message":
        return Verdict(DeliveryStatus.DELIVERY_STATUS_FAILED, pause=pause)
    return Verdict(DeliveryStatus.DELIVERY_STATUS_PENDING, delay=max(planned, asked), pause=pause)
