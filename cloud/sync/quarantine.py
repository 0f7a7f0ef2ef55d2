"""Operations that could not be stored: put aside so that the queue behind them moves on, listed, tried again, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from google.protobuf.message import DecodeError
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import calls, checks, paging, trail
from cloud.platform.calls import Caller
from cloud.platform.database import Announcing, Transaction
from cloud.sync.facts import moment_of
from cloud.sync.tables import quarantined_operations
from cloud.tills import devices
from gipos.edge.v1.link_pb2 import Operation, Quarantined
from gipos.v1.devices_pb2 import ListQuarantineRequest, ListQuarantineResponse, QuarantinedOperation
from kernel import masking, protojson
from kernel.errors import Invalid, NotFound, VersionConflict, Violation
from kernel.event_types import DEVICE_OPERATION_QUARANTINED
from kernel.ids import is_id, new_id

OPEN, STORED, DISCARDED = "open", "stored", "discarded"
SCOPE = "customers:pii"
"""Who has it sees what was put aside in clear: a receipt may name a customer."""

_IMPERSONAL = {"stock_counted", "product_edited"}
_COLUMN = quarantined_operations.c
_OLDEST = paging.Order((_COLUMN.created_at, _COLUMN.id))
logger = structlog.get_logger()

# A till whose old store came back may send it again; it is there already then.
_PUT = sa.text(
    """
    INSERT INTO quarantined_operations (tenant_id, till_id, store_epoch, op_seq, id, outlet_id, kind, reason, message, operation,
                                        occurred_at, created_at)
    VALUES (:tenant_id, :till_id, :epoch, :op_seq, :id, :outlet_id, :kind, :reason, :message, :operation, :occurred_at, :now)
    ON CONFLICT DO NOTHING RETURNING id
    """
)
_TOLD = sa.text(
    """
    SELECT op_seq, reason, message FROM quarantined_operations
    WHERE tenant_id = :tenant_id AND till_id = :till_id AND store_epoch = :epoch AND op_seq = ANY(CAST(:op_seqs AS bigint[]))
    ORDER BY op_seq
    """
)
_OPEN_COUNTS = sa.text(
    """
    SELECT till_id, count(*) FROM quarantined_operations WHERE tenant_id = :tenant_id AND status = 'open' GROUP BY till_id
    """
)
_SETTLE = sa.text(
    """
    UPDATE quarantined_operations SET status = :status, settled_at = :now, settled_by = :by, discard_reason = :discard_reason,
        sale_id = :sale_id
    WHERE tenant_id = :tenant_id AND id = :id
    """
)
_AGAIN = sa.text(
    "UPDATE quarantined_operations SET reason = :reason, message = :message WHERE tenant_id = :tenant_id AND id = :id"
)


async def put(
    tx: Transaction, till_id: str, outlet_id: str, epoch: int, operation: Operation, reason: str, message: str
) -> Quarantined:
    """Puts an operation aside, says so in the log, and to the till."""
    logger.error("operation_quarantined", till_id=till_id, op_seq=operation.op_seq, reason=reason)
    rows = await tx.run(
        _PUT,
        tenant_id=tx.tenant_id,
        till_id=till_id,
        epoch=epoch,
        op_seq=operation.op_seq,
        id=new_id("qop"),
        outlet_id=outlet_id,
        kind=operation.WhichOneof("body") or "unknown",
        reason=reason,
        message=message,
        operation=operation.SerializeToString(),
        occurred_at=_occurred(operation),
        now=tx.now,
    )
    if list(rows):
        await announce(tx, till_id)
    return Quarantined(op_seq=operation.op_seq, reason=reason, message=message)


async def told_again(tx: Announcing, till_id: str, epoch: int, op_seqs: Sequence[int]) -> list[Quarantined]:
    """Which of these operations were put aside. A till that sends them again may have missed the answer that said so."""
    rows = await tx.run(_TOLD, tenant_id=tx.tenant_id, till_id=till_id, epoch=epoch, op_seqs=op_seqs)
    return [Quarantined(op_seq=row[0], reason=row[1], message=row[2]) for row in rows]


def _occurred(operation: Operation) -> Any:
    try:
        return moment_of(operation.occurred_time) if operation.HasField("occurred_time") else None
    except ValueError:
        return None


async def announce(tx: Transaction, till_id: str) -> None:
    """Publishes that the till has another operation put aside."""
    device = await devices.find(tx.connection, tx.tenant_id, till_id)
    device.quarantined_operations = (await open_counts(tx.connection, tx.tenant_id)).get(till_id, 0)
    # In the merchant's lane: it is about the tablet, and no till waits for it.
    tx.publish(DEVICE_OPERATION_QUARANTINED, device, subject_id=till_id, version=1)


async def open_counts(connection: AsyncConnection, tenant_id: str) -> dict[str, int]:
    """How many operations of each till are put aside and want somebody to look at them; tills without any are left out."""
    return {row[0]: row[1] for row in await connection.execute(_OPEN_COUNTS, {"tenant_id": tenant_id})}


async def page(connection: AsyncConnection, caller: Caller, request: ListQuarantineRequest) -> ListQuarantineResponse:
    """What of a till was put aside, oldest first.

    Raises:
        NotFound: no such till.
        Invalid, CursorInvalid: a parameter is not right.
    """
    status = request.status or OPEN
    wrong = list(checks.page_size(request.page_size))
    if status not in {OPEN, STORED, DISCARDED, "all"}:
        wrong.append(Violation("status", "INVALID", 'status must be "open", "stored", "discarded" or "all".'))
    if wrong:
        raise Invalid(wrong)
    await devices.find(connection, caller.tenant_id, request.device_id)
    query = sa.select(quarantined_operations).where(
        _COLUMN.tenant_id == caller.tenant_id, _COLUMN.till_id == request.device_id, _COLUMN.id != ""
    )
    if status != "all":
        query = query.where(_COLUMN.status == status)
    found = await paging.fetch(connection, query, request, _OLDEST)
    return ListQuarantineResponse(
        operations=[shown(row, caller) for row in found.rows],
        next_page_token=found.next_page_token,
        has_more=bool(found.next_page_token),
    )


async def find(connection: AsyncConnection, tenant_id: str, till_id: str, operation_id: str, *, lock: bool = False) -> Any:
    """The row of an operation that was put aside.

    Raises:
        NotFound: no such operation of this till.
    """
    query = sa.select(quarantined_operations).where(
        _COLUMN.tenant_id == tenant_id, _COLUMN.till_id == till_id, _COLUMN.id == operation_id, _COLUMN.id != ""
    )
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound(f"Till {till_id} has no operation {operation_id} put aside.", device_id=till_id, id=operation_id)
    return row


def shown(row: Any, caller: Caller) -> QuarantinedOperation:
    """A row as the caller may see it."""
    answer = QuarantinedOperation(
        id=row.id,
        device_id=row.till_id,
        op_seq=row.op_seq,
        kind=row.kind,
        reason=row.reason,
        message=row.message,
        status=row.status,
        discard_reason=row.discard_reason,
        sale_id=row.sale_id,
    )
    for field, moment in (("occurred_time", row.occurred_at), ("create_time", row.created_at), ("settle_time", row.settled_at)):
        if moment is not None:
            getattr(answer, field).FromDatetime(moment)
    operation = read(row.operation)
    if operation is not None:
        if operation.HasField("sale_recorded"):
            answer.sale_number = operation.sale_recorded.number[:64]
            answer.total.CopyFrom(operation.sale_recorded.total)
        answer.content = _content(operation).decode()
    if row.kind in _IMPERSONAL:
        return answer
    if SCOPE not in caller.scopes:
        return masking.masked(answer)
    if operation is not None and is_id(operation.sale_recorded.customer_id, "cus"):
        calls.call().seen.append(operation.sale_recorded.customer_id)
    return answer


def _content(operation: Operation) -> bytes:
    """The operation as JSON. What is wrong with it may be the very value that JSON cannot express: that one is only named."""
    try:
        return protojson.encode(operation)
    except protojson.EncodingFailed:
        copy, left_out = protojson.spared(operation)
        return protojson.marked(protojson.encode(copy), left_out)


def read(body: bytes) -> Operation | None:
    """The operation; None when its bytes are none."""
    try:
        return Operation.FromString(body)
    except DecodeError:
        return None


def is_settled(row: Any, wanted: str) -> bool:
    """Whether somebody has already done with it what is asked for.

    Raises:
        VersionConflict: somebody has done the opposite.
    """
    if row.status in {OPEN, wanted}:
        return bool(row.status == wanted)
    message = f"Operation {row.id} is {row.status} already, so this is too late. Nothing was changed."
    raise VersionConflict(message, id=row.id, status=row.status)


async def settle(tx: Transaction, row: Any, caller: Caller, status: str, *, discard_reason: str = "", sale_id: str = "") -> None:
    """Notes what became of an operation. Its row must be locked."""
    await tx.run(
        _SETTLE,
        tenant_id=tx.tenant_id,
        id=row.id,
        status=status,
        now=tx.now,
        by=caller.key_id,
        discard_reason=discard_reason,
        sale_id=sale_id,
    )
    trail.about(row.id, ["status"])


async def still_open(tx: Transaction, row: Any, aside: Sequence[Quarantined]) -> None:
    """Notes why an operation could not be stored this time either."""
    for each in aside:
        await tx.run(_AGAIN, tenant_id=tx.tenant_id, id=row.id, reason=each.reason, message=each.message)
    trail.about(row.id, [])


async def discard(tx: Transaction, caller: Caller, till_id: str, operation_id: str, reason: str) -> QuarantinedOperation:
    """Gives an operation up. It stays in the list.

    Raises:
        Invalid: no reason is given.
        NotFound: no such operation of this till.
        VersionConflict: it was stored in the meantime.
    """
    wrong = list(checks.text("reason", reason, 500))
    if not reason.strip():
        wrong.append(Violation("reason", "REQUIRED", "reason is required: somebody will ask why it was given up."))
    if wrong:
        raise Invalid(wrong)
    row = await find(tx.connection, tx.tenant_id, till_id, operation_id, lock=True)
    if not is_settled(row, DISCARDED):
        await settle(tx, row, caller, DISCARDED, discard_reason=reason)
    return shown(await find(tx.connection, tx.tenant_id, till_id, operation_id), caller)
