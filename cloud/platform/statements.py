"""Single prepared statements straight to the driver, for the few reads and writes that carry the load. Knows no table.

One statement is one transaction to PostgreSQL: no BEGIN, no COMMIT, one round trip. The connections have the role that row-level
security fences; a statement that reads a tenant's rows calls a function that sets the tenant first (migration 0007).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any

import asyncpg
from sqlalchemy import TextClause

from kernel.errors import Busy, Invalid, Unreachable, Violation

CROSSED = {"55P03", "40P01", "40001"}
"""Lock not available in time, deadlock, serialisation: the transaction was rolled back as a whole."""
AWAY = {"57P01", "57P02", "57P03", "53300", "08000", "08003", "08006", "08P01", "08001"}
FULL = {"53200"}
"""Out of memory, which is what PostgreSQL also says when there is no room for further locks: large batches hold hundreds."""
BAD_TEXT = {"22021", "22P05"}
TOO_MUCH = "Too much is going on at once. Nothing was changed; send the request again."
UNKNOWN_OUTCOME = (
    "The database cannot be reached at the moment. If this was a change, it is not known whether it happened: "
    "send it again with the same Idempotency-Key."
)
_WAIT_SECONDS = 10.0
_MARK = "."
_PLAIN_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
_PARAMETER = re.compile(r"(?<![:\\\w]):([a-z_]+)(?!:)")


class Statements:
    """A few connections for single statements, opened when first needed."""

    def __init__(self, url: str, settings: dict[str, str], *, connections: int) -> None:
        self._url = url
        self._settings = settings
        self._free: list[asyncpg.Connection[Any]] = []
        self._turns = asyncio.Semaphore(connections)
        self._is_closed = False

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """The rows of one statement, which is a transaction of its own.

        Raises:
            Busy, Invalid, Unreachable: as Database says.
        """
        async with self.connection() as connection:
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
            return rows

    @asynccontextmanager
    async def transaction(self, tenant_id: str) -> AsyncIterator[Driver]:
        """A transaction fenced to one tenant, begun in one round trip. It ends with the block: committed, or rolled back.

        Raises:
            Busy, Invalid, Unreachable: as Database says, for what the block raises as well.
        """
        if not _PLAIN_ID.fullmatch(tenant_id):
            raise ValueError("a tenant's id has letters, digits and underscores only")
        failure: Exception | None = None
        async with self.connection() as connection:
            # Several statements in one message take no parameters; the id is plain, as was just seen.
            await connection.execute(f"BEGIN; SELECT set_config('gipos.tenant_id', '{tenant_id}', true)")
            try:
                yield Driver(connection)
            except Exception as error:  # noqa: BLE001 (whatever it is, the connection is as good as before after a rollback)
                await connection.execute("ROLLBACK")
                failure = error
            else:
                await connection.execute("COMMIT")
        if failure is not None:
            try:
                with understood():
                    raise failure
            finally:
                del failure  # whose traceback holds this frame: see cloud/limits/gate.py

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A connection for a short while. It is closed when the block fails: nothing half done goes back.

        Raises:
            Busy, Invalid, Unreachable: as Database says, for what the block raises as well.
        """
        with understood():
            async with asyncio.timeout(_WAIT_SECONDS) as limit:
                await self._turns.acquire()
                limit.reschedule(None)
            try:
                connection = await self._taken()
                try:
                    yield connection
                except BaseException:
                    connection.terminate()
                    raise
                if self._is_closed:
                    connection.terminate()
                else:
                    self._free.append(connection)
            finally:
                self._turns.release()

    async def _taken(self) -> asyncpg.Connection[Any]:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        return await asyncpg.connect(self._url, server_settings=self._settings, statement_cache_size=200)

    async def close(self) -> None:
        """Closes the connections."""
        self._is_closed = True
        while self._free:
            await self._free.pop().close()


class Driver:
    """Runs the statements of rules on a connection of the driver itself, prepared once per connection."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def run(self, statement: TextClause, **parameters: Any) -> Sequence[Any]:
        """The rows of a statement with named parameters."""
        text, names = _numbered(statement)
        rows: Sequence[Any] = await self._connection.fetch(text, *[parameters[name] for name in names])
        return rows

    async def run_many(self, statement: TextClause, many: Sequence[Mapping[str, Any]]) -> None:
        """A statement with several sets of parameters, all sent before the first answer is waited for."""
        text, names = _numbered(statement)
        await self._connection.executemany(text, [[one[name] for name in names] for one in many])


@cache
def _numbered(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """The text with $1, $2… for :first, :second…, and the names in that order."""
    names: dict[str, int] = {}
    text = _PARAMETER.sub(lambda match: f"${names.setdefault(match[1], len(names) + 1)}", statement.text)
    return text.replace("\\:", ":"), tuple(names)


def packed(texts: Sequence[str]) -> str:
    """Many texts as one, which costs the driver a tenth of what an array does. In SQL they are `unpacked("parameter")` again.

    A unit separator (U+001F) within a text becomes a space.
    """
    if not texts:
        return ""
    joined = f"\x1f{_MARK}".join(texts)
    if joined.count("\x1f") >= len(texts):
        joined = f"\x1f{_MARK}".join([text.replace("\x1f", " ") for text in texts])
    return _MARK + joined


def packed_numbers(numbers: Iterable[int]) -> str:
    """As packed, for whole numbers; `unpacked_numbers("parameter")` in SQL."""
    return " ".join(map(str, numbers))


def unpacked(parameter: str) -> str:
    """An array of the packed texts, each with a character before it that substr(…, 2) leaves off.

    Without that nothing would tell one empty text from none.
    """
    return f"string_to_array(CAST(:{parameter} AS text), chr(31))"


def unpacked_numbers(parameter: str) -> str:
    """An array of the packed numbers."""
    return f"CAST(string_to_array(CAST(:{parameter} AS text), ' ') AS bigint[])"


@contextmanager
def understood() -> Iterator[None]:
    """What of the driver's refusals a caller can do something about."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if (meaning := of_state(error.sqlstate or "")) is not None:
            raise meaning from error
        raise
    except TimeoutError as error:
        raise Busy(TOO_MUCH) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        # The driver's own fault is what a statement meets between the last words of a connection and its end.
        raise Unreachable(UNKNOWN_OUTCOME) from error


def of_state(state: str) -> Busy | Invalid | Unreachable | None:
    """What an SQLSTATE means to a caller; None when it is ours to look into."""
    if state in CROSSED:
        return Busy("Somebody else is changing the same thing. Nothing was changed; send the request again.")
    if state in FULL:
        return Busy(TOO_MUCH)
    if state in BAD_TEXT:
        message = "A text contains a NUL character or is not valid UTF-8."
        return Invalid([Violation("", "INVALID_CHARACTER", message)])
    if state in AWAY:
        return Unreachable(UNKNOWN_OUTCOME)
    return None
