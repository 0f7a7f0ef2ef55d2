"""Counts of shelves: "there were so many", true when somebody looked, turned into a difference that keeps what others sold since.

What the till showed at that moment is the level at the position it had seen plus its own operations before the count. So the
count says: whatever there is now is wrong by what was counted less that. Counts are facts; at worst they are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cloud.inventory import movements
from cloud.inventory.movements import Change
from cloud.platform import log
from cloud.platform.database import Announcing
from cloud.sync.facts import Counted
from kernel.event_types import INVENTORY_UPDATED
from kernel.ids import PATTERN, new_id

BASE_UNKNOWN = "COUNT_BASE_UNKNOWN"
"""What the till saw is not known: the count was taken as the stock of this moment."""
BASE_COMPACTED = "COUNT_BASE_COMPACTED"
"""The log no longer reaches back to what the till saw: what it says it showed was taken, or else the oldest level there is."""
BASE_RESTORED = "COUNT_BASE_RESTORED"
"""What the till saw was undone by a restore from a backup: what it says it showed was taken, or else what was left of the log."""

_HOLD = sa.text(
    """
    SELECT product_id, on_hand FROM levels
    WHERE tenant_id = :tenant_id AND outlet_id = :outlet_id AND product_id = ANY(CAST(:product_ids AS text[]))
    ORDER BY product_id FOR UPDATE
    """
)
_DONE = sa.text("SELECT id FROM stock_counts WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS text[]))")
_KNOWN = sa.text("SELECT id FROM products WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS text[]))")
_HEAD = sa.text("SELECT floor_seq, last_seq FROM log_heads WHERE tenant_id = :tenant_id AND lane = :lane")
# The level at a position is what the first movement after it found: that of the transaction which announced the next level that
# was moved. Levels are announced without a movement as well: what is promised to online orders changes nothing on the shelf.
_BASES = sa.text(
    """
    WITH announced AS MATERIALIZED (
        SELECT e.subject_id, e.seq, e.occurred_at FROM events e
        WHERE e.tenant_id = :tenant_id AND e.lane = :lane AND e.seq > :seen AND e.type = :type
          AND e.subject_id = ANY(CAST(:product_ids AS text[]))
    ), moved AS MATERIALIZED (
        SELECT DISTINCT ON (m.product_id, m.created_at) m.product_id, m.created_at, m.on_hand_after - m.quantity AS base
        FROM movements m
        WHERE m.tenant_id = :tenant_id AND m.outlet_id = :lane AND m.product_id = ANY(CAST(:product_ids AS text[]))
          AND m.created_at >= (SELECT min(a.occurred_at) FROM announced a)
        ORDER BY m.product_id, m.created_at, m.id
    )
    SELECT DISTINCT ON (a.subject_id) a.subject_id, m.base
    FROM announced a JOIN moved m ON m.product_id = a.subject_id AND m.created_at = a.occurred_at
    ORDER BY a.subject_id, a.seq
    """
)
# The till's own sales and counts that the level at the position did not contain.
_OWN = sa.text(
    """
    WITH contained AS (
        SELECT coalesce(max(b.last_op_seq), 0) AS op_seq FROM till_batches b
        WHERE b.tenant_id = :tenant_id AND b.till_id = :till_id AND b.store_epoch = :epoch AND b.log_seq <= :seen
    )
    SELECT o.product_id, CAST(sum(o.quantity) AS bigint) FROM (
        SELECT m.product_id, m.quantity FROM contained c, movements m
        JOIN sales s ON s.tenant_id = m.tenant_id AND s.id = m.sale_id
        WHERE m.tenant_id = :tenant_id AND m.outlet_id = :lane AND m.product_id = ANY(CAST(:product_ids AS text[]))
          AND m.reason = :sale AND s.till_id = :till_id AND s.store_epoch = :epoch AND s.op_seq > c.op_seq AND s.op_seq < :before
        UNION ALL
        SELECT k.product_id, k.difference FROM contained c, stock_counts k
        WHERE k.tenant_id = :tenant_id AND k.outlet_id = :lane AND k.product_id = ANY(CAST(:product_ids AS text[]))
          AND k.till_id = :till_id AND k.store_epoch = :epoch AND k.op_seq > c.op_seq AND k.op_seq < :before
    ) AS o GROUP BY o.product_id
    """
)
_STORE = sa.text(
    """
    INSERT INTO stock_counts (tenant_id, id, till_id, store_epoch, op_seq, outlet_id, product_id, counted, expected, difference,
                              seen_seq, seen_epoch, review_reasons, note, counted_at, device_clock, clock_offset_ms,
                              clock_uncertainty_ms, clock_state, created_at)
    SELECT :tenant_id, c.id, :till_id, :epoch, c.op_seq, :lane, c.product_id, c.counted, c.expected, c.difference, c.seen_seq,
           c.seen_epoch, string_to_array(c.reasons, ' '), c.note, c.counted_at, c.device_clock, c.clock_offset, c.uncertainty,
           c.clock_state, :now
    FROM unnest(CAST(:ids AS text[]), CAST(:op_seqs AS bigint[]), CAST(:product_ids AS text[]), CAST(:counted AS bigint[]),
                CAST(:expected AS bigint[]), CAST(:differences AS bigint[]), CAST(:seen AS bigint[]),
                CAST(:seen_epochs AS bigint[]), CAST(:reasons AS text[]),
                CAST(:notes AS text[]), CAST(:counted_at AS timestamptz[]), CAST(:device_clocks AS timestamptz[]),
                CAST(:offsets AS bigint[]), CAST(:uncertainties AS bigint[]), CAST(:clock_states AS smallint[]))
         AS c (id, op_seq, product_id, counted, expected, difference, seen_seq, seen_epoch, reasons, note, counted_at,
               device_clock, clock_offset, uncertainty, clock_state)
    """
)


@dataclass(slots=True)
class Taken:
    """A count and the operation it came with."""

    op_seq: int
    op_id: str
    seen_seq: int
    seen_epoch: int
    fact: Counted
    word: int | None = None
    """What the till says it showed, where that is believed because the log does not tell."""

    @property
    def product_id(self) -> str:
        """What was counted."""
        return self.fact.count.product_id


@dataclass(frozen=True)
class Life:
    """Whose counts they are, and where the batch they came in begins."""

    till_id: str
    epoch: int
    outlet_id: str
    first_op_seq: int
    """Own operations from here on are part of the transaction that stores the counts."""


async def hold(tx: Announcing, outlet_id: str, product_ids: Iterable[str]) -> dict[str, int]:
    """Locks the levels of products in their order; how much there is of each, before this transaction changes anything."""
    wanted = sorted(set(product_ids))
    rows = await tx.run(_HOLD, tenant_id=tx.tenant_id, outlet_id=outlet_id, product_ids=wanted)
    return {row[0]: row[1] for row in rows}


async def store(tx: Announcing, life: Life, taken: Sequence[Taken], held: Mapping[str, int]) -> None:
    """Stores counts and corrects the stock. `held` is what `hold` said at the beginning of the transaction.

    A count that is there already is left as it is.
    """
    for each in taken:
        if not PATTERN.fullmatch(each.op_id):
            each.op_id = new_id("cnt")
    ids = [each.op_id for each in taken]
    done = {row[0] for row in await tx.run(_DONE, tenant_id=tx.tenant_id, ids=ids)}
    waiting = [each for each in taken if each.op_id not in done]
    while waiting:
        # Two counts of one product depend on each other: the second is taken after the first.
        round_: dict[str, Taken] = {}
        later: list[Taken] = []
        for each in waiting:
            if each.product_id in round_ or later:
                later.append(each)
            else:
                round_[each.product_id] = each
        await _store(tx, life, list(round_.values()), held)
        waiting = [each for each in later if each.op_id not in {one.op_id for one in round_.values()}]


async def _store(tx: Announcing, life: Life, taken: Sequence[Taken], held: Mapping[str, int]) -> None:
    product_ids = [each.product_id for each in taken]
    now = await hold(tx, life.outlet_id, product_ids)  # with what this transaction has done so far
    known = {row[0] for row in await tx.run(_KNOWN, tenant_id=tx.tenant_id, ids=product_ids)}
    others = await _others(tx, life, taken, held)
    expected = [now.get(each.product_id, 0) - others[each.product_id] if each.word is None else each.word for each in taken]
    differences = [each.fact.quantity - there for each, there in zip(taken, expected, strict=True)]
    for each in taken:
        if each.product_id not in known:
            _mark(each, "PRODUCT_UNKNOWN")
    facts = [each.fact for each in taken]
    await tx.run(
        _STORE,
        tenant_id=tx.tenant_id,
        till_id=life.till_id,
        epoch=life.epoch,
        lane=life.outlet_id,
        now=tx.now,
        ids=[each.op_id for each in taken],
        op_seqs=[each.op_seq for each in taken],
        product_ids=product_ids,
        counted=[fact.quantity for fact in facts],
        expected=expected,
        differences=differences,
        seen=[each.seen_seq for each in taken],
        seen_epochs=[each.seen_epoch for each in taken],
        reasons=[" ".join(fact.review_reasons) for fact in facts],
        notes=[fact.count.note for fact in facts],
        counted_at=[fact.counted_at for fact in facts],
        device_clocks=[fact.clock.device_time for fact in facts],
        offsets=[fact.clock.offset_ms for fact in facts],
        uncertainties=[fact.clock.uncertainty_ms for fact in facts],
        clock_states=[fact.clock.state for fact in facts],
    )
    changes = [
        Change(life.outlet_id, each.product_id, difference, movements.COUNT, note=each.fact.count.note)
        for each, difference in zip(taken, differences, strict=True)
        if difference or each.product_id not in now
    ]
    await movements.apply(tx, changes)


def _mark(taken: Taken, reason: str) -> None:
    """Once, however often storing is begun anew."""
    if reason not in taken.fact.review_reasons:
        taken.fact.review_reasons.append(reason)


async def _others(tx: Announcing, life: Life, taken: Sequence[Taken], held: Mapping[str, int]) -> dict[str, int]:
    """What others have changed since the till looked, by product. Marks the counts of which that is not exactly known."""
    ((floor, last),) = list(await tx.run(_HEAD, tenant_id=tx.tenant_id, lane=life.outlet_id)) or [(1, 0)]
    changed = {each.product_id: 0 for each in taken}
    by_base: dict[int, list[str]] = {}
    undone: dict[int, int | None] = {0: None}
    for each in taken:
        seen = each.seen_seq
        if each.seen_epoch not in undone:
            undone[each.seen_epoch] = await log.shared_upto(tx, tx.tenant_id, life.outlet_id, each.seen_epoch)
        left = undone[each.seen_epoch]
        if seen <= 0 or (left is None and seen > last):
            _mark(each, BASE_UNKNOWN)
            continue
        if left is not None and seen > left:
            _mark(each, BASE_RESTORED)
            each.word, seen = each.fact.shown, left
        if seen < floor - 1:
            _mark(each, BASE_COMPACTED)
            each.word, seen = each.fact.shown, floor - 1
        if each.word is None:
            by_base.setdefault(seen, []).append(each.product_id)
    for seen, product_ids in by_base.items():
        place = {"tenant_id": tx.tenant_id, "lane": life.outlet_id, "seen": seen, "product_ids": product_ids}
        bases = {row[0]: row[1] for row in await tx.run(_BASES, **place, type=INVENTORY_UPDATED.name)}
        if not bases:
            continue
        rows = await tx.run(_OWN, **place, till_id=life.till_id, epoch=life.epoch, before=life.first_op_seq, sale=movements.SALE)
        own = {row[0]: row[1] for row in rows}
        for product_id, base in bases.items():
            changed[product_id] = held.get(product_id, 0) - base - own.get(product_id, 0)
    return changed
