"""A merchant's board: the newest value of every topic somebody watches, worked out once per process, whoever looks at it.

It begins with the tables and the heads of the log of one moment, and follows the log from there, as tills do; whatever it reads
in a turn is of one moment. No watcher ever makes it read anything again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import dashboard_tickets, outlets
from cloud.dashboards import topics
from cloud.dashboards.topics import Low, Recent, Today
from cloud.inventory import shortages
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.wakeups import Wakeups
from cloud.sales import turnover
from cloud.sync import quarantine
from cloud.tills import devices
from cloud.webhooks import health
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.sales_pb2 import Sale
from kernel import business_days
from kernel.errors import Unreachable
from kernel.event_types import SALE_CREATED, SALE_REFUNDED

PACE_SECONDS = 0.1
"""Between two turns. The first after a quiet time comes at once."""
OUTSIDE_SECONDS = 2.0
"""How often what follows from more than the log is read."""
MOST_BEHIND = 1_000
"""Events. Who is further behind begins with the tables again."""
DEAF_SECONDS = 15.0
"""A board that could not look at the database for so long says so instead of looking fresh."""
DAY = timedelta(days=1)

logger = structlog.get_logger()


@dataclass(frozen=True)
class Shown:
    """A value as it goes out."""

    version: str
    value: bytes


def mark_of(version: str) -> str:
    """What marks the content: the position before it may be another one for the same value."""
    return version.rpartition("-")[2]


@dataclass(eq=False)
class Watcher:
    """One stream that shows the board."""

    kinds: frozenset[str]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    ended_keys: set[str] = field(default_factory=set)
    """Keys that changed and of which this stream was not told yet."""


class Board:
    """See above. `run` must be running."""

    def __init__(self, database: Database, wakeups: Wakeups, tenant_id: str, now: Callable[[], datetime]) -> None:
        self._database = database
        self._wakeups = wakeups
        self._tenant_id = tenant_id
        self._now = now
        self.watchers: set[Watcher] = set()
        self.epoch = ""
        """Empty until there is something to show."""
        self.position = 0
        self.shown: dict[str, Shown] = {}
        """These three are of one moment: they change together, at the end of a turn."""
        self.woken = asyncio.Event()
        self._epoch = ""
        self._position = 0
        self._staged: dict[str, Shown] = {}
        self._built: frozenset[str] = frozenset()
        self._places: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._today: dict[str, Today] = {}
        self._recent: dict[str, Recent] = {}
        self._low = Low(())
        self._outside_at = 0.0
        self._changed_subjects: set[str] = set()
        self._fresh_at = asyncio.get_running_loop().time()

    def check(self) -> None:
        """Whether what it shows can be believed.

        Raises:
            Unreachable: it has not seen the database for a while.
        """
        if asyncio.get_running_loop().time() - self._fresh_at > DEAF_SECONDS:
            raise Unreachable("The database does not answer at the moment. What is shown may be old.")

    def changed(self, subject_ids: Iterable[str]) -> None:
        """Keys and others, of whichever merchant, were changed."""
        self._changed_subjects.update(subject_ids)
        self.woken.set()

    async def run(self) -> None:
        """Follows the log until cancelled."""
        loop = asyncio.get_running_loop()
        with self._wakeups.waiting(self._tenant_id) as self.woken:
            while True:
                self.woken.clear()
                try:
                    await self._turn()
                    self._fresh_at = loop.time()
                except Exception as error:  # noqa: BLE001 (whatever it is, the next turn begins anew; check() tells when none succeeds)
                    logger.warning("board_not_read", tenant_id=self._tenant_id, error=repr(error))
                for watcher in self.watchers:
                    watcher.woken.set()
                await asyncio.sleep(PACE_SECONDS)
                try:
                    async with asyncio.timeout(OUTSIDE_SECONDS):
                        await self.woken.wait()
                except TimeoutError:
                    pass  # tills go silent and days end without an event

    async def _turn(self) -> None:
        kinds = frozenset[str]().union(*(watcher.kinds for watcher in self.watchers))
        subjects, self._changed_subjects = self._changed_subjects, set()
        try:
            async with self._database.snapshot(self._tenant_id) as connection:
                heads = await log.heads(connection, self._tenant_id)
                touched = await self._follow(connection, heads, kinds)
                await self._turn_pages(connection)
                if self._built & topics.OUTSIDE:
                    await self._look_outside(connection, at_once=touched)
                keys = await dashboard_tickets.holders(connection, self._tenant_id, subjects) if subjects else ()
        except BaseException:
            self._changed_subjects |= subjects
            self._built = frozenset()  # half of it may have been taken over: the next turn begins with the tables
            raise
        self.epoch, self.position, self.shown = self._epoch, self._position, dict(self._staged)
        for watcher in self.watchers:
            watcher.ended_keys.update(keys)

    async def _follow(self, connection: AsyncConnection, heads: Mapping[str, log.Head], kinds: frozenset[str]) -> bool:
        """Takes over what the log has more; whether a till was the matter."""
        # Epochs only rise, and a new outlet's lane begins with 1.
        epoch = str(1 + sum(head.epoch - 1 for head in heads.values()))
        position = sum(head.last_seq for head in heads.values())
        goes_on = (
            epoch == self._epoch
            and kinds <= self._built
            and heads.keys() == self._places.keys()
            and position - self._position <= MOST_BEHIND
            and all(head.floor_seq - 1 <= self._places[lane] <= head.last_seq for lane, head in heads.items())
        )
        if not goes_on:
            self._move(heads)
            self._epoch = epoch
            await self._build(connection, kinds)
            return True
        events = [
            event
            for lane, head in heads.items()
            if head.last_seq > self._places[lane]
            for event in await log.read(connection, self._tenant_id, lane, self._places[lane], MOST_BEHIND)
        ]
        self._move(heads)
        await self._apply(connection, events)
        return any(event.type.startswith("device.") for event in events)

    def _move(self, heads: Mapping[str, log.Head]) -> None:
        self._places = {lane: head.last_seq for lane, head in heads.items()}
        self._position = sum(self._places.values())

    async def _build(self, connection: AsyncConnection, kinds: frozenset[str]) -> None:
        """Everything from the tables."""
        every = await outlets.every(connection, self._tenant_id)
        self._built = kinds
        self._names = {outlet.id: outlet.name for outlet in every}
        self._outside_at = 0.0
        self._today, self._recent = {}, {}
        if topics.TODAY in kinds:
            await self._read_days(connection, every)
        if topics.RECENT in kinds:
            for outlet in every:
                sales = await turnover.latest(connection, self._tenant_id, outlet.id, topics.RECENT_SALES)
                self._recent[outlet.id] = Recent(outlet, sales)
                self._show(f"{topics.RECENT}:{outlet.id}", self._recent[outlet.id].value())
        if topics.LOW in kinds:
            self._low = Low(await shortages.read(connection, self._tenant_id, topics.LOW_AT_MOST))
            self._show(topics.LOW, self._low.value(self._names))
        here = {f"{kind}:{outlet.id}" for kind in (topics.TODAY, topics.RECENT) for outlet in every} | topics.KINDS.keys()
        for topic in [topic for topic in self._staged if topic not in here or topics.kind_of(topic) not in kinds]:
            del self._staged[topic]

    async def _read_days(self, connection: AsyncConnection, some: Iterable[Outlet]) -> None:
        now = self._now()
        days = {outlet.id: turnover.Day(business_days.business_date(now, outlet.time_zone), outlet.time_zone) for outlet in some}
        sums = await turnover.of_days(connection, self._tenant_id, days)
        for outlet in some:
            self._today[outlet.id] = Today.of(outlet, days[outlet.id].date, sums[outlet.id])
            self._show(f"{topics.TODAY}:{outlet.id}", self._today[outlet.id].value())

    async def _turn_pages(self, connection: AsyncConnection) -> None:
        """A new day begins with what was already sold on it: tills with another clock, and sales dated ahead."""
        now = self._now()
        over = [
            today.outlet
            for today in self._today.values()
            if today.day != business_days.business_date(now, today.outlet.time_zone)
        ]
        if over:
            await self._read_days(connection, over)

    async def _apply(self, connection: AsyncConnection, events: Iterable[log.LoggedEvent]) -> None:
        outlet_ids: set[str] = set()
        product_ids: set[str] = set()
        for event in events:
            if event.type in {SALE_CREATED.name, SALE_REFUNDED.name}:
                self._take(event.type, event.outlet_id, Sale.FromString(event.body))
                outlet_ids.add(event.outlet_id)
            elif event.type.startswith(("inventory.", "product.")):
                product_ids.add(event.subject_id)
        for outlet_id in outlet_ids:
            if outlet_id in self._today:
                self._show(f"{topics.TODAY}:{outlet_id}", self._today[outlet_id].value())
            if outlet_id in self._recent:
                self._show(f"{topics.RECENT}:{outlet_id}", self._recent[outlet_id].value())
        if product_ids and topics.LOW in self._built:
            found = await shortages.read(connection, self._tenant_id, topics.LOW_AT_MOST, sorted(product_ids))
            self._low.replace(product_ids, found)
            self._show(topics.LOW, self._low.value(self._names))

    def _take(self, event_type: str, outlet_id: str, sale: Sale) -> None:
        today, recent = self._today.get(outlet_id), self._recent.get(outlet_id)
        if event_type == SALE_CREATED.name:
            if today is not None:
                today.created(sale)
            if recent is not None:
                recent.created(sale)
        else:
            if today is not None:
                today.refunded_once(sale)
            if recent is not None:
                recent.changed(sale)

    async def _look_outside(self, connection: AsyncConnection, *, at_once: bool) -> None:
        clock = asyncio.get_running_loop().time()
        if clock < self._outside_at and not at_once:
            return
        self._outside_at = clock + OUTSIDE_SECONDS
        now = self._now()
        if topics.DEVICES in self._built:
            found = await devices.every(connection, self._tenant_id)
            aside = await quarantine.open_counts(connection, self._tenant_id)
            self._show(topics.DEVICES, topics.devices(found, aside, self._names))
        if topics.WEBHOOKS in self._built:
            found_hooks = await health.read(connection, self._tenant_id, now - DAY)
            self._show(topics.WEBHOOKS, topics.webhooks(found_hooks, now))

    def _show(self, topic: str, value: dict[str, Any]) -> None:
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        mark = hashlib.blake2b(data, digest_size=8).hexdigest()
        before = self._staged.get(topic)
        if before is None or mark_of(before.version) != mark:
            self._staged[topic] = Shown(f"{self._position}-{mark}", data)


class Boards:
    """The boards of all merchants that somebody here watches."""

    def __init__(self, database: Database, wakeups: Wakeups, now: Callable[[], datetime] = business_days.now) -> None:
        self._database = database
        self._wakeups = wakeups
        self._now = now
        self._open: dict[str, tuple[Board, asyncio.Task[None]]] = {}

    def changed(self, subject_ids: Iterable[str]) -> None:
        """Keys and others were changed."""
        ids = list(subject_ids)
        for board, _ in self._open.values():
            board.changed(ids)

    @contextmanager
    def watching(self, tenant_id: str, kinds: Iterable[str]) -> Iterator[tuple[Board, Watcher]]:
        """The merchant's board, which lives as long as somebody watches it."""
        watcher = Watcher(frozenset(kinds))
        if tenant_id not in self._open:
            board = Board(self._database, self._wakeups, tenant_id, self._now)
            board.watchers.add(watcher)
            self._open[tenant_id] = board, asyncio.create_task(board.run())
        board, task = self._open[tenant_id]
        board.watchers.add(watcher)
        board.woken.set()
        try:
            yield board, watcher
        finally:
            board.watchers.discard(watcher)
            if not board.watchers:
                task.cancel()
                del self._open[tenant_id]
