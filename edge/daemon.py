"""Builds one till out of its parts and runs it until told to stop. The only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Generator

import apsw
import structlog
import uvicorn

from edge import enrolment, identity, words
from edge.identity import IdentityUnusable, Own
from edge.link.client import LinkClient
from edge.link.status import LinkState
from edge.link.surroundings import Around
from edge.settings import Settings
from edge.storage import commands, copies, facts, outbox, print_jobs
from edge.storage.database import DAMAGE
from edge.storage.folder import Storage
from edge.storage.space import Room
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.commands import Commands
from edge.till.receipts import Receipts
from edge.till.screen import Screen
from edge.till.supervisors import Supervisors
from edge.words import Said
from gipos.edge.v1.link_pb2 import OfflinePolicy

VERSION = "0.1.0"
HOST = "127.0.0.1"
HOUSEKEEPING_SECONDS = 3600.0
TIMEKEEPING_SECONDS = 60.0
"""How often the time is noted: so much of an offline limit a cut of the power can give back."""
LONGEST_PAUSE_SECONDS = 60.0
"""Between two repairs that did not help, at most."""

_log = structlog.get_logger(__name__)


class CannotStart(Exception):
    """The daemon cannot run; the message says why and what to do."""


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def configure_logging() -> None:
    """JSON lines on stderr, from our own code and (warnings and worse) from libraries."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared)
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def bind(port: int) -> socket.socket:
    """The listening socket of the local API.

    Raises:
        CannotStart: the port is taken or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"Port {port} di {HOST} tidak bisa dipakai ({error.strerror}). Hentikan program yang memakainya, atau pilih port lain"
            " dengan --port.\n"
            f"The till's local API cannot use port {port} on {HOST} ({error.strerror})."
            " Stop the program that has it, or choose another with --port."
        ) from error
    listener.setblocking(False)
    return listener


async def run(settings: Settings) -> None:
    """Runs one till until SIGTERM or SIGINT. When a file turns out to be broken it is mended and the till goes on.

    Raises:
        CannotStart: the port is taken.
        StorageUnusable: the data folder is in use, cannot be written, or is broken beyond mending.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port, repairs = settings.port, 0
    while True:
        began = loop.time()
        listener = bind(port)
        port = listener.getsockname()[1]
        with contextlib.closing(listener):
            own, unusable = _identity(settings)
            storage = Storage.open(settings.data, policy_keys=own.identity.policy_keys if own is not None else None)
            with contextlib.closing(storage):
                await _run(settings, storage, listener, stop, own, unusable)
        if stop.is_set():
            return
        # The first repair comes at once; one that did not help is not repeated in a hurry.
        repairs = repairs + 1 if loop.time() - began < LONGEST_PAUSE_SECONDS else 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LONGEST_PAUSE_SECONDS, 2.0**repairs - 2)):
                await stop.wait()
                return


def _identity(settings: Settings) -> tuple[Own | None, Said]:
    """Who this till is, None for one with a token; and why it cannot link, if its identity is damaged: it sells without."""
    try:
        known = identity.load(settings.data)
    except IdentityUnusable as error:
        _log.error("identity_unusable", problem=str(error).splitlines()[-1])
        return None, words.IDENTITY_UNUSABLE
    return Own(settings.data, known) if known is not None else None, words.NOTHING


