"""The composition root: builds everything once, starts it, and stops it in the right order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud import protection, reactions, schedule
from cloud.accounts.authentication import Authentication
from cloud.accounts.servicer import AccountServicer, ApiKeyServicer, OAuthClientServicer, OAuthServicer
from cloud.audit.recording import Recorder
from cloud.audit.sealing import Sealer
from cloud.audit.servicer import AuditServicer
from cloud.catalog.servicer import ProductServicer
from cloud.customers.servicer import CustomerServicer
from cloud.dashboards.boards import Boards
from cloud.dashboards.servicer import DashboardServicer
from cloud.devices.servicer import DeviceServicer
from cloud.events.servicer import EventServicer
from cloud.inventory import buffers, levels
from cloud.inventory.servicer import InventoryServicer, ReservationServicer
from cloud.limits.gate import Limits
from cloud.limits.servicer import UsageServicer
from cloud.platform import collecting
from cloud.platform.database import Database
from cloud.platform.door import Door
from cloud.platform.jobs import DATABASE_ERRORS
from cloud.platform.keyring import Keyring
from cloud.platform.local import LocalServer
from cloud.platform.postgres import EmbeddedPostgres
from cloud.platform.rpc import GrpcDoor
from cloud.platform.wakeups import Wakeups
from cloud.sales.servicer import SaleServicer
from cloud.settings import Settings
from cloud.sync.servicer import EdgeLinkServicer
from cloud.sync.snapshots import Snapshots
from cloud.tills.addresses import Addresses
from cloud.tills.authorities import Authorities
from cloud.tills.enrolments import Enrolments
from cloud.tills.presences import Presences
from cloud.tills.servicer import EnrolmentServicer
from cloud.tills.transport import Doors
from cloud.webhooks.delivery import Dispatcher
from cloud.webhooks.servicer import WebhookServicer
from gipos.edge.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2, link_pb2_grpc
from gipos.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    customers_pb2,
    customers_pb2_grpc,
    dashboards_pb2,
    dashboards_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    sales_pb2,
    sales_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    webhooks_pb2,
    webhooks_pb2_grpc,
)
from kernel import memory

logger = structlog.get_logger()

OPTIONS = [
    # One server, one port: a second process must fail loudly, not take half the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # Nobody asks for what it would note of every connection, some 0.6 KiB each.
    ("grpc.enable_channelz", 0),
    # Core rejects pending calls at random above 1,000 by default, without a word; admission is ours.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # The tills ping every 20 s; the table is in edge/link/client.py and a test holds the two together.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
]


def tls_ports(port: int, link_port: int | None, enrol_port: int | None) -> tuple[int, int]:
    """The ports of the two doors with TLS: where nothing was said, one and two above the plain one, or any if that is any."""
    return (
        link_port if link_port is not None else port and port + 1,
        enrol_port if enrol_port is not None else port and port + 2,
    )


class PortTaken(Exception):
    """Somebody else listens on the address."""


class BackgroundEnded(Exception):
    """Something that must always run has ended."""


def _ended(failed: asyncio.Event, task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.error("background_ended", task=str(task.get_coro()), exc_info=task.exception())
        failed.set()


@dataclass
class Cloud:
    """A running cloud."""

    port: int
    local: LocalServer
    """The same services for callers in this process."""
    database: Database
    drain: Callable[[float], Awaitable[None]]
    """Asks the tills to leave within so many seconds."""
    failed: asyncio.Event
    """Set when something that must always run has ended: the process is then better started again."""
    link_port: int = 0
    """With mutual TLS, for tills; 0 for none."""
    enrol_port: int = 0
    """With TLS, for everybody; the plain port when there is none."""
    renew_doors: Callable[[], Awaitable[None]] | None = None
    """Looks at once for new authorities, which it does every few minutes by itself."""


def _bind(option: str, host: str, port: int, add: Callable[[str], int]) -> int:
    try:
        return add(f"{host}:{port}")
    except RuntimeError as error:
        raise PortTaken(
            f"Port {port} on {host} is taken by another program. Stop it, or choose another port with {option}."
        ) from error


def _secure(server: grpc.aio.Server, credentials: grpc.ServerCredentials, address: str) -> int:
    return server.add_secure_port(address, credentials)


@asynccontextmanager
async def running(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 0, link_port: int | None = None, enrol_port: int | None = None
) -> AsyncIterator[Cloud]:
    """The cloud, from the first connection to a graceful end.

    Args:
        settings: What can be set from outside.
        host: Address to listen on.
        port: For gRPC without TLS; 0 for any.
        link_port: For tills, with mutual TLS; 0 for any, None for no such door.
        enrol_port: For everybody, with TLS and without a certificate of the caller; as link_port.

    Raises:
        PortTaken: the port is in use.
        DatabaseFailed: the embedded PostgreSQL cannot start.
        KeysUnusable: the secret keys are missing, or not those of the database.
    """
    async with (
        _database_url(settings) as url,
        protection.opened(url, settings, connections=settings.database_connections) as (database, keyring),
    ):
        checkpoints = settings.audit_dir or settings.data_dir / "audit"
        cover = timedelta(days=settings.online_cover_days)
        buffers.configure(buffers.Rules(floor=1000 * settings.online_floor, low_cover=cover))
        recorder, sealer = Recorder(database), Sealer(database, keyring, checkpoints)
        wakeups = Wakeups(database)
        dispatcher = Dispatcher(database, private_addresses=settings.webhook_private_addresses)
        database.react(before_commit=reactions.BEFORE_COMMIT, after_commit=reactions.after_commit(wakeups, dispatcher))
        limits = Limits(database, connections=settings.database_connections)
        snapshots = Snapshots(database, settings.data_dir / "snapshots")
        presences = Presences(database)
        link = EdgeLinkServicer(database, wakeups, snapshots, presences, limits.count_till_messages)
        private = settings.webhook_private_addresses
        audit = AuditServicer(database, keyring, checkpoints)
        authentication = Authentication(database, wakeups, trusted_proxies=settings.trusted_proxies.split(","))
        authorities = Authorities(database, keyring)
        await authorities.load()
        addresses = Addresses(host, settings.link_address, settings.enrol_address)
        doors = Doors(authorities, addresses.names)
        enrolments = Enrolments(database, keyring, authorities, addresses, authentication.changes.announce)
        door = Door(authentication, [limits, recorder], recorder.refused, authentication.hold)
        server, local, health_servicer, names = _server(
            *(door, authentication, database, wakeups, link, audit, enrolments),
            private=private,
            together=settings.coalesced_writes,
        )
        bound = _bind("--port", host, port, server.add_insecure_port)
        addresses.enrol_port = bound
        if link_port is not None:
            credentials = doors.credentials(for_tills=True)
            addresses.link_port = _bind("--link-port", host, link_port, partial(_secure, server, credentials))
        if enrol_port is not None:
            credentials = doors.credentials(for_tills=False)
            addresses.enrol_port = _bind("--enrol-port", host, enrol_port, partial(_secure, server, credentials))
        failed = asyncio.Event()
        works = (
            *(wakeups.run(), dispatcher.run(), limits.run(), schedule.run(database, settings), recorder.run(), sealer.run()),
            *(authentication.run(), doors.run(), link.run(), presences.run(), collecting.run()),
        )
        background = [asyncio.create_task(work) for work in works]
        on_end = partial(_ended, failed)
        for task in background:
            task.add_done_callback(on_end)
        await server.start()
        for name in ("", *names):
            await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        local.is_serving = True
        logger.info("cloud_serving", host=host, port=bound, link_port=addresses.link_port, enrol_port=addresses.enrol_port)
        try:
            yield Cloud(bound, local, database, link.drain, failed, addresses.link_port, addresses.enrol_port, doors.look)
        finally:
            for task in background:
                task.remove_done_callback(on_end)  # from here on they are meant to end
            await health_servicer.enter_graceful_shutdown()
            await link.drain(settings.drain_seconds)
            await asyncio.gather(local.stop(settings.drain_seconds), server.stop(settings.drain_seconds))
            await dispatcher.stop(settings.drain_seconds)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            with suppress(*DATABASE_ERRORS):  # else its tills count as gone a little later
                await presences.flush()
            await snapshots.close()
            await limits.stop()
            await authentication.stop()
            await recorder.finish()
            await sealer.finish()
            await database.close()
            logger.info("cloud_stopped")


def _server(
    door: Door,
    authentication: Authentication,
    database: Database,
    wakeups: Wakeups,
    link: EdgeLinkServicer,
    audit: AuditServicer,
    enrolments: Enrolments,
    *,
    private: bool,
    together: bool,
) -> tuple[grpc.aio.Server, LocalServer, health.aio.HealthServicer, list[str]]:
    server, local = grpc.aio.server(interceptors=[GrpcDoor(door)], options=OPTIONS), LocalServer(door)
    boards = Boards(database, wakeups)
    authentication.also_told.append(boards.changed)
    services: list[tuple[Callable[[Any, Any], None], Any, Any]] = [
        (accounts_pb2_grpc.add_AccountServiceServicer_to_server, AccountServicer(database), accounts_pb2),
        (
            catalog_pb2_grpc.add_ProductServiceServicer_to_server,
            ProductServicer(database, levels.open_stock, together=together),
            catalog_pb2,
        ),
        (inventory_pb2_grpc.add_InventoryServiceServicer_to_server, InventoryServicer(database), inventory_pb2),
        (inventory_pb2_grpc.add_ReservationServiceServicer_to_server, ReservationServicer(database), inventory_pb2),
        (customers_pb2_grpc.add_CustomerServiceServicer_to_server, CustomerServicer(database), customers_pb2),
        (sales_pb2_grpc.add_SaleServiceServicer_to_server, SaleServicer(database, together=together), sales_pb2),
        (
            webhooks_pb2_grpc.add_WebhookServiceServicer_to_server,
            WebhookServicer(database, private_addresses=private),
            webhooks_pb2,
        ),
        (events_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(database, wakeups), events_pb2),
        (usage_pb2_grpc.add_UsageServiceServicer_to_server, UsageServicer(database), usage_pb2),
        (audit_pb2_grpc.add_AuditServiceServicer_to_server, audit, audit_pb2),
        (devices_pb2_grpc.add_DeviceServiceServicer_to_server, DeviceServicer(database, wakeups, enrolments), devices_pb2),
        (
            dashboards_pb2_grpc.add_DashboardServiceServicer_to_server,
            DashboardServicer(database, boards, authentication.failures),
            dashboards_pb2,
        ),
        (keys_pb2_grpc.add_ApiKeyServiceServicer_to_server, ApiKeyServicer(database, authentication), keys_pb2),
        (keys_pb2_grpc.add_OAuthClientServiceServicer_to_server, OAuthClientServicer(database, authentication), keys_pb2),
        (keys_pb2_grpc.add_OAuthServiceServicer_to_server, OAuthServicer(database, authentication), keys_pb2),
        (link_pb2_grpc.add_EdgeLinkServiceServicer_to_server, link, link_pb2),
        (enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server, EnrolmentServicer(enrolments), enrolment_pb2),
    ]
    names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
    for add, servicer, module in services:
        add(servicer, server)
        add(servicer, local)
        every = (service.full_name for service in module.DESCRIPTOR.services_by_name.values())
        names += [name for name in every if name not in names]
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(names, server)
    return server, local, health_servicer, names


@asynccontextmanager
async def _database_url(settings: Settings) -> AsyncIterator[str]:
    if settings.database_url:
        yield settings.database_url
        return
    embedded = EmbeddedPostgres(settings.data_dir / "postgres")
    url = await asyncio.to_thread(embedded.start)
    try:
        yield url
    finally:
        await asyncio.to_thread(embedded.stop)


async def serve(settings: Settings, host: str, port: int, *, link_port: int | None = None, enrol_port: int | None = None) -> None:
    """Serves until SIGTERM or SIGINT; the ports as `running`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, host=host, port=port, link_port=link_port, enrol_port=enrol_port) as cloud:
        memory.settle()
        waits = [asyncio.create_task(event.wait()) for event in (stop, cloud.failed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    if cloud.failed.is_set() and not stop.is_set():
        raise BackgroundEnded("A background task of the cloud has ended; the log says which and why. Start it again.")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Database, Keyring]]:
    """Just the database, migrated, and its keys, for commands that do one thing."""
    async with (
        _database_url(settings) as url,
        protection.opened(url, settings, connections=2) as (database, keyring),
    ):
        database.react(before_commit=reactions.BEFORE_COMMIT, after_commit=())
        yield database, keyring
