"""Storing uploads: one transaction for the batches of several tills, or of one whose operations need a closer look.

What an operation does and the watermark that says it is done commit together. Everything is locked in this order: the tills'
rows, the levels, the lanes' counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from cloud.catalog import edits
from cloud.platform import trail
from cloud.platform.calls import Call
from cloud.platform.database import Announcing, SharedTransaction, Transaction
from cloud.sales import bulk
from cloud.sync import counts, forks, quarantine, strokes, watermarks
from cloud.sync.counts import Life, Taken
from cloud.sync.facts import Counted, Edited, Fact, Item, Place, Poison, Sold
from cloud.sync.troubles import NOT_STORABLE, in_one_line, is_bad_data, of_rules, said
from cloud.sync.watermarks import Move, Standing
from gipos.edge.v1.link_pb2 import Operation, Quarantined
from gipos.v1.sales_pb2 import Sale
from kernel.errors import GiposError, Invalid, NotFound, TillChanged, Violation
from kernel.ids import PATTERN

MOST_SAID = 5
"""Of what is wrong with a change of a product; who mends it learns the rest then."""
_TAKEN_ID = "sales_external_id"
_SAVE, _KEEP, _UNDO = sa.text("SAVEPOINT part"), sa.text("RELEASE SAVEPOINT part"), sa.text("ROLLBACK TO SAVEPOINT part")
_SAVE_EDIT, _KEEP_EDIT = sa.text("SAVEPOINT edit"), sa.text("RELEASE SAVEPOINT edit")
_UNDO_EDIT = sa.text("ROLLBACK TO SAVEPOINT edit")
logger = structlog.get_logger()


@dataclass(slots=True)
class Batch:
    """What a till sent."""

    place: Place
    session: int
    epoch: int
    items: Sequence[Item]
    call: Call | None = None
    """For the audit trail."""
    is_old: bool = False
    """The till is of a version that knows nothing of new lives."""
    doubted: range = range(0)
    """Numbers that were stored before the till said hello and that it was not told of: its own only if their marks say so."""

    @property
    def life(self) -> tuple[str, int]:
        """Whose numbers they are."""
        return self.place.till_id, self.epoch

    @property
    def is_plain(self) -> bool:
        """Whether it may share a transaction: sales only."""
        return all(isinstance(item.fact, Sold) for item in self.items)


@dataclass(frozen=True)
class Outcome:
    """What became of a batch."""

    op_watermark: int
    expected_op_seq: int = 0
    """Not 0 when the batch left a gap: where the till must go on."""
    quarantined: Sequence[Quarantined] = field(default_factory=tuple)
    log_seq: int = 0
    """The position of its last effect in the lane of the till's outlet, where exactly this watermark stands; 0 if that is not
    known."""


@dataclass(slots=True)
class _Part:
    """What of a batch is new."""

    batch: Batch
    fresh: Sequence[Item]
    last: int
    """The watermark once they are stored."""
    strays: Sequence[Item] = ()
    """Operations of a second tablet, under numbers that are taken."""

    @property
    def ids(self) -> list[str]:
        """For the audit trail: the sales."""
        return [item.operation.sale_recorded.id for item in (*self.strays, *self.fresh)]


def _admit(batch: Batch, standing: Standing | None) -> _Part | Outcome | GiposError:
    """What of a batch is to be stored, or why nothing is. Moves the standing, so that the next batch of the till follows on."""
    try:
        watermarks.check(standing, batch.session)
    except GiposError as error:
        return error
    assert standing is not None
    numbers = [item.operation.op_seq for item in batch.items]
    if min(numbers, default=1) < 1:
        # It would be below every watermark: answered as stored, and nowhere.
        return Invalid([Violation("operations.op_seq", "OUT_OF_RANGE", "op_seq must be at least 1: a life counts from there.")])
    fresh = [item for item in batch.items if item.operation.op_seq > standing.watermark]
    if not fresh:
        # No further than what was sent: of what is stored above, nobody has seen yet whether it is this tablet's.
        return Outcome(min(standing.watermark, max(numbers, default=0)))
    for place, item in enumerate(fresh):
        if item.operation.op_seq != standing.watermark + 1 + place:
            return Outcome(standing.watermark, expected_op_seq=standing.watermark + 1)
    standing.watermark = fresh[-1].operation.op_seq
    return _Part(batch, fresh, standing.watermark)


async def _seen_again(tx: Announcing, batch: Batch, standing: Standing | None) -> tuple[list[Item], list[Quarantined]]:
    """Of what is stored already: operations of a second tablet under these numbers, and which were put aside."""
    sent = [item for item in batch.items if standing is not None and item.operation.op_seq <= standing.watermark]
    if not sent:
        return [], []
    till_id, epoch = batch.life
    numbers = [(item.operation.op_seq, item.operation.op_id) for item in sent]
    others = set(await watermarks.strangers(tx, till_id, epoch, sorted(numbers), batch.doubted))
    aside = await quarantine.told_again(tx, till_id, epoch, [number for number, _ in numbers if number not in others])
    return [item for item in sent if item.operation.op_seq in others], aside


Answer = Outcome | GiposError | None
"""None for a batch that has to be looked at alone."""


async def together(tx: SharedTransaction, batches: Sequence[Batch]) -> list[Answer]:
    """Stores plain batches of one or several tills; None for one that has to be looked at alone.

    Raises:
        Whatever the database says: then nothing of it has happened.
    """
    if (usual := await _at_one_stroke(tx, batches)) is not None:
        return usual
    standings = await watermarks.lock(tx, [batch.life for batch in batches])
    answers: list[Answer] = []
    parts: list[_Part] = []
    left_alone: set[tuple[str, int]] = set()
    for batch in batches:
        standing = standings.get(batch.life)
        strangers, aside = await _seen_again(tx, batch, standing) if batch.life not in left_alone else ([], [])
        if strangers or batch.life in left_alone:
            left_alone.add(batch.life)
            answers.append(None)
            continue
        admitted = _admit(batch, standing)
        if isinstance(admitted, _Part):
            parts.append(admitted)
            answers.append(Outcome(admitted.last, quarantined=aside))
        elif isinstance(admitted, Outcome):
            answers.append(replace(admitted, quarantined=aside))
        else:
            answers.append(admitted)
    if parts:
        await bulk.store_many(tx, [_recorded(part.batch, item) for part in parts for item in part.fresh])
        _enter(tx, parts)
        reached = await _advance(tx, parts)
        answers = [_placed(answer, batch, standings, reached) for answer, batch in zip(answers, batches, strict=True)]
    return answers


def _placed(
    answer: Outcome | GiposError | None,
    batch: Batch,
    standings: Mapping[tuple[str, int], Standing],
    reached: Mapping[tuple[str, int], int],
) -> Outcome | GiposError | None:
    """The answer with its position, if it is that of the last batch of its till."""
    if isinstance(answer, Outcome) and batch.life in reached and standings[batch.life].watermark == answer.op_watermark:
        return replace(answer, log_seq=reached[batch.life])
    return answer


async def _at_one_stroke(tx: SharedTransaction, batches: Sequence[Batch]) -> list[Answer] | None:
    """As together, of batches that follow on what is stored and are all new; None for any others, and nothing has changed."""
    parts = [_Part(batch, batch.items, batch.items[-1].operation.op_seq) for batch in batches if batch.items]
    ids = [sale_id for part in parts for sale_id in part.ids]
    if len(parts) < len(batches) or len({batch.place.outlet_id for batch in batches}) > 1 or len(set(ids)) < len(ids):
        return None
    expected: dict[tuple[str, int], int] = {}
    for part in parts:
        numbers = [item.operation.op_seq for item in part.fresh]
        first = expected.get(part.batch.life, numbers[0])
        if numbers != list(range(first, first + len(numbers))):
            return None
        expected[part.batch.life] = first + len(numbers)
    sessions = {batch.life: batch.session for batch in batches}
    if any(sessions[batch.life] != batch.session for batch in batches):
        return None
    moves = _moves(parts)
    recorded = [_recorded(part.batch, item) for part in parts for item in part.fresh]
    if not await strokes.sell(tx, moves, sessions, recorded):
        return None
    # Only now: what is refused commits as well, and must forget nothing.
    await watermarks.trim(tx, moves)
    _enter(tx, parts)
    return [Outcome(part.last) for part in parts]


def located(answers: Sequence[Answer], batches: Sequence[Batch], heads: Mapping[str, int]) -> list[Answer]:
    """The answers of one stroke with their positions, known once it is committed: that of the last batch of each till."""
    last = {batch.life: place for place, batch in enumerate(batches)}
    return [
        replace(answer, log_seq=heads[batch.place.outlet_id])
        if isinstance(answer, Outcome) and last[batch.life] == place
        else answer
        for place, (answer, batch) in enumerate(zip(answers, batches, strict=True))
    ]


def _enter(tx: SharedTransaction, parts: Sequence[_Part]) -> None:
    """Notes each call for the audit trail."""
    for part in parts:
        if part.batch.call is not None:
            tx.entries.append((part.batch.call, trail.uploaded(part.batch.call, tx.tenant_id, part.ids, tx.now)))


async def alone(tx: Transaction, batch: Batch) -> tuple[Outcome | GiposError, list[str]]:
    """Stores the batch of one till, whatever is in it; what to answer, and what the audit trail is to know.

    An operation that cannot be stored is put aside, found by halving; the others are stored, and the watermark moves over it.
    """
    standing = (await watermarks.lock(tx, [batch.life])).get(batch.life)
    others, again_aside = await _seen_again(tx, batch, standing)
    admitted = _admit(batch, standing)
    if isinstance(admitted, GiposError):
        return admitted, []
    if others:
        await forks.note(tx, batch.place.till_id, batch.epoch)
        if not batch.is_old:
            return TillChanged("Two tablets work under the name of this till. It begins a new life when it comes back."), []
        # A till that cannot be given a new life: what it did is stored all the same, its numbers stay those of the other tablet.
        part = _Part(batch, (), admitted.op_watermark) if isinstance(admitted, Outcome) else admitted
        part.strays = others
    elif isinstance(admitted, Outcome):
        return replace(admitted, quarantined=again_aside), []
    else:
        part = admitted
    aside = await _Store(tx, batch, part.fresh[0].operation.op_seq if part.fresh else 0).all([*part.strays, *part.fresh])
    reached = await _advance(tx, [part]) if part.fresh else {}
    expected = admitted.expected_op_seq if isinstance(admitted, Outcome) else 0
    return Outcome(part.last, expected, [*again_aside, *aside], reached.get(batch.life, 0)), part.ids


async def again(tx: Transaction, batch: Batch) -> list[Quarantined]:
    """Stores an operation that was put aside before; empty when it worked. Its number has been passed and stays so."""
    return await _Store(tx, batch, batch.items[0].operation.op_seq, puts_aside=False).all(batch.items)


async def _advance(tx: Announcing, parts: Sequence[_Part]) -> dict[tuple[str, int], int]:
    """Where in their lanes the watermarks stand now, by life."""
    moves = _moves(parts)
    await watermarks.trim(tx, moves)
    return await watermarks.advance(tx, moves)


def _moves(parts: Sequence[_Part]) -> list[Move]:
    """How far each life comes."""
    moves: dict[tuple[str, int], Move] = {}
    for part in parts:
        first, last = part.fresh[0].operation, part.fresh[-1].operation
        marks = b"".join([watermarks.mark(item.operation.op_id) for item in part.fresh])
        known = moves.get(part.batch.life)
        if known is None:
            place = part.batch.place
            moves[part.batch.life] = Move(
                place.till_id, part.batch.epoch, place.outlet_id, first.op_seq, last.op_seq, last.seen_seq, marks
            )
        else:
            known.last, known.seen_seq, known.marks = last.op_seq, last.seen_seq, known.marks + marks
    return list(moves.values())


def _recorded(batch: Batch, item: Item) -> bulk.Recorded:
    fact = item.fact
    assert isinstance(fact, Sold)
    clock = fact.clock
    return bulk.Recorded(
        fact.sale, fact.prepared, fact.sold_at, fact.day, fact.quantities, batch.epoch, item.operation.op_seq,
        clock.device_time, clock.offset_ms, clock.uncertainty_ms, clock.state,
    )  # fmt: skip


class _Store:
    """Stores the operations of one till within a transaction, halving what the database refuses until the guilty one is alone."""

    def __init__(self, tx: Transaction, batch: Batch, first_op_seq: int, *, puts_aside: bool = True) -> None:
        self._tx = tx
        self._batch = batch
        place = batch.place
        self._life = Life(place.till_id, batch.epoch, place.outlet_id, first_op_seq)
        self._puts_aside = puts_aside
        self._held: dict[str, int] = {}
        self._aside: list[Quarantined] = []

    async def all(self, items: Sequence[Item]) -> list[Quarantined]:
        """What had to be put aside."""
        # Whatever is done in several steps locks all its levels before the first, in their order.
        self._held = await counts.hold(self._tx, self._life.outlet_id, _products(items))
        await self._part(items)
        return self._aside

    async def _part(self, items: Sequence[Item]) -> None:
        if not items:
            return
        before, put_before = len(self._tx.events), len(self._aside)
        await self._tx.run(_SAVE)
        try:
            for kind, run in groupby(items, key=lambda item: type(item.fact)):
                await self._run(kind, list(run))
        except Exception as error:
            if not is_bad_data(error):
                raise
            await self._tx.run(_UNDO)
            await self._tx.run(_KEEP)
            del self._tx.events[before:], self._aside[put_before:]
            if len(items) > 1:
                logger.info("batch_split", till_id=self._life.till_id, count=len(items), error=in_one_line(error))
                middle = len(items) // 2
                await self._part(items[:middle])
                await self._part(items[middle:])
            elif _without_external_id(items[0].fact, error):
                await self._part(items)
            else:
                # What the database said stays in the log; the till and the owner read a sentence.
                is_ours = not isinstance(error, DBAPIError | asyncpg.PostgresError | GiposError)
                number = items[0].operation.op_seq
                trace = error if is_ours else None  # what the database refuses is explained by its words
                logger.error("operation_refused", op_seq=number, error=in_one_line(error), exc_info=trace)  # noqa: TRY400 (as above)
                reason, message = NOT_STORABLE, said(NOT_STORABLE)
                if isinstance(error, GiposError):
                    reason, message = error.reason, of_rules(error.message)
                await self._put_aside(items[0].operation, reason, message)
        else:
            await self._tx.run(_KEEP)

    async def _run(self, kind: type[Fact], items: list[Item]) -> None:
        if kind is Sold:
            await bulk.store_many(self._tx, [_recorded(self._batch, item) for item in items])
        elif kind is Counted:
            await counts.store(self._tx, self._life, list(_taken(items)), self._held)
        else:
            for item in items:
                if isinstance(item.fact, Edited):
                    await self._edit(item.operation, item.fact)
                elif isinstance(item.fact, Poison):
                    await self._put_aside(item.operation, item.fact.reason, item.fact.message)

    async def _edit(self, operation: Operation, edited: Edited) -> None:
        """Proposes a change of a product. The catalogue may say no, which concerns this one alone: nothing is halved for it."""
        op_id = operation.op_id if PATTERN.fullmatch(operation.op_id) else ""
        before = len(self._tx.events)
        await self._tx.run(_SAVE_EDIT)
        try:
            await edits.propose(self._tx, self._life.till_id, op_id, edited.edit, edited.edited_at or self._tx.now)
        except (NotFound, Invalid) as error:
            await self._tx.run(_UNDO_EDIT)
            del self._tx.events[before:]
            logger.info("edit_refused", till_id=self._life.till_id, op_seq=operation.op_seq, error=error.message[:300])
            wrong = " ".join(one.message for one in error.violations[:MOST_SAID]) if isinstance(error, Invalid) else ""
            await self._put_aside(operation, error.reason, of_rules(wrong or error.message))
        await self._tx.run(_KEEP_EDIT)

    async def _put_aside(self, operation: Operation, reason: str, message: str) -> None:
        if self._puts_aside:
            place = self._batch.place
            aside = await quarantine.put(self._tx, place.till_id, place.outlet_id, self._batch.epoch, operation, reason, message)
        else:
            aside = Quarantined(op_seq=operation.op_seq, reason=reason, message=message)
        self._aside.append(aside)


def _taken(items: Sequence[Item]) -> Iterator[Taken]:
    for item in items:
        assert isinstance(item.fact, Counted)
        operation = item.operation
        yield Taken(operation.op_seq, operation.op_id, operation.seen_seq, operation.seen_epoch, item.fact)


def _products(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item.fact, Sold):
            yield from item.fact.prepared.product_ids
        elif isinstance(item.fact, Counted):
            yield item.fact.count.product_id


def _without_external_id(fact: Fact, error: Exception) -> bool:
    """Whether a sale was only refused because another has its external_id; it goes without, and says so."""
    source: object = getattr(error, "orig", None) or error
    source = source if isinstance(source, asyncpg.PostgresError) else getattr(source, "__cause__", None)
    if not isinstance(fact, Sold) or getattr(source, "constraint_name", "") != _TAKEN_ID:
        return False
    sale = Sale()
    sale.CopyFrom(fact.sale)
    sale.external_id = ""
    sale.review_reasons.append("EXTERNAL_ID_TAKEN")
    fact.sale, fact.prepared = sale, bulk.prepared(sale, fact.prepared.product_ids)
    return True
