from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge import daemon
from edge.link.effects import new_session
from edge.storage import commands, facts, lanes, outbox, outlets, print_jobs, schema
from edge.storage.clocks import Clock
from edge.storage.database import Database, StorageUnusable, check_library
from edge.storage.folder import Storage
from edge.storage.print_jobs import PrintRow
from edge.storage.space import Budget, Space
from edge.storage.times import EARLIEST_MS, Now
from gipos.edge.v1.link_pb2 import Operation, SnapshotPart

DAY_MS = 24 * 3600 * 1000


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


def test_two_stores_made_where_nobody_knows_the_time_are_two_lives(tmp_path: Path) -> None:
    epochs = set()
    for name in ("one", "two"):
        storage = Storage.open(tmp_path / name, at(-EARLIEST_MS))
        epochs.add(storage.store_epoch)
        storage.close()
    assert len(epochs) == 2
    assert all(EARLIEST_MS <= epoch < 2**52 for epoch in epochs), "still a time: the cloud counts on from it"


async def placed(storage: Storage) -> lanes.Position | None:
    return await storage.replica.read(lambda connection: lanes.position(connection, "out_kemang"))


async def test_a_new_life_that_only_the_store_could_note_is_noted_on_both_sides_at_the_next_stream(stocked: Storage) -> None:
    await stocked.replica.write(lambda connection: connection.execute("UPDATE lanes SET op_watermark = 9"))
    await stocked.replica.write(
        lambda connection: connection.execute(
            "CREATE TEMP TRIGGER full BEFORE UPDATE ON lanes BEGIN SELECT raise(ABORT, 'no room'); END"
        )
    )
    with pytest.raises(apsw.ConstraintError):
        await stocked.begin_epoch(stocked.store_epoch + 1)
    await stocked.replica.write(lambda connection: connection.execute("DROP TRIGGER full"))
    assert await placed(stocked) == lanes.Position(1, 2, 9), "the numbers of the life before"
    session = await new_session(stocked, snapshot_lanes=set(), software_version="1")
    session.open()
    assert session.outgoing[0].hello.store_epoch == stocked.store_epoch
    assert await placed(stocked) == lanes.Position(1, 2, 0)


async def test_a_new_life_is_known_however_early_its_beginner_gives_up(stocked: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, begin = threading.Event(), threading.Event(), outbox.begin_epoch

    def linger(connection: apsw.Connection, epoch: int) -> outbox.Standing:
        begun.set()
        go_on.wait()
        return begin(connection, epoch)

    monkeypatch.setattr(outbox, "begin_epoch", linger)
    new = stocked.store_epoch + 1
    beginning = asyncio.create_task(stocked.begin_epoch(new))
    await asyncio.to_thread(begun.wait)
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    looking = asyncio.create_task(new_session(stocked, snapshot_lanes=set(), software_version="1"))
    await asyncio.sleep(0)
    go_on.set()
    session = await looking
    session.open()
    assert session.outgoing[0].hello.store_epoch == stocked.store_epoch == new


@pytest.mark.parametrize("days_ahead", [31, 300])
async def test_a_clock_that_runs_ahead_makes_nothing_forgotten(
    tmp_path: Path, hands: Any, budget: Budget, days_ahead: int
) -> None:
    def open_till() -> Storage:
        return Storage.open(tmp_path, Clock(hands), space=Space(tmp_path, budget))

    async def kept(storage: Storage) -> tuple[int, bool]:
        command = await storage.store.read(lambda connection: commands.find(connection, "cmd_1"))
        return (await storage.store.read(outbox.standing)).first_op_seq, command is not None

    storage, now = open_till(), hands.wall_ms
    storage.clock.measured(hands.ticks_ms, now, now, hands.ticks_ms)
    await storage.store.write(lambda connection: outbox.append(connection, Operation(op_id="sal_1"), {}, now))
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 1, now))
    await storage.store.write(lambda connection: commands.begin(connection, "cmd_1", now))
    await storage.store.write(storage.clock.save)
    storage.close()
    hands.reboot(off_ms=days_ahead * DAY_MS)
    storage = open_till()
    assert storage.clock() >= now + days_ahead * DAY_MS, "it is believed, as far as receipts go"
    await daemon._tidy(storage)
    assert await kept(storage) == (1, True)
    true = now + 31 * DAY_MS
    storage.clock.measured(hands.ticks_ms, true, true, hands.ticks_ms)
    await daemon._tidy(storage)
    assert await kept(storage) == (2, False), "the cloud says that the month is over"
    storage.close()
