"""What a till sends: each operation takes effect exactly once, in order, with its watermark in the same transaction.

Sales are facts. They are stored as they were said, at worst marked for a person to look at; one that cannot even be stored is put
aside, and the queue behind it moves on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.platform import trail
from cloud.platform.database import Database, Transaction
from cloud.platform.rpc import Caller
from cloud.sales import sales
from cloud.sync.tables import quarantined_operations, till_links, till_stores
from gipos.edge.v1.link_pb2 import Operation, Quarantined
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.sales_pb2 import Sale
from kernel import pricing, quantities
from kernel.business_days import business_date
from kernel.errors import Invalid, PermissionDenied
from kernel.ids import is_id, new_id

CLOCK_TOLERANCE = timedelta(hours=24)
"""A till's clock that is further off than this gets its sales marked."""

_LINK, _STORE = till_links.c, till_stores.c
logger = structlog.get_logger()

_OPEN = sa.text(
    """
    INSERT INTO till_links AS l (tenant_id, till_id, store_epoch, session, connected_at)
    VALUES (:tenant_id, :till_id, :store_epoch, 1, :now)
    ON CONFLICT (tenant_id, till_id) DO UPDATE
        SET session = l.session + 1, connected_at = excluded.connected_at, store_epoch = excluded.store_epoch
    RETURNING session
    """
)
_OPEN_STORE = sa.text(
    """
    INSERT INTO till_stores AS s (tenant_id, till_id, store_epoch) VALUES (:tenant_id, :till_id, :store_epoch)
    ON CONFLICT (tenant_id, till_id, store_epoch) DO UPDATE SET store_epoch = s.store_epoch
    RETURNING op_watermark
    """
)
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
    last_sale_number: str
    """The highest receipt number the cloud knows of the till."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch."""

    op_watermark: int
    expected_op_seq: int = 0
    """Not 0 when the batch left a gap: where the till must go on."""
    quarantined: Sequence[Quarantined] = field(default_factory=tuple)


async def open_session(database: Database, caller: Caller, store_epoch: int) -> Session:
    """Begins a session. A till with a new store begins to count from 1; one whose old store came back goes on where that was."""
    till = {"tenant_id": caller.tenant_id, "till_id": caller.till_id}
    async with database.transaction(caller.tenant_id) as tx:
        number = (await tx.run(_OPEN, **till, store_epoch=store_epoch, now=tx.now)).scalar_one()
        watermark = (await tx.run(_OPEN_STORE, **till, store_epoch=store_epoch)).scalar_one()
        last = (await tx.run(_LAST_NUMBER, **till)).scalar_one_or_none()
        return Session(number, store_epoch, watermark, last or "")


async def store(database: Database, caller: Caller, session: Session, operations: Sequence[Operation]) -> Outcome:
    """Stores a batch in one transaction; when its data is bad, one operation at a time.

    Raises:
        PermissionDenied: a newer session of the till has taken over.
    """
    try:
        return await _store(database, caller, session, operations, alone=len(operations) == 1)
    except (DBAPIError, Invalid, ValueError) as error:
        if len(operations) == 1 or not _is_bad_data(error):
            raise
        logger.warning("batch_split", till_id=caller.till_id, error=str(error))
    outcome = Outcome(0)
    aside: list[Quarantined] = []
    for operation in operations:
        outcome = await _store(database, caller, session, [operation], alone=True)
        aside += outcome.quarantined
        if outcome.expected_op_seq:
            break
    return Outcome(outcome.op_watermark, outcome.expected_op_seq, aside)


async def _store(
    database: Database, caller: Caller, session: Session, operations: Sequence[Operation], *, alone: bool
) -> Outcome:
    aside: list[Quarantined] = []
    trail.upload(())
    async with database.transaction(caller.tenant_id) as tx:
        # First lock of the transaction: batches of one till are worked on one after the other.
        query = sa.select(_LINK.session).where(_LINK.tenant_id == caller.tenant_id, _LINK.till_id == caller.till_id)
        if (await tx.connection.execute(query.with_for_update())).scalar_one() != session.number:
            raise PermissionDenied("Another session of this till has taken over. Only one tablet may use a device token.")
        mine = (
            _STORE.tenant_id == caller.tenant_id,
            _STORE.till_id == caller.till_id,
            _STORE.store_epoch == session.store_epoch,
        )
        watermark = (await tx.connection.execute(sa.select(_STORE.op_watermark).where(*mine))).scalar_one()
        fresh = [operation for operation in operations if operation.op_seq > watermark]
        for place, operation in enumerate(fresh):
            if operation.op_seq != watermark + 1 + place:
                return Outcome(watermark, expected_op_seq=watermark + 1)
        if not fresh:
            return Outcome(watermark)
        if alone:
            try:
                async with tx.connection.begin_nested():
                    await _apply(tx, caller, fresh)
            except (DBAPIError, Invalid, ValueError) as error:
                if not _is_bad_data(error):
                    raise
                tx.events.clear()
                aside.append(await _quarantine(tx, caller, session, fresh[0], error))
        else:
            await _apply(tx, caller, fresh)
        trail.upload([operation.sale_recorded.id for operation in fresh])
        watermark = fresh[-1].op_seq
        ahead = sum(event.lane == caller.outlet_id for event in tx.events)
        # The lane's counter is locked here and not at the very end, because the till's row must name the position it moves to.
        head = sa.text("SELECT last_seq FROM log_heads WHERE tenant_id = :tenant_id AND lane = :lane FOR UPDATE")
        last_seq = (await tx.run(head, tenant_id=caller.tenant_id, lane=caller.outlet_id)).scalar_one()
        await tx.connection.execute(sa.update(till_stores).where(*mine).values(op_watermark=watermark, log_seq=last_seq + ahead))
    return Outcome(watermark, quarantined=aside)


