"""How much was used: today from the rows that charges write, the days before from their archive. Reads, and cleans up."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import credential_names
from cloud.limits import plans
from cloud.limits.ledger import ALIVE_SECONDS
from cloud.limits.tables import limit_states, usage_days
from cloud.platform.database import Database
from gipos.v1.usage_pb2 import DayUsage, KeyUsage, Usage
from kernel import business_days

ZONE = ZoneInfo("Asia/Jakarta")
"""Where a day ends for everybody."""
KEPT_DAYS = 400
MOST_KEYS = 100
LEAST_PACE_SECONDS = 900.0
"""A pace is taken over at least so long: the first requests after midnight promise nothing."""


def day_of(moment: datetime) -> date:
    """The day a request at this moment counts for."""
    return moment.astimezone(ZONE).date()


def day_start(day: date) -> datetime:
    """When counting for a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=ZONE)


def exhausted_at(now: datetime, used: int, limit: int) -> datetime | None:
    """When the day's limit is used up at the pace of the day so far; None when it lasts."""
    if used >= limit:
        return now
    start = day_start(day_of(now))
    pace = used / max(LEAST_PACE_SECONDS, (now - start).total_seconds())
    if pace == 0:
        return None
    moment = now + timedelta(seconds=(limit - used) / pace)
    return moment if moment < day_start(day_of(now) + timedelta(days=1)) else None


async def report(connection: AsyncConnection, tenant_id: str, days: int, now: datetime | None = None) -> Usage:
    """The usage of a merchant, with so many days of history, today included.

    Without `now` it is the present moment of the database's clock, which charges are dated by too: with a clock of our own that
    differs by seconds, a merchant who calls at midnight would be told of a day that has not begun or is over.
    """
    plan = await plans.of(connection, tenant_id)
    states = (await connection.execute(sa.select(limit_states).where(limit_states.c.tenant_id == tenant_id))).all()
    if now is None:  # asked after the states, so that none of them is of a later day
        now = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    today = day_of(now)
    whole = next((state for state in states if state.key_id == ""), None)
    is_today = whole is not None and whole.day == today
    used = whole.used if whole is not None and is_today else 0
    usage = Usage(
        plan=plan.name,
        used_today=used,
        requests_per_second=plan.requests_per_second,
        concurrent_limit=plan.concurrent_limit,
        concurrent_now=_running(whole.slots, now) if whole is not None else 0,
        till_messages_today=whole.till_messages if whole is not None and is_today else 0,
    )
    usage.reset_time.FromDatetime(day_start(today + timedelta(days=1)))
    if plan.daily_limit is not None:
        usage.daily_limit = plan.daily_limit
        usage.remaining_today = max(0, plan.daily_limit - used)
        if (moment := exhausted_at(now, used, plan.daily_limit)) is not None:
            usage.exhausted_time.FromDatetime(moment)
    keys = sorted(
        (state for state in states if state.key_id and state.day == today and state.used + state.refused),
        key=lambda state: (-state.used, -state.refused, state.key_id),
    )[:MOST_KEYS]
    names = await credential_names.of(connection, tenant_id, [state.key_id for state in keys])
    usage.keys.extend(
        KeyUsage(key_id=state.key_id, name=names.get(state.key_id, ""), used_today=state.used, refused_today=state.refused)
        for state in keys
    )
    usage.days.extend(await _days(connection, tenant_id, today, days, whole))
    return usage


async def _days(connection: AsyncConnection, tenant_id: str, today: date, count: int, state: Any) -> list[DayUsage]:
    first = today - timedelta(days=count - 1)
    past = sa.select(usage_days).where(usage_days.c.tenant_id == tenant_id, usage_days.c.key_id == "", usage_days.c.day >= first)
    rows = {row.day: row for row in await connection.execute(past)}
    if state is not None:
        rows[state.day] = state  # of a day that is over, when nobody has called since
    found = []
    for back in range(count):
        day = today - timedelta(days=back)
        row = rows.get(day)
        usage = DayUsage(day=day.isoformat())
        if row is not None:
            usage.used, usage.refused, usage.till_messages = row.used, row.refused, row.till_messages
        found.append(usage)
    return found


def _running(slots: dict[str, list[float]], now: datetime) -> int:
    alive = now.timestamp() - ALIVE_SECONDS
    return sum(int(count) for count, told_at in slots.values() if told_at > alive)


async def forget_old(database: Database, now: datetime | None = None) -> int:
    """Removes days beyond 400 before `now` (the present), and states of keys that nobody used for as long; how many rows."""
    oldest = day_of(now or business_days.now()) - timedelta(days=KEPT_DAYS)
    async with database.across_tenants() as connection:
        past = await connection.execute(sa.delete(usage_days).where(usage_days.c.day < oldest))
        idle = await connection.execute(sa.delete(limit_states).where(limit_states.c.day < oldest))
    return past.rowcount + idle.rowcount
