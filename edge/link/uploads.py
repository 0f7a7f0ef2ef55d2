"""The way up, as rules: which operations are sent next, how many may be under way, and what an acknowledgement covers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edge import words
from edge.link.orders import Acknowledge, Complain, Order, Reconnect, Renumber
from gipos.edge.v1.link_pb2 import LinkRequest, Operation, OperationBatch, Stored

BATCH_OPERATIONS = 200
"""Operations in one batch at most."""
BATCHES_UNDER_WAY = 2
"""Batches sent and not yet acknowledged at most."""
PATIENCE_BEATS = 6
"""A batch that stays unacknowledged for so many of our heartbeats means that the cloud is stuck."""
REWINDS = 5
"""The cloud may ask so often to begin again without storing anything in between."""


class Uploads:
    """The operations of one stream. What is to be sent is appended to `outgoing`."""

    def __init__(self, last_op_seq: int, first_op_seq: int, outgoing: list[LinkRequest]) -> None:
        """Begins with what the outbox holds: the highest number given out, and the lowest that is kept."""
        self.last = last_op_seq
        self.first = first_op_seq
        self.acknowledged = 0
        """The highest operation the cloud has said it stored, in this session."""
        self.is_paused = False
        """The cloud takes nothing from this till at present."""
        self._outgoing = outgoing
        self._next = 1
        self._again_until = 0
        """Up to here operations are sent that the cloud has acknowledged."""
        self._under_way: deque[int] = deque()
        self._beats_waited = 0
        self._rewinds = 0
        self._renumbering = False
        self._blocked = False

    def begin(self, op_watermark: int) -> list[Order]:
        """The cloud's word, at the beginning of a stream, for what it has."""
        if op_watermark > self.last:
            # Before anything is taken as acknowledged: the cloud's operations of these numbers are not ours.
            return self._fall_behind(op_watermark)
        self.acknowledged = op_watermark
        return self._go_to(op_watermark + 1)

    def recorded(self, last_op_seq: int) -> None:
        """Operations up to this number are in the outbox."""
        self.last = max(self.last, last_op_seq)

    def wanted(self) -> tuple[int, int] | None:
        """Which operations to hand to `upload` now: from this number, at most so many. None when there is nothing to do."""
        if self._renumbering or self._blocked or self.is_paused:
            return None
        if len(self._under_way) >= BATCHES_UNDER_WAY or self._next > self.last:
            return None
        return self._next, min(BATCH_OPERATIONS, self.last - self._next + 1)

    def upload(self, operations: Sequence[Operation]) -> list[Order]:
        """Sends operations read from the outbox. They are passed over when a rewind has overtaken the reading."""
        want = self.wanted()
        if want is None or not operations or operations[0].op_seq != want[0]:
            return []
        numbers = [operation.op_seq for operation in operations]
        if numbers != list(range(want[0], want[0] + len(numbers))) or len(numbers) > want[1]:
            self._blocked = True
            return [Complain(words.HOLE)]
        self._outgoing.append(LinkRequest(operations=OperationBatch(operations=operations)))
        if not self._under_way:
            self._beats_waited = 0
        self._under_way.append(numbers[-1])
        self._next = numbers[-1] + 1
        return []

    def stored(self, stored: Stored) -> list[Order]:
        """An acknowledgement. It covers everything below it."""
        known = max(stored.op_watermark, stored.expected_op_seq - 1)
        if known > self.last:
            return self._fall_behind(known)
        orders: list[Order] = []
        advanced = stored.op_watermark > self.acknowledged
        if advanced:
            self.acknowledged = stored.op_watermark
            self._rewinds = self._beats_waited = 0
            if self._next > self._again_until:
                self._next = max(self._next, self.acknowledged + 1)
        while self._under_way and self._under_way[0] <= self.acknowledged:
            self._under_way.popleft()
        if advanced or stored.quarantined:
            orders.append(Acknowledge(self.acknowledged, tuple(stored.quarantined)))
        if stored.expected_op_seq > 0:
            self._rewinds += 1
            if self._rewinds > REWINDS:
                return [*orders, Reconnect("the cloud keeps asking for the same sales", message=words.NOT_STORED)]
            orders += self._go_to(stored.expected_op_seq)
        return orders

    def again(self, from_op_seq: int) -> None:
        """Somebody wants what is kept of acknowledged operations once more."""
        if self._renumbering or from_op_seq > self.acknowledged:
            return
        self._under_way.clear()
        self._next = max(from_op_seq, self.first)
        self._again_until = self.acknowledged

    def renumbered(self, last_op_seq: int, first_op_seq: int) -> None:
        """The order Renumber was carried out."""
        self._renumbering = False
        self.last, self.first = last_op_seq, first_op_seq

    def beat(self) -> list[Order]:
        """A heartbeat: a cloud that never acknowledges is left."""
        if not self._under_way or self.is_paused:
            return []
        self._beats_waited += 1
        if self._beats_waited < PATIENCE_BEATS:
            return []
        return [Reconnect("the cloud does not acknowledge sales", message=words.NOT_STORED)]

    def _go_to(self, op_seq: int) -> list[Order]:
        """Sends from this operation on, whatever was sent before."""
        self._under_way.clear()
        self._next, self._again_until = op_seq, 0
        if op_seq >= self.first or op_seq > self.last:
            return []
        self._blocked = True
        return [Complain(words.FORGOTTEN.filled(wanted=op_seq, first=self.first))]

    def _fall_behind(self, known: int) -> list[Order]:
        """The cloud knows operations this store does not: it was restored from an older copy."""
        self._under_way.clear()
        self.acknowledged, self._next, self._again_until = known, known + 1, 0
        self._renumbering = True
        return [Renumber(above=known)]
