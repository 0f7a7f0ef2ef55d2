"""Uploads stored at one stroke: the usual batch of sales by two statements, where the rules need nine.

Usual is a batch that follows on what is stored, of sales that nobody has seen yet, of products that exist. Whatever else it is,
the first statement (migration 0018) changes nothing, and batches.py does what it always did; a test holds one against the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cloud.inventory import movements
from cloud.platform import log
from cloud.platform.database import Announcing
from cloud.platform.overlapping import beside
from cloud.platform.statements import packed, packed_numbers
from cloud.sales import bulk
from cloud.sync.watermarks import Move
from gipos.v1.sales_pb2 import SaleStatus
from kernel.ids import new_ids

_SELL = sa.text(
    """
    SELECT * FROM link_sell(
        :tenant_id, :lives, :epochs, :sessions, :firsts, :wanted, :ids, :numbers, :outlet_ids, :till_ids, :channels,
        :customer_ids, :business_dates, :external_ids, :cashiers, :payment_methods, :totals, :bodies, :sold_at, :store_epochs,
        :op_seqs, :device_clocks, :offsets, :uncertainties, :clock_states, :status, :now, :level_outlets, :level_products,
        :level_quantities,
        :movement_ids, :movement_levels, :movement_quantities, :movement_sums, :movement_sales)
    """
)
# The watermarks move in the statement that numbers the events: that is when it is known where they end.
_ADVANCE = log.appending(
    """
    , moved AS (
        SELECT * FROM unnest(CAST(:lives AS text[]), CAST(:epochs AS bigint[]), CAST(:firsts AS bigint[]),
                             CAST(:lasts AS bigint[]), CAST(:seen AS bigint[]), CAST(:marks AS bytea[]))
             AS m (till_id, store_epoch, first_op_seq, last_op_seq, seen_seq, marks)
    ), advanced AS (
        UPDATE till_stores s
        SET op_watermark = m.last_op_seq, log_seq = head.last_seq, seen_seq = greatest(s.seen_seq, m.seen_seq)
        FROM moved m, head WHERE s.tenant_id = :tenant_id AND s.till_id = m.till_id AND s.store_epoch = m.store_epoch
    ), remembered AS (
        INSERT INTO till_batches (tenant_id, till_id, store_epoch, last_op_seq, first_op_seq, log_seq, marks)
        SELECT :tenant_id, m.till_id, m.store_epoch, m.last_op_seq, m.first_op_seq, head.last_seq, m.marks FROM moved m, head
        ON CONFLICT DO NOTHING
    )
    """
)


async def sell(
    tx: Announcing, moves: Sequence[Move], sessions: Mapping[tuple[str, int], int], sold: Sequence[bulk.Recorded]
) -> bool:
    """Stores sales and their effects, and moves the watermarks when the transaction ends. False: nothing was changed.

    Args:
        tx: The transaction.
        moves: How far each life of a till comes by it, all of them of one outlet.
        sessions: By till and store epoch.
        sold: The sales.
    """
    bodies = bulk.bodies(tx.now, sold)
    taken = bulk.taken(sold)
    places = {key: place for place, key in enumerate(taken.sums, 1)}
    selling = tx.run(
        _SELL,
        tenant_id=tx.tenant_id,
        lives=[move.till_id for move in moves],
        epochs=[move.epoch for move in moves],
        sessions=[sessions[move.till_id, move.epoch] for move in moves],
        firsts=[move.first for move in moves],
        wanted=packed(list({product_id for _, product_id in taken.sums})),
        status=SaleStatus.SALE_STATUS_COMPLETED,
        now=tx.now,
        **bulk.columns(sold),
        bodies=bodies,
        level_outlets=packed([outlet_id for outlet_id, _ in taken.sums]),
        level_products=packed([product_id for _, product_id in taken.sums]),
        level_quantities=packed_numbers(taken.sums.values()),
        movement_ids=packed(new_ids("mov", len(taken.keys))),
        movement_levels=packed_numbers([places[key] for key in taken.keys]),
        movement_quantities=packed_numbers(taken.quantities),
        movement_sums=packed_numbers(taken.running),
        movement_sales=packed(taken.sale_ids),
    )
    # Nearly always they are stored: what they announce is made meanwhile.
    rows, events = await beside(selling, bulk.announced(sold, bodies))
    if not rows:
        return False
    tx.listens = rows[0][5]
    tx.events += events
    tx.events += await movements.announced(tx, [(*row[:5], tx.now) for row in rows])
    tx.along = log.Along(moves[0].outlet_id, _ADVANCE, _advance(moves))
    return True


def _advance(moves: Sequence[Move]) -> dict[str, Any]:
    return {
        "lives": [move.till_id for move in moves],
        "epochs": [move.epoch for move in moves],
        "firsts": [move.first for move in moves],
        "lasts": [move.last for move in moves],
        "seen": [move.seen_seq for move in moves],
        "marks": [move.marks for move in moves],
    }
