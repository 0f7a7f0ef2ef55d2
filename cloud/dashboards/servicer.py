"""DashboardService over gRPC: tickets, what they open, and the stream of a merchant's board."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING

from cloud.accounts import dashboard_tickets
from cloud.accounts.attempts import Attempts
from cloud.dashboards import topics
from cloud.dashboards.boards import Board, Boards, Watcher, mark_of
from cloud.platform import calls
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from gipos.v1 import dashboards_pb2, dashboards_pb2_grpc
from gipos.v1.dashboards_pb2 import TopicValue, WatchTopicsResponse
from kernel.errors import PermissionDenied, Unauthenticated

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

HEARTBEAT_SECONDS = 10.0


class DashboardServicer(dashboards_pb2_grpc.DashboardServiceServicer):
    """Answers DashboardService.

    Args:
        database: Where tickets are.
        boards: What is shown.
        failures: Where those are counted who show tickets that are none.
    """

    def __init__(self, database: Database, boards: Boards, failures: Attempts) -> None:
        self._database = database
        self._boards = boards
        self._failures = failures

    async def CreateDashboardTicket(
        self, request: dashboards_pb2.CreateDashboardTicketRequest, context: Context
    ) -> dashboards_pb2.DashboardTicket:
        """See dashboards.proto."""
        who = caller()
        kinds = _allowed(who.scopes)
        async with self._database.transaction(who.tenant_id) as tx:
            origin = calls.call().metadata.get("origin", "")
            ticket, ends_at = await dashboard_tickets.create(tx, who, request.viewer, origin)
        made = dashboards_pb2.DashboardTicket(ticket=ticket, topics=kinds)
        made.expire_time.FromDatetime(ends_at)
        return made

    async def RedeemDashboardTicket(
        self, request: dashboards_pb2.RedeemDashboardTicketRequest, context: Context
    ) -> dashboards_pb2.DashboardPass:
        """See dashboards.proto."""
        call = calls.call()
        self._failures.require(call)
        try:
            used = await dashboard_tickets.redeem(self._database, request.ticket, call.address, call.metadata.get("origin", ""))
        except Unauthenticated:
            self._failures.count(call)
            raise
        answer = dashboards_pb2.DashboardPass(
            tenant_id=used.caller.tenant_id,
            key_id=used.caller.key_id,
            viewer=used.viewer,
            topics=_allowed(used.caller.scopes),
        )
        setattr(answer, "pass", used.secret)  # a word of Python
        answer.expire_time.FromDatetime(used.ends_at)
        return answer

    async def WatchTopics(
        self, request: dashboards_pb2.WatchTopicsRequest, context: Context
    ) -> AsyncIterator[WatchTopicsResponse]:
        """See dashboards.proto."""
        who = caller()
        kinds = _allowed(who.scopes)
        with self._boards.watching(who.tenant_id, kinds) as (board, watcher):
            # Only now: whoever changes after this look is told of by the board.
            watcher.ended_keys |= await self._ended(who.tenant_id, kinds, request.passes)
            told = _Told(request.epoch, request.have)
            await context.send_initial_metadata(tuple(calls.call().headers))
            clock = asyncio.get_running_loop().time
            due_at = clock()
            while True:
                watcher.woken.clear()
                board.check()
                message = told.next(board, watcher, is_due=clock() >= due_at)
                if message is not None:
                    yield message
                    due_at = clock() + HEARTBEAT_SECONDS
                with contextlib.suppress(TimeoutError):
                    # A board that fares well wakes its watchers every other second, whatever there is to tell.
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await watcher.woken.wait()
                calls.call().go_on()

    async def _ended(self, tenant_id: str, kinds: Collection[str], passes: Mapping[str, str]) -> set[str]:
        """The keys of these passes that are not what they were."""
        ended = set()
        for key_id, secret in list(passes.items()):
            who = await dashboard_tickets.behind(self._database, secret)
            if who is None or (who.tenant_id, who.key_id) != (tenant_id, key_id) or topics.allowed(who.scopes) != kinds:
                ended.add(key_id)
        return ended


class _Told:
    """What one stream has been told."""

    def __init__(self, epoch: str, have: Mapping[str, str]) -> None:
        self._epoch = epoch
        self._have = {topic: mark_of(version) for topic, version in have.items()}
        self._position = -1

    def next(self, board: Board, watcher: Watcher, *, is_due: bool) -> WatchTopicsResponse | None:
        """What it is to be told now; None for nothing, or when the board is not ready."""
        mine = {topic: shown for topic, shown in board.shown.items() if topics.kind_of(topic) in watcher.kinds}
        if not board.epoch or watcher.kinds - {topics.kind_of(topic) for topic in mine} - _BY_OUTLET:
            return None
        if board.epoch != self._epoch:
            self._epoch, self._have = board.epoch, {}
        ended_keys, watcher.ended_keys = watcher.ended_keys, set()
        message = WatchTopicsResponse(
            epoch=board.epoch,
            position=board.position,
            values=[
                TopicValue(topic=topic, version=shown.version, value=shown.value)
                for topic, shown in sorted(mine.items())
                if self._have.get(topic) != mark_of(shown.version)
            ],
            ended_topics=sorted(self._have.keys() - mine.keys()),
            ended_keys=sorted(ended_keys),
        )
        self._have = {topic: mark_of(shown.version) for topic, shown in mine.items()}
        if not (is_due or message.values or message.ended_topics or ended_keys or board.position != self._position):
            return None
        self._position = board.position
        return message


_BY_OUTLET = frozenset({topics.TODAY, topics.RECENT})
"""Kinds that a merchant without outlets has no topic of."""


def _allowed(scopes: Collection[str]) -> list[str]:
    kinds = topics.allowed(scopes)
    if not kinds:
        needed = ", ".join(sorted(set(topics.KINDS.values())))
        raise PermissionDenied(f"This key allows nothing that a dashboard shows. It needs one of the scopes {needed}.")
    return kinds