async def _run(
    settings: Settings, storage: Storage, listener: socket.socket, stop: asyncio.Event, own: Own | None, unusable: Said
) -> None:
    """Serves until told to stop, or until a file turns out to be broken."""
    ended = asyncio.Event()
    storage.damaged = ended.set
    enabled = await storage.store.read(lambda connection: facts.number(connection, facts.LINK_ENABLED, 1))
    async with Receipts(storage, address=settings.printer, paper=settings.paper) as receipts:

        async def adopted() -> None:
            await storage.keep_identity()
            # A cloud that was restored may want more than the session knew of when it began.
            link.wake()
            await receipts.take_up_waiting()

        async def policy(given: OfflinePolicy) -> None:
            try:
                if own is not None:
                    storage.policy_keys = own.identity.policy_keys
                elif given.key_id not in storage.policy_keys:
                    storage.policy_keys = await enrolment.policy_keys(cloud)
                await storage.adopt_policy(given)
            except Exception as error:  # noqa: BLE001 (the rules from before stay; the cloud sends them again with the next stream)
                _note_failure(storage, error, "offline_policy_not_kept")

        cloud = settings.cloud or (own.identity.link_address if own is not None else "")
        link = LinkClient(
            address=cloud,
            token=settings.token,
            storage=storage,
            enabled=bool(enabled),
            software_version=VERSION,
            around=Around(
                adopted=adopted,
                policy=policy,
                measured=storage.clock.measured,
                heard=storage.clock.heard,
                ticks_ms=storage.clock.ticks_ms,
                boot_id=storage.clock.boot_id,
                abilities=Commands(receipts).abilities(),
            ),
            credentials=own,
            unusable=unusable,
        )
        screen = Screen(
            storage=storage,
            link=link,
            receipts=receipts,
            cart=Cart(storage),
            checkout=Checkout(storage, receipts, link.wake, is_online=lambda: link.status.state is LinkState.ONLINE),
            supervisors=Supervisors(storage),
        )
        config = uvicorn.Config(
            screen.app(), log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=5
        )
        server = _Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            works = [link.run(), _keep_house(storage), _keep_time(storage), _tell(stop, ended)]
            if own is not None:
                works.append(enrolment.Renewal(own, lambda: link.status.state is LinkState.ONLINE).run())
            others = [tasks.create_task(work) for work in works]
            _log.info("till_started", port=listener.getsockname()[1], data=str(settings.data), cloud=cloud)
            await ended.wait()
            # Sales under way are finished before anything they need is taken away.
            server.should_exit = True
            await serving
            for task in others:
                task.cancel()
    _log.info("till_stopped", for_repair=not stop.is_set())


async def _tell(stop: asyncio.Event, ended: asyncio.Event) -> None:
    await stop.wait()
    ended.set()


async def _keep_time(storage: Storage) -> None:
    """Notes every minute what time it is at least, so that a restart in a cellar knows."""
    while True:
        try:
            await storage.store.write(storage.clock.save)
        except Exception as error:  # noqa: BLE001 (the time is noted with the next sale, or in a minute)
            _note_failure(storage, error, "time_not_kept")
        await asyncio.sleep(TIMEKEEPING_SECONDS)


async def _keep_house(storage: Storage) -> None:
    """Once an hour: copy the store, forget what was acknowledged long ago, refresh the query planner's statistics."""
    while True:
        try:
            await _tidy(storage)
        except Exception as error:  # noqa: BLE001 (a full disk or a broken file must not end the till; the next turn tries again)
            _note_failure(storage, error, "housekeeping_failed")
        await asyncio.sleep(HOUSEKEEPING_SECONDS)


def _note_failure(storage: Storage, error: Exception, event: str) -> None:
    if isinstance(error, DAMAGE):
        storage.distrust()
    _log.exception(event, exc_info=error)


async def _tidy(storage: Storage) -> None:
    # What is forgotten is gone: a wall clock that ran ahead must not make a month of it, so only the cloud's time counts here.
    now_ms, room = storage.clock.surely_told_ms(), storage.space.room()

    def forget(connection: apsw.Connection) -> int:
        commands.prune(connection, now_ms)
        print_jobs.forget_data(connection, now_ms - outbox.KEEP_MS)
        return outbox.prune(connection, now_ms, pressed=room is not Room.AMPLE)

    pruned = await storage.store.write(forget)
    await storage.store.write(lambda connection: connection.execute("PRAGMA optimize"))
    await storage.replica.write(lambda connection: connection.execute("PRAGMA optimize"))
    storage.space.keep_reserve()
    if pruned:
        _log.info("operations_pruned", count=pruned)
    if room is Room.AMPLE:
        await asyncio.to_thread(copies.make, storage.store.path)
    else:
        _log.warning("disk_short", room=room.value, free=storage.space.free())
