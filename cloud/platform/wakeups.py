"""Tells readers of the log that there is something to read. A wake-up is a hint: losing one costs a second, never an event.

Within the process: an asyncio event per reader. Between processes: one debounced NOTIFY per process (never inside a business
transaction, where it takes a global lock at commit), and a poll of the heads once a second as the net.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol
from uuid import uuid4

import orjson
import structlog

from cloud.platform.database import Database
from cloud.platform.log import NewEvent
from cloud.platform.recent import Recent

CHANNEL = "gipos_log"
DEBOUNCE_SECONDS = 0.005
PAUSE_SECONDS = 0.02
"""Between two NOTIFYs of a process: under load a commit comes every few milliseconds, and nobody elsewhere reads that often."""
POLL_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""For the answer to a poll or a NOTIFY; then their connection counts as lost."""
MOST_PAYLOAD = 7_000
"""Bytes of texts in a payload; PostgreSQL takes less than 8,000 of it all."""
LANES_IN_TEXT = 50

_HEADS = "SELECT tenant_id, lane, epoch, last_seq FROM log_heads WHERE tenant_id = ANY($1)"
_NOTIFY = "SELECT pg_notify($1, $2)"

Known = tuple[int, int]
"""Epoch and last position of a lane, as far as this process knows; epoch 0 where it was not told."""

FEW = 16
"""Waiters that are woken before whoever made the change goes on. Each takes about a tenth of a millisecond."""
A_FEW = 4
"""Readers of a lane who are always woken at once."""
GAP_SECONDS, LONGEST_GAP_SECONDS = 0.005, 0.1
"""Between two wake-ups of the readers of one lane, for each of them, and at most. The first change is told at once; where one
follows on the other they hear of several together, so that telling them takes a small part of the time, however many they are."""
_ALL = ("",)

logger = structlog.get_logger()


class Committed(Protocol):
    """What a committed transaction tells."""

    tenant_id: str
    heads: dict[str, int]
    epochs: dict[str, int]
    events: list[NewEvent]


