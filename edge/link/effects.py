"""Carries out what the session orders, each order in one transaction of the file it concerns."""

from __future__ import annotations

import apsw
import structlog

from edge.link.lanes import Begun, Place
from edge.link.orders import (
    Acknowledge,
    Adopt,
    AdoptPolicy,
    Apply,
    BeginAnew,
    BeginStore,
    ClockSample,
    Complain,
    Execute,
    Order,
    Reconnect,
    Refuse,
    Renumber,
    Stage,
)
from edge.link.session import Session, Standing
from edge.link.uploads import Pace
from edge.storage import facts, lanes, outbox, outlets, receipt_numbers
from edge.storage.database import DAMAGE, StorageFull
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Welcome
from kernel import capabilities

_log = structlog.get_logger(__name__)


class StreamOver(Exception):
    """The session has ordered the end of the stream; the order says how to go on."""

    def __init__(self, order: Reconnect | Refuse) -> None:
        super().__init__(order)
        self.order = order


async def carry_out(order: Order, session: Session, storage: Storage) -> None:
    """Does what was ordered and tells the session where it must know.

    Raises:
        StreamOver: the order was to end the stream.
        StorageFull: the disk is full; nothing was changed, and the position stays where it was.
    """
    match order:
        case Adopt(welcome):
            await _adopt(welcome, storage)
        case Acknowledge(op_watermark, quarantined):
            notes = [(note.op_seq, note.reason or "UNSPECIFIED", note.message) for note in quarantined]
            now = storage.clock()

            def acknowledge(connection: apsw.Connection) -> None:
                outbox.acknowledge(connection, op_watermark, now)
                outbox.quarantine(connection, notes)

            await storage.store.write(acknowledge)
        case Renumber(above):
            standing = await storage.store.write(lambda connection: outbox.renumber(connection, above))
            session.renumbered(standing.last_op_seq, standing.first_op_seq)
        case BeginStore(epoch, op_watermark):
            await storage.begin_epoch(epoch, op_watermark)
        case BeginAnew(wanted):
            await storage.begin_anew(wanted)
        case Apply() | Stage():
            await _fill(order, session, storage)
        case Reconnect() | Refuse():
            raise StreamOver(order)
        case ClockSample() | Execute() | AdoptPolicy() | Complain():
            # The client sees to these: it has what they need.
            return


async def _fill(order: Apply | Stage, session: Session, storage: Storage) -> None:
    """Puts rows of the cloud into the replica. What does not go in is disputed: nothing of it was stored."""
    try:
        match order:
            case Apply(changes):
                await storage.replica.write(lambda connection: lanes.apply(connection, changes))
                session.applied(changes)
            case Stage(part):
                put = lanes.activate if part.last else lanes.stage
                await storage.replica.write(lambda connection: put(connection, part))
                session.staged(part)
    except (StorageFull, apsw.IOError, *DAMAGE):
        raise  # says something about the tablet and nothing about the frame
    except Exception as error:  # noqa: BLE001 (whatever is wrong with the frame, the cloud is told and the link goes on)
        what = order.changes if isinstance(order, Apply) else order.part
        _log.warning("frame_not_applied", lane=what.lane, epoch=what.epoch, error=repr(error))
        for further in session.failed(what):
            await carry_out(further, session, storage)


async def new_session(
    storage: Storage,
    *,
    snapshot_lanes: set[str],
    software_version: str,
    boot_id: str = "",
    offered: frozenset[str] = capabilities.ALL,
    pace: Pace | None = None,
) -> Session:
    """A session that begins where the till's files stand; the lanes named are asked for anew."""
    # A new life that was begun and not noted on both sides: else the stock counts by numbers of the life before.
    await storage.match_lives()

    def look(connection: apsw.Connection) -> tuple[dict[str, lanes.Position], dict[str, lanes.Begun]]:
        return lanes.positions(connection), lanes.begun(connection)

    positions, begun = await storage.replica.read(look)
    standing, till_id = await storage.store.read(
        lambda connection: (outbox.standing(connection), facts.text(connection, facts.TILL_ID))
    )
    resumed = {
        lane: Begun(one.snapshot_id, one.epoch, one.seq, one.next_index)
        for lane, one in begun.items()
        if one.snapshot_id and lane not in snapshot_lanes and capabilities.RESUMED_SNAPSHOTS in offered
    }
    return Session(
        Standing(
            store_epoch=storage.store_epoch,
            till_id=till_id,
            positions={
                lane: Place(position.epoch, position.seq, position.op_watermark)
                for lane, position in positions.items()
                if lane not in snapshot_lanes and lane not in resumed
            },
            begun=resumed,
            last_op_seq=standing.last_op_seq,
            first_op_seq=standing.first_op_seq,
            acknowledged_op_seq=standing.acknowledged_op_seq,
            acknowledged_op_id=standing.acknowledged_op_id,
            waiting=standing.waiting,
            oldest_waiting_ms=standing.oldest_waiting_ms,
            boot_id=boot_id,
            software_version=software_version,
            capabilities=offered,
        ),
        pace,
    )


async def _adopt(welcome: Welcome, storage: Storage) -> None:
    now = storage.clock()

    def keep(connection: apsw.Connection) -> None:
        facts.put(connection, facts.TILL_ID, welcome.till.id)
        outbox.settle(connection, welcome.op_watermark, now)
        heads = {head.lane: head.epoch for head in welcome.heads}
        if outbox.met(connection, heads.get(lanes.TENANT_LANE, 0)):
            # It may have lost what was acknowledged in earlier lives, too, and nobody asks for that by its numbers.
            outbox.revive(connection)
        receipt_numbers.follow(connection, welcome.last_sale_number, welcome.till)

    # The store before the replica: the identity, with which sales can be made, must not be there before the count is.
    await storage.store.write(keep)
    identity = outlets.Identity(tenant_id=welcome.tenant_id, outlet=welcome.outlet, till=welcome.till)

    def follow(connection: apsw.Connection) -> None:
        outlets.put(connection, identity)
        lanes.keep_only(connection, (lanes.TENANT_LANE, welcome.outlet.id))

    await storage.replica.write(follow)
