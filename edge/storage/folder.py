"""A till's data folder: one daemon at a time, both files open, and what to do when one of them is broken.

store.db holds sales nobody else has, so a broken one stops the program. replica.db is renamed aside and fetched again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw
import structlog

from edge.storage import facts, lanes, outlets, print_jobs, schema
from edge.storage.columns import blob
from edge.storage.database import Database, StorageDamaged, StorageUnusable

_log = structlog.get_logger(__name__)

LOCK_NAME = "daemon.lock"
STORE_NAME = "store.db"
REPLICA_NAME = "replica.db"


def now_ms() -> int:
    """Milliseconds since 1970 by the till's clock."""
    return time.time_ns() // 1_000_000


@dataclass
class Storage:
    """Both files of a till, open, and the lock that keeps others out."""

    folder: Path
    store: Database
    """Sales, outbox, print jobs, cart, facts. A commit survives power loss."""
    replica: Database
    """Catalogue, stock and positions. The newest commits may vanish with the power; the cloud sends them again."""
    store_epoch: int
    """Which life of store.db this is."""
    _lock: int
    clock: Callable[[], int] = now_ms
    _trusted: bool = True

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], int] = now_ms) -> Self:
        """Opens a data folder, creating what is missing.

        Raises:
            StorageUnusable: another daemon uses the folder, it cannot be written, or store.db is broken.
        """
        lock, unclean = _acquire(folder)
        try:
            store = _open_store(folder / STORE_NAME, check=unclean)
            try:
                replica = _open_replica(folder / REPLICA_NAME, check=unclean, clock=clock)
                try:
                    epoch = store.write_and_wait(lambda connection: _begin_life(connection, clock()))
                    replica.write_and_wait(lambda connection: _match_lives(connection, epoch))
                except BaseException:
                    replica.close()
                    raise
            except BaseException:
                store.close()
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(folder=folder, store=store, replica=replica, store_epoch=epoch, _lock=lock, clock=clock)

    def distrust(self) -> None:
        """Something in the files looked broken: the next start checks them as after a crash."""
        self._trusted = False

    def close(self) -> None:
        """Finishes what was begun, closes both files and notes that the end was clean."""
        self.replica.close()
        self.store.close()
        if self._trusted:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)


def _acquire(folder: Path) -> tuple[int, bool]:
    """Takes the folder's lock. The second value tells whether the daemon before us ended without saying so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnusable(
            f"The data folder {folder} cannot be used ({error.strerror}). Choose another with --data or correct its permissions."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StorageUnusable(
            f"The data folder {folder} is in use by another till daemon (process {holder}). Stop that one first,"
            " or choose another folder with --data."
        ) from error
    unclean = os.fstat(lock).st_size > 0
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock, unclean


def _open_store(path: Path, *, check: bool) -> Database:
    try:
        return Database(path, synchronous="full", migrations=schema.STORE, check=check)
    except StorageDamaged as error:
        raise StorageUnusable(
            f"{error} It may hold sales that were not uploaded yet, so nothing was changed. Copy the folder {path.parent} to a"
            f" safe place and call support; to sell again now, move {path.name}, {path.name}-wal and {path.name}-shm away and"
            " connect the till to the network once."
        ) from error


def _open_replica(path: Path, *, check: bool, clock: Callable[[], int]) -> Database:
    try:
        return Database(path, synchronous="normal", migrations=schema.REPLICA, check=check)
    except StorageDamaged as error:
        aside = path.with_name(f"{path.name}.broken-{clock()}")
        _log.warning("replica_rebuilt", problem=str(error), kept_as=str(aside))
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))
        return Database(path, synchronous="normal", migrations=schema.REPLICA, check=False)


def _begin_life(connection: apsw.Connection, now: int) -> int:
    """The number of this store's life. A new store cannot know the one before it, so it takes the time, which only grows."""
    epoch = facts.number(connection, facts.STORE_EPOCH)
    if not epoch:
        epoch = now
        facts.put(connection, facts.STORE_EPOCH, epoch)
    interrupted = print_jobs.interrupt(connection, now)
    if interrupted:
        _log.warning("print_jobs_unknown", count=interrupted)
    return epoch


def _match_lives(connection: apsw.Connection, store_epoch: int) -> None:
    """The replica speaks of operations of one life of the store; in another they mean nothing."""
    known = connection.execute("SELECT value FROM facts WHERE name = 'store_epoch'").get
    mine = str(store_epoch).encode()
    if known is not None and blob(known) != mine:
        lanes.forget_watermarks(connection)
        # A new store does not know which receipt numbers were given out; only the next Welcome tells. Until then nothing is sold.
        outlets.forget(connection)
    connection.execute(
        "INSERT INTO facts (name, value) VALUES ('store_epoch', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (mine,),
    )
