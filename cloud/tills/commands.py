"""Commands to tills: kept until the till has said what became of them. It does each at most once; here they are handed over.

A command that was handed over is handed over again when the till comes back without having answered: it knows by the id whether
it has done it. One that nobody fetched in time is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import trail
from cloud.platform.calls import Caller
from cloud.platform.database import Database, Transaction
from cloud.tills import devices
from cloud.tills.tables import till_commands
from gipos.edge.v1.link_pb2 import Command, CommandOutcome, CommandResult
from gipos.v1.devices_pb2 import DeviceCommand, SendCommandRequest
from kernel.errors import Invalid, NotFound, Violation
from kernel.ids import new_id

EXPIRES_SECONDS = 300
KEPT_DAYS = 30
ASKED_AGAIN = timedelta(hours=48)
"""How long a till is asked what became of a command that it got. It remembers longer than that."""
AT_ONCE = 50
"""Commands handed to a till at a time."""

_STATUS = {
    CommandOutcome.COMMAND_OUTCOME_DONE: "done",
    CommandOutcome.COMMAND_OUTCOME_FAILED: "failed",
    CommandOutcome.COMMAND_OUTCOME_EXPIRED: "expired",
    CommandOutcome.COMMAND_OUTCOME_UNSUPPORTED: "unsupported",
}
_TOO_LATE = "The till was not connected in time."
_TOO_OLD = "This till's program is too old for commands. Update it."
_T = till_commands.c
_FORGET = sa.text("DELETE FROM till_commands WHERE created_at < now() - make_interval(days => :days)")


async def create(tx: Transaction, request: SendCommandRequest) -> DeviceCommand:
    """Keeps a command for a till. Whoever commits it rings (mail.py).

    Raises:
        NotFound: no such till.
        Invalid: what the kind needs is missing.
    """
    await devices.find(tx.connection, tx.tenant_id, request.device_id)
    command = _command(request)
    command.command_id = new_id("cmd")
    expires_at = tx.now + timedelta(seconds=request.expires_in_seconds or EXPIRES_SECONDS)
    command.expire_time.FromDatetime(expires_at)
    await tx.connection.execute(
        sa.insert(till_commands).values(
            tenant_id=tx.tenant_id,
            id=command.command_id,
            till_id=request.device_id,
            kind=request.kind,
            body=command.SerializeToString(),
            created_at=tx.now,
            expires_at=expires_at,
        )
    )
    trail.about(request.device_id, ["command"])
    return await find(tx.connection, tx.tenant_id, request.device_id, command.command_id)


def _command(request: SendCommandRequest) -> Command:
    command = Command()
    match request.kind:
        case "reprint":
            if not request.sale_id:
                raise Invalid([Violation("sale_id", "REQUIRED", "Say which sale's receipt is to be printed again.")])
            command.reprint.sale_id = request.sale_id
        case "open_drawer":
            command.open_drawer.SetInParent()
        case "test_print":
            command.test_print.SetInParent()
        case "refresh":
            command.refresh_lane.SetInParent()
        case _:
            assert request.kind == "resend", "the contract lists the kinds"
            command.resend.from_op_seq = max(1, request.from_op_seq)
    return command


async def find(connection: AsyncConnection, tenant_id: str, till_id: str, command_id: str) -> DeviceCommand:
    """A command and what became of it.

    Raises:
        NotFound: no such command for this till.
    """
    query = sa.select(till_commands).where(_T.tenant_id == tenant_id, _T.id == command_id, _T.till_id == till_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no command {command_id} for this device.", command_id=command_id)
    shown = DeviceCommand(id=row.id, device_id=row.till_id, kind=row.kind, status=row.status, message=row.message)
    if row.status == "waiting" and row.expires_at <= datetime.now(UTC):
        shown.status, shown.message = "expired", _TOO_LATE
    shown.create_time.FromDatetime(row.created_at)
    shown.expire_time.FromDatetime(row.expires_at)
    if row.settled_at is not None:
        shown.settle_time.FromDatetime(row.settled_at)
    return shown


async def waiting(connection: AsyncConnection, tenant_id: str, till_id: str) -> Sequence[str]:
    """The ids of commands that a till has to be given, oldest first."""
    query = (
        sa.select(_T.id)
        .where(_T.tenant_id == tenant_id, _T.till_id == till_id, _T.status.in_(("waiting", "sent")))
        .where(_T.created_at > sa.func.now() - ASKED_AGAIN)
        .order_by(_T.id)
        .limit(AT_ONCE)
    )
    return (await connection.execute(query)).scalars().all()


async def sent(database: Database, who: Caller, ids: Sequence[str], *, able: bool) -> list[Command]:
    """Notes that commands are handed over now, and returns them. Those whose time is over, and those for too old a till, end."""
    async with database.transaction(who.tenant_id) as tx:
        mine = (_T.tenant_id == who.tenant_id, _T.till_id == who.till_id, _T.id.in_(ids))
        found = sa.select(_T.id, _T.status, _T.body, _T.expires_at).where(*mine, _T.status.in_(("waiting", "sent")))
        rows = (await tx.connection.execute(found.order_by(_T.id).with_for_update())).all()
        late = [row.id for row in rows if row.status == "waiting" and row.expires_at <= tx.now]
        good = [row for row in rows if row.id not in late]
        await _set(tx, late, status="expired", message=_TOO_LATE, settled_at=tx.now)
        if not able:
            await _set(tx, [row.id for row in good], status="unsupported", message=_TOO_OLD, settled_at=tx.now)
            return []
        await _set(tx, [row.id for row in good], status="sent", sent_at=tx.now)
    return [Command.FromString(row.body) for row in good]


async def settle(database: Database, who: Caller, result: CommandResult) -> None:
    """Notes what a till says became of a command. The first word counts; of a command of another till there is none."""
    status = _STATUS.get(result.outcome, "failed")
    async with database.transaction(who.tenant_id) as tx:
        mine = (_T.tenant_id == who.tenant_id, _T.till_id == who.till_id, _T.id == result.command_id)
        is_open = _T.status.in_(("waiting", "sent"))
        message = result.message[:500].replace("\0", "")
        await tx.connection.execute(
            sa.update(till_commands).where(*mine, is_open).values(status=status, message=message, settled_at=tx.now)
        )


async def forget_old(database: Database) -> int:
    """Removes commands that are older than 30 days; how many."""
    async with database.across_tenants() as connection:
        return (await connection.execute(_FORGET, {"days": KEPT_DAYS})).rowcount


async def _set(tx: Transaction, ids: Sequence[str], **values: object) -> None:
    if ids:
        mine = (_T.tenant_id == tx.tenant_id, _T.id.in_(ids))
        await tx.connection.execute(sa.update(till_commands).where(*mine).values(**values))
