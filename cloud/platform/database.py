"""The one way to write: a transaction that carries rows and the events that announce them.

A rule gets a Transaction, reads and writes through its connection and publishes events. When the block ends, the events are
numbered, stored and committed with the rows, or nothing is. Rules never commit and never call the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cloud.platform import log
from kernel import business_days
from kernel.errors import Busy, Invalid, Unreachable, Violation
from kernel.event_types import EventType
from kernel.ids import new_id

metadata = sa.MetaData()
"""Every table of every feature hangs on this, each declared in its feature's tables.py."""

M = TypeVar("M", bound=Message)

_SET_TENANT = sa.text("SELECT set_config('gipos.tenant_id', :tenant_id, true)")
_CROSSED = {"55P03", "40P01", "40001"}
"""Lock not available in time, deadlock, serialisation: the transaction was rolled back as a whole."""
_AWAY = {"57P01", "57P02", "57P03", "53300", "08000", "08003", "08006", "08P01", "08001"}
_UNKNOWN_OUTCOME = (
    "The database cannot be reached at the moment. If this was a change, it is not known whether it happened: "
    "send it again with the same Idempotency-Key."
)
_BAD_TEXT = {"22021", "22P05"}


@dataclass
class Transaction:
    """What a rule reads, writes and announces through. Always the first argument."""

    connection: AsyncConnection
    tenant_id: str
    now: datetime
    """One moment for everything this transaction writes."""
    events: list[log.NewEvent] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    """After commit: the last position of every lane that was written to."""

    def publish(
        self,
        event_type: EventType[M],
        resource: M,
        *,
        subject_id: str,
        version: int,
        outlet_id: str = "",
        occurred_at: datetime | None = None,
    ) -> None:
        """Announces a change of a resource, together with the rows of this transaction.

        With an outlet the event goes into the outlet's lane, otherwise into the merchant's.
        """
        self.events.append(
            log.NewEvent(
                id=new_id("evt"),
                lane=outlet_id or log.TENANT_LANE,
                type=event_type.name,
                subject_id=subject_id,
                version=version,
                outlet_id=outlet_id,
                body=resource.SerializeToString(),
                occurred_at=occurred_at or self.now,
            )
        )

    async def run(self, statement: sa.Executable, **parameters: Any) -> sa.CursorResult[Any]:
        """Executes a statement."""
        result: sa.CursorResult[Any] = await self.connection.execute(statement, parameters or None)
        return result


BeforeCommit = Callable[[Transaction, Sequence[log.NewEvent]], Awaitable[None]]
AfterCommit = Callable[[str, dict[str, int]], None]


class Database:
    """Two pools on one database: one fenced to a tenant by row-level security, one for what works across tenants."""

    def __init__(self, url: str, *, connections: int = 16) -> None:
        self._app = _engine(url, "gipos_app", connections)
        self._system = _engine(url, "gipos_system", connections)
        self._before_commit: Sequence[BeforeCommit] = ()
        self._after_commit: Sequence[AfterCommit] = ()

    def react(self, *, before_commit: Sequence[BeforeCommit], after_commit: Sequence[AfterCommit]) -> None:
        """Sets what happens with every transaction that published events. Called once, by the composition root."""
        self._before_commit = before_commit
        self._after_commit = after_commit

    @asynccontextmanager
    async def transaction(self, tenant_id: str) -> AsyncIterator[Transaction]:
        """A transaction fenced to one tenant.

        Raises:
            Busy: a lock or a connection could not be had in time; trying again is safe.
            Unreachable: the database is away; whether the change happened is not known.
        """
        with _understood():
            async with self._app.begin() as connection:
                await connection.execute(_SET_TENANT, {"tenant_id": tenant_id})
                tx = Transaction(connection, tenant_id, business_days.now())
                yield tx
                if tx.events:
                    for react in self._before_commit:
                        await react(tx, tx.events)
                    # The counter rows are locked by the very last statement: see cloud/platform/log.py.
                    tx.heads = await log.append(connection, tenant_id, tx.events)
        if tx.heads:
            for announce in self._after_commit:
                announce(tenant_id, tx.heads)

    @asynccontextmanager
    async def snapshot(self, tenant_id: str) -> AsyncIterator[AsyncConnection]:
        """A read-only view of one moment of one tenant: whatever is read inside belongs together."""
        with _understood():
            async with self._app.connect() as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    await connection.execute(_SET_TENANT, {"tenant_id": tenant_id})
                    yield connection

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[AsyncConnection]:
        """Reads of one tenant, each statement on its own moment."""
        with _understood():
            async with self._app.begin() as connection:
                await connection.execute(_SET_TENANT, {"tenant_id": tenant_id})
                yield connection

    @asynccontextmanager
    async def across_tenants(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees every tenant: for authentication, deliveries and wake-ups, never for a caller's request."""
        async with self._system.begin() as connection:
            yield connection

    @asynccontextmanager
    async def listening(self, channel: str, heard: Callable[[object, int, str, object], None]) -> AsyncIterator[asyncio.Event]:
        """Calls `heard` with every NOTIFY on a channel; the event is set when the connection is lost."""
        async with self._system.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            closed = asyncio.Event()
            driver.add_termination_listener(lambda _connection: closed.set())
            await driver.add_listener(channel, heard)
            try:
                yield closed
            finally:
                if not closed.is_set():
                    await driver.remove_listener(channel, heard)

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        async with self._system.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self._app.dispose()
        await self._system.dispose()


@contextmanager
def _understood() -> Iterator[None]:
    """What of the database's refusals a caller can do something about."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if state in _CROSSED:
            raise Busy("Somebody else is changing the same thing. Nothing was changed; send the request again.") from error
        if state in _BAD_TEXT:
            message = "A text contains a NUL character or is not valid UTF-8."
            raise Invalid([Violation("", "INVALID_CHARACTER", message)]) from error
        if state in _AWAY or error.connection_invalidated:
            raise Unreachable(_UNKNOWN_OUTCOME) from error
        raise
    except PoolTimeoutError as error:
        raise Busy("Too much is going on at once. Nothing was changed; send the request again.") from error
    except OSError as error:
        raise Unreachable(_UNKNOWN_OUTCOME) from error


def driver_url(url: str) -> URL:
    """The URL for our driver, whatever PostgreSQL scheme was given."""
    return make_url(url).set(drivername="postgresql+asyncpg")


def _engine(url: str, role: str, connections: int) -> AsyncEngine:
    return create_async_engine(
        driver_url(url),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=False,
        hide_parameters=True,  # names and numbers of people must not reach the log with an error
        connect_args={
            "server_settings": {
                "role": role,
                "application_name": role,
                "timezone": "UTC",
                # A stuck transaction of one caller must not stop the shop.
                "lock_timeout": "2s",
                "idle_in_transaction_session_timeout": "10s",
                "statement_timeout": "30s",
                "jit": "off",
            }
        },
    )
