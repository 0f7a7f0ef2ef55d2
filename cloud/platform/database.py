"""The one way to write: a transaction that carries rows and the events that announce them.

A rule gets a Transaction, reads and writes through its connection and publishes events. When the block ends, the events are
numbered, stored and committed with the rows, or nothing is. Rules never commit and never call the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from google.protobuf.message import Message
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cloud.platform import log, trail
from cloud.platform.calls import Call
from cloud.platform.keyring import Keyring
from cloud.platform.sealing import Vault
from cloud.platform.statements import TOO_MUCH, UNKNOWN_OUTCOME, Driver, Statements, of_state
from kernel import business_days
from kernel.errors import Busy, Unreachable
from kernel.event_types import EventType
from kernel.ids import new_id

logger = structlog.get_logger()

metadata = sa.MetaData()
"""Every table of every feature hangs on this, each declared in its feature's tables.py."""

M = TypeVar("M", bound=Message)

STATEMENTS_AT_ONCE = 6
"""Connections for single statements. Few: what waits is put together instead of being sent side by side."""
_SET_TENANT = sa.text("SELECT set_config('gipos.tenant_id', :tenant_id, true)")
_ALONE = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(what, 0)) FROM unnest(CAST(:whats AS text[])) AS what")


class Announcing:
    """What every transaction has: a tenant, one moment for all it writes, and events that are stored with its rows."""

    def __init__(self, tenant_id: str, now: datetime) -> None:
        self.tenant_id = tenant_id
        self.now = now
        """One moment for everything this transaction writes."""
        self.events: list[log.NewEvent] = []
        self.heads: dict[str, int] = {}
        """After commit: the last position of every lane that was written to."""
        self.epochs: dict[str, int] = {}
        """And the epoch of each."""
        self.listens: bool | None = None
        """Whether anybody outside listens to the merchant's events, if this transaction has looked."""
        self.along: log.Along | None = None
        """What is to be done in the statement that numbers the events."""
        self.due: set[str] = set()
        """Kinds of work that it leaves to others, by names they know. They are woken after the commit."""

    async def run(self, statement: Any, **parameters: Any) -> Any:
        """Executes a statement; its rows."""
        raise NotImplementedError

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


class Transaction(Announcing):
    """What a rule reads, writes and announces through. Always the first argument."""

    def __init__(self, connection: AsyncConnection, tenant_id: str, now: datetime) -> None:
        super().__init__(tenant_id, now)
        self.connection = connection

    async def run(self, statement: sa.Executable, **parameters: Any) -> sa.CursorResult[Any]:
        """Executes a statement."""
        result: sa.CursorResult[Any] = await self.connection.execute(statement, parameters or None)
        return result

    async def alone(self, *whats: str) -> None:
        """Waits until no other transaction of this merchant is alone with one of these; the next one waits for this one's end.

        For what no row can be locked for: two that look for what is not there yet would both find nothing.
        """
        # In one order for everybody, so that two who want several never wait for each other.
        await self.run(_ALONE, whats=sorted({f"{self.tenant_id} {what}" for what in whats}))


class SharedTransaction(Announcing):
    """A transaction for several calls. Rules that need no more of a transaction than `run` and `publish` work on either kind."""

    def __init__(self, driver: Driver, tenant_id: str, now: datetime) -> None:
        super().__init__(tenant_id, now)
        self._driver = driver
        self.entries: list[tuple[Call, dict[str, Any]]] = []
        """For the audit trail: the calls it works for, and the entry of each."""

    async def run(self, statement: sa.TextClause, **parameters: Any) -> Sequence[Any]:
        """Executes a statement; its rows, which are read by position."""
        return await self._driver.run(statement, **parameters)


BeforeCommit = Callable[[Announcing, Sequence[log.NewEvent]], Awaitable[None]]
AfterCommit = Callable[[Announcing], Callable[[], None] | None]
"""What it returns is done when whoever made the change goes on: for what takes long."""


