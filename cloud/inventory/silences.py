"""Tells online channels when what they may promise changes because an outlet has gone silent, or is back.

Keeps no buffer, only what was told, so that it is told once. It looks often at first and ever more seldom, because what may be
sold unseen grows with the time: at a silence of an hour every six minutes. Such news is for channels, not for tills: it goes into
the merchant's lane of the log, and tills read levels in the outlet's. How fast things sell is read once an hour: what could
change it does not arrive while the outlet is silent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from cloud.inventory import buffers
from cloud.inventory.buffers import Rate, Silence
from cloud.platform import log
from cloud.platform.database import Database, Transaction
from cloud.platform.jobs import DATABASE_ERRORS
from kernel import business_days
from kernel.errors import GiposError
from kernel.event_types import INVENTORY_UPDATED
from kernel.ids import new_ids

SOONEST = timedelta(seconds=60)
"""A level is announced at most once in so long."""
PATIENCE = 10
"""A silence is looked at again after this part of its length."""
STEP = 10
"""A change of what may be promised is worth telling from this part of it on, or when nothing is left, or something again."""
AT_ONCE = 500
"""Levels announced in one transaction; the others follow with the next look."""
RATES_KEPT = timedelta(hours=1)
"""So long what was read of how fast products sell serves a silence. Other tills of the outlet may be selling meanwhile."""

# What there is to do: outlets that are silent and were not looked at lately, and outlets that were and are not any more.
_DUE = sa.text(
    f"""
    WITH silent AS ({buffers.SILENT.text})
    SELECT coalesce(q.tenant_id, s.tenant_id) AS tenant_id, coalesce(q.outlet_id, s.outlet_id) AS outlet_id
    FROM silent q FULL JOIN outlet_silences s ON s.tenant_id = q.tenant_id AND s.outlet_id = q.outlet_id
    WHERE s.next_at IS NULL OR s.next_at <= :now OR q.outlet_id IS NULL
    """  # noqa: S608 (a constant of ours)
).bindparams(
    sa.bindparam("now", type_=sa.TIMESTAMP(timezone=True)),
    sa.bindparam("believed", type_=sa.Interval()),
    sa.bindparam("grace", type_=sa.Interval()),
)
_BEGIN = sa.text(
    """
    INSERT INTO outlet_silences (tenant_id, outlet_id, silent_since, next_at) VALUES (:tenant_id, :outlet_id, :since, :now)
    ON CONFLICT DO NOTHING
    """
)
# Whoever does not get the row leaves the outlet to the process that has it.
_TURN = sa.text(
    """
    SELECT next_at FROM outlet_silences WHERE tenant_id = :tenant_id AND outlet_id = :outlet_id FOR UPDATE SKIP LOCKED
    """
)
_AGAIN = sa.text(
    """
    UPDATE outlet_silences SET silent_since = :since, next_at = :next_at WHERE tenant_id = :tenant_id AND outlet_id = :outlet_id
    """
)
_END = sa.text("DELETE FROM outlet_silences WHERE tenant_id = :tenant_id AND outlet_id = :outlet_id")
_LEVELS = sa.text(
    """
    SELECT l.outlet_id, l.product_id, l.on_hand, l.reserved, l.version, l.updated_at, coalesce(b.buffer, 0) AS told, b.told_at
    FROM levels l LEFT JOIN told_buffers b
      ON b.tenant_id = l.tenant_id AND b.outlet_id = l.outlet_id AND b.product_id = l.product_id
    WHERE l.tenant_id = :tenant_id AND l.outlet_id = :outlet_id AND (b.buffer > 0 OR (:is_silent AND l.on_hand > 0))
    ORDER BY l.product_id
    """
)
_TOLD = sa.text(
    """
    INSERT INTO told_buffers (tenant_id, outlet_id, product_id, buffer, told_at)
    SELECT :tenant_id, :outlet_id, d.product_id, d.buffer, :now
    FROM unnest(CAST(:product_ids AS text[]), CAST(:buffers AS bigint[])) AS d (product_id, buffer)
    ON CONFLICT (tenant_id, outlet_id, product_id) DO UPDATE SET buffer = excluded.buffer, told_at = excluded.told_at
    """
)
_FORGET = sa.text("DELETE FROM told_buffers WHERE tenant_id = :tenant_id AND outlet_id = :outlet_id AND buffer = 0")

logger = structlog.get_logger()


@dataclass(frozen=True)
class _Read:
    """How fast the products of a silent outlet sell."""

    since: datetime
    """Of the silence."""
    at: datetime
    rates: dict[tuple[str, str], Rate] = field(default_factory=dict)


_Memory = dict[tuple[str, str], _Read]
"""By merchant and outlet. It is of one process, which may be another one at the next look: then it is read once more."""
_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()


def is_worth_telling(before: int, after: int) -> bool:
    """Whether a channel should hear that it may promise so much and no longer so much, in thousandths."""
    if before == after:
        return False
    return min(before, after) == 0 or abs(after - before) * STEP >= before


def next_look(silent: timedelta) -> timedelta:
    """How long until a silence of this length is looked at again."""
    return max(SOONEST, silent / PATIENCE)


async def tell(database: Database) -> int:
    """Looks at every outlet that is due and announces what changed for online channels; how many levels that were."""
    now = business_days.now()
    async with database.across_tenants() as connection:
        due = (await connection.execute(_DUE, buffers.parameters(now) | {"tenant_id": ""})).all()
    memory = _memories.setdefault(database, {})
    for place in [place for place, read in memory.items() if now - read.at >= RATES_KEPT]:
        del memory[place]
    count = 0
    for tenant_id, outlet_id in due:
        try:
            async with database.transaction(tenant_id) as tx:
                count += await _look(tx, outlet_id, memory)
        except (GiposError, *DATABASE_ERRORS) as error:
            # One merchant's trouble must not silence the others; the next turn tries again.
            logger.warning("buffers_not_told", tenant_id=tenant_id, outlet_id=outlet_id, error=repr(error))
    return count


async def _look(tx: Transaction, outlet_id: str, memory: _Memory) -> int:
    silence = (await buffers.silences(tx.connection, tx.tenant_id, tx.now)).get(outlet_id)
    place = {"tenant_id": tx.tenant_id, "outlet_id": outlet_id}
    if silence is not None:
        await tx.run(_BEGIN, **place, since=silence.since, now=tx.now)
    turn = (await tx.run(_TURN, **place)).one_or_none()
    if turn is None or (silence is not None and turn.next_at > tx.now):
        return 0
    rows = (await tx.run(_LEVELS, **place, is_silent=silence is not None)).all()
    news, is_more = await _news(tx, outlet_id, rows, silence, memory)
    if news:
        _publish(tx, outlet_id, news)
        product_ids, told = [row.product_id for row, _ in news], [buffer for _, buffer in news]
        await tx.run(_TOLD, **place, product_ids=product_ids, buffers=told, now=tx.now)
    if silence is not None:
        next_at = tx.now + (SOONEST if is_more else next_look(tx.now - silence.since))
        await tx.run(_AGAIN, **place, since=silence.since, next_at=next_at)
    elif is_more:
        await tx.run(_AGAIN, **place, since=tx.now, next_at=tx.now + SOONEST)
    else:
        await tx.run(_FORGET, **place)
        await tx.run(_END, **place)
    return len(news)


async def _news(
    tx: Transaction, outlet_id: str, rows: Sequence[Any], silence: Silence | None, memory: _Memory
) -> tuple[list[tuple[Any, int]], bool]:
    """The levels to announce, each with what is held back of it now; and whether there are more."""
    held: dict[tuple[str, str], int] = {}
    if silence is not None:
        on_hand = {(outlet_id, row.product_id): row.on_hand for row in rows}
        known = await _rates(tx, outlet_id, [key for key, there in on_hand.items() if there > 0], silence, memory)
        held = buffers.by_rates(on_hand, known, {outlet_id: silence}, tx.now)
    found: list[tuple[Any, int]] = []
    is_more = False
    for row in rows:
        buffer = held.get((outlet_id, row.product_id), 0)
        before = buffers.available_online(row.on_hand, row.reserved, row.told)
        after = buffers.available_online(row.on_hand, row.reserved, buffer)
        # Once an outlet is back, whatever was told is put right, however little it is.
        if not is_worth_telling(before, after) and (silence is not None or not row.told):
            continue
        if len(found) == AT_ONCE or _is_fresh(row.told_at, tx.now):
            is_more = True
        else:
            found.append((row, buffer))
    return found, is_more


async def _rates(
    tx: Transaction, outlet_id: str, keys: Collection[tuple[str, str]], silence: Silence, memory: _Memory
) -> dict[tuple[str, str], Rate]:
    """How fast these sell; read for those of which that is not known of this silence yet."""
    read = memory.get((tx.tenant_id, outlet_id))
    if read is None or read.since != silence.since:
        read = memory[tx.tenant_id, outlet_id] = _Read(silence.since, tx.now)
    unknown = [key for key in keys if key not in read.rates]
    read.rates.update(await buffers.rates(tx.connection, tx.tenant_id, unknown, {outlet_id: silence}, tx.now))
    return {key: read.rates[key] for key in keys}


def _is_fresh(told_at: datetime | None, now: datetime) -> bool:
    return told_at is not None and now - told_at < SOONEST


def _publish(tx: Transaction, outlet_id: str, news: Sequence[tuple[Any, int]]) -> None:
    for event_id, (row, buffer) in zip(new_ids("evt", len(news)), news, strict=True):
        body = buffers.with_buffer(row, buffer).SerializeToString()
        name, lane = INVENTORY_UPDATED.name, log.TENANT_LANE
        tx.events.append(log.NewEvent(event_id, lane, name, row.product_id, row.version, outlet_id, body, tx.now))
