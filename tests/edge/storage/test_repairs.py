"""What a till that was mended sends again, shows and puts aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge.storage import copies, facts, lanes, outbox, outlets, papers, recovery
from edge.storage import sales as stored_sales
from edge.storage.clocks import Clock
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from edge.till import stock
from gipos.edge.v1.link_pb2 import Change, Operation, SnapshotPart
from gipos.v1.inventory_pb2 import Level
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
    """A sale as a checkout leaves it, so long that the table of operations and that of sales fill many pages."""
    sale = Sale(id=f"sal_{number}", number=f"KMG-2611-2{number:05d}", total=rupiah(1000), note="x" * 900)
    sale.lines.add(id="sli_1", product_id="prd_1", quantity="1")

    def write(connection: apsw.Connection) -> None:
        now = storage.clock()
        facts.put(connection, facts.LAST_RECEIPT_SEQ, number)
        outbox.append(connection, Operation(op_id=sale.id, sale_recorded=sale), {"prd_1": -1000}, now)
        stored_sales.insert(connection, sale, sold_at_ms=now, request_key=f"key-{number}", request_hash=b"h")
        storage.clock.save(connection)

    storage.store.write_and_wait(write)


def crash(storage: Storage) -> None:
    """Ends without saying so, with everything in the main file."""
    storage.distrust()
    storage.close()


def spoil(path: Path, wanted: Callable[[bytes], bool], most: int) -> int:
    """Overwrites the beginning of pages whose content is wanted; how many."""
    content = bytearray(path.read_bytes())
    found = [at for at in range(4096, len(content), 4096) if wanted(bytes(content[at : at + 4096]))][:most]
    for at in found:
        content[at : at + 64] = b"\xff" * 64
    path.write_bytes(content)
    return len(found)


def queue_of(storage: Storage) -> list[tuple[int, str]]:
    found = storage.store.write_and_wait(lambda connection: outbox.batch(connection, 1, 100_000))
    return [(one.op_seq, one.op_id) for one in found]


def of_the_queue(page: bytes) -> bool:
    """A page with operations; those with sales have their keys on them, too."""
    return page[0] == 0x0D and b"xxxx" in page and b"key-" not in page


def of_an_index(page: bytes) -> bool:
    """A page whose loss is noticed and takes no row with it."""
    return page[0] == 0x0A and b"key-" in page


async def shown(storage: Storage) -> int:
    return (await stock.shown(storage, ["prd_1"]))["prd_1"].on_hand // 1000


def level(storage: Storage, on_hand: int, watermark: int = 0) -> None:
    part = SnapshotPart(lane="out_kemang", epoch=1, seq=2, last=True, op_watermark=watermark)
    part.changes.add(seq=1).level.CopyFrom(Level(outlet_id="out_kemang", product_id="prd_1", on_hand=str(on_hand)))
    storage.replica.write_and_wait(lambda connection: lanes.activate(connection, part))


async def test_what_a_mended_store_sends_again_is_not_queued_twice_for_a_restored_cloud(
    till: Storage, open_till: Open, tmp_path: Path
) -> None:
    for number in range(1, 31):
        sell(till, number)
    await till.store.write(lambda connection: outbox.acknowledge(connection, 25, till.clock()))
    await till.begin_epoch(till.store_epoch + 5, 25)
    for number in range(31, 41):
        sell(till, number)
    copies.make(tmp_path / "store.db")
    crash(till)
    assert spoil(tmp_path / "store.db", of_the_queue, most=1)
    mended = open_till()
    mended.store.write_and_wait(outbox.revive)
    assert sorted(op_id for _, op_id in queue_of(mended)) == sorted(f"sal_{number}" for number in range(1, 41))
    mended.close()


def test_a_sale_that_waits_is_queued_again_whatever_the_clock_says_by_then(
    till: Storage, open_till: Open, tmp_path: Path, hands: Any
) -> None:
    for number in range(1, 21):
        sell(till, number)
    crash(till)
    assert spoil(tmp_path / "store.db", of_the_queue, most=2)
    hands.reboot(off_ms=outbox.KEEP_MS + 1)
    mended = open_till()
    assert {op_id for _, op_id in queue_of(mended)} == {f"sal_{number}" for number in range(1, 21)}
    found = mended.store.write_and_wait(outbox.fresh).sales
    assert 0 < found < 20, "those of which nobody knows whether the cloud has them do not stop the till"
    mended.close()


@pytest.mark.parametrize("copied", [False, True])
def test_sales_whose_upload_was_forgotten_long_ago_are_not_queued_again(
    till: Storage, open_till: Open, tmp_path: Path, copied: bool
) -> None:
    for number in range(1, 31):
        sell(till, number)
    till.store.write_and_wait(lambda connection: outbox.acknowledge(connection, 25, 0))
    till.store.write_and_wait(lambda connection: outbox.prune(connection, till.clock()))
    if copied:
        copies.make(tmp_path / "store.db")
    sell(till, 31)
    crash(till)
    assert spoil(tmp_path / "store.db", of_the_queue if copied else of_an_index, most=1)
    mended = open_till()
    assert [op_id for _, op_id in queue_of(mended)] == [f"sal_{number}" for number in range(26, 32)]
    assert mended.store.write_and_wait(stored_sales.count) == 31
    mended.close()


async def test_the_stock_of_a_mended_store_lacks_what_waits_once(till: Storage, open_till: Open, tmp_path: Path) -> None:
    level(till, 100)
    for number in range(1, 31):
        sell(till, number)
        if number == 20:
            copies.make(tmp_path / "store.db")
    assert await shown(till) == 70
    crash(till)
    assert spoil(tmp_path / "store.db", of_the_queue, most=1)
    mended = open_till()
    assert len(queue_of(mended)) == 30
    assert await shown(mended) == 70
    mended.close()


async def test_the_stock_of_a_mended_catalogue_lacks_only_what_the_cloud_does_not_have(
    till: Storage, open_till: Open, tmp_path: Path, product: Callable[..., Any]
) -> None:
    part = SnapshotPart(lane="tenant", epoch=1, seq=9, last=True)
    part.changes.extend(Change(seq=1, product=product(number, category="x" * 90)) for number in range(200))
    till.replica.write_and_wait(lambda connection: lanes.activate(connection, part))
    for number in range(1, 31):
        sell(till, number)
    await till.store.write(lambda connection: outbox.acknowledge(connection, 29, 1))
    level(till, 71, watermark=29)
    assert await shown(till) == 70
    crash(till)
    assert spoil(tmp_path / "replica.db", lambda page: b"prd_150" in page and page[0] == 0x0A, most=1) == 1
    mended = open_till()
    assert mended.replica.write_and_wait(lanes.positions) == {}
    assert await shown(mended) == 70
    mended.close()


def test_what_was_put_aside_is_not_overwritten_where_the_clock_stands_still(
    till: Storage, open_till: Open, tmp_path: Path
) -> None:
    sell(till, 1)
    crash(till)
    kept = set()
    for turn in range(3):
        (tmp_path / "store.db").write_bytes(bytes([turn]) * 50_000)
        mended = open_till()
        known = mended.store.write_and_wait(recovery.last)
        assert known is not None
        kept.add(known.kept_as)
        crash(mended)
    assert {(tmp_path / name).read_bytes()[:1] for name in kept} == {b"\0", b"\1", b"\2"}
