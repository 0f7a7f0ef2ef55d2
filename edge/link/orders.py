"""Carries out what the session orders, each order in one transaction of the file it concerns."""

from __future__ import annotations

import apsw

from edge.link.session import Acknowledge, Adopt, Apply, Complain, Order, Place, Reconnect, Refuse, Renumber, Session, Stage
from edge.storage import facts, lanes, outbox, outlets, receipt_numbers
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Welcome


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
        case Apply(changes):
            await storage.replica.write(lambda connection: lanes.apply(connection, changes))
            session.applied(changes.lane, changes.epoch, changes.upto_inclusive)
        case Stage(part) if part.last:
            await storage.replica.write(lambda connection: lanes.activate(connection, part))
            session.applied(part.lane, part.epoch, part.seq)
        case Stage(part):
            await storage.replica.write(lambda connection: lanes.stage(connection, part))
        case Complain():
            # What people should read is shown by the client, which keeps the status.
            return
        case Reconnect() | Refuse():
            raise StreamOver(order)


async def new_session(storage: Storage, *, snapshot_lanes: set[str], software_version: str) -> Session:
    """A session that begins where the till's files stand; the lanes named are asked for anew."""
    positions = await storage.replica.read(lanes.positions)
    standing, till_id = await storage.store.read(
        lambda connection: (outbox.standing(connection), facts.text(connection, facts.TILL_ID))
    )
    return Session(
        store_epoch=storage.store_epoch,
        till_id=till_id,
        positions={
            lane: Place(position.epoch, position.seq, position.op_watermark)
            for lane, position in positions.items()
            if lane not in snapshot_lanes
        },
        last_op_seq=standing.last_op_seq,
        first_op_seq=standing.first_op_seq,
        software_version=software_version,
    )


async def _adopt(welcome: Welcome, storage: Storage) -> None:
    now = storage.clock()

    def keep(connection: apsw.Connection) -> None:
        facts.put(connection, facts.TILL_ID, welcome.till.id)
        outbox.settle(connection, welcome.op_watermark, now)
        receipt_numbers.follow(connection, welcome.last_sale_number, welcome.till)

    # The store before the replica: the identity, with which sales can be made, must not be there before the count is.
    await storage.store.write(keep)
    identity = outlets.Identity(tenant_id=welcome.tenant_id, outlet=welcome.outlet, till=welcome.till)

    def follow(connection: apsw.Connection) -> None:
        outlets.put(connection, identity)
        lanes.keep_only(connection, (lanes.TENANT_LANE, welcome.outlet.id))

    await storage.replica.write(follow)
