"""Tills as their owner sees them: which there are, in what state, and how they are connected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import changes, till_credentials
from cloud.platform import checks, trail
from cloud.platform.database import Transaction
from cloud.tills import presences
from gipos.v1.devices_pb2 import Device
from kernel import business_days
from kernel.errors import Invalid, NotFound, Violation

LONGEST_REASON = 500


async def every(connection: AsyncConnection, tenant_id: str, *, outlet_id: str = "", states: Sequence[str] = ()) -> list[Device]:
    """The tills by outlet and number. What they could not upload is not counted here.

    Raises:
        Invalid: there is no such state.
    """
    if wrong := list(_unknown("states", states)):
        raise Invalid(wrong)
    rows = await till_credentials.rows(connection, tenant_id, outlet_id=outlet_id, states=states)
    seen = await presences.every(connection, tenant_id)
    return [_device(row, seen.get(row.id)) for row in rows]


async def find(connection: AsyncConnection, tenant_id: str, till_id: str) -> Device:
    """One till.

    Raises:
        NotFound: no such till.
    """
    rows = await till_credentials.rows(connection, tenant_id, till_id=till_id)
    if not rows:
        raise _missing(till_id)
    seen = await presences.every(connection, tenant_id)
    return _device(rows[0], seen.get(till_id))


async def set_state(tx: Transaction, till_id: str, state: str, reason: str) -> Device:
    """Changes what a till may do. Whoever announces the change after the commit ends its stream, in whichever process.

    Raises:
        Invalid: there is no such state, or the reason is too long.
        NotFound: no such till.
    """
    wrong = [*_unknown("state", [state]), *checks.text("reason", reason, LONGEST_REASON)]
    if wrong:
        raise Invalid(wrong)
    if not await till_credentials.set_state(tx, till_id, state, reason):
        raise _missing(till_id)
    await changes.note(tx, till_id)
    trail.about(till_id, ["state", "reason"] if reason else ["state"])
    return await find(tx.connection, tx.tenant_id, till_id)


def _unknown(field: str, states: Iterable[str]) -> Iterator[Violation]:
    for state in states:
        if state not in till_credentials.STATES:
            yield Violation(field, "INVALID_ENUM", f"{field} must be one of {', '.join(till_credentials.STATES)}.")


def _missing(till_id: str) -> NotFound:
    return NotFound(f"Device {till_id} does not exist. GET /api/v1/devices lists yours.", device_id=till_id)


def _device(row: sa.Row[Any], seen: sa.Row[Any] | None) -> Device:
    device = Device(
        id=row.id,
        name=row.name,
        outlet_id=row.outlet_id,
        number=row.number,
        state=row.state,
        hardware=row.hardware,
        state_reason=row.state_reason,
    )
    if row.paired_at is not None:
        device.pair_time.FromDatetime(row.paired_at)
    if row.certificate_ends_at is not None:
        device.certificate_expire_time.FromDatetime(row.certificate_ends_at)
    if seen is None:
        return device
    device.is_online = seen.is_online and business_days.now() - seen.heard_at < presences.BELIEVED
    device.seen_time.FromDatetime(seen.heard_at)
    # Of a till whose process died nobody wrote when it went; it was there when it was heard last.
    device.since_time.FromDatetime(seen.since_at if device.is_online or not seen.is_online else seen.heard_at)
    device.waiting_operations = seen.waiting_operations
    device.software_version = seen.software_version
    device.clock_offset_ms = seen.clock_offset_ms
    if seen.forked_at is not None:
        device.fork_time.FromDatetime(seen.forked_at)
    return device
