"""One SQLite file: a writer thread that takes work in order, a reader thread beside it, and forward migrations.

It knows pragmas, threads and transactions, and no table. Work is a function of a connection; it must not await.
"""

from __future__ import annotations

import asyncio
import errno
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw

from edge.storage import carving

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]

BUSY_TIMEOUT_MS = 5_000
JOURNAL_SIZE_LIMIT = 16 * 1024 * 1024
OLDEST_LIBRARY = (3, 51, 3)
"""Versions 3.7.0 to 3.51.2 can corrupt a file in WAL mode. Source: sqlite.org/wal.html, "WAL-reset bug"."""
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.IOError)
"""What says, while a file is open, that it (or the flash under it) is broken. A full disk is told apart before."""
_UNREADABLE = frozenset(
    {apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageUnusable(Exception):
    """A file of the till cannot be used. The message names it and says what to do."""


class StorageDamaged(StorageUnusable):
    """The file's content is broken, as SQLite itself says."""


class StorageCramped(StorageUnusable):
    """There is no room to open the file."""


class StorageFull(Exception):
    """The disk is full: nothing was changed."""


def check_library(version: str) -> None:
    """Refuses a SQLite library that can corrupt files.

    Raises:
        StorageUnusable: it is older than the first good one.
    """
    try:
        found = tuple(int(part) for part in version.split("."))
    except ValueError:
        found = ()
    if found < OLDEST_LIBRARY:
        oldest = ".".join(str(part) for part in OLDEST_LIBRARY)
        raise StorageUnusable(
            f"The SQLite library of this program is {version or 'unknown'}; versions before {oldest} can damage sales."
            " Install the apsw package the program asks for."
        )


class _Worker:
    """A thread with its own connection that runs work in the order it was given."""

    def __init__(self, name: str, connection: apsw.Connection, begin: str, relieve: Callable[[], bool]) -> None:
        self._connection = connection
        self._begin = begin
        self._relieve = relieve
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
                result = self._patiently(work)
            except BaseException as error:  # noqa: BLE001 (it belongs to whoever waits for the future, not to this thread)
                future.set_exception(error)
            else:
                future.set_result(result)
        self._connection.close()

    def _patiently(self, work: Work[T]) -> T:
        try:
            return self._transaction(work)
        except StorageFull:
            # Nothing was changed, so the work can be done from the beginning once there is room.
            if not self._relieve():
                raise
            return self._transaction(work)

    def _transaction(self, work: Work[T]) -> T:
        try:
            self._connection.execute(self._begin)
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException as error:
            full = _is_full(self._connection, error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if full:
                raise StorageFull(
                    "Penyimpanan tablet penuh; tidak ada yang diubah. Hapus berkas lain lalu coba lagi."
                    " / The tablet's disk is full; nothing was changed. Delete other files, then try again."
                ) from error
            raise
        return result


def _is_damage(error: apsw.Error) -> bool:
    """Whether an error at the opening means a broken file, and not a folder or a disk that cannot be used."""
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", 0) in _UNREADABLE
    return isinstance(error, apsw.CorruptError | apsw.NotADBError)


def _is_full(connection: apsw.Connection, error: BaseException) -> bool:
    """Whether an error means that there is no room. Quotas and size limits reach SQLite as errors of input and output."""
    return isinstance(error, apsw.FullError) or (
        isinstance(error, apsw.IOError | apsw.CantOpenError) and connection.system_errno in _NO_ROOM
    )


class Database:
    """An open file. `write` and `read` run one function in one transaction and return what it returns."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str,
        migrations: Sequence[str],
        check: bool,
        backs_up: bool = False,
        checks_log: bool = False,
        relieve: Callable[[], bool] = lambda: False,
    ) -> None:
        """Opens (or creates) the file and brings its tables up to date.

        Args:
            path: the file.
            synchronous: FULL where a commit must survive power loss, NORMAL where the content can be fetched again.
            migrations: all steps since the first version.
            check: look through all of the file first, as after a power cut. Else only through its pages, in half the time.
            backs_up: keep a copy of a file with content before its tables are changed.
            checks_log: count a log that is broken in the middle as damage. SQLite passes over all that follows, as after a cut of
                the power; where commits are synced that cannot be what it is.
            relieve: makes room on a full disk; whether it is worth another try.

        Raises:
            StorageDamaged: the content is broken.
            StorageCramped: there is no room to open it; nothing was changed.
            StorageUnusable: it cannot be opened, or was made by a newer version.
        """
        self.path = path
        self._synchronous = synchronous
        connection = reader = None
        try:
            connection = self._connect()
            # A file that turns out to be broken is left exactly as it is, its log beside it.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._check(connection, "integrity_check" if check else "quick_check", with_log=checks_log)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._migrate(connection, migrations, backs_up=backs_up)
            reader = self._connect()
        except apsw.Error as error:
            if _is_damage(error):
                _close(connection)
                raise StorageDamaged(f"{path} is damaged ({error}).") from error
            kind = StorageCramped if connection is not None and _is_full(connection, error) else StorageUnusable
            _close(connection)
            raise kind(
                f"{path} tidak bisa dibuka ({error}). Periksa izin folder dan sisa penyimpanan tablet.\n"
                f"{path} cannot be opened ({error}). Check the folder's permissions and free space."
            ) from error
        except StorageUnusable:
            _close(connection)
            raise
        self._writer = _Worker(f"{path.name} writer", connection, "BEGIN IMMEDIATE", relieve)
        self._reader = _Worker(f"{path.name} reader", reader, "BEGIN DEFERRED", lambda: False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def write(self, work: Work[T]) -> T:
        """Runs the work in the writer thread, in a transaction of its own, and returns once it is committed.

        On a full disk it may run twice; what the first run did is rolled back. A caller that is cancelled while the work runs
        does not undo it.

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
        connection.pragma("mmap_size", 0)
        return connection

    def _check(self, connection: apsw.Connection, kind: str, *, with_log: bool) -> None:
        findings = [str(row[0]) for row in connection.execute(f"PRAGMA {kind}(5)")]
        if findings != ["ok"]:
            raise StorageDamaged(f"{self.path} is damaged ({'; '.join(findings)}).")
        seen = max(0, connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])
        if with_log and carving.is_cut_short(self.path, seen):
            raise StorageDamaged(f"{self.path} is damaged (its log is broken before its end).")

    def _migrate(self, connection: apsw.Connection, migrations: Sequence[str], *, backs_up: bool) -> None:
        version = int(connection.pragma("user_version"))
        if version > len(migrations):
            raise StorageUnusable(
                f"{self.path} ditulis versi program yang lebih baru (format {version}, program ini mengenal {len(migrations)})."
                " Pasang lagi versi itu; berkas tidak diubah.\n"
                f"{self.path} was written by a newer version of this program (its format is {version}, this program knows "
                f"{len(migrations)}). Install that version again; the file was not changed."
            )
        if version == len(migrations):
            return
        if backs_up and version:
            _back_up(connection, self.path.with_name(f"{self.path.name}.format-{version}"))
        # All steps in one transaction: a file is of one version or of the other.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for number in range(version, len(migrations)):
                connection.execute(migrations[number])
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _back_up(connection: apsw.Connection, copy: Path) -> None:
    """A copy from before a change of the tables. One left by an attempt that failed has the same content and is replaced."""
    copy.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(copy),))


def _close(connection: apsw.Connection | None) -> None:
    if connection is not None:
        connection.close()