class Bell(asyncio.Event):
    """An event for one waiter. There is one for each open stream; asyncio's keeps room for many waiters."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:  # the base's own is left out: it makes what this does without
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """As Event."""
        return self._is_set

    def set(self) -> None:
        """As Event."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """As Event."""
        self._is_set = False

    async def wait(self) -> Literal[True]:
        """As Event, for one at a time."""
        if not self._is_set:
            if self._waiter is not None:
                raise RuntimeError("somebody waits for this bell already")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return True


class Wakeups:
    """Who waits for which merchant's log, and the tasks that wake them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, dict[str, set[asyncio.Event]]] = {}
        """By merchant and lane; under no name those who wait for all lanes."""
        self._heads: dict[str, dict[str, Known]] = {}
        """What this process knows of the heads, of the merchants somebody here waits for."""
        self._touched: dict[str, dict[str, Known]] = {}
        self._dirty = asyncio.Event()
        self._name = uuid4().hex
        self._next: dict[tuple[str, str], float] = {}
        """By merchant and lane: before when its readers are not woken again. Of lanes with few readers nothing is noted."""
        self._late: dict[tuple[str, str], asyncio.TimerHandle] = {}
        """Wake-ups that were put off."""
        self.recent = Recent()
        """The last events committed here, of the merchants somebody here waits for."""
        self.life = 0
        """Rises when the connection to the database is made or lost, or its heads have gone back: it may be another one, and what
        was remembered is void."""
        self._lost: dict[tuple[str, str], Known] = {}
        """Of lanes that the last poll found lower than they were known to be: what was known of them by its end."""
        self._closed: asyncio.Event | None = None
        """Of the connection that listens: is set when it is lost, or to be given up."""

    def committed(self, tx: Committed) -> Callable[[], None] | None:
        """Called right after a commit: remembers its events for those who wait for the very next one, wakes them, others soon.

        When many wait here it does nothing yet, and returns what does: they would all have their turn before whoever made the
        change goes on.
        """
        mine = self._waiting.get(tx.tenant_id, {})
        if sum([len(mine.get(lane, ())) for lane in (*_ALL, *tx.heads)]) > FEW:
            return partial(self._committed, tx)
        self._committed(tx)
        return None

    def _committed(self, tx: Committed) -> None:
        if tx.tenant_id in self._waiting:
            for lane, last in tx.heads.items():
                if not self.has_waiting(tx.tenant_id, lane):
                    continue
                mine = [event for event in tx.events if event.lane == lane] if len(tx.heads) > 1 else tx.events
                self.recent.add(tx.tenant_id, lane, tx.epochs[lane], last, mine)
        self.touch(tx.tenant_id, tx.heads, tx.epochs)

    def has_waiting(self, tenant_id: str, lane: str) -> bool:
        """Whether somebody here waits for this lane by its name."""
        return lane in self._waiting.get(tenant_id, ())

    def touch(self, tenant_id: str, heads: Mapping[str, int], epochs: Mapping[str, int] | None = None) -> None:
        """Wakes the readers of these lanes, or of all lanes for none: in this process at once, in the others soon."""
        told = {lane: ((epochs or {}).get(lane, 0), seq) for lane, seq in heads.items()}
        if tenant_id in self._waiting:
            for lane, (epoch, seq) in told.items():
                self.learn(tenant_id, lane, epoch, seq)
            self._wake(tenant_id, told)
        self._touched.setdefault(tenant_id, {}).update(told)
        self._dirty.set()

    def learn(self, tenant_id: str, lane: str, epoch: int, seq: int) -> None:
        """Takes over what somebody has just read of a head, unless more is known."""
        if tenant_id in self._waiting:
            known = self._heads.setdefault(tenant_id, {})
            before = known.get(lane, (0, 0))
            if 0 < epoch < before[0]:
                return  # read before the log began anew
            if before[0] in {0, epoch} or not epoch:
                known[lane] = (epoch or before[0], max(seq, before[1]))
            else:
                known[lane] = (epoch, seq)

    def known(self, tenant_id: str, lane: str) -> Known | None:
        """The head of a lane as far as this process knows; None when it cannot say."""
        return self._heads.get(tenant_id, {}).get(lane)

    def may_have_more(self, tenant_id: str, lane: str, seq: int, epoch: int = 0) -> bool:
        """Whether a reader at this position should look. Spares the question where this process knows the answer."""
        known = self.known(tenant_id, lane)
        return known is None or known[1] != seq or bool(epoch and known[0] and epoch != known[0])

    def waiting(self, tenant_id: str, lanes: Collection[str] | None = None) -> Waiting:
        """For a block: an event that is set whenever the merchant's log, or these lanes of it, may have grown.

        The waiter clears it before it reads.
        """
        return Waiting(self, tenant_id, lanes or _ALL)

    def _add(self, tenant_id: str, lanes: Collection[str], event: asyncio.Event) -> None:
        mine = self._waiting.setdefault(tenant_id, {})
        for lane in lanes:
            mine.setdefault(lane, set()).add(event)

    def _remove(self, tenant_id: str, lanes: Collection[str], event: asyncio.Event) -> None:
        mine = self._waiting[tenant_id]
        for lane in lanes:
            mine[lane].discard(event)
            if not mine[lane]:
                del mine[lane]
                self._next.pop((tenant_id, lane), None)
                if (timer := self._late.pop((tenant_id, lane), None)) is not None:
                    timer.cancel()
        if not mine:
            del self._waiting[tenant_id]
            self._heads.pop(tenant_id, None)

    def _wake(self, tenant_id: str, lanes: Collection[str] = ()) -> None:
        mine = self._waiting.get(tenant_id)
        if mine is not None:
            for lane in (*_ALL, *lanes) if lanes else list(mine):
                self._ring(tenant_id, lane)

    def _ring(self, tenant_id: str, lane: str) -> None:
        """Wakes the readers of a lane, now or as soon as they may be woken again."""
        readers = self._waiting.get(tenant_id, {}).get(lane, ())
        if len(readers) > A_FEW:
            place, now = (tenant_id, lane), asyncio.get_running_loop().time()
            due = self._next.get(place, now)
            if now < due:
                if place not in self._late:
                    self._late[place] = asyncio.get_running_loop().call_at(due, self._ring_late, place)
                return
            self._next[place] = now + min(LONGEST_GAP_SECONDS, GAP_SECONDS * len(readers))
        for event in readers:
            event.set()

    def _ring_late(self, place: tuple[str, str]) -> None:
        del self._late[place]
        self._next.pop(place, None)
        self._ring(*place)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notify())
            tasks.create_task(self._listen())
            tasks.create_task(self._poll())

    async def _notify(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(DEBOUNCE_SECONDS)  # gathers what comes in the meantime into one NOTIFY
            self._dirty.clear()
            touched, self._touched = self._touched, {}
            for payload in _payloads(self._name, touched):
                try:
                    await self._asked(_NOTIFY, CHANNEL, payload)
                except Exception as error:  # noqa: BLE001 (the driver has errors of many families; none may end this task)
                    logger.warning("wakeup_not_sent", error=repr(error))  # the others' poll finds it within a second
            await asyncio.sleep(PAUSE_SECONDS)

    async def _asked(self, statement: str, *arguments: object) -> Sequence[Any]:
        # A connection that died without a word, as with the machine behind it, is given up: nothing else would ever end the wait.
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._database.notices.fetch(statement, *arguments)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._database.listening(CHANNEL, self._heard) as closed:
                    self._begin_anew()
                    self._closed = closed
                    # One statement for all: each reader that does not find its lane's head here would ask for it by itself.
                    await self._look()
                    self._wake_all()  # whatever was said while nobody listened
                    await closed.wait()
                    self._begin_anew()
            except Exception as error:  # noqa: BLE001 (as above)
                logger.warning("wakeups_not_heard", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)  # the poll covers the pause

    def _wake_all(self) -> None:
        for tenant_id in list(self._waiting):
            self._wake(tenant_id)

    def _begin_anew(self) -> None:
        """The database may not be the one it was, or things were said while nobody listened."""
        self.life += 1
        self.recent.clear()
        self._heads.clear()
        self._lost.clear()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        name, *told = orjson.loads(str(payload))
        if name == self._name:
            return
        for text in told:
            tenant_id, *words = str(text).split(" ")
            lanes = words[::3]
            for lane, epoch, seq in zip(lanes, words[1::3], words[2::3], strict=True):
                self.learn(tenant_id, lane, int(epoch), int(seq))
            if not lanes:
                self._heads.pop(tenant_id, None)
            self._wake(tenant_id, lanes)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 (as above)
                logger.warning("heads_not_polled", error=repr(error))

    async def _look(self) -> None:
        """Reads the heads of everybody somebody here waits for."""
        if not self._waiting:
            return
        life = self.life
        rows = await self._asked(_HEADS, list(self._waiting))
        if life != self.life:
            return  # the connection was lost or made meanwhile: these may be the heads of what was there before
        if self._has_gone_back(rows):
            logger.error("heads_gone_back")
            self._begin_anew()
            self._wake_all()
            # Nobody has said that the connection which listens was lost with the database that was there before.
            if self._closed is not None:
                self._closed.set()
        self._take_over(rows)

    def _has_gone_back(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Whether a lane ends before a place that was known to be committed when these heads were asked for.

        That one poll finds less proves nothing: what is known may have come while it was under way. So what was known at its end
        is kept, and the next poll, which began later, must find at least that. Lanes without an epoch say nothing.
        """
        before, self._lost = self._lost, {}
        for tenant_id, lane, epoch, last_seq in rows:
            known = self.known(tenant_id, lane)
            if known is not None and (epoch, last_seq) < known and known[0]:
                if (epoch, last_seq) < before.get((tenant_id, lane), (0, 0)):
                    return True
                self._lost[tenant_id, lane] = known
        return False

    def _take_over(self, rows: Sequence[Sequence[Any]]) -> None:
        for tenant_id, lane, epoch, last_seq in rows:
            if tenant_id in self._waiting and self.may_have_more(tenant_id, lane, last_seq, epoch):
                before = self.known(tenant_id, lane)
                self.learn(tenant_id, lane, epoch, last_seq)
                if self.known(tenant_id, lane) != before:  # else it was read before what is known was committed
                    self._wake(tenant_id, (lane,))


class Waiting:
    """One waiter, for as long as the block runs. A class, not a generator: there is one for each open stream."""

    __slots__ = ("_lanes", "_tenant_id", "_wakeups", "event")

    def __init__(self, wakeups: Wakeups, tenant_id: str, lanes: Collection[str]) -> None:
        self._wakeups = wakeups
        self._tenant_id = tenant_id
        self._lanes = lanes
        self.event: asyncio.Event = Bell()

    def __enter__(self) -> asyncio.Event:
        self.event.set()
        self._wakeups._add(self._tenant_id, self._lanes, self.event)  # noqa: SLF001 (the two are one)
        return self.event

    def __exit__(self, *_: object) -> None:
        self._wakeups._remove(self._tenant_id, self._lanes, self.event)  # noqa: SLF001 (as above)


def _payloads(name: str, touched: Mapping[str, Mapping[str, Known]]) -> Iterator[str]:
    """What is told to other processes: merchants with their lanes that grew, epochs and positions, in as few payloads as fit."""
    texts: list[str] = []
    size = 0
    for text in _texts(touched):
        if texts and size + len(text) > MOST_PAYLOAD:
            yield orjson.dumps([name, *texts]).decode()
            texts, size = [], 0
        texts.append(text)
        size += len(text) + 3
    if texts:
        yield orjson.dumps([name, *texts]).decode()


def _texts(touched: Mapping[str, Mapping[str, Known]]) -> Iterator[str]:
    for tenant_id, lanes in touched.items():
        places = [f" {lane} {epoch} {seq}" for lane, (epoch, seq) in lanes.items()]
        for start in range(0, len(places) or 1, LANES_IN_TEXT):
            yield tenant_id + "".join(places[start : start + LANES_IN_TEXT])