def _is_bad_data(error: Exception) -> bool:
    """Whether it is the operation's own fault, so that sending it again cannot help.

    By SQLSTATE, because the driver raises many of them under one class: 22 data exception, 23 constraint, 54 too large.
    """
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None) or "")[:2] in {"22", "23", "54"}
    return True


async def _apply(tx: Transaction, caller: Caller, operations: Sequence[Operation]) -> None:
    outlet = await outlets.find(tx.connection, tx.tenant_id, caller.outlet_id)
    recorded = []
    for operation in operations:
        if operation.WhichOneof("body") != "sale_recorded":
            raise ValueError("This version of the cloud does not know this kind of operation.")
        recorded.append(_fact(operation, caller, outlet, tx.now))
    known = await products.by_ids(tx.connection, tx.tenant_id, {line.product_id for sale in recorded for line in sale.lines})
    for sale in recorded:
        if any(line.product_id not in known for line in sale.lines):
            sale.review_reasons.append("PRODUCT_UNKNOWN")
    await sales.store(tx, recorded)


def _fact(operation: Operation, caller: Caller, outlet: Outlet, now: datetime) -> Sale:
    """The sale as the till said it, with what only the cloud can know, and marks where something does not fit.

    Raises:
        ValueError: it cannot be stored at all.
    """
    sale = Sale()
    sale.CopyFrom(operation.sale_recorded)
    if not is_id(sale.id, "sal"):
        raise ValueError("The sale has no id of the right shape.")
    if not sale.lines:
        raise ValueError("The sale has no lines.")
    marks = []
    for line in sale.lines:
        quantities.parse(line.quantity)
    if len({line.id for line in sale.lines}) < len(sale.lines) or not all(is_id(line.id, "sli") for line in sale.lines):
        # Refunds name lines by id; two with one id would be given back twice.
        for line in sale.lines:
            line.id = new_id("sli")
        marks.append("LINE_IDS_REPLACED")
    sale.till_id, sale.outlet_id = caller.till_id, caller.outlet_id
    sale.channel = sale.channel or "pos"
    if not sale.HasField("sale_time"):
        sale.sale_time.CopyFrom(operation.occurred_time)
    sold_at = sale.sale_time.ToDatetime(tzinfo=UTC)
    try:
        date.fromisoformat(sale.business_date)
    except ValueError:
        sale.business_date = business_date(sold_at, outlet.time_zone).isoformat()
    del sale.review_reasons[:]
    sale.review_reasons.extend(marks)
    if not now - timedelta(days=365) < sold_at < now + CLOCK_TOLERANCE:
        sale.review_reasons.append("CLOCK_SUSPECT")
    again = Sale()
    again.CopyFrom(sale)
    pricing.total_up(again, date.fromisoformat(sale.business_date))
    if again.total.amount + sale.rounding.amount - again.rounding.amount != sale.total.amount:
        sale.review_reasons.append("TOTAL_MISMATCH")
    return sale


async def _quarantine(tx: Transaction, caller: Caller, session: Session, operation: Operation, error: Exception) -> Quarantined:
    # What the database said stays in the log; the till and the owner read a sentence.
    message = str(error) if isinstance(error, ValueError) else "The database could not store it; our log has the details."
    logger.error("operation_quarantined", till_id=caller.till_id, op_seq=operation.op_seq, exc_info=error)
    await tx.connection.execute(
        insert(quarantined_operations)
        .values(
            tenant_id=tx.tenant_id,
            till_id=caller.till_id,
            store_epoch=session.store_epoch,
            op_seq=operation.op_seq,
            reason="NOT_UNDERSTOOD",
            message=message,
            operation=operation.SerializeToString(),
        )
        .on_conflict_do_nothing()  # a till whose old store came back may send it again
    )
    return Quarantined(op_seq=operation.op_seq, reason="NOT_UNDERSTOOD", message=message)
