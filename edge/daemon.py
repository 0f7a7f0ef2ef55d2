"""Builds one till out of its parts and runs it until told to stop. The only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Generator

import structlog
import uvicorn

from edge.link.client import LinkClient
from edge.settings import Settings
from edge.storage import facts, outbox
from edge.storage.database import DAMAGE
from edge.storage.folder import Storage
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.receipts import Receipts
from edge.till.screen import Screen

VERSION = "0.1.0"
HOST = "127.0.0.1"
HOUSEKEEPING_SECONDS = 24 * 3600.0

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
            f"The till's local API cannot use port {port} on {HOST} ({error.strerror})."
            " Stop the program that has it, or choose another with --port."
        ) from error
    listener.setblocking(False)
    return listener


async def run(settings: Settings) -> None:
    """Runs one till until SIGTERM or SIGINT.

    Raises:
        CannotStart: the port is taken.
        StorageUnusable: the data folder is in use, cannot be written or is broken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = bind(settings.port)
    with contextlib.closing(listener):
        storage = Storage.open(settings.data)
        with contextlib.closing(storage):
            await _run(settings, storage, listener, stop)


async def _run(settings: Settings, storage: Storage, listener: socket.socket, stop: asyncio.Event) -> None:
    enabled = await storage.store.read(lambda connection: facts.number(connection, facts.LINK_ENABLED, 1))
    async with Receipts(storage, address=settings.printer, paper=settings.paper) as receipts:
        link = LinkClient(
            address=settings.cloud,
            token=settings.token,
            storage=storage,
            enabled=bool(enabled),
            software_version=VERSION,
            adopted=receipts.take_up_waiting,
        )
        screen = Screen(
            storage=storage,
            link=link,
            receipts=receipts,
            cart=Cart(storage),
            checkout=Checkout(storage, receipts, link.wake),
        )
        config = uvicorn.Config(
            screen.app(), log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=5
        )
        server = _Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            others = [tasks.create_task(link.run()), tasks.create_task(_keep_house(storage))]
            _log.info("till_started", port=listener.getsockname()[1], data=str(settings.data), cloud=settings.cloud)
            await stop.wait()
            # Sales under way are finished before anything they need is taken away.
            server.should_exit = True
            await serving
            for task in others:
                task.cancel()
    _log.info("till_stopped")


async def _keep_house(storage: Storage) -> None:
    """Once a day: forget what was acknowledged long ago, refresh the query planner's statistics."""
    while True:
        try:
            await _tidy(storage)
        except Exception as error:  # noqa: BLE001 (a full disk or a broken file must not end the till; the next turn tries again)
            if isinstance(error, DAMAGE):
                storage.distrust()
            _log.exception("housekeeping_failed")
        await asyncio.sleep(HOUSEKEEPING_SECONDS)


async def _tidy(storage: Storage) -> None:
    pruned = await storage.store.write(lambda connection: outbox.prune(connection, storage.clock()))
    await storage.store.write(lambda connection: connection.execute("PRAGMA optimize"))
    await storage.replica.write(lambda connection: connection.execute("PRAGMA optimize"))
    if pruned:
        _log.info("operations_pruned", count=pruned)
