"""A till's hello, looked up: the usual one by a single statement, the others by the rules of uploads.py. Sends nothing.

The statement (migrations 0015, 0019 and 0020) begins the session, and answers with all that the till is told first. It steps back
from whatever needs a judgement, having changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cloud.accounts import outlets
from cloud.platform import log
from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.sync import uploads, watermarks
from cloud.sync.ranges import Watermark
from cloud.tills import policies
from gipos.edge.v1.link_pb2 import Hello, OfflinePolicy
from gipos.v1.accounts_pb2 import Outlet
from kernel import business_days
from kernel.errors import Invalid, Violation

COUNTED = 2**62
"""Below this lives and operations are counted: so far from the end of what a database holds that there is always a next one."""

# See migration 0015: the function sets the tenant, so this runs as a single statement inside the fence.
_HELLO = "SELECT * FROM link_hello($1, $2, $3, $4, $5, $6, $7, $8, $9)"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a till that has said hello."""

    session: uploads.Session
    heads: dict[str, log.Head]
    """Of the merchant's lane and the outlet's; read after the session began."""
    outlet: Outlet
    mark: Watermark | None = None
    """What is stored of the till's operations. Only its own uploads move it, and the older session's can no longer. None when it
    was not looked up."""
    policy: OfflinePolicy | None = None
    """None when it was not looked up."""
    has_mail: bool = True
    """There may be commands, or the policy was not looked up."""


async def said(database: Database, who: Caller, hello: Hello) -> Found:
    """Begins a session, as `uploads.open_session`, and reads what the till is told first.

    Raises:
        Busy, Unreachable: nothing is known to have happened; the till says hello again.
        Invalid: it names a number that no till can have counted to; nothing was noted of it.
        NotFound: the till's outlet is gone.
    """
    if wrong := list(_miscounted(hello)):
        raise Invalid(wrong)
    is_old = uploads.says_little(hello)
    op_id = hello.acknowledged_op_id
    rows = await database.statements.fetch(
        _HELLO,
        who.tenant_id,
        who.till_id,
        who.outlet_id,
        hello.store_epoch,
        hello.acknowledged_op_seq,
        hello.last_op_seq,
        is_old,
        watermarks.mark(op_id) if op_id else b"",
        business_days.now(),
    )
    if not rows:
        return await _judged(database, who, hello)
    number, stored, reached, last_number, name, code, address, zone, tax_number, with_tax, footer, created_at, *more = rows[0]
    ids, names, numbers, lanes, epochs, last_seqs, floor_seqs, version, *terms, has_commands = more
    outlet = Outlet(
        id=who.outlet_id,
        name=name,
        code=code,
        address=address,
        time_zone=zone,
        tax_number=tax_number,
        prices_include_tax=with_tax,
        receipt_footer=footer,
    )
    outlet.create_time.FromDatetime(created_at)
    for till_id, till_name, till_number in zip(ids or (), names or (), numbers or (), strict=True):
        outlet.tills.add(id=till_id, name=till_name, number=till_number, outlet_id=who.outlet_id)
    places = zip(lanes or (), epochs or (), last_seqs or (), floor_seqs or (), strict=True)
    heads = {lane: log.Head(epoch, last_seq, floor_seq) for lane, epoch, last_seq, floor_seq in places}
    shown = uploads.shown(stored, hello.acknowledged_op_seq, is_old=is_old)
    session = uploads.Session(number, hello.store_epoch, shown, last_number, 0, zone, is_old, stored=stored)
    policy = await policies.signed(
        database, who.tenant_id, who.till_id, policies.Terms(version, *terms) if version is not None else None
    )
    return Found(session, heads, outlet, Watermark(stored, reached), policy, has_commands)


def _miscounted(hello: Hello) -> Iterator[Violation]:
    for name in ("store_epoch", "last_op_seq", "acknowledged_op_seq"):
        number = getattr(hello, name)
        if not 0 <= number < COUNTED:
            text = f"hello.{name} is {number}, which no till has counted to. Numbers are at least 0 and less than 2^62."
            yield Violation(f"hello.{name}", "OUT_OF_RANGE", text)


async def _judged(database: Database, who: Caller, hello: Hello) -> Found:
    session = await uploads.open_session(database, who, hello)
    async with database.reading(who.tenant_id) as connection:
        heads = await log.heads(connection, who.tenant_id)
        outlet = await outlets.find(connection, who.tenant_id, who.outlet_id)
    return Found(session, heads, outlet)
