"""Changes on their way down, without a queue per till: a place in a lane comes in, serialised bytes and the next place go out.

A thousand tills at the same place share one read and one serialisation. What was just committed in this process is not even read.
Nothing is remembered of a till: one that is stuck costs nothing here, and gets the latest when its turn comes.

How a link uses it (all state is the link's own):

    own = Own(till_id, store_epoch)                       # for the lane of the till's own outlet; None for the merchant's
    own.uploading(); … uploads.store(…) …; own.uploading()   # around each upload, whatever becomes of it (finally)
    while credit and frames.may_have_more(tenant_id, place, own):
        answer = await frames.next(tenant_id, place, own)
        None              -> nothing new; wait for the next wake-up (Wakeups.waiting(tenant_id, lanes))
        Frame             -> send answer.data as it is; place = answer.place; own.told = max(own.told, answer.op_watermark)
                             (one without changes and watermark need not be sent: Progress may tell the till that it has passed)
        Restart           -> send Reset(lane, reason), then a snapshot (snapshots.py) opened with answer.head
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.turns import Turns
from cloud.platform.wakeups import Wakeups
from cloud.sync import ranges, wire
from cloud.sync.ranges import Frame, Own, Place, Restart, Row, Watermark

KEPT_BYTES = 16 * 1024 * 1024
READS_AT_ONCE = 3
"""Ranges being read at the same moment, of all merchants: the rest of the connections are for those who sell."""
NOBODY = Watermark(0, 0)
PREPARED_EVENTS, PREPARED_BYTES, PREPARED_LANES = 16, 32 * 1024, 64
"""What is made ready during a COMMIT, at most: events and bytes of a lane, and lanes. So few are never cut, see ranges.cut."""

# See migration 0010: the function sets the tenant, so this runs as a single statement inside the fence.
_RANGE = "SELECT * FROM log_range($1, $2, $3, $4, $5, $6, $7, $8)"


class Committing(Protocol):
    """What a transaction tells whose COMMIT is under way."""

    tenant_id: str
    events: list[log.NewEvent]
    heads: dict[str, int]
    epochs: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Range:
    """What is shared: the changes after a place, serialised once."""

    epoch: int
    upto: int
    changes: int
    data: bytes
    """A whole LinkResponse without a watermark."""
    start: int
    """Where in it the Changes begin."""
    is_full: bool
    """It ends where it does because it is full, not because that was all."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A range of events whose COMMIT was under way."""

    place: Place
    events: Sequence[log.NewEvent]
    shared: _Range

    def holds(self, place: Place, events: Sequence[tuple[int, log.NewEvent]]) -> bool:
        """Whether these very events follow this place: after a rollback others get the same positions."""
        if self.place != place or len(events) != len(self.events):
            return False
        return all(event is ours for (_, event), ours in zip(events, self.events, strict=True))


@dataclass(frozen=True, slots=True)
class _Read:
    """What one statement said."""

    head: log.Head
    mark: Watermark
    shared: _Range | None
    """None when there is nothing after the place."""


