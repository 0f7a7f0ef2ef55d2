"""One open stream: drives a session (sessions.py) with what comes from the till, the log, the clock and the mail of the till.

One task reads, the generator writes; nothing else touches the wire. What a frame means is the session's business.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from cloud.platform import checks, log
from cloud.platform.calls import Call, Caller
from cloud.platform.wakeups import Known, Waiting
from cloud.sync import endings, greetings, hellos, letters, restores, uploads, wire
from cloud.sync.lanes import Begin, Lane, More, Piece, Want
from cloud.sync.patience import Patience, patiently
from cloud.sync.pipelines import Pipeline
from cloud.sync.processes import Link, Process
from cloud.sync.ranges import Frame, Own, Place, Watermark
from cloud.sync.sessions import Disputed, Heard, Open, Order, Phase, Session, Settle, Store
from cloud.sync.snapshots import Snapshot
from cloud.tills import commands
from cloud.tills.presences import Presence
from gipos.edge.v1.link_pb2 import Hello, LinkRequest, Operation, ResetReason, Stored
from kernel import capabilities
from kernel.errors import Busy, Invalid, Unreachable, Violation

_LONGEST_ID = 100
_GARBLED = "The bytes of a frame are no LinkRequest. Build the client from link.proto, and look for what alters bytes on the way."
MOST_ANSWERS = 64
"""Answers that may wait for a till that sends and does not read; then it is not read from either."""

logger = structlog.get_logger()


class Stream:
    """One till's stream, from its first frame to its end."""

    __slots__ = (
        "_boxes",
        "_call",
        "_failure",
        "_mail",
        "_own",
        "_patience",
        "_policy",
        "_presence",
        "_process",
        "_room",
        "_snapshots",
        "_upload",
        "_uploads",
        "_waiting",
        "session",
        "wake",
        "who",
    )

    def __init__(
        self, process: Process, who: Caller, call: Call, waiting: Waiting, boxes: tuple[str, ...], jitter: float
    ) -> None:
        self.session = Session(process.now(), jitter)
        self.wake = waiting.event
        self._waiting = waiting
        self._process = process
        self.who = who
        self._call = call
        self._own = Own(who.till_id, 0)
        self._upload: uploads.Session | None = None
        self._uploads = Pipeline(self._own, self._break)
        self._presence: Presence | None = None
        self._snapshots: dict[str, tuple[AbstractAsyncContextManager[Snapshot], Snapshot]] | None = None
        self._failure: Exception | None = None
        self._room: asyncio.Event | None = None
        self._mail: tuple[Known | None, ...] | None = None
        """What was known of the till's mail when it was last looked at; None when it has to be looked at."""
        self._patience: Patience | None = None
        """While the database is away."""
        self._policy = b""
        self._boxes = boxes

    # Up.

    async def read(self, requests: AsyncIterator[LinkRequest]) -> None:
        """Takes frames until the till stops or the session is over."""
        session, process = self.session, self._process
        try:
            while True:
                try:
                    request = await anext(requests)
                except StopAsyncIteration:
                    break
                except DecodeError as error:  # gRPC decodes within the reading
                    raise Invalid([Violation("frame", "INVALID_FORMAT", _GARBLED)]) from error
                orders = session.receive(request, process.now(), time.time_ns())
                while orders:
                    await self._carry_out(orders.pop(0))
                del request  # else it would be kept until the next one comes
                if session.is_waiting:
                    self.wake.set()
                if session.phase is Phase.ENDED:
                    return
                if len(session.outgoing) > MOST_ANSWERS:
                    self._room = asyncio.Event()
                    await self._room.wait()
            await self._uploads.settle()  # a till that only stops sending hears what became of all of it
        except Exception as error:  # noqa: BLE001 (handed to the generator, which raises it through the door)
            self._failure = error
        finally:
            session.fail()
            self.wake.set()

    async def _carry_out(self, order: Order) -> None:
        match order:
            case Store(operations):
                await self._uploads.push(self._store(operations))
            case Heard(waiting, device_ms):
                if self._presence is not None:
                    offset = None if device_ms is None else device_ms - time.time_ns() // 1_000_000
                    self._presence.heard(waiting_operations=waiting, clock_offset_ms=offset)
            case Settle(result):
                if wrong := list(checks.text("command_result.command_id", result.command_id, _LONGEST_ID)):
                    raise Invalid(wrong)
                await commands.settle(self._process.database, self.who, result)
            case Disputed(lane, reason, owed):
                logger.warning("frame_disputed", till_id=self.who.till_id, lane=lane, reason=reason[:40], owed=owed)
                self._own.told = 0
            case Open(hello):
                await self._open(hello)

    def _break(self, error: Exception) -> None:
        self._failure = error
        self.session.fail()
        self.wake.set()

    async def _store(self, operations: Sequence[Operation]) -> Watermark | None:
        """What is stored of the till then, if that is known exactly."""
        assert self._upload is not None, "a session that is live was opened"
        self._process.count(self.who.tenant_id, len(operations))
        standing = self.standing  # before: what was told by now is committed when the batch is looked at
        # Stored or not, the same batch may come again; the till need not bring it over another stream.
        storing = partial(self._process.intake.store, self.who, self._upload, operations)
        outcome = await patiently(self._process.wakeups, storing)
        watermark, expected = outcome.op_watermark, outcome.expected_op_seq
        if standing is not None and 0 < expected <= standing[2]:
            # The till would fill the gap, and nobody else would hear that the cloud has forgotten something.
            logger.error("till_ahead_of_cloud", till_id=self.who.till_id, told=standing[2], expected=expected)
            await restores.lost_history(self._process.database, self.who.tenant_id, self.session.epochs)
            self.ask_back()
            return None
        self.session.stored(Stored(op_watermark=watermark, quarantined=outcome.quarantined, expected_op_seq=expected))
        self.wake.set()
        return Watermark(watermark, outcome.log_seq) if outcome.log_seq else None

    async def _open(self, hello: Hello) -> None:
        process, session = self._process, self.session
        admission = process.admission
        if (refused := admission.refused(process.now())) is not None:
            session.drain(*refused, "The cloud lets tills in one after the other.")
            return
        took = 0.0
        try:
            async with process.hellos.taken(self.who.tenant_id):
                began = process.now()
                await self._greet(hello)
                took = process.now() - began
        finally:
            admission.done(took)

    async def _greet(self, hello: Hello) -> None:
        process, who, session = self._process, self.who, self.session
        self._mail = self._known_of_mail()  # before: what rings from here on is looked at
        found = await hellos.said(process.database, who, hello)
        self._upload = found.session
        self._own.store_epoch = hello.store_epoch
        if found.mark is not None:
            self._own.learn(found.mark, self._own.uploads)
        session.opened(await greetings.opened(process, who, hello, found), hello.capabilities, process.now())
        if found.policy is not None:
            self._policy = found.policy.rules
            session.policy(found.policy)
        if found.has_mail:
            self._mail = None
        self._presence = process.presences.connected(
            who, software_version=hello.software_version, waiting_operations=hello.waiting_operations
        )
        if session.unknown:
            logger.info("newer_contract", till_id=who.till_id, unknown=session.unknown)

    # Down.

    async def serve(self, requests: AsyncIterator[LinkRequest], ticked: set[Link], gone: asyncio.Event) -> AsyncIterator[bytes]:
        """Yields frames, serialised, answers first, until the session is over.

        Args:
            requests: What the till sends.
            ticked: Those who are told the time; the stream is among them as long as it lasts.
            gone: To be set by the last stream of the process that ends.

        Raises:
            GiposError: what ended the stream.
        """
        streams = self._process.streams
        with self._waiting:
            streams.add(self)
            ticked.add(self)
            reader = asyncio.create_task(self.read(requests))
            del requests
            try:
                while await self._is_ready():
                    # As bytes, and taken out one by one: what was sent last is held by whoever passed it on until the next comes.
                    frames = deque(self.session.outgoing)
                    self.session.outgoing.clear()
                    while frames:
                        yield wire.serialised(frames.popleft())
                    del frames
                    if self._room is not None:
                        self._room.set()
                        self._room = None
            finally:
                reader.cancel()
                ticked.discard(self)
                streams.discard(self)
                if not streams:
                    gone.set()
                await self.close()

    async def _is_ready(self) -> bool:
        """Waits until there is something to send; False when there will be nothing more."""
        session, wake = self.session, self.wake
        while True:
            if wake.is_set():
                wake.clear()
                self._call.go_on()
                session.touch()
                if session.phase is Phase.LIVE and self._has_mail() and not self._is_put_off():
                    await self._tried(self._look_at_mail())
            if session.outgoing:
                return True
            if self._failure is not None:
                raise self._failure
            if session.phase is Phase.ENDED:
                if (error := endings.error_of(session.ending)) is not None:
                    raise error
                return False
            while not session.outgoing and not self._is_put_off() and (want := session.wanted(self._may_follow)) is not None:
                await self._tried(self._fetch(want))
            if not session.outgoing:
                await wake.wait()

    async def _tried(self, reading: Coroutine[Any, Any, None]) -> None:
        """Reads something, or puts it off: a database that is away for a moment ends no stream."""
        try:
            await reading
        except (Busy, Unreachable) as error:
            if self._patience is None:
                self._patience = Patience(self._process.wakeups, self.wake)
            self._patience.put_off(error)
        else:
            self._forget_patience()

    def _is_put_off(self) -> bool:
        return self._patience is not None and self._patience.is_waiting

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.forget()
            self._patience = None

    async def _fetch(self, want: Want) -> None:
        own = self._own if want.lane == self.who.outlet_id else None
        match want:
            case More():
                await self._more(want, own)
            case Piece(lane, index):
                assert self._snapshots is not None, "pieces are wanted of what was opened"
                snapshot = self._snapshots[lane][1]
                data = await snapshot.piece(index, own, packed=capabilities.PACKED_SNAPSHOTS in self.session.capabilities)
                last = index == len(snapshot) - 1
                if self.session.piece(want, data, self._process.now(), last=last) and last:
                    if own is not None:
                        own.told = snapshot.op_watermark(own)
                    await self._close(lane)
            case Begin():
                await self._begin(want)

    def _may_follow(self, lane: Lane) -> bool:
        who, name = self.who, lane.name
        own = self._own if name == who.outlet_id else None
        return self._process.frames.may_follow(who.tenant_id, name, lane.epoch, lane.passed, own)

    async def _more(self, want: More, own: Own | None) -> None:
        tenant_id, process = self.who.tenant_id, self._process
        place = Place(want.lane, want.epoch, want.seq)
        answer = await process.frames.next(tenant_id, place, own)
        if answer is None:
            return
        if not isinstance(answer, Frame):
            if answer.reason in {ResetReason.RESET_REASON_AHEAD, ResetReason.RESET_REASON_EPOCH}:
                await self._look_at_history(place, answer.head)
            self.session.owe(want, answer.reason)
            return
        sent = self.session.frame(
            want, answer.upto_inclusive, answer.data, process.now(), is_empty=not answer.changes and not answer.op_watermark
        )
        if sent and own is not None:
            own.told = max(own.told, answer.op_watermark)

    async def _look_at_history(self, place: Place, head: log.Head) -> None:
        """The lane does not go on from where the till stands. Of a lane that has begun anew the till hears by a hello.

        Only there it meets the new epoch, and sends what the cloud may have lost of its earlier lives. Besides, whatever a stream
        was told it was told within one epoch: what it proves later on is not taken for a second loss.
        """
        if restores.is_beyond(place, head):
            head = await greetings.noticed(self._process, self.who, place, head)
        if head.epoch != place.epoch:
            self.ask_back()

    def ask_back(self) -> None:
        """Asks the till to say hello again: the cloud was restored beneath it."""
        process = self._process
        window = process.admission.window_ms(len(process.streams))
        self.session.drain(0, window, "The cloud was restored from a backup. Say hello again: what is missing is asked for.")
        self.wake.set()

    async def _begin(self, want: Begin) -> None:
        tenant_id, process = self.who.tenant_id, self._process
        await self._close(want.lane)
        async with process.database.reading(tenant_id) as connection:
            head = (await log.heads(connection, tenant_id))[want.lane]
        holding = process.snapshots.open(tenant_id, want.lane, head, begun=want.begun)
        snapshot = await holding.__aenter__()
        if snapshot.place.epoch != self.session.epochs.get(want.lane):
            await holding.__aexit__(None, None, None)
            self.ask_back()  # see _look_at_history
            return
        if self._snapshots is None:
            self._snapshots = {}
        self._snapshots[want.lane] = (holding, snapshot)
        goes_on = bool(want.begun) and snapshot.id == want.begun and 0 < want.next_index < len(snapshot)
        place = snapshot.place
        if not self.session.sending(want, place.epoch, place.seq, want.next_index if goes_on else 0):
            await self._close(want.lane)

    async def _close(self, lane: str) -> None:
        if self._snapshots is not None and lane in self._snapshots:
            holding, _ = self._snapshots.pop(lane)
            await holding.__aexit__(None, None, None)
            if not self._snapshots:
                self._snapshots = None

    async def _look_at_mail(self) -> None:
        """What waits for the till beside the log."""
        self._mail = self._known_of_mail()  # before: what rings while it is being looked at is looked at again
        try:
            self._policy = await letters.hand_over(self._process, self.who, self.session, self._policy)
        except BaseException:
            self._mail = None
            raise

    def _known_of_mail(self) -> tuple[Known | None, ...]:
        known, tenant_id = self._process.wakeups.known, self.who.tenant_id
        mine, ours = self._boxes
        return known(tenant_id, mine), known(tenant_id, ours)

    def _has_mail(self) -> bool:
        """Whether somebody rang since the mail was looked at.

        Not whether that was forgotten since, as all of it is when the connection to the database is lost or made: thousands of
        streams would look in the same moment. What nobody could ring for meanwhile is found for all of them at once (rounds.py).
        """
        if self._mail is None:
            return True
        now = self._known_of_mail()
        return now != self._mail and any(rung is not None and rung != was for rung, was in zip(now, self._mail, strict=True))

    @property
    def standing(self) -> tuple[int, int, int] | None:
        """Life of the store, session, and the highest operation the till was told to be stored; None before it was greeted."""
        upload = self._upload
        if upload is None or self.session.phase is not Phase.LIVE:
            return None
        return upload.store_epoch, upload.number, max(upload.op_watermark, self.session.op_watermark)

    def has_mail(self) -> None:
        """There may be a command or a policy that nobody rang for."""
        self._mail = None
        self.wake.set()

    async def close(self) -> None:
        """Gives back what the stream held."""
        self._uploads.cancel()
        self._forget_patience()
        if self._presence is not None:
            self._presence.left()
        for lane in list(self._snapshots or ()):
            with suppress(Exception):
                await self._close(lane)
