"""Cloud and gateway on one event loop: gRPC for tills and for services elsewhere, REST through the channel within the process.

They stop in the order in which calls come in: first no more REST requests, then no more gRPC, then the work in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from cloud import server
from cloud.server import BackgroundEnded, Cloud
from cloud.settings import Settings
from gateway_rest.__main__ import Server, made
from gateway_rest.app import Gateway
from gateway_rest.settings import Settings as RestSettings
from host.channel import LocalChannel
from kernel import memory

logger = structlog.get_logger()


class Rest(Server):
    """The gateway's server, except that signals are not its business: it is one of two here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield


@dataclass(frozen=True)
class Ports:
    """For gRPC; 0 for any."""

    plain: int = 0
    link: int | None = None
    """With mutual TLS, for tills; None for none."""
    enrol: int | None = None
    """With TLS, where tablets pair; None for none."""


@dataclass
class Host:
    """Both, running."""

    cloud: Cloud
    gateway: Gateway
    ended: asyncio.Task[None]
    """Done when REST has ended, which it should not before it is asked to."""


@asynccontextmanager
async def running(
    settings: Settings,
    rest: RestSettings,
    listener: socket.socket,
    *,
    grpc_host: str = "127.0.0.1",
    ports: Ports | None = None,
) -> AsyncIterator[Host]:
    """Both, from the first connection to a graceful end.

    Args:
        settings: Of the cloud.
        rest: Of the gateway; where the cloud is does not matter here.
        listener: Where REST listens.
        grpc_host: Address for gRPC.
        ports: For gRPC; any, and no doors with TLS, without.

    Raises:
        PortTaken: a port for gRPC is in use.
        DatabaseFailed: the embedded PostgreSQL cannot start.
        KeysUnusable: the secret keys are missing, or not those of the database.
        Unstartable: the contract was not compiled.
    """
    at = ports or Ports()
    async with server.running(settings, host=grpc_host, port=at.plain, link_port=at.link, enrol_port=at.enrol) as cloud:
        gateway, config = made(rest, lambda: LocalChannel(cloud.local))
        http = Rest(config, gateway)
        ended = asyncio.create_task(http.serve(sockets=[listener]))
        try:
            yield Host(cloud, gateway, ended)
        finally:
            http.should_exit = True
            await asyncio.wait({ended})
    ended.result()


async def serve(settings: Settings, rest: RestSettings, listener: socket.socket, *, grpc_host: str, ports: Ports) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        BackgroundEnded: something that must always run has ended; the process is better started again.
        PortTaken, DatabaseFailed, KeysUnusable, Unstartable: as `running`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, rest, listener, grpc_host=grpc_host, ports=ports) as here:
        memory.settle()
        address, port = listener.getsockname()[:2]
        logger.info("host_serving", host=address, rest_port=port, grpc_port=here.cloud.port)
        waits = [asyncio.create_task(event.wait()) for event in (stop, here.cloud.failed)]
        await asyncio.wait({*waits, here.ended}, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        has_failed = here.cloud.failed.is_set() or here.ended.done()
    if has_failed and not stop.is_set():
        raise BackgroundEnded("A part of the host has ended; the log says which and why. Start it again.")