class Frames:
    """The frames of a process. Whoever asks gives everything there is to know about the till."""

    def __init__(self, database: Database, wakeups: Wakeups, *, kept_bytes: int = KEPT_BYTES, turns: Turns | None = None) -> None:
        self._database = database
        self._wakeups = wakeups
        self._limit = kept_bytes
        self._size = 0
        self._life = wakeups.life
        self._kept: dict[tuple[str, str, int], _Range] = {}
        """By merchant, lane and where it begins. The least recently used is forgotten first."""
        self._reading: dict[tuple[str, Place, int], asyncio.Task[_Read]] = {}
        self._prepared: dict[tuple[str, str], _Prepared] = {}
        """By merchant and lane: of what was being committed last."""
        self._turns = turns or Turns(READS_AT_ONCE)
        self.reads = 0
        """How many ranges were read from the database so far."""

    def may_have_more(self, tenant_id: str, place: Place, own: Own | None = None) -> bool:
        """Whether asking may be worth it. Cheap, and wrong only in the direction of asking."""
        return self.may_follow(tenant_id, place.lane, place.epoch, place.seq, own)

    def may_follow(self, tenant_id: str, lane: str, epoch: int, seq: int, own: Own | None = None) -> bool:
        """As may_have_more, for who has no Place: it is asked for every lane of every stream that wakes."""
        if own is not None and (own.known is None or own.known.op_seq > own.told):
            return True
        return self._wakeups.may_have_more(tenant_id, lane, seq, epoch)

    async def next(self, tenant_id: str, place: Place, own: Own | None = None) -> Frame | Restart | None:
        """What follows a place: a frame, a restart, or None for nothing new. `own` only for the lane of the till's own outlet.

        Raises:
            Busy, Unreachable: as Database says. Trying again is safe.
        """
        if own is not None and own.known is None:
            return await self._exactly(tenant_id, place, own)
        mark = own.known if own is not None and own.known is not None else NOBODY
        least = ranges.upto_at_least(place, mark)
        if (shared := self._from_memory(tenant_id, place, least)) is not None:
            return _frame(place, own, mark, shared)
        if self._is_at_head(tenant_id, place):
            return _only_watermark(place, own, mark)
        read = await self._shared_read(tenant_id, place, least)
        if own is not None and own.known is not mark:
            # The till uploads while the range is being read: it may hold sales that the mark knows nothing of.
            return await self._exactly(tenant_id, place, own)
        return self._answer(place, own, mark, read)

    async def _exactly(self, tenant_id: str, place: Place, own: Own) -> Frame | Restart | None:
        """As `next`, with the till's watermark of the very moment of the range."""
        uploads = own.uploads
        read = await self._read(tenant_id, place, 0, own)
        own.learn(read.mark, uploads)
        return self._answer(place, own, read.mark, read)

    def _from_memory(self, tenant_id: str, place: Place, least: int) -> _Range | None:
        """The range if it is known here, without asking anybody."""
        if self._life != self._wakeups.life:  # the database may be another one: nothing that was remembered holds
            self._life, self._size = self._wakeups.life, 0
            self._kept.clear()
            self._prepared.clear()
        known = self._wakeups.known(tenant_id, place.lane)
        if known is None or known[0] not in {0, place.epoch} or not 0 <= known[1] - place.seq <= ranges.TOO_FAR:
            return None
        key = (tenant_id, place.lane, place.seq)
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._kept[key] = kept  # at the end: what is used is kept longest
            # One that has grown since is made anew: who was away gets one frame, not one for each commit in the meantime.
            if kept.epoch == place.epoch and kept.upto >= (least if kept.is_full else max(least, known[1])):
                return kept
        fresh = self._wakeups.recent.after(tenant_id, place.lane, place.epoch, place.seq)
        if not fresh or fresh[-1][0] < max(least, known[1]):
            return None  # not the whole tail: the log has it in one piece
        prepared = self._prepared.pop((tenant_id, place.lane), None)
        if prepared is not None and prepared.holds(place, fresh):
            return self._keep(tenant_id, place, prepared.shared)
        rows, upto = ranges.cut(_rows(place.lane, fresh), fresh[-1][0], least)
        return self._keep(tenant_id, place, _made(place, rows, upto, is_full=upto < fresh[-1][0]))

    def prepare(self, tx: Committing) -> None:
        """Makes what will be told to who stands right before these events, while their COMMIT is under way.

        It is told only once exactly these events are known to follow that place, so nothing is lost when the commit fails.
        """
        for lane, head in tx.heads.items():
            events = [event for event in tx.events if event.lane == lane]
            is_small = len(events) <= PREPARED_EVENTS and sum([len(event.body) for event in events]) <= PREPARED_BYTES
            if not is_small or not self._wakeups.has_waiting(tx.tenant_id, lane):
                continue
            place = Place(lane, tx.epochs[lane], head - len(events))
            rows = _rows(lane, enumerate(events, place.seq + 1))
            self._prepared[tx.tenant_id, lane] = _Prepared(place, events, _made(place, rows, head, is_full=False))
            if len(self._prepared) > PREPARED_LANES:
                del self._prepared[next(iter(self._prepared))]

    def _is_at_head(self, tenant_id: str, place: Place) -> bool:
        return not self._wakeups.may_have_more(tenant_id, place.lane, place.seq, place.epoch)

    def _answer(self, place: Place, own: Own | None, mark: Watermark, read: _Read) -> Frame | Restart | None:
        if (reason := ranges.restart_reason(read.head, place)) is not None:
            return Restart(place.lane, reason, read.head)
        if read.shared is None:
            return _only_watermark(place, own, mark)
        return _frame(place, own, mark, read.shared)

    async def _shared_read(self, tenant_id: str, place: Place, least: int) -> _Read:
        key = (tenant_id, place, least)
        task = self._reading.get(key)
        if task is None:
            # A task of its own: it goes on for the others when the till that came first leaves.
            loop = asyncio.get_running_loop()
            task = self._reading[key] = loop.create_task(self._read(tenant_id, place, least, None), context=Context())
            task.add_done_callback(partial(self._done, key))
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, Place, int], task: asyncio.Task[_Read]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # those who still wait get it; nobody may be left

    async def _read(self, tenant_id: str, place: Place, least: int, own: Own | None) -> _Read:
        till, life = (own.till_id, own.store_epoch) if own is not None else ("", 0)
        shape = (ranges.SPAN, least, ranges.types_of(place.lane))
        async with self._turns.taken(tenant_id):
            self.reads += 1
            rows = await self._database.statements.fetch(_RANGE, tenant_id, place.lane, place.seq, *shape, till, life)
        if not rows:
            head = log.Head(0, 0, 1)
            return _Read(head, NOBODY, None)
        epoch, last_seq, floor_seq, op_watermark, log_seq, upto, *columns = rows[0]
        head = log.Head(epoch, last_seq, floor_seq)
        self._wakeups.learn(tenant_id, place.lane, epoch, last_seq)
        shared = None
        if upto > place.seq and ranges.restart_reason(head, place) is None:
            found = list(zip(*(column or () for column in columns), strict=True))
            rows, end = ranges.cut(found, upto, max(least, log_seq))
            shared = self._keep(tenant_id, place, _made(place, rows, end, is_full=end < last_seq))
        return _Read(head, Watermark(op_watermark, log_seq), shared)

    def _keep(self, tenant_id: str, place: Place, shared: _Range) -> _Range:
        key = (tenant_id, place.lane, place.seq)
        if (before := self._kept.pop(key, None)) is not None:
            self._size -= _cost(before)
        self._kept[key] = shared
        self._size += _cost(shared)
        while self._size > self._limit:
            self._size -= _cost(self._kept.pop(next(iter(self._kept))))
        return shared


