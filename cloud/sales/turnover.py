"""What was sold on a day, summed by outlet and hour, and the latest sales: for screens that then follow the log themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.sales.tables import sales
from gipos.v1.sales_pb2 import Sale, SaleStatus

_COLUMN = sales.c
_SUMS = sa.text(
    """
    SELECT s.outlet_id, to_char(s.sold_at AT TIME ZONE o.time_zone, 'HH24') AS hour, count(*), least(sum(s.total), 9e18)::bigint
    FROM unnest(CAST(:outlet_ids AS text[]), CAST(:days AS date[]), CAST(:time_zones AS text[])) AS o (outlet_id, day, time_zone)
    JOIN sales s ON s.tenant_id = :tenant_id AND s.business_date = o.day AND s.outlet_id = o.outlet_id
    GROUP BY s.outlet_id, hour
    """
)


@dataclass(frozen=True)
class Day:
    """A day of an outlet."""

    date: date
    time_zone: str


@dataclass(frozen=True)
class Sums:
    """What was sold."""

    hours: Mapping[str, tuple[int, int]]
    """By hour on the outlet's clock, "00" to "23": how many sales, and what was paid for them."""
    refunded: int


async def of_days(connection: AsyncConnection, tenant_id: str, days: Mapping[str, Day]) -> dict[str, Sums]:
    """The sums of a day of each outlet."""
    hours: dict[str, dict[str, tuple[int, int]]] = {outlet_id: {} for outlet_id in days}
    given = {
        "tenant_id": tenant_id,
        "outlet_ids": list(days),
        "days": [day.date for day in days.values()],
        "time_zones": [day.time_zone for day in days.values()],
    }
    for outlet_id, hour, count, total in await connection.execute(_SUMS, given):
        hours[outlet_id][hour] = (count, total)
    refunded = dict.fromkeys(days, 0)
    # Few: what was given back stands in the sale itself only.
    query = sa.select(_COLUMN.outlet_id, _COLUMN.business_date, _COLUMN.body).where(
        _COLUMN.tenant_id == tenant_id,
        _COLUMN.business_date.in_({day.date for day in days.values()}),
        _COLUMN.status != SaleStatus.SALE_STATUS_COMPLETED,
    )
    for outlet_id, day, body in await connection.execute(query):
        if outlet_id in days and days[outlet_id].date == day:
            refunded[outlet_id] += Sale.FromString(body).refunded_total.amount
    return {outlet_id: Sums(hours[outlet_id], refunded[outlet_id]) for outlet_id in days}


async def latest(connection: AsyncConnection, tenant_id: str, outlet_id: str, limit: int) -> list[Sale]:
    """The last sales of an outlet by the time of the sale, newest first."""
    query = (
        sa.select(_COLUMN.body)
        .where(_COLUMN.tenant_id == tenant_id, _COLUMN.outlet_id == outlet_id)
        .order_by(_COLUMN.sold_at.desc(), _COLUMN.id.desc())
        .limit(limit)
    )
    return [Sale.FromString(row.body) for row in await connection.execute(query)]
