"""What a till that has said hello is answered: its Welcome, and how each of its lanes goes on. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from cloud.platform import log
from cloud.platform.calls import Caller
from cloud.sync import restores
from cloud.sync.hellos import Found
from cloud.sync.lanes import Lane, LaneState
from cloud.sync.processes import Process
from cloud.sync.ranges import Place, restart_reason
from cloud.sync.sessions import Opened
from gipos.edge.v1.link_pb2 import Hello, LanePosition, ResetReason, Welcome
from kernel import business_days, capabilities

logger = structlog.get_logger()


async def opened(process: Process, who: Caller, hello: Hello, found: Found) -> Opened:
    """The answer to a hello that was looked up.

    Raises:
        Busy, Unreachable: as Database says; the till says hello again.
    """
    upload, state = found.session, who.till_state or "active"
    heads = await _unbroken(process, who, hello, found.heads)
    names = (log.TENANT_LANE, who.outlet_id)
    welcome = Welcome(
        op_watermark=upload.op_watermark,
        reconnect_window_ms=process.admission.window_ms(len(process.streams)),
        tenant_id=who.tenant_id,
        outlet=found.outlet,
        till=next(till for till in found.outlet.tills if till.id == who.till_id),
        last_sale_number=upload.last_sale_number,
        new_store_epoch=upload.new_store_epoch,
        till_state=state,
        heads=[LanePosition(lane=name, epoch=heads[name].epoch, seq=heads[name].last_seq) for name in names],
    )
    welcome.server_time.FromDatetime(business_days.now())
    served = (
        [] if state == "retired" else [await _lane(process, who, hello, found.heads[name], heads[name], name) for name in names]
    )
    return Opened(welcome, served, takes_operations=state != "suspended", is_closed=upload.is_closed)


async def noticed(process: Process, who: Caller, place: Place, head: log.Head) -> log.Head:
    """The head of a lane in which a till that is online was told more than this head has; of a new epoch if that is so.

    Raises:
        Busy, Unreachable: as Database says; nothing is known to have happened.
    """
    logger.error("till_ahead_of_cloud", till_id=who.till_id, lanes=[place.lane])
    async with process.hellos.taken(who.tenant_id):  # all tills of the lane notice at once; the first ones look for all
        known = process.wakeups.known(who.tenant_id, place.lane)
        if known is not None and known[0] > place.epoch:
            return replace(head, epoch=known[0])
        head = (await restores.reached(process.database, who.tenant_id, [place])).get(place.lane, head)
        process.wakeups.touch(who.tenant_id, {place.lane: head.last_seq}, {place.lane: head.epoch})
    return head


async def _unbroken(process: Process, who: Caller, hello: Hello, heads: Mapping[str, log.Head]) -> Mapping[str, log.Head]:
    """The heads, of a new epoch where the till has copied more than there is: it is to meet that with this very Welcome."""
    given = [place for place in map(_place, hello.positions) if place.lane in heads]
    beyond = [place for place in given if restores.is_beyond(place, heads[place.lane])]
    if beyond:
        logger.error("till_ahead_of_cloud", till_id=who.till_id, lanes=[place.lane for place in beyond])
        newer = await restores.reached(process.database, who.tenant_id, beyond)
        heads = {lane: newer.get(lane, head) for lane, head in heads.items()}
    for lane, head in heads.items():
        known = process.wakeups.known(who.tenant_id, lane)
        if known is not None and known[0] not in {0, head.epoch}:
            # The lane has begun anew. Once it is learned the poll finds nothing new: the others must be woken here.
            process.wakeups.touch(who.tenant_id, {lane: head.last_seq}, {lane: head.epoch})
        process.wakeups.learn(who.tenant_id, lane, head.epoch, head.last_seq)
    return heads


async def _lane(process: Process, who: Caller, hello: Hello, found: log.Head, head: log.Head, name: str) -> Lane:
    """A lane that goes on from where the till stands in it, or is owed to it; in either case in the epoch of its head."""
    given = next((_place(position) for position in hello.positions if position.lane == name), None)
    reason = await process.snapshots.reason(who.tenant_id, found, given)
    if reason is None and head is not found:
        reason = restart_reason(head, given)
    if reason is None and given is not None:
        return Lane(name, LaneState.FOLLOWING, given.epoch, given.seq, given.seq)
    begun = next((one for one in hello.begun if one.lane == name), None)
    lane = Lane(name, LaneState.OWED, head.epoch, reason=reason or ResetReason.RESET_REASON_NEW)
    if begun is not None and given is None and capabilities.RESUMED_SNAPSHOTS in hello.capabilities:
        lane.begun, lane.index = begun.snapshot_id, begun.next_index
    return lane


def _place(position: LanePosition) -> Place:
    return Place(position.lane, position.epoch, position.seq)
