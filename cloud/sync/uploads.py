"""What a till sends: each operation takes effect exactly once, in order, with its watermark in the same transaction.

Sales are facts. They are stored as they were said, at worst marked for a person to look at; one that cannot even be stored is put
aside, and the queue behind it moves on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from cloud.platform import calls, precedence, trail
from cloud.platform.database import Database
from cloud.platform.rpc import Caller
from cloud.platform.turns import Turns
from cloud.sync import batches, facts, forks, restores, watermarks
from cloud.sync.batches import Batch, Outcome
from cloud.sync.facts import Item, Place
from cloud.sync.gathering import Gathering
from gipos.edge.v1.link_pb2 import Hello, Operation
from kernel import business_days
from kernel.errors import Busy, GiposError, TillChanged, Unreachable

__all__ = ["Intake", "Outcome", "Session", "open_session", "store"]

AT_ONCE = 2
"""Transactions of uploads per process: a fleet that comes back must leave connections and processor to those who wait."""
ASIDE_SECONDS, SLICE_ASIDE_SECONDS = 0.02, 0.001
"""How long uploads wait for calls to be answered, before a transaction and between two slices."""
MOST_UNTOLD = 1_000
"""Operations that are stored and not acknowledged to their tablet at most: two batches of 500 may be under way."""
COUNTED_BY_CLOCK = 2**52
"""Lives are numbered by milliseconds since 1970; a number so large was made up, and is only counted on."""
SLICE = 10
"""Operations that are read before others get a turn; batches that are no longer need not queue for being read."""

logger = structlog.get_logger()

_LINK = sa.text(
    """
    SELECT store_epoch, forked_epoch, forked_at FROM till_links WHERE tenant_id = :tenant_id AND till_id = :till_id FOR UPDATE
    """
)
_OPEN = sa.text(
    """
    INSERT INTO till_links AS l (tenant_id, till_id, store_epoch, session, connected_at)
    VALUES (:tenant_id, :till_id, :epoch, 1, :now)
    ON CONFLICT (tenant_id, till_id) DO UPDATE
        SET session = l.session + 1, connected_at = excluded.connected_at,
            store_epoch = greatest(l.store_epoch, excluded.store_epoch)
    RETURNING session
    """
)
_OPEN_STORE = sa.text(
    """
    INSERT INTO till_stores AS s (tenant_id, till_id, store_epoch) VALUES (:tenant_id, :till_id, :epoch)
    ON CONFLICT (tenant_id, till_id, store_epoch) DO UPDATE SET store_epoch = s.store_epoch
    RETURNING op_watermark, claimed_seq
    """
)
_CLAIM = sa.text(
    """
    UPDATE till_stores SET claimed_seq = :claimed WHERE tenant_id = :tenant_id AND till_id = :till_id AND store_epoch = :epoch
    """
)
_SETTLE_FORK = sa.text("UPDATE till_links SET forked_epoch = 0 WHERE tenant_id = :tenant_id AND till_id = :till_id")
_NEWEST = sa.text("SELECT max(store_epoch) FROM till_stores WHERE tenant_id = :tenant_id AND till_id = :till_id")
_ZONE = sa.text("SELECT time_zone FROM outlets WHERE tenant_id = :tenant_id AND id = :outlet_id")
_LAST_NUMBER = sa.text(
    """
    SELECT number FROM sales WHERE tenant_id = :tenant_id AND till_id = :till_id AND number <> ''
    ORDER BY length(number) DESC, number DESC LIMIT 1
    """
)


@dataclass(frozen=True)
class Session:
    """One life of a link. A newer one of the same till fences the older."""

    number: int
    store_epoch: int
    op_watermark: int
    """For Welcome: what the till may take for stored. Lower than what is stored where the cloud wants to compare."""
    last_sale_number: str
    """The highest receipt number the cloud knows of the till."""
    new_store_epoch: int = 0
    """For Welcome: not 0 when another tablet has lived under this name."""
    time_zone: str = ""
    """Of the outlet; empty when it is not known."""
    is_old: bool = False
    """The till is of a version that says nothing of what was acknowledged."""
    is_closed: bool = False
    """The till has to begin its new life before it may upload: its numbers are those of another tablet."""
    stored: int = 0
    """What was stored of this life when the session began. Between op_watermark and this, operations have to be compared."""
    lost_history: bool = False
    """The till has shown that the cloud was restored from a backup; the lanes have epochs that its copies do not have."""


async def open_session(database: Database, caller: Caller, hello: Hello) -> Session:
    """Begins a session and fences the one before.

    A till with a new store begins to count from 1; one whose old store came back goes on where that was. Where two tablets live
    under one name, the one that is behind is asked to begin a new life. A till that was acknowledged more than is stored proves
    that the cloud was restored: every lane gets a new epoch, unless its copies are from before the newest one.
    """
    till = {"tenant_id": caller.tenant_id, "till_id": caller.till_id}
    epoch, acknowledged = hello.store_epoch, hello.acknowledged_op_seq
    is_old = says_little(hello)
    async with database.transaction(caller.tenant_id) as tx:
        before = (await tx.run(_LINK, **till)).one_or_none()
        number = (await tx.run(_OPEN, **till, epoch=epoch, now=tx.now)).scalar_one()
        store = (await tx.run(_OPEN_STORE, **till, epoch=epoch)).one()
        stored, claimed = store.op_watermark, store.claimed_seq
        last = (await tx.run(_LAST_NUMBER, **till)).scalar_one_or_none()
        zone = (await tx.run(_ZONE, tenant_id=caller.tenant_id, outlet_id=caller.outlet_id)).scalar_one_or_none()

        sent = [(acknowledged, hello.acknowledged_op_id)] if 0 < acknowledged <= stored else []
        named = sent if hello.acknowledged_op_id else []
        is_other = bool(await watermarks.strangers(tx, caller.till_id, epoch, named))
        # No till lacks so many acknowledgements; and of the numbers in between not all may be remembered, to tell two apart.
        is_other = is_other or (not is_old and stored - acknowledged > MOST_UNTOLD)
        is_behind = not is_old and 0 < hello.last_op_seq < stored
        is_backwards = before is not None and epoch < before.store_epoch
        was_met = before is not None and before.forked_epoch == epoch and acknowledged != stored
        new_epoch = 0
        if is_other or is_behind or was_met:
            if not was_met:
                await forks.note(tx, caller.till_id)
            await tx.run(_SETTLE_FORK, **till)
            new_epoch = 1
        elif before is not None and is_backwards:
            await forks.note(tx, caller.till_id)
            # Once it is known that there are two, each may go on in its own life.
            # So may one that shows more than is stored: the cloud was restored, and what is missing comes under its old numbers.
            is_known = before.forked_at is not None and before.forked_at > tx.now - forks.SAID_AGAIN_AFTER and bool(sent)
            is_known = is_known or acknowledged > stored
            new_epoch = 0 if is_known else 1
        if new_epoch:
            # By the clock, too: a cloud that was restored must not give a number out again that it does not remember.
            newest = (await tx.run(_NEWEST, **till)).scalar_one()
            new_epoch = max(newest + 1, int(tx.now.timestamp() * 1000)) if newest < COUNTED_BY_CLOCK else newest + 1
        lost = acknowledged > max(stored, claimed)
        if lost:
            await tx.run(_CLAIM, **till, epoch=epoch, claimed=acknowledged)
            await restores.raise_epochs(tx, {place.lane: place.epoch for place in hello.positions})
    is_closed = new_epoch > 0 and not is_backwards and not is_old
    told = shown(stored, acknowledged, is_old=is_old)
    return Session(number, epoch, told, last or "", new_epoch, zone or "", is_old, is_closed, stored, lost)


def says_little(hello: Hello) -> bool:
    """Whether a hello is that of the first version of the contract, which says nothing of what was acknowledged."""
    return not (hello.boot_id or hello.capabilities or hello.acknowledged_op_seq)


def shown(stored: int, acknowledged: int, *, is_old: bool) -> int:
    """The watermark a till is welcomed with: lower than what is stored where the cloud wants to compare."""
    if not is_old and acknowledged < stored:
        return acknowledged  # the rest it sends again, and whether they are the same operations is compared
    if acknowledged > stored > 0:
        return stored - 1  # as above: the last one that is known tells whether all before it are the same
    return stored


class Intake:
    """Takes uploads in; one per process. Those of an outlet that wait at the same moment share a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = Turns(AT_ONCE)
        self._reading, self._one = asyncio.Lock(), asyncio.Lock()
        self._gathering = Gathering(self._one_transaction)
        self._last: dict[tuple[str, str], asyncio.Event] = {}
        """Of every till with a batch under way: is set when its last one is over."""

    async def store(self, caller: Caller, session: Session, operations: Sequence[Operation]) -> Outcome:
        """Stores a batch in one transaction, with those of other tills or alone.

        Called again for the next batch of a till before the last one is stored, it reads that one in the meantime.

        Raises:
            PermissionDenied: a newer session of the till has taken over, or the till was locked out.
            TillChanged: the till is suspended, or another tablet has its name: it is to come back.
            Invalid: an operation has a number below 1.
            Busy, Unreachable: nothing was stored, or nobody knows; the till sends it again.
        """
        if session.is_closed:
            raise TillChanged(
                "Another tablet has used these numbers. Begin the new life that Welcome names, and say hello again."
            )
        key = (caller.tenant_id, caller.till_id)
        before, over = self._last.get(key), asyncio.Event()
        self._last[key] = over
        try:
            place = Place(caller.till_id, caller.outlet_id, session.time_zone)
            items = await self._read(operations, place)
            if before is not None:
                await before.wait()  # the next batch is read while this one is stored, but none overtakes another
            call = calls.current.get(None)
            doubted = range(session.op_watermark + 1, session.stored + 1)
            batch = Batch(place, session.number, session.store_epoch, items, call, session.is_old, doubted)
            answer = await self._gathering.make(caller.tenant_id, batch) if batch.is_plain else None
            if answer is None:
                answer = await self._alone(caller.tenant_id, batch)
        finally:
            over.set()
            if self._last.get(key) is over:
                del self._last[key]
        if isinstance(answer, GiposError):
            raise answer
        return answer

    async def _read(self, operations: Sequence[Operation], place: Place) -> list[Item]:
        now = business_days.now()
        if len(operations) <= SLICE:
            return facts.understood(operations, place, now)
        items: list[Item] = []
        # One long batch at a time: fifty that take turns would keep everybody else waiting for fifty slices.
        async with self._reading:
            for start in range(0, len(operations), SLICE):
                items += facts.understood(operations[start : start + SLICE], place, now)
                await precedence.calls.step_aside(SLICE_ASIDE_SECONDS)
        return items

    async def _one_transaction(self, tenant_id: str, waiting: list[Batch]) -> Sequence[Outcome | GiposError | None]:
        try:
            async with self._turns.taken(tenant_id), self._stepped_aside(), self._database.together(tenant_id) as tx:
                answers = await batches.together(tx, waiting)
            return answers if tx.along is None else batches.located(answers, waiting, tx.heads)
        except (Busy, Unreachable):
            raise
        except Exception as error:  # noqa: BLE001 (rolled back: one by one it will be found whose fault it is)
            logger.warning("batches_one_by_one", count=len(waiting), error=repr(error)[:300])
            return [None] * len(waiting)

    @asynccontextmanager
    async def _stepped_aside(self) -> AsyncIterator[None]:
        """While somebody waits at a counter, uploads go one after the other, each when no call is in flight or soon after."""
        if not precedence.calls.is_wanted():
            yield
            return
        async with self._one:
            await precedence.calls.step_aside(ASIDE_SECONDS)
            yield

    async def _alone(self, tenant_id: str, batch: Batch) -> Outcome | GiposError:
        trail.upload(())
        async with self._turns.taken(tenant_id), self._database.transaction(tenant_id) as tx:
            answer, ids = await batches.alone(tx, batch)
            trail.upload(ids)
        return answer


_intakes: WeakKeyDictionary[Database, Intake] = WeakKeyDictionary()


async def store(database: Database, caller: Caller, session: Session, operations: Sequence[Operation]) -> Outcome:
    """As Intake.store, by the intake of the process for this database."""
    intake = _intakes.get(database)
    if intake is None:
        intake = _intakes[database] = Intake(database)
    return await intake.store(caller, session, operations)
