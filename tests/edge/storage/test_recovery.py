from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge.storage import copies, exports, facts, lanes, outbox, outlets, papers, print_jobs, products, recovery, salvage
from edge.storage import sales as stored_sales
from edge.storage.clocks import Clock
from edge.storage.database import StorageUnusable
from edge.storage.folder import Storage
from edge.storage.print_jobs import PrintRow
from edge.storage.space import Budget, Space
from gipos.edge.v1.link_pb2 import Change, Operation, SnapshotPart
from gipos.v1.sales_pb2 import Sale
from kernel.money import rupiah

Open = Callable[[], Storage]


@pytest.fixture
def open_till(tmp_path: Path, hands: Any, budget: Budget) -> Open:
    return lambda: Storage.open(tmp_path, Clock(hands), space=Space(tmp_path, budget))


@pytest.fixture
def till(open_till: Open, identity: outlets.Identity) -> Storage:
    storage = open_till()
    storage.store.write_and_wait(lambda connection: papers.put_identity(connection, identity))
    storage.replica.write_and_wait(lambda connection: outlets.put(connection, identity))
    return storage


def sell(storage: Storage, number: int) -> None:
    """A sale with its receipt, as a checkout leaves it. Long enough that sales fill pages of their own."""
    sale = Sale(id=f"sal_{number}", number=f"KMG-2611-2{number:05d}", total=rupiah(1000), note="x" * 900)
    sale.lines.add(id="sli_1", product_id="prd_1", quantity="1")

    def write(connection: apsw.Connection) -> None:
        now = storage.clock()
        facts.put(connection, facts.LAST_RECEIPT_SEQ, number)
        outbox.append(connection, Operation(op_id=sale.id, sale_recorded=sale), {"prd_1": -1000}, now)
        stored_sales.insert(connection, sale, sold_at_ms=now, request_key=f"key-{number}", request_hash=b"h")
        print_jobs.insert(connection, PrintRow(f"{sale.id}-1", sale.id, 1, "receipt", "printed", now))
        storage.clock.save(connection)

    storage.store.write_and_wait(write)


def crash(storage: Storage) -> None:
    """Ends without saying so, with everything in the main file."""
    storage.store.write_and_wait(lambda _: None)
    storage.distrust()
    storage.close()


def spoil(path: Path, wanted: Callable[[bytes], bool], most: int = 1000) -> int:
    """Overwrites the beginning of pages whose content is wanted; how many."""
    content = bytearray(path.read_bytes())
    count = 0
    for place in range(4096, len(content), 4096):
        if count < most and wanted(bytes(content[place : place + 4096])):
            content[place : place + 64] = b"\xff" * 64
            count += 1
    path.write_bytes(content)
    return count


def sales_of(storage: Storage) -> set[str]:
    return {one.sale.id for one in storage.store.write_and_wait(lambda connection: stored_sales.newest(connection, 10_000))}


def queue_of(storage: Storage) -> list[tuple[int, str]]:
    found = storage.store.write_and_wait(lambda connection: outbox.batch(connection, 1, 100_000))
    return [(one.op_seq, one.op_id) for one in found]


def test_a_store_that_is_broken_in_places_loses_only_what_stood_there(till: Storage, open_till: Open, tmp_path: Path) -> None:
    for number in range(1, 61):
        sell(till, number)
    till.store.write_and_wait(lambda connection: outbox.acknowledge(connection, 20, 1))
    epoch = till.store_epoch
    crash(till)
    # The last page with rows of the outbox only: those sales are also in the table of sales, from which they come back.
    before = (tmp_path / "store.db").read_bytes()
    marks = [f"sal_{number}".encode() for number in range(40, 50)]
    assert spoil(tmp_path / "store.db", lambda page: page[0] == 0x0D and any(mark in page for mark in marks), most=1) == 1
    mended = open_till()
    known = mended.store.write_and_wait(recovery.last)
    assert known is not None
    assert sales_of(mended) == {f"sal_{number}" for number in range(1, 61)}
    queue = queue_of(mended)
    assert [op_seq for op_seq, _ in queue] == list(range(1, len(queue) + 1)), "dense, from 1"
    assert {op_id for _, op_id in queue} >= {f"sal_{number}" for number in range(21, 61)}, "all that waited waits"
    assert mended.store_epoch > epoch, "a new life: numbers begin again"
    assert mended.store.write_and_wait(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) >= 60
    (aside,) = [file for file in tmp_path.glob("store.db.broken-*") if not file.name.endswith(("-wal", "-shm"))]
    assert aside.name == known.kept_as
    assert len(aside.read_bytes()) == len(before)
    assert mended.replica.write_and_wait(outlets.find) is not None, "it goes on selling"
    mended.close()


