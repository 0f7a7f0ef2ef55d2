"""One SQLite file: a writer thread that takes work in order, a reader thread beside it, and forward migrations.

It knows pragmas, threads and transactions, and no table. Work is a function of a connection; it must not await.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]

BUSY_TIMEOUT_MS = 5_000
JOURNAL_SIZE_LIMIT = 16 * 1024 * 1024
DAMAGE = (apsw.CorruptError, apsw.NotADBError)


class StorageUnusable(Exception):
    """A file of the till cannot be used. The message names it and says what to do."""


class StorageDamaged(StorageUnusable):
    """The file's content is broken, as SQLite itself says."""


class StorageFull(Exception):
    """The disk is full: nothing was changed."""


class _Worker:
    """A thread with its own connection that runs work in the order it was given."""

    def __init__(self, name: str, connection: apsw.Connection, begin: str) -> None:
        self._connection = connection
        self._begin = begin
        self._queue: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Finishes what was given so far, then closes the connection."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._transaction(work)
            except BaseException as error:  # noqa: BLE001 (it belongs to whoever waits for the future, not to this thread)
                future.set_exception(error)
            else:
                future.set_result(result)
        self._connection.close()

    def _transaction(self, work: Work[T]) -> T:
        try:
            self._connection.execute(self._begin)
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, apsw.FullError):
                raise StorageFull("The tablet's disk is full. Free some space; nothing was changed.") from error
            raise
        return result


class Database:
    """An open file. `write` and `read` run one function in one transaction and return what it returns."""

    def __init__(self, path: Path, *, synchronous: str, migrations: Sequence[str], check: bool) -> None:
        """Opens (or creates) the file and brings its tables up to date.

        Args:
            path: the file.
            synchronous: FULL where a commit must survive power loss, NORMAL where the content can be fetched again.
            migrations: all steps since the first version.
            check: run quick_check first, as after a power cut.

        Raises:
            StorageDamaged: the content is broken.
            StorageUnusable: it cannot be opened, or was made by a newer version.
        """
        self.path = path
        self._synchronous = synchronous
        connection = None
        try:
            connection = self._connect()
            if check:
                self._check(connection)
            self._migrate(connection, migrations)
            reader = self._connect()
        except DAMAGE as error:
            if connection is not None:
                connection.close()
            raise StorageDamaged(f"{path} is damaged ({error}).") from error
        except apsw.Error as error:
            if connection is not None:
                connection.close()
            raise StorageUnusable(f"{path} cannot be opened ({error}). Check the folder's permissions and free space.") from error
        except StorageUnusable:
            if connection is not None:
                connection.close()
            raise
        self._writer = _Worker(f"{path.name} writer", connection, "BEGIN IMMEDIATE")
        self._reader = _Worker(f"{path.name} reader", reader, "BEGIN DEFERRED")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def write(self, work: Work[T]) -> T:
        """Runs the work in the writer thread, in a transaction of its own, and returns once it is committed.

        A caller that is cancelled while the work runs does not undo it.

        Raises:
            StorageFull: the disk is full.
        """
        return await asyncio.wrap_future(self._writer.submit(work))

    async def read(self, work: Work[T]) -> T:
        """Runs the work in the reader thread on one consistent state of the file."""
        return await asyncio.wrap_future(self._reader.submit(work))

    def write_and_wait(self, work: Work[T]) -> T:
        """Like write, for callers without an event loop (start-up, tests)."""
        return self._writer.submit(work).result()

    def close(self) -> None:
        """Finishes the work given so far and closes the file."""
        self._reader.close()
        self._writer.close()

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", self._synchronous)
        connection.pragma("foreign_keys", 1)
        connection.pragma("wal_autocheckpoint", 1000)
        connection.pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        return connection

    def _check(self, connection: apsw.Connection) -> None:
        findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
        if findings != ["ok"]:
            raise StorageDamaged(f"{self.path} is damaged ({'; '.join(findings)}).")

    def _migrate(self, connection: apsw.Connection, migrations: Sequence[str]) -> None:
        version = int(connection.pragma("user_version"))
        if version > len(migrations):
            raise StorageUnusable(
                f"{self.path} was written by a newer version of this program (its format is {version}, this program knows "
                f"{len(migrations)}). Install that version again; the file was not changed."
            )
        for number in range(version, len(migrations)):
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(migrations[number])
                connection.execute(f"PRAGMA user_version = {number + 1}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
