from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge.storage import facts, lanes, outbox, outlets, print_jobs, schema
from edge.storage.clocks import Clock
from edge.storage.database import Database, StorageUnusable, check_library
from edge.storage.folder import Storage
from edge.storage.print_jobs import PrintRow
from edge.storage.times import EARLIEST_MS, Now
from gipos.edge.v1.link_pb2 import SnapshotPart


def at(wall_ms: int) -> Clock:
    """A clock that stands still."""
    return Clock(lambda: Now(EARLIEST_MS + wall_ms, 0, "boot"))


def test_the_library_is_one_without_the_wal_reset_bug() -> None:
    check_library(apsw.sqlite_lib_version())


@pytest.mark.parametrize(
    ("version", "is_good"),
    [
        ("3.51.3", True),
        ("3.52.0", True),
        ("4.0.0", True),
        ("3.51.2", False),
        ("3.7.0", False),
        ("3.40.1", False),
        ("?", False),
        ("", False),
    ],
)
def test_a_library_that_can_damage_sales_is_refused_at_the_start(version: str, is_good: bool) -> None:
    if is_good:
        check_library(version)
    else:
        with pytest.raises(StorageUnusable, match=r"before 3\.51\.3 can damage sales"):
            check_library(version)


async def test_both_files_are_opened_as_decided(storage: Storage) -> None:
    def pragmas(connection: Any) -> dict[str, object]:
        names = (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "wal_autocheckpoint",
            "journal_size_limit",
            "busy_timeout",
            "mmap_size",
        )
        return {name: connection.pragma(name) for name in names}

    common = {"journal_mode": "wal", "foreign_keys": 1, "wal_autocheckpoint": 1000}
    common |= {"journal_size_limit": 16 * 1024 * 1024, "busy_timeout": 5000}
    common |= {"mmap_size": 0}
    assert await storage.store.read(pragmas) == {**common, "synchronous": 2}
    assert await storage.replica.read(pragmas) == {**common, "synchronous": 1}


async def test_every_table_is_strict(storage: Storage) -> None:
    def strict(connection: Any) -> list[Any]:
        return [
            row[0]
            for row in connection.execute(
                "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
            )
        ]

    for database in (storage.store, storage.replica):
        assert set(await database.read(strict)) == {1}


def test_what_was_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    first = Storage.open(tmp_path)
    epoch = first.store_epoch
    first.store.write_and_wait(lambda connection: facts.put(connection, "greeting", "selamat pagi"))
    first.close()
    second = Storage.open(tmp_path)
    assert second.store.write_and_wait(lambda connection: facts.text(connection, "greeting")) == "selamat pagi"
    assert second.store_epoch == epoch
    second.close()


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    first = Storage.open(tmp_path)
    with pytest.raises(StorageUnusable, match=f"process {os.getpid()}"):
        Storage.open(tmp_path)
    first.close()
    Storage.open(tmp_path).close()


def test_a_file_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    Storage.open(tmp_path).close()
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.STORE) + 1}")
    connection.close()
    with pytest.raises(StorageUnusable, match="newer version"):
        Storage.open(tmp_path)


def test_migrations_run_forward_from_any_version(tmp_path: Path) -> None:
    steps = ("CREATE TABLE a (x INTEGER) STRICT", "ALTER TABLE a ADD COLUMN y INTEGER")
    for count in (1, 2):
        Database(tmp_path / "file.db", synchronous="normal", migrations=steps[:count], check=False).close()
    with Database(tmp_path / "file.db", synchronous="normal", migrations=steps, check=True) as database:
        database.write_and_wait(lambda connection: connection.execute("INSERT INTO a (x, y) VALUES (1, 2)"))


def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    steps = ("CREATE TABLE a (x INTEGER) STRICT", "CREATE TABLE b (x INTEGER) STRICT; SELECT no_such_function()")
    with pytest.raises(StorageUnusable):
        Database(tmp_path / "file.db", synchronous="normal", migrations=steps, check=False)
    with Database(tmp_path / "file.db", synchronous="normal", migrations=steps[:1], check=False) as database:
        tables = database.write_and_wait(lambda connection: connection.execute("SELECT name FROM sqlite_schema").fetchall())
    assert tables == [("a",)]


def test_a_new_store_beside_an_old_replica_forgets_what_was_said_of_the_old_stores_operations(tmp_path: Path) -> None:
    first = Storage.open(tmp_path, at(1000))
    part = SnapshotPart(lane="out_1", epoch=1, seq=3, last=True, op_watermark=9)
    first.replica.write_and_wait(lambda connection: lanes.activate(connection, part))
    first.close()
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    second = Storage.open(tmp_path, at(2000))
    assert second.store_epoch > first.store_epoch
    place = second.replica.write_and_wait(lambda connection: lanes.position(connection, "out_1"))
    assert place == lanes.Position(epoch=1, seq=3, op_watermark=0)
    second.close()


def test_a_new_store_beside_an_old_replica_waits_for_the_cloud_before_it_sells(
    tmp_path: Path, identity: outlets.Identity
) -> None:
    first = Storage.open(tmp_path, at(1000))
    first.replica.write_and_wait(lambda connection: outlets.put(connection, identity))
    first.close()
    same = Storage.open(tmp_path, at(1500))
    assert same.replica.write_and_wait(outlets.find) == identity
    same.close()
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    second = Storage.open(tmp_path, at(2000))
    assert second.replica.write_and_wait(outlets.find) is None, "it would give receipt numbers out twice"
    second.close()


@pytest.mark.parametrize(("state", "after"), [("queued", "queued"), ("sending", "unknown"), ("awaiting_confirm", "unknown")])
def test_what_was_being_printed_at_the_end_is_unknown(tmp_path: Path, state: str, after: str) -> None:
    first = Storage.open(tmp_path)
    row = PrintRow(key="sal_1-1", sale_id="sal_1", copy=1, kind="receipt", state=state, created_at=1)
    first.store.write_and_wait(lambda connection: print_jobs.insert(connection, row))
    first.close()
    second = Storage.open(tmp_path)
    found = second.store.write_and_wait(lambda connection: print_jobs.find(connection, "sal_1-1"))
    assert found is not None
    assert found.state == after
    second.close()


async def test_a_failing_work_leaves_the_thread_alive(storage: Storage) -> None:
    with pytest.raises(apsw.SQLError):
        await storage.store.write(lambda connection: connection.execute("SELECT nothing FROM nowhere"))
    with pytest.raises(ZeroDivisionError):
        await storage.store.read(lambda _: 1 // 0)
    assert await storage.store.read(outbox.last_op_seq) == 0
