"""Which day a sale counts for. Indonesia has three zones, no daylight saving, and shops that close after midnight."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

TIME_ZONES = {"Asia/Jakarta": "WIB", "Asia/Pontianak": "WIB", "Asia/Makassar": "WITA", "Asia/Jayapura": "WIT"}
"""The zones an outlet may be in, with the letters people know them by."""


def local_time(moment: datetime, time_zone: str) -> datetime:
    """The wall clock in the outlet at this moment (which must carry a zone)."""
    return moment.astimezone(ZoneInfo(time_zone))


def business_date(moment: datetime, time_zone: str, day_cut: timedelta = timedelta(0)) -> date:
    """The day a sale at this moment counts for; before the day cut it is still the day before."""
    return (local_time(moment, time_zone) - day_cut).date()


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)