def _rows(lane: str, events: Iterable[tuple[int, log.NewEvent]]) -> list[Row]:
    wanted = ranges.types_of(lane)
    return [(seq, event.subject_id, event.body) for seq, event in events if event.type in wanted]


def _made(place: Place, rows: Sequence[Row], upto: int, *, is_full: bool) -> _Range:
    changes = ranges.folded(place.lane, rows)
    inner = wire.changes(place.lane, place.epoch, place.seq, upto, changes)
    data = wire.changes_frame(inner)
    return _Range(place.epoch, upto, len(changes), data, len(data) - len(inner), is_full)


def _cost(shared: _Range) -> int:
    return len(shared.data) + 500


def _frame(place: Place, own: Own | None, mark: Watermark, shared: _Range) -> Frame:
    told = ranges.told_by(shared.upto, own, mark)
    data = wire.changes_frame(memoryview(shared.data)[shared.start :], told) if told else shared.data
    return Frame(place.lane, place.epoch, place.seq, shared.upto, told, shared.changes, data)


def _only_watermark(place: Place, own: Own | None, mark: Watermark) -> Frame | None:
    """An empty range that tells the watermark: it can rise without an event, by an operation that was repeated or put aside."""
    told = ranges.told_by(place.seq, own, mark)
    if not told:
        return None
    inner = wire.changes(place.lane, place.epoch, place.seq, place.seq, ())
    return Frame(place.lane, place.epoch, place.seq, place.seq, told, 0, wire.changes_frame(inner, told))
