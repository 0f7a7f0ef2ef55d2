"""Methods that go away: the option `gipos.v1.retirement` as the headers Deprecation (RFC 9745), Sunset (RFC 8594) and Link."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime
from typing import Any

from gateway_rest.transcoding.rules import Binding, RuleError
from gipos.v1 import common_pb2

_OVERLAP = dt.timedelta(days=365)


def headers(binding: Binding) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every answer of a binding; none when the method stays.

    Raises:
        RuleError: the option's dates or address cannot be what they should.
    """
    options: Any = binding.rpc.GetOptions()
    if not options.HasExtension(common_pb2.retirement):
        return ()
    retirement: common_pb2.Retirement = options.Extensions[common_pb2.retirement]
    deprecated = _day(binding, "deprecated_on", retirement.deprecated_on)
    result = [(b"deprecation", f"@{int(deprecated.timestamp())}".encode())]
    if retirement.sunset_on:
        sunset = _day(binding, "sunset_on", retirement.sunset_on)
        if sunset - deprecated < _OVERLAP:
            raise RuleError(f"{binding}: sunset_on is less than a year after deprecated_on")
        result.append((b"sunset", format_datetime(sunset, usegmt=True).encode()))
    if retirement.guide:
        if not retirement.guide.startswith("https://") or not retirement.guide.isascii() or {*"<> "} & {*retirement.guide}:
            raise RuleError(f'{binding}: guide "{retirement.guide}" is no https address')
        result.append((b"link", f'<{retirement.guide}>; rel="deprecation"; type="text/html"'.encode()))
    return tuple(result)


def _day(binding: Binding, name: str, text: str) -> dt.datetime:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise RuleError(f'{binding}: {name} "{text}" is no date; write YYYY-MM-DD') from None
    return dt.datetime.combine(day, dt.time(), dt.UTC)
