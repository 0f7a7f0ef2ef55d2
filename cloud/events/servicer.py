"""EventService over gRPC: a page of the log, or the log as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from cloud.events import feed
from cloud.platform import calls, paging
from cloud.platform.database import Database
from cloud.platform.event_json import to_proto
from cloud.platform.rpc import caller
from cloud.platform.wakeups import Wakeups
from gipos.v1 import events_pb2, events_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

BATCH = 200


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Answers EventService."""

    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database = database
        self._wakeups = wakeups

    async def ListEvents(self, request: events_pb2.ListEventsRequest, context: Context) -> events_pb2.ListEventsResponse:
        """See events.proto."""
        tenant_id = caller().tenant_id
        limit = paging.size(request.page_size)
        position = feed.Position.read(tenant_id, request.cursor)
        async with self._database.snapshot(tenant_id) as connection:
            wanted = await feed.checked(connection, tenant_id, request.types, request.outlet_id)
            events, more = await feed.read(connection, tenant_id, position, wanted, limit)
            while more and len(events) < limit:  # what the filter left out must not leave the page empty
                further, more = await feed.read(connection, tenant_id, position, wanted, limit - len(events))
                events += further
        return events_pb2.ListEventsResponse(
            events=[to_proto(tenant_id, event) for event in events], next_cursor=position.cursor(), has_more=more
        )

    async def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        """See events.proto."""
        tenant_id = caller().tenant_id
        position = feed.Position.read(tenant_id, request.cursor)
        async with self._database.reading(tenant_id) as connection:
            wanted = await feed.checked(connection, tenant_id, request.types, request.outlet_id)
            if not request.cursor:
                position = await feed.Position.end(connection, tenant_id)
        # Says "you are watching" at once, however quiet the shop is.
        await context.send_initial_metadata(tuple(calls.call().headers))
        with self._wakeups.waiting(tenant_id) as wake:
            while True:
                wake.clear()
                more = True
                while more:
                    async with self._database.snapshot(tenant_id) as connection:
                        places = dict(position.places)
                        events, more = await feed.read(connection, tenant_id, position, wanted, BATCH)
                    # Each event carries the cursor right after it, so that a reader that is cut off loses and repeats nothing.
                    for event in events:
                        places[event.lane] = event.seq
                        cursor = feed.Position(tenant_id, places, position.epochs).cursor()
                        yield events_pb2.WatchEventsResponse(event=to_proto(tenant_id, event), cursor=cursor)
                await wake.wait()
                calls.call().go_on()