def test_a_store_nothing_can_be_read_of_comes_back_from_its_last_copy(till: Storage, open_till: Open, tmp_path: Path) -> None:
    for number in range(1, 31):
        sell(till, number)
    assert copies.make(tmp_path / "store.db")
    for number in range(31, 34):
        sell(till, number)
    crash(till)
    (tmp_path / "store.db").write_bytes(os.urandom(200_000))
    mended = open_till()
    assert sales_of(mended) == {f"sal_{number}" for number in range(1, 31)}
    known = mended.store.write_and_wait(recovery.last)
    assert known is not None
    assert (known.from_copy, known.receipts_skipped) == (True, True)
    count = mended.store.write_and_wait(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ))
    assert count > 33, "no receipt number is given out twice, also those nobody remembers"
    states = {
        text
        for (text,) in mended.store.write_and_wait(
            lambda connection: connection.execute("SELECT state FROM print_jobs").fetchall()
        )
    }
    assert states == {"printed"}
    mended.close()


def test_what_only_the_broken_file_has_is_added_to_the_copy(till: Storage, open_till: Open, tmp_path: Path) -> None:
    for number in range(1, 31):
        sell(till, number)
    copies.make(tmp_path / "store.db")
    for number in range(31, 61):
        sell(till, number)
    crash(till)
    old = [f"KMG-2611-2{number:05d}".encode() for number in range(3, 12)]
    assert spoil(tmp_path / "store.db", lambda page: page[0] == 0x0D and any(mark in page for mark in old)) >= 2
    mended = open_till()
    assert sales_of(mended) == {f"sal_{number}" for number in range(1, 61)}
    known = mended.store.write_and_wait(recovery.last)
    assert known is not None
    assert known.from_copy
    assert known.salvaged == 30
    assert known.unreadable > 5
    assert {op_id for _, op_id in queue_of(mended)} == {f"sal_{number}" for number in range(1, 61)}
    mended.close()


def test_a_store_nobody_can_read_and_no_copy_of_begins_anew_and_waits_for_the_cloud(
    till: Storage, open_till: Open, tmp_path: Path
) -> None:
    sell(till, 1)
    crash(till)
    (tmp_path / "store.db").write_bytes(b"\0" * 50_000)
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    mended = open_till()
    assert sales_of(mended) == set()
    assert mended.replica.write_and_wait(outlets.find) is not None
    assert list(tmp_path.glob("store.db.broken-*"))
    mended.close()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_repair_that_was_interrupted_is_finished_at_the_next_start(
    till: Storage, open_till: Open, tmp_path: Path, moved: int
) -> None:
    for number in range(1, 6):
        sell(till, number)
    crash(till)
    (tmp_path / "store.recovered").write_bytes((tmp_path / "store.db").read_bytes())
    (tmp_path / "store.db").write_bytes(b"broken" * 1000)
    (tmp_path / "store.db-wal").write_bytes(b"broken log")
    for name in ("store.db", "store.db-wal")[:moved]:
        (tmp_path / name).rename(tmp_path / f"{name}.moved")
    mended = open_till()
    assert sales_of(mended) == {f"sal_{number}" for number in range(1, 6)}
    assert not (tmp_path / "store.recovered").exists()
    mended.close()


def image(till: Storage, to: Path) -> None:
    """The folder as a cut of the power leaves it: logs beside the files, nothing closed."""
    till.store.write_and_wait(lambda _: None)
    shutil.copytree(till.folder, to)
    till.close()


def overwrite(file: Path, start: int, length: int) -> None:
    content = bytearray(file.read_bytes())
    content[start : start + length] = os.urandom(length)
    file.write_bytes(content)


