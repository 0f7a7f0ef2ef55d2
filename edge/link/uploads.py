"""The way up, as rules: which operations are sent next, how many may be under way, and what an acknowledgement covers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edge import words
from edge.link.orders import Acknowledge, BeginAnew, Complain, Order, Reconnect, Renumber
from gipos.edge.v1.link_pb2 import LinkRequest, Operation, OperationBatch, Stored

BATCH_OPERATIONS = 200
"""Operations in one batch at most."""
BATCH_BYTES = 256 * 1024
"""Bytes of the operations in one batch at most, unless there is only one."""
FIRST_OPERATIONS, FIRST_BYTES = 10, 8 * 1024
"""The same while nothing is known of the line: on one of 2 kB a second a batch should take seconds, not minutes."""
BATCHES_UNDER_WAY = 2
"""Batches sent and not yet acknowledged at most."""
PATIENCE_BEATS = 6
"""A batch that stays unacknowledged for so many of our heartbeats means that the cloud is stuck."""
REWINDS = 5
"""The cloud may ask so often to begin again without storing anything in between."""
MOST_AHEAD = 1_000_000
"""No till makes so many operations that its store has forgotten: a number so far above ours is a mistake."""


@dataclass
class Pace:
    """How much a batch may hold, by how batches fared on this line. One for all the streams of a process."""

    operations: int = FIRST_OPERATIONS
    size: int = FIRST_BYTES
    """Bytes."""

    def quicken(self) -> None:
        """A batch that was as long as it could be has come through."""
        self._change(self.operations * 2, self.size * 2)

    def slacken(self) -> None:
        """A stream has ended with a batch under way: it may have been too long for the line."""
        self._change(self.operations // 2, self.size // 2)

    def _change(self, operations: int, size: int) -> None:
        self.operations = min(BATCH_OPERATIONS, max(FIRST_OPERATIONS, operations))
        self.size = min(BATCH_BYTES, max(FIRST_BYTES, size))


class _Sent(NamedTuple):
    """A batch under way."""

    last: int
    is_full: bool
    """It was as long as it could be. One of a single sale says nothing of what the line can carry."""


class Uploads:
    """The operations of one stream. What is to be sent is appended to `outgoing`."""

    def __init__(self, last_op_seq: int, first_op_seq: int, outgoing: list[LinkRequest], pace: Pace | None = None) -> None:
        """Begins with what the outbox holds: the highest number given out, and the lowest that is kept."""
        self.last = last_op_seq
        self.first = first_op_seq
        self.acknowledged = 0
        """The highest operation the cloud has said it stored, in this session."""
        self.is_paused = False
        """The cloud takes nothing from this till at present."""
        self._outgoing = outgoing
        self._pace = pace or Pace()
        self._next = 1
        self._again_until = 0
        """Up to here operations are sent that the cloud has acknowledged."""
        self._under_way: deque[_Sent] = deque()
        self._beats_waited = 0
        self._rewinds = 0
        self._renumbering = False
        self._blocked = False

    def begin(self, op_watermark: int) -> list[Order]:
        """The cloud's word, at the beginning of a stream, for what it has."""
        if not 0 <= op_watermark <= self.last:
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
        return self._next, min(self._pace.operations, self.last - self._next + 1)

    def upload(self, operations: Sequence[Operation], asked: tuple[int, int]) -> list[Order]:
        """Sends operations read from the outbox, as many as the line is thought to carry.

        Args:
            operations: All there is from `asked` on, in order and no more than that.
            asked: What `wanted` said when the reading began. If a rewind has overtaken it, they are passed over.
        """
        if self.wanted() is None or asked[0] != self._next:
            return []
        found = operations[0].op_seq if operations else self.last + 1
        if found > self._next and (gone := self._pass_over(found)):
            return gone
        numbers = [operation.op_seq for operation in operations]
        if numbers != list(range(self._next, self._next + len(numbers))) or len(numbers) > asked[1]:
            return self._hole()
        if not operations:
            return []
        batch = self._that_fit(operations)
        self._outgoing.append(LinkRequest(operations=OperationBatch(operations=batch)))
        if not self._under_way:
            self._beats_waited = 0
        is_full = len(batch) == self._pace.operations or len(batch) < len(operations)
        self._under_way.append(_Sent(batch[-1].op_seq, is_full))
        self._next = batch[-1].op_seq + 1
        return []

    def stored(self, stored: Stored) -> list[Order]:
        """An acknowledgement. It covers everything below it that the cloud has seen of this till in this stream."""
        known = max(stored.op_watermark, stored.expected_op_seq - 1)
        if known > self.last:
            return self._fall_behind(known)
        orders: list[Order] = []
        covered = self._covered(stored.op_watermark)
        advanced = covered > self.acknowledged
        if advanced:
            self.acknowledged = covered
            self._rewinds = 0
            if self._next > self._again_until:
                self._next = max(self._next, self.acknowledged + 1)
        if advanced or stored.quarantined:
            orders.append(Acknowledge(self.acknowledged, tuple(stored.quarantined)))
        if stored.expected_op_seq > 0:
            self._rewinds += 1
            if self._rewinds > REWINDS:
                return [*orders, Reconnect("the cloud keeps asking for the same sales", message=words.NOT_STORED)]
            if stored.expected_op_seq < self._next:
                # Only ever back: what was left out on the way forward would count as sent.
                orders += self._go_to(stored.expected_op_seq)
        return orders

    def again(self, from_op_seq: int) -> None:
        """Somebody wants what is kept of acknowledged operations once more."""
        if self._renumbering or from_op_seq > self.acknowledged:
            return
        # What is under way stays so: the answers to it are still to come, and must not be taken for answers to what follows.
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

    def close(self) -> None:
        """The stream has ended, whatever ended it."""
        if self._under_way:
            self._pace.slacken()
            self._under_way.clear()

    def _that_fit(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """The first of them, at least one."""
        size = 0
        for count, operation in enumerate(operations):
            size += operation.ByteSize()
            if count and size > self._pace.size:
                return operations[:count]
        return operations

    def _covered(self, op_watermark: int) -> int:
        """What a watermark says of operations of ours.

        Each batch is answered by one Stored, once the cloud has compared it with what it has under these numbers. A clone of
        this tablet may have brought the cloud further: its watermark then speaks of operations that were never sent here, or are
        under way and not compared yet. Taken for stored, they would be lost when the two are told apart.
        """
        if not self._under_way:
            return self.acknowledged
        if op_watermark < self._under_way[0].last:
            return op_watermark
        answered = self._under_way.popleft()
        self._beats_waited = 0
        if answered.is_full:
            self._pace.quicken()
        return answered.last

    def _pass_over(self, found: int) -> list[Order]:
        """The next operation is not in the outbox any more, the first that is there has the number `found`."""
        if found > self.acknowledged + 1:
            return self._hole()
        if self._next > self._again_until:
            return self._forgotten(self._next, found)
        # Acknowledged ones are forgotten after their time, also in the middle of a stream; what is left of them is sent again.
        self._next = found
        return []

    def _go_to(self, op_seq: int) -> list[Order]:
        """Sends from this operation on, whatever was sent before."""
        self._under_way.clear()
        self._next, self._again_until = op_seq, 0
        if op_seq >= self.first or op_seq > self.last:
            return []
        return self._forgotten(op_seq, self.first)

    def _forgotten(self, wanted: int, first: int) -> list[Order]:
        """The cloud was restored from a copy older than what is kept. No number would ever be the next one it wants."""
        self._blocked = True
        reason = f"the cloud asks for operations from {wanted} on, the first that is kept is {first}"
        return [BeginAnew(wanted), Reconnect(reason, latest_ms=0, message=words.FORGOTTEN)]

    def _hole(self) -> list[Order]:
        self._blocked = True
        return [Complain(words.HOLE)]

    def _fall_behind(self, known: int) -> list[Order]:
        """The cloud knows operations this store does not: it was restored from an older copy."""
        if not 0 < known - self.last <= MOST_AHEAD:
            # Numbers only ever grow, so a mistake would move those of operations and receipts for good.
            return [Reconnect(f"the cloud has operations up to {known}, not {self.last}", message=words.ODD_NUMBERS)]
        self._under_way.clear()
        self.acknowledged, self._next, self._again_until = known, known + 1, 0
        self._renumbering = True
        return [Renumber(above=known)]
