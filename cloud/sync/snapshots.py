"""The whole state of a lane as of one position, built once for all tills that need it and read by each at its own speed.

Rows, position, epoch and the watermarks of the outlet's tills are read in one REPEATABLE READ transaction that runs at the speed
of the database: a till on a mobile link never holds a transaction open. What is built lies in a spool, and serves until the log
no longer reaches back to it or has moved on too far.

How a link uses it:

    async with snapshots.open(tenant_id, lane, head, begun=id) as snapshot:
        for index in range(start, len(snapshot)):      # start: 0, or the till's next_index if snapshot.id is what it had begun
            data = await snapshot.piece(index, own, packed="packed_snapshots" in capabilities)
        place, own.told = snapshot.place, snapshot.op_watermark(own)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.inventory import levels
from cloud.platform import log
from cloud.platform.database import Database
from cloud.platform.turns import Turns
from cloud.sync import ranges, wire
from cloud.sync.ranges import Own, Place
from cloud.sync.spool import Spool
from cloud.sync.tables import till_stores
from gipos.edge.v1.link_pb2 import ResetReason, SnapshotPart
from kernel.errors import Busy
from kernel.ids import new_id

logger = structlog.get_logger()

PIECE_BYTES = 192 * 1024
"""Of changes in a piece, before compression; with the row that overflows it a message stays below 256 KiB."""
ROWS_AT_ONCE = 200
"""Read and serialised before others get their turn: some three milliseconds."""
BUILDS_AT_ONCE = 2
"""Per process: after a long outage every till wants one."""
MOST_BYTES = 512 * 1024 * 1024
"""On disk, of all spools of the process."""
COUNT_SECONDS = 60.0
"""How long the number of rows of a scope is taken as it was; after an outage thousands of tills ask."""
COUNTS_KEPT = 10_000
KEPT_SECONDS = 900.0
"""How long a spool that nobody reads is kept."""


@dataclass(eq=False)
class Snapshot:
    """A state of a lane, in pieces that never change."""

    id: str
    lane: str
    head: log.Head
    """Of the moment it was read in."""
    spool: Spool
    rows: int = 0
    marks: dict[tuple[str, int], int] = field(default_factory=dict)
    """What of each till of the outlet it contains, by till and life of its store."""
    readers: int = 0

    def __len__(self) -> int:
        """How many pieces it has: one at least."""
        return len(self.spool)

    @property
    def place(self) -> Place:
        """Where a till stands that has all pieces; the tail begins after it."""
        return Place(self.lane, self.head.epoch, self.head.last_seq)

    def op_watermark(self, own: Own | None) -> int:
        """The highest of the till's operations whose effects it contains. `own` only for the lane of the till's own outlet."""
        return self.marks.get((own.till_id, own.store_epoch), 0) if own is not None else 0

    async def piece(self, index: int, own: Own | None = None, *, packed: bool = False) -> bytes:
        """A serialised LinkResponse with one piece, for this till; `packed` when it takes the changes compressed."""
        part = SnapshotPart(
            lane=self.lane,
            epoch=self.head.epoch,
            seq=self.head.last_seq,
            index=index,
            last=index == len(self) - 1,
            op_watermark=self.op_watermark(own),
            snapshot_id=self.id,
        )
        if packed:
            return wire.packed_frame(part, await self.spool.packed(index))
        return wire.snapshot_frame(part, await self.spool.plain(index))

    def serves(self, head: log.Head) -> bool:
        """Whether a till that gets it can go on from its position, and has not too much to catch up on."""
        behind = head.last_seq - self.head.last_seq
        bearable = max(ranges.FEW, min(self.rows // 4, ranges.TOO_FAR // 2))
        return self.head.epoch == head.epoch and 0 <= behind <= bearable and self.head.last_seq >= head.floor_seq - 1


Scope = tuple[str, str]
"""Merchant and lane: whoever follows the lane sees the same rows."""


class Snapshots:
    """The snapshots of a process.

    Args:
        folder: Where the spools are.
    """

    def __init__(
        self, database: Database, folder: Path, *, most_bytes: int = MOST_BYTES, kept_seconds: float = KEPT_SECONDS
    ) -> None:
        self._database = database
        self._folder = folder
        self._most_bytes = most_bytes
        self._kept_seconds = kept_seconds
        self._kept: dict[Scope, Snapshot] = {}
        """The newest of each scope; the least recently used first."""
        self._size = 0
        self._building: dict[Scope, asyncio.Task[Snapshot]] = {}
        self._turns = Turns(BUILDS_AT_ONCE)
        self._ends: dict[Scope, asyncio.TimerHandle] = {}
        self._counts: dict[Scope, tuple[float, asyncio.Task[int]]] = {}
        """How many rows a scope has, and until when that is good enough."""
        self.built = 0
        """How many were built so far."""

    async def reason(self, tenant_id: str, head: log.Head, place: Place | None) -> ResetReason.ValueType | None:
        """Why a till that says hello at this place needs a snapshot; None when it can go on. Reads at most one number."""
        reason = ranges.restart_reason(head, place)
        if reason is not None or place is None or head.last_seq - place.seq <= ranges.FEW:
            return reason
        return ranges.restart_reason(head, place, snapshot_rows=await self._rows(tenant_id, place.lane))

    @asynccontextmanager
    async def open(self, tenant_id: str, lane: str, head: log.Head, *, begun: str = "") -> AsyncIterator[Snapshot]:
        """A snapshot of a lane that a till can go on from, held for as long as the block runs.

        `head` is the lane's, as read when it was found that a snapshot is needed; `begun` the id of the snapshot whose first
        pieces the till has, which comes again if it still serves.

        Raises:
            Busy: too many are being read at the moment to keep one more; the till comes back.
            Unreachable: as Database says.
        """
        scope = (tenant_id, lane)
        snapshot = self._kept.get(scope)
        if snapshot is None or not (snapshot.serves(head) or (begun == snapshot.id and self._reaches(snapshot, head))):
            snapshot = await self._built(scope)
            while snapshot.spool.closed:  # others needed the room in the moment before it was taken
                snapshot = await self._built(scope)
        self._hold(scope, snapshot)
        try:
            yield snapshot
        finally:
            self._release(scope, snapshot)

    async def _built(self, scope: Scope) -> Snapshot:
        """A new one, shared by all who come while it is being built."""
        task = self._building.get(scope)
        if task is None:
            # A task of its own, outside the call of the till that came first: it goes on for the others.
            task = self._building[scope] = asyncio.get_running_loop().create_task(self._build(scope), context=Context())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _build(self, scope: Scope) -> Snapshot:
        tenant_id, lane = scope
        try:
            async with self._turns.taken(tenant_id):
                self._make_room()
                try:
                    snapshot = await self._read(tenant_id, lane)
                except OSError as error:
                    logger.exception("snapshot_not_spooled", tenant_id=tenant_id, lane=lane)
                    raise Busy(
                        "The cloud has no room for a copy of the catalogue at the moment. Come back in a minute."
                    ) from error
            self.built += 1
            if (before := self._kept.pop(scope, None)) is not None:
                self._let_go(before)
            self._kept[scope] = snapshot
            self._size += snapshot.spool.size
            self._hold(scope, snapshot)
            self._release(scope, snapshot)  # from now on its time runs, whoever takes it
            return snapshot
        finally:
            del self._building[scope]

    async def _read(self, tenant_id: str, lane: str) -> Snapshot:
        spool = Spool(self._folder)
        async with self._database.snapshot(tenant_id) as connection:
            head = (await log.heads(connection, tenant_id))[lane]
            snapshot = Snapshot(new_id("snp"), lane, head, spool)
            if lane != log.TENANT_LANE:
                snapshot.marks = await _marks(connection, tenant_id, lane)
            parts: list[bytes] = []
            size = 0
            async for part in _changes(connection, tenant_id, lane, head.last_seq):
                if parts and size + len(part) > PIECE_BYTES:
                    await spool.add(wire.part_changes(parts))
                    parts, size = [], 0
                parts.append(part)
                size += len(part)
                snapshot.rows += 1
        if parts or not len(spool):
            await spool.add(wire.part_changes(parts))
        return snapshot

    async def _rows(self, tenant_id: str, lane: str) -> int:
        scope = (tenant_id, lane)
        if (kept := self._kept.get(scope)) is not None:
            return kept.rows
        loop = asyncio.get_running_loop()
        until, task = self._counts.get(scope, (0.0, None))
        if task is None or until < loop.time() or (task.done() and (task.cancelled() or task.exception() is not None)):
            if len(self._counts) >= COUNTS_KEPT:
                self._counts.clear()
            task = loop.create_task(self._count(tenant_id, lane), context=Context())
            self._counts[scope] = (loop.time() + COUNT_SECONDS, task)
        return await asyncio.shield(task)

    async def _count(self, tenant_id: str, lane: str) -> int:
        async with self._database.reading(tenant_id) as connection:
            if lane == log.TENANT_LANE:
                return await products.number(connection, tenant_id)
            return await levels.number_of_outlet(connection, tenant_id, lane)

    @staticmethod
    def _reaches(snapshot: Snapshot, head: log.Head) -> bool:
        """Whether the tail can be continued from it, however long it is: most of it is on the till already."""
        return ranges.restart_reason(head, snapshot.place) is None

    def _hold(self, scope: Scope, snapshot: Snapshot) -> None:
        snapshot.readers += 1
        if self._kept.get(scope) is snapshot:
            self._kept[scope] = self._kept.pop(scope)
            if (end := self._ends.pop(scope, None)) is not None:
                end.cancel()

    def _release(self, scope: Scope, snapshot: Snapshot) -> None:
        snapshot.readers -= 1
        if snapshot.readers:
            return
        if self._kept.get(scope) is snapshot:
            self._ends[scope] = asyncio.get_running_loop().call_later(self._kept_seconds, self._forget, scope)
        else:
            self._size -= snapshot.spool.size
            snapshot.spool.close()

    def _forget(self, scope: Scope) -> None:
        if (end := self._ends.pop(scope, None)) is not None:
            end.cancel()
        if (snapshot := self._kept.pop(scope, None)) is not None:
            self._let_go(snapshot)

    def _let_go(self, snapshot: Snapshot) -> None:
        """No new reader gets it; the disk space goes with the last one that has it."""
        if not snapshot.readers:
            self._size -= snapshot.spool.size
            snapshot.spool.close()

    def _make_room(self) -> None:
        for scope in [scope for scope, snapshot in self._kept.items() if not snapshot.readers]:
            if self._size < self._most_bytes:
                return
            self._forget(scope)
        if self._size >= self._most_bytes:
            raise Busy("Too many tills are fetching the whole catalogue at the moment. Come back in a minute.")

    async def close(self) -> None:
        """Stops building and gives the disk space back. Who still reads gets an error."""
        for task in list(self._building.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        for end in self._ends.values():
            end.cancel()
        for snapshot in self._kept.values():
            snapshot.spool.close()
        self._kept.clear()
        self._ends.clear()
        self._size = 0


async def _changes(connection: AsyncConnection, tenant_id: str, lane: str, seq: int) -> AsyncIterator[bytes]:
    """Every row of the lane's state, as serialised changes."""
    if lane == log.TENANT_LANE:
        async for page in products.pages(connection, tenant_id, ROWS_AT_ONCE):
            for product in page:
                product.ClearField("cost")  # never leaves the office
                yield wire.product_change(seq, product.SerializeToString())
    else:
        async for shelf in levels.pages_of_outlet(connection, tenant_id, lane, ROWS_AT_ONCE):
            for level in shelf:
                yield wire.level_change(seq, level.SerializeToString())


async def _marks(connection: AsyncConnection, tenant_id: str, outlet_id: str) -> dict[tuple[str, int], int]:
    """How far each till of the outlet is at this moment: a spool is shared, a watermark is not."""
    outlet = await outlets.find(connection, tenant_id, outlet_id)
    column = till_stores.c
    tills = sa.literal([till.id for till in outlet.tills], sa.ARRAY(sa.Text))
    query = sa.select(column.till_id, column.store_epoch, column.op_watermark).where(
        column.tenant_id == tenant_id, column.till_id == sa.any_(tills)
    )
    return {(row.till_id, row.store_epoch): row.op_watermark for row in await connection.execute(query)}
