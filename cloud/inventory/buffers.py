"""What is held back from online channels while tills of an outlet are silent: they go on selling, and the cloud does not see it.

Worked out whenever somebody asks, from the last contact and from what usually sells; nothing is stored, so nothing can be stale.
Counter sales are never affected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isqrt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.inventory import movements
from cloud.tills import policies, presences
from gipos.v1.inventory_pb2 import Level
from kernel import business_days, quantities

LOOK_BACK = timedelta(days=28)
"""Whose sales say what usually sells."""
SHORTEST = timedelta(days=7)
"""A product that is newer than this is taken to sell over so long: one sale on its first day is no rate."""
SAMPLE = 500
"""Movements of a product that are looked at; of one that moves more, the span they cover is shorter."""

SILENT = sa.text(
    """
    SELECT p.tenant_id, t.outlet_id, min(coalesce(p.drained_at, p.since_at)) AS since,
           coalesce(max(o.longest_hours), :hours) AS hours
    FROM till_presences p JOIN tills t ON t.tenant_id = p.tenant_id AND t.id = p.till_id
    LEFT JOIN offline_policies o ON o.tenant_id = t.tenant_id AND o.outlet_id = t.outlet_id
    WHERE (p.tenant_id = :tenant_id OR :tenant_id = '') AND t.state = 'active'
      AND coalesce(p.drained_at, p.since_at)
          < :now - CASE WHEN p.is_online AND p.waiting_operations = 0 THEN :believed ELSE :grace END
    GROUP BY p.tenant_id, t.outlet_id
    """
).bindparams(
    sa.bindparam("now", type_=sa.TIMESTAMP(timezone=True)),
    sa.bindparam("believed", type_=sa.Interval()),
    sa.bindparam("grace", type_=sa.Interval()),
)
_SOLD = sa.text(
    """
    SELECT given.outlet_id, given.product_id, CAST(coalesce(m.sold, 0) AS bigint) AS sold, m.number, m.oldest, m.latest_sale
    FROM unnest(CAST(:outlet_ids AS text[]), CAST(:product_ids AS text[])) AS given (outlet_id, product_id) CROSS JOIN LATERAL (
        SELECT -sum(k.quantity) FILTER (WHERE k.is_sale) AS sold, count(*) AS number, min(k.created_at) AS oldest,
               max(k.created_at) FILTER (WHERE k.is_sale) AS latest_sale
        FROM (
            SELECT l.quantity, l.created_at,
                   l.outlet_id = given.outlet_id AND l.reason = :sale AND l.created_at >= :since AS is_sale
            FROM movements l WHERE l.tenant_id = :tenant_id AND l.product_id = given.product_id ORDER BY l.id DESC LIMIT :sample
        ) AS k
    ) AS m
    """
)


@dataclass(frozen=True)
class Rules:
    """What can be set. Quantities are in thousandths."""

    floor: int = 1000
    """Held back at least, of everything there is, as long as a till is silent."""
    grace: timedelta = timedelta(seconds=60)
    """A silence that is shorter than this is none."""
    low_cover: timedelta = timedelta(days=14)
    """Past the time a till may sell offline, everything is withheld of what would be sold out within this."""
    low_stock: int = 5000
    """And of what there is no more of than this."""


class _Configured:
    """The rules of this process. The usual ones until the composition root gives others."""

    rules = Rules()


def configure(rules: Rules) -> None:
    """Sets the rules. Called once, by the composition root."""
    _Configured.rules = rules


@dataclass(frozen=True)
class Silence:
    """An outlet of which the cloud does not know everything."""

    since: datetime
    """When the till that is silent longest was last known to have nothing left to upload."""
    limit: timedelta
    """How long the outlet's tills may sell offline."""


@dataclass(frozen=True)
class Rate:
    """So much was sold, in thousandths, over so long."""

    sold: int
    over: timedelta