def in_the_middle(folder: Path) -> None:
    """One frame of the log, of many."""
    frame = 24 + 4096
    log = folder / "store.db-wal"
    overwrite(log, 32 + frame * (log.stat().st_size // frame // 2), frame)


def first_page(folder: Path) -> None:
    overwrite(folder / "store.db", 0, 4096)
    overwrite(folder / "store.db-wal", 0, 32)


def gone(folder: Path) -> None:
    (folder / "store.db").unlink()


def emptied(folder: Path) -> None:
    (folder / "store.db").write_bytes(b"")


@pytest.mark.parametrize("damage", [in_the_middle, first_page, gone, emptied])
def test_sales_that_stand_anywhere_in_the_bytes_are_found(
    till: Storage, tmp_path: Path, hands: Any, budget: Budget, damage: Callable[[Path], None]
) -> None:
    for number in range(1, 31):
        sell(till, number)
    folder = tmp_path / "after"
    image(till, folder)
    damage(folder)

    storage = Storage.open(folder, Clock(hands), space=Space(folder, budget))
    kept = storage.store.write_and_wait(
        lambda connection: [row[0] for row in connection.execute("SELECT op_id FROM operations ORDER BY op_seq")]
    )
    done = storage.store.write_and_wait(recovery.last)
    counter = storage.store.write_and_wait(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ))
    storage.close()

    lost = 30 - len(kept)
    assert set(kept) <= {f"sal_{number}" for number in range(1, 31)}
    assert lost <= (3 if damage is in_the_middle else 0), "a broken page may take the rows that stand on it"
    assert done is not None
    assert done.receipts_skipped, "what was printed last nobody knows"
    assert counter >= 30 + recovery.RECEIPTS_SKIPPED - lost


def test_a_copy_that_is_itself_broken_is_passed_over_for_the_one_before(till: Storage, tmp_path: Path) -> None:
    sell(till, 1)
    copies.make(tmp_path / "store.db")
    sell(till, 2)
    assert copies.make(tmp_path / "store.db")
    assert not copies.make(tmp_path / "store.db"), "nothing has changed since"
    newest, before = tmp_path / "copies/store.db", tmp_path / "copies/store-before.db"
    assert copies.sound(tmp_path / "store.db") == newest
    newest.write_bytes(os.urandom(9000))
    assert copies.sound(tmp_path / "store.db") == before
    before.unlink()
    assert copies.sound(tmp_path / "store.db") is None
    till.close()


def test_a_broken_catalogue_is_fetched_anew_and_sold_from_meanwhile(
    till: Storage, open_till: Open, tmp_path: Path, product: Callable[..., Any]
) -> None:
    part = SnapshotPart(lane="tenant", epoch=1, seq=9, last=True)
    part.changes.extend(Change(seq=1, product=product(number, category="x" * 90)) for number in range(200))
    till.replica.write_and_wait(lambda connection: lanes.activate(connection, part))
    sell(till, 1)
    epoch = till.store_epoch
    crash(till)
    assert spoil(tmp_path / "replica.db", lambda page: b"prd_150" in page and page[0] == 0x0A, most=1) == 1
    mended = open_till()
    assert list(tmp_path.glob("replica.db.broken-*"))
    assert not list(tmp_path.glob("store.db.broken-*"))
    assert mended.store_epoch == epoch
    assert mended.replica.write_and_wait(lanes.positions) == {}, "the cloud sends everything"
    assert mended.replica.write_and_wait(products.count) > 150, "and until then most of it is there"
    assert mended.replica.write_and_wait(outlets.find) is not None, "whose till this is, the store knows too"
    assert sales_of(mended) == {"sal_1"}
    mended.close()


def test_only_the_rows_that_make_sense_are_believed(till: Storage, tmp_path: Path) -> None:
    sell(till, 1)
    sell(till, 2)
    till.store.write_and_wait(lambda connection: connection.execute("UPDATE operations SET body = x'ffff' WHERE op_seq = 1"))
    till.store.write_and_wait(lambda connection: connection.execute("UPDATE sales SET number = 'other' WHERE id = 'sal_2'"))
    till.close()
    saved = salvage.read_store(tmp_path / "store.db")
    assert (set(saved.operations), set(saved.sales), saved.unreadable) == ({"sal_2"}, {"sal_1"}, 2)
    (tmp_path / "empty").write_bytes(b"")
    assert salvage.read_store(tmp_path / "empty") == salvage.SavedStore()


def test_what_waits_can_be_carried_away_before_anything_is_wiped(till: Storage, tmp_path: Path) -> None:
    for number in range(1, 4):
        sell(till, number)
    till.store.write_and_wait(lambda connection: outbox.acknowledge(connection, 1, 1))
    store, file = tmp_path / "store.db", tmp_path / "out.jsonl"
    exported = exports.write(store, file)
    assert (exported.operations, exported.waiting, exported.unreadable) == (2, 2, 0)
    import base64

    import orjson

    head, *lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert head["operations"] == 2
    assert head["store_epoch"] == till.store_epoch
    assert [line["op_id"] for line in lines] == ["sal_2", "sal_3"]
    assert Operation.FromString(base64.b64decode(lines[0]["body"])).sale_recorded.number == "KMG-2611-200002"
    assert lines[0]["operation"]["sale_recorded"]["total"]["amount"] == 1000
    with pytest.raises(StorageUnusable, match="exists already"):
        exports.write(store, file)
    assert exports.write(store, tmp_path / "all.jsonl", everything=True).operations == 3
    with pytest.raises(StorageUnusable, match="There is no till"):
        exports.write(tmp_path / "nowhere" / "store.db", tmp_path / "x")
    with pytest.raises(StorageUnusable, match="could not be exported"):
        exports.write(store, tmp_path / "nowhere" / "x")
    till.close()


def test_before_its_tables_are_changed_a_store_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hands: Any) -> None:
    from edge.storage import schema

    with monkeypatch.context() as patch:
        patch.setattr(schema, "STORE", schema.STORE[:1])
        from edge.storage.database import Database

        with Database(tmp_path / "store.db", synchronous="full", migrations=schema.STORE, check=False) as old:
            old.write_and_wait(lambda connection: facts.put(connection, "greeting", "selamat pagi"))
    Storage.open(tmp_path, Clock(hands)).close()
    copy = apsw.Connection(str(tmp_path / "store.db.format-1"), flags=apsw.SQLITE_OPEN_READONLY)
    assert copy.pragma("user_version") == 1
    assert copy.execute("SELECT value FROM facts WHERE name = 'greeting'").get == "selamat pagi"
    copy.close()
