"""Hourly copies of store.db, the last two kept. A copy is complete or it is not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

FOLDER = "copies"
NEWEST, BEFORE = "store.db", "store-before.db"


def make(store: Path) -> bool:
    """Copies the store into the folder beside it; whether that was needed. Blocks; call it in a thread.

    Raises:
        apsw.Error, OSError: it could not be made. The copies from before are still there.
    """
    folder = store.parent / FOLDER
    folder.mkdir(exist_ok=True)
    newest, fresh = folder / NEWEST, folder / "store.new"
    changed_ns = _changed_ns(store)
    if newest.exists() and newest.stat().st_mtime_ns == changed_ns:
        return False
    fresh.unlink(missing_ok=True)
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5000)
        connection.execute("VACUUM INTO ?", (str(fresh),))
    except apsw.Error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    finally:
        connection.close()
    # Of the moment before, so that what was written meanwhile counts as new next time.
    os.utime(fresh, ns=(changed_ns, changed_ns))
    sync(fresh)
    if newest.exists():
        newest.replace(folder / BEFORE)
    fresh.replace(newest)
    sync(folder)
    return True


def sound(store: Path) -> Path | None:
    """The newest copy that is whole; None when there is none."""
    for name in (NEWEST, BEFORE):
        copy = store.parent / FOLDER / name
        if copy.exists() and _is_whole(copy):
            return copy
    return None


def sync(path: Path) -> None:
    """Sees to it that a file, or a folder's list of files, survives loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed_ns(store: Path) -> int:
    log = store.with_name(store.name + "-wal")
    return max(file.stat().st_mtime_ns for file in (store, log) if file.exists())


def _is_whole(copy: Path) -> bool:
    try:
        connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return [row[0] for row in connection.execute("PRAGMA integrity_check(1)")] == ["ok"]
        finally:
            connection.close()
    except apsw.Error:
        return False