def held_back(on_hand: int, rate: Rate, silent: timedelta, limit: timedelta, rules: Rules) -> int:
    """How much of what is on hand is not promised online, in thousandths.

    The forecast is what is sold in the time of silence on average plus two standard deviations, as if single pieces were bought
    independently of each other: 98 times of 100 no more than this was sold unseen.
    """
    if on_hand <= 0 or silent < rules.grace:
        return 0
    seconds, over = int(silent.total_seconds()), max(int(rate.over.total_seconds()), 1)
    sold = max(rate.sold, 0)
    if silent >= limit and (on_hand <= rules.low_stock or on_hand * over < sold * int(rules.low_cover.total_seconds())):
        return on_hand
    expected = -(-sold * seconds // over)
    return min(on_hand, max(expected + 2 * isqrt(1000 * expected), rules.floor))


def rate_of(
    sold: int, number: int, oldest: datetime | None, latest_sale: datetime | None, since: datetime, now: datetime
) -> Rate:
    """How fast a product sells, from its last movements: of so many, the oldest and the latest sale.

    Time in which nothing could arrive does not count: it would make a shop look slow because it is silent.
    """
    if oldest is None:
        return Rate(0, LOOK_BACK)
    until = now if latest_sale is not None and latest_sale > since else min(since, now)
    over = until - max(oldest, now - LOOK_BACK)
    return Rate(sold, max(over, SHORTEST if number < SAMPLE else timedelta(hours=1)))


def available_online(on_hand: int, reserved: int, buffer: int) -> int:
    """What may still be promised online."""
    return max(on_hand - reserved - buffer, 0)


async def silences(connection: AsyncConnection, tenant_id: str, now: datetime) -> dict[str, Silence]:
    """The outlets of a merchant that have silent tills."""
    rows = await connection.execute(SILENT, parameters(now) | {"tenant_id": tenant_id})
    return {row.outlet_id: Silence(row.since, timedelta(hours=row.hours)) for row in rows}


def parameters(now: datetime) -> dict[str, Any]:
    """Of SILENT, but for the tenant: an empty one asks for all, where the caller may see all."""
    grace = _Configured.rules.grace
    return {"now": now, "hours": policies.LONGEST_HOURS, "believed": max(presences.BELIEVED, grace), "grace": grace}


async def of(
    connection: AsyncConnection, tenant_id: str, on_hand: Mapping[tuple[str, str], int], now: datetime
) -> dict[tuple[str, str], int]:
    """What is held back of levels, by outlet and product, in thousandths; levels of outlets that are not silent are left out."""
    silent = await silences(connection, tenant_id, now)
    return await of_silent(connection, tenant_id, {key: there for key, there in on_hand.items() if key[0] in silent}, silent, now)


async def of_silent(
    connection: AsyncConnection,
    tenant_id: str,
    on_hand: Mapping[tuple[str, str], int],
    silent: Mapping[str, Silence],
    now: datetime,
) -> dict[tuple[str, str], int]:
    """As `of`, for levels of outlets that are known to be silent."""
    found = await rates(connection, tenant_id, [key for key, there in on_hand.items() if there > 0], silent, now)
    return by_rates(on_hand, found, silent, now)


def by_rates(
    on_hand: Mapping[tuple[str, str], int], found: Mapping[tuple[str, str], Rate], silent: Mapping[str, Silence], now: datetime
) -> dict[tuple[str, str], int]:
    """As `of_silent`, for whom it is known how fast they sell."""
    rules = _Configured.rules
    return {
        (outlet_id, product_id): held_back(
            on_hand[outlet_id, product_id], rate, now - silent[outlet_id].since, silent[outlet_id].limit, rules
        )
        for (outlet_id, product_id), rate in found.items()
    }


async def rates(
    connection: AsyncConnection, tenant_id: str, keys: Collection[tuple[str, str]], silent: Mapping[str, Silence], now: datetime
) -> dict[tuple[str, str], Rate]:
    """How fast products sell in outlets that are silent: by outlet and product. It reads some hundred movements of each."""
    if not keys:
        return {}
    parameters = {
        "tenant_id": tenant_id,
        "outlet_ids": [outlet_id for outlet_id, _ in keys],
        "product_ids": [product_id for _, product_id in keys],
        "sale": movements.SALE,
        "since": now - LOOK_BACK,
        "sample": SAMPLE,
    }
    return {
        (row.outlet_id, row.product_id): rate_of(
            row.sold, row.number, row.oldest, row.latest_sale, silent[row.outlet_id].since, now
        )
        for row in await connection.execute(_SOLD, parameters)
    }


async def shown(connection: AsyncConnection, tenant_id: str, rows: Sequence[Any]) -> list[Level]:
    """Rows of levels as callers see them, with what is held back at this moment."""
    buffers = await of(connection, tenant_id, {(row.outlet_id, row.product_id): row.on_hand for row in rows}, business_days.now())
    return [with_buffer(row, buffers.get((row.outlet_id, row.product_id), 0)) for row in rows]


def with_buffer(row: Any, buffer: int) -> Level:
    """A row of levels with what is held back of it."""
    level = movements.to_level(row)
    level.buffer = quantities.text(buffer)
    level.available_online = quantities.text(available_online(row.on_hand, row.reserved, buffer))
    return level
