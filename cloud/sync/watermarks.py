"""How far each life of a till is, and which operations its numbers belong to. Locks the till first, the lanes' counters last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cloud.platform import log
from cloud.platform.database import Announcing
from kernel.errors import PermissionDenied, TillChanged, TillRevoked

MARK = 8
"""Bytes of a hash that stand for an op_id."""
KEPT = 2_000
"""Numbers of a life whose operations are remembered at least: all that a till can send again before it is told, and more."""
TRIM_EVERY = 1_000

# The device rows are locked in the order of their ids, the first lock of every upload.
_LOCK = sa.text(
    """
    SELECT l.till_id, l.session, t.state FROM till_links l JOIN tills t ON t.tenant_id = l.tenant_id AND t.id = l.till_id
    WHERE l.tenant_id = :tenant_id AND l.till_id = ANY(CAST(:till_ids AS text[]))
    ORDER BY l.till_id FOR UPDATE OF l
    """
)
# Read after the lock: what another upload of the till has just committed must be seen.
_STORES = sa.text(
    """
    SELECT s.till_id, s.store_epoch, s.op_watermark FROM till_stores s
    JOIN unnest(CAST(:till_ids AS text[]), CAST(:epochs AS bigint[])) AS w (till_id, store_epoch)
         ON w.till_id = s.till_id AND w.store_epoch = s.store_epoch
    WHERE s.tenant_id = :tenant_id
    """
)
_MARKS = sa.text(
    """
    SELECT first_op_seq, marks FROM till_batches
    WHERE tenant_id = :tenant_id AND till_id = :till_id AND store_epoch = :epoch
      AND last_op_seq >= :first AND first_op_seq <= :last
    """
)
_HEADS = sa.text(
    """
    SELECT lane, last_seq FROM log_heads WHERE tenant_id = :tenant_id AND lane = ANY(CAST(:lanes AS text[]))
    ORDER BY lane FOR UPDATE
    """
)
_ADD_LANE = sa.text("INSERT INTO log_heads (tenant_id, lane) VALUES (:tenant_id, :lane) ON CONFLICT DO NOTHING")
_ADVANCE = sa.text(
    """
    WITH moved AS (
        SELECT * FROM unnest(CAST(:till_ids AS text[]), CAST(:epochs AS bigint[]), CAST(:firsts AS bigint[]),
                             CAST(:lasts AS bigint[]), CAST(:log_seqs AS bigint[]), CAST(:seen AS bigint[]),
                             CAST(:marks AS bytea[]))
             AS m (till_id, store_epoch, first_op_seq, last_op_seq, log_seq, seen_seq, marks)
    ), advanced AS (
        UPDATE till_stores s SET op_watermark = m.last_op_seq, log_seq = m.log_seq, seen_seq = greatest(s.seen_seq, m.seen_seq)
        FROM moved m WHERE s.tenant_id = :tenant_id AND s.till_id = m.till_id AND s.store_epoch = m.store_epoch
    )
    INSERT INTO till_batches (tenant_id, till_id, store_epoch, last_op_seq, first_op_seq, log_seq, marks)
    SELECT :tenant_id, m.till_id, m.store_epoch, m.last_op_seq, m.first_op_seq, m.log_seq, m.marks FROM moved m
    ON CONFLICT DO NOTHING
    """
)
# A count needs to know what the till had uploaded when it saw what it saw: the newest batch it had seen stays, and all after it.
_TRIM = sa.text(
    """
    DELETE FROM till_batches
    WHERE tenant_id = :tenant_id AND till_id = :till_id AND store_epoch = :epoch AND last_op_seq <= :upto
      AND (CAST(:seen AS bigint) = 0 OR log_seq < (
          SELECT max(b.log_seq) FROM till_batches b
          WHERE b.tenant_id = :tenant_id AND b.till_id = :till_id AND b.store_epoch = :epoch AND b.log_seq <= :seen))
    """
)


def mark(op_id: str) -> bytes:
    """What stands for an op_id."""
    return hashlib.blake2b(op_id.encode(), digest_size=MARK).digest()


@dataclass(slots=True)
class Standing:
    """Where a life of a till stands, within a transaction that has locked the till."""

    session: int
    state: str
    watermark: int


def check(standing: Standing | None, session: int) -> None:
    """Refuses what a till may not upload now.

    Raises:
        PermissionDenied: a newer session of the till has taken over.
        TillRevoked: the till was locked out.
        TillChanged: the till is suspended and keeps what it has, or the cloud was restored meanwhile.
    """
    if standing is None or standing.session < session:
        # Fewer links than there were: the database was put back to a backup while this one was open.
        raise TillChanged("The cloud was restored from a backup. Say hello again; what is missing is asked for.")
    if standing.session != session:
        raise PermissionDenied(
            "Another session of this till has taken over. Only one tablet may use a device token.", cause="session"
        )
    if standing.state == "revoked":
        raise TillRevoked("This till was locked out. What it has not uploaded stays on the tablet.")
    if standing.state == "suspended":
        raise TillChanged("This till is suspended: it receives, and keeps its sales until it is active again.")


async def lock(tx: Announcing, lives: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Standing]:
    """Locks tills and says where these lives of theirs (till and store epoch) stand."""
    wanted = sorted(set(lives))
    links = {row[0]: row for row in await tx.run(_LOCK, tenant_id=tx.tenant_id, till_ids=sorted({till for till, _ in wanted}))}
    rows = await tx.run(
        _STORES, tenant_id=tx.tenant_id, till_ids=[till for till, _ in wanted], epochs=[epoch for _, epoch in wanted]
    )
    return {
        (till, epoch): Standing(links[till][1], links[till][2], watermark) for till, epoch, watermark in rows if till in links
    }


async def strangers(
    tx: Announcing, till_id: str, epoch: int, sent: Sequence[tuple[int, str]], doubted: range = range(0)
) -> list[int]:
    """Of operations (number and op_id) that have numbers of stored ones those that are others, by number.

    What is no longer remembered is taken to be another where that is in doubt; else the till was told of it, and it is the same.
    """
    if not sent:
        return []
    rows = await tx.run(_MARKS, tenant_id=tx.tenant_id, till_id=till_id, epoch=epoch, first=sent[0][0], last=sent[-1][0])
    known = {
        first + place: marks[place * MARK : (place + 1) * MARK] for first, marks in rows for place in range(len(marks) // MARK)
    }
    return [number for number, op_id in sent if (known[number] != mark(op_id) if number in known else number in doubted)]


@dataclass(slots=True)
class Move:
    """What a till has uploaded in a transaction."""

    till_id: str
    epoch: int
    outlet_id: str
    first: int
    last: int
    seen_seq: int
    marks: bytes


async def advance(tx: Announcing, moves: Sequence[Move]) -> dict[tuple[str, int], int]:
    """Moves watermarks to where this transaction's events will end; where that is, by till and store epoch.

    Call it when all events of the outlets are published.

    The lanes' counters are locked here and not at the very end, because the till's row must name the position it moves to.
    """
    ahead: dict[str, int] = {move.outlet_id: 0 for move in moves}
    for event in tx.events:
        if event.lane in ahead:
            ahead[event.lane] += 1
    lanes = sorted({*ahead, *(event.lane for event in tx.events if event.lane != log.TENANT_LANE)})
    rows = await tx.run(_HEADS, tenant_id=tx.tenant_id, lanes=lanes)
    heads = {row[0]: row[1] for row in rows}
    for lane in lanes:
        if lane not in heads:  # an outlet that is not known: the sale is stored all the same
            await tx.run(_ADD_LANE, tenant_id=tx.tenant_id, lane=lane)
            heads[lane] = 0
    reached = [heads[move.outlet_id] + ahead[move.outlet_id] for move in moves]
    await tx.run(
        _ADVANCE,
        tenant_id=tx.tenant_id,
        till_ids=[move.till_id for move in moves],
        epochs=[move.epoch for move in moves],
        firsts=[move.first for move in moves],
        lasts=[move.last for move in moves],
        log_seqs=reached,
        seen=[move.seen_seq for move in moves],
        marks=[move.marks for move in moves],
    )
    return {(move.till_id, move.epoch): place for move, place in zip(moves, reached, strict=True)}


async def trim(tx: Announcing, moves: Sequence[Move]) -> None:
    """Forgets batches nobody will ask for any more."""
    for move in moves:
        if move.first // TRIM_EVERY != (move.last + 1) // TRIM_EVERY:
            place = {"tenant_id": tx.tenant_id, "till_id": move.till_id, "epoch": move.epoch}
            await tx.run(_TRIM, **place, upto=move.last - KEPT, seen=move.seen_seq)