class Database:
    """Two pools on one database: one fenced to a tenant by row-level security, one for what works across tenants."""

    def __init__(self, url: str, *, connections: int = 16, keyring: Keyring | None = None) -> None:
        vault = Vault(keyring, self.across_tenants) if keyring is not None else None
        options = vault.options() if vault is not None else {}
        self._app = _engine(url, "gipos_app", connections, options)
        self.statements = Statements(_plain(url), _settings("gipos_app"), connections=min(connections, STATEMENTS_AT_ONCE))
        """Single statements inside the fence, for what carries load."""
        self._system = _engine(url, "gipos_system", connections, options)
        self.notices = Statements(_plain(url), _settings("gipos_system"), connections=2)
        """Single statements across tenants, for wake-ups."""
        self.identities = Statements(_plain(url), _settings("gipos_system"), connections=2)
        """The same, to find out who calls: apart, because after a cut all tills ask at once."""
        self._before_commit: Sequence[BeforeCommit] = ()
        self._after_commit: Sequence[AfterCommit] = ()
        self._meanwhile: list[Callable[[Announcing], None]] = []

    def react(self, *, before_commit: Sequence[BeforeCommit], after_commit: Sequence[AfterCommit]) -> None:
        """Sets what happens with every transaction that published events. Called once, by the composition root."""
        self._before_commit = before_commit
        self._after_commit = after_commit

    def meanwhile(self, prepare: Callable[[Announcing], None]) -> None:
        """Has this called while the COMMIT of a `transaction` with events is under way: heads and epochs are known by then.

        For what can be made ready in the time and costs nothing when it is in vain: the commit may fail.
        """
        self._meanwhile.append(prepare)

    @asynccontextmanager
    async def transaction(self, tenant_id: str) -> AsyncIterator[Transaction]:
        """A transaction fenced to one tenant.

        Raises:
            Busy: a lock or a connection could not be had in time; trying again is safe.
            Unreachable: the database is away; whether the change happened is not known.
        """
        with _understood():
            async with self._app.connect() as connection:
                async with connection.begin():
                    await connection.execute(_SET_TENANT, {"tenant_id": tenant_id})
                    tx = Transaction(connection, tenant_id, business_days.now())
                    yield tx
                    entries = trail.entries(tenant_id, tx.now, tx.events)
                    if entries:
                        await connection.execute(trail.INSERT, entries)
                    if tx.events:
                        for react in self._before_commit:
                            await react(tx, tx.events)
                        # The counter rows are locked by the very last statement: see cloud/platform/log.py.
                        tx.heads, tx.epochs = await log.append(tx, tenant_id, tx.events)
                        for prepare in self._meanwhile:
                            asyncio.get_running_loop().call_soon(prepare, tx)  # which is when COMMIT is being waited for
                if entries:
                    trail.committed()
                # Giving the connection back takes some turns of the loop, which are theirs who wait.
                later = self._announce(tx)
        self._go_on(tx, later)

    @asynccontextmanager
    async def together(self, tenant_id: str) -> AsyncIterator[SharedTransaction]:
        """A transaction that does the same change for several calls at once: one commit, and statements straight to the driver.

        Whoever uses it adds the entries of the audit trail for each call; everything else is as in `transaction`.

        Raises:
            Busy, Unreachable: as `transaction`.
        """
        async with self.statements.transaction(tenant_id) as driver:
            tx = SharedTransaction(driver, tenant_id, business_days.now())
            yield tx
            await driver.run_many(trail.INSERT, [entry for _, entry in tx.entries])
            if tx.events:
                for react in self._before_commit:
                    await react(tx, tx.events)
                tx.heads, tx.epochs = await log.append(tx, tenant_id, tx.events, tx.along)
        for call, _ in tx.entries:
            call.is_recorded = True
        self._go_on(tx, self._announce(tx))

    def _announce(self, tx: Announcing) -> Sequence[Callable[[], None]]:
        """Tells those who wait, and what is left to be done of that.

        It is committed: a failure here must not look like a failed change, or it would be made again.
        """
        later = []
        for announce in self._after_commit if tx.heads else ():
            try:
                if (rest := announce(tx)) is not None:
                    later.append(rest)
            except Exception:
                logger.exception("not_announced", tenant_id=tx.tenant_id)  # the poll finds it within a second
        return later

    def _go_on(self, tx: Announcing, later: Sequence[Callable[[], None]]) -> None:
        """What was left; whoever is cancelled before leaves it to the poll."""
        for rest in later:
            try:
                rest()
            except Exception:
                logger.exception("not_announced", tenant_id=tx.tenant_id)  # as above

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
    async def identifying(self) -> AsyncIterator[AsyncConnection]:
        """As across_tenants, on behalf of a request whose merchant is not known yet; fails with the words of `transaction`."""
        with _understood():
            async with self.across_tenants() as connection:
                yield connection

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[tuple[AsyncConnection, Any]]:
        """A connection across tenants to keep, outside of any transaction, and the driver's own beneath it.

        At the end it is closed and not returned to the pool: what it was set to, listens to or has locked is nobody else's.
        """
        async with self._system.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            try:
                yield connection, driver
            finally:
                await connection.invalidate()

    @asynccontextmanager
    async def listening(self, channel: str, heard: Callable[[object, int, str, object], None]) -> AsyncIterator[asyncio.Event]:
        """Calls `heard` with every NOTIFY on a channel; the event is set when the connection is lost."""
        async with self.apart() as (_, driver):
            closed = asyncio.Event()
            driver.add_termination_listener(lambda _connection: closed.set())
            await driver.add_listener(channel, heard)
            yield closed

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        async with self._system.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self.statements.close()
        await self.notices.close()
        await self.identities.close()
        await self._app.dispose()
        await self._system.dispose()


@contextmanager
def _understood() -> Iterator[None]:
    """What of the database's refusals a caller can do something about."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if (meaning := of_state(state)) is not None:
            raise meaning from error
        if error.connection_invalidated:
            raise Unreachable(UNKNOWN_OUTCOME) from error
        raise
    except PoolTimeoutError as error:
        raise Busy(TOO_MUCH) from error
    except OSError as error:
        raise Unreachable(UNKNOWN_OUTCOME) from error


def complaint(url: str, folder: Path, error: Exception) -> str:
    """One sentence for whoever starts a program whose database cannot be used; no password is in it."""
    reason = str(getattr(error, "orig", error)).splitlines()[0]
    where = make_url(url).render_as_string() if url else f"in {folder}"
    return (
        f"The database {where} cannot be used ({reason}). "
        "Bring it back from a backup; a demo starts anew when its folder is removed."
    )


def driver_url(url: str) -> URL:
    """The URL for our driver, whatever PostgreSQL scheme was given."""
    return make_url(url).set(drivername="postgresql+asyncpg")


def _engine(url: str, role: str, connections: int, options: dict[str, object]) -> AsyncEngine:
    engine = create_async_engine(
        driver_url(url),
        execution_options=options,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=False,
        hide_parameters=True,  # names and numbers of people must not reach the log with an error
        connect_args={"server_settings": _settings(role)},
    )
    sa.event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """Makes the pool open another connection for one that ended while it lay there, as all do when PostgreSQL starts again."""
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def _settings(role: str) -> dict[str, str]:
    return {
        "role": role,
        "application_name": role,
        "timezone": "UTC",
        # A stuck transaction of one caller must not stop the shop.
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "10s",
        "statement_timeout": "30s",
        "jit": "off",
    }


def _plain(url: str) -> str:
    """The URL as the driver itself takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
