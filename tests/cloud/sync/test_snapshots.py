"""Snapshots: one moment, built once for a crowd, read at any speed, bounded on disk, and joined to the tail without a hole."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.inventory import movements
from cloud.platform import log
from cloud.platform.database import Database
from cloud.sync import ranges, snapshots
from cloud.sync.ranges import Own, Place
from cloud.sync.snapshots import Snapshots
from cloud.sync.spool import Spool
from gipos.edge.v1.link_pb2 import LinkResponse, ResetReason, SnapshotPart
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import Product, TaxClass
from gipos.v1.common_pb2 import Money
from kernel.errors import Busy

TENANT, LANE = "ten_1", log.TENANT_LANE

_STORED = sa.text(
    "INSERT INTO till_stores (tenant_id, till_id, store_epoch, op_watermark, log_seq) VALUES (:tenant_id, :till_id, 3, :mark, 1)"
)


async def create(database: Database, *names: str) -> None:
    async with database.transaction(TENANT) as tx:
        for name in names:
            draft = Product(name=name, price=Money(amount=1000, currency="IDR"), cost=Money(amount=700, currency="IDR"))
            await products.create(tx, draft)


async def head(database: Database, lane: str = LANE) -> log.Head:
    async with database.reading(TENANT) as connection:
        return (await log.heads(connection, TENANT))[lane]


async def download(made: Snapshots, at: log.Head, lane: str = LANE, own: Own | None = None, *, packed: bool = False) -> list[Any]:
    """All pieces, as a till gets them."""
    async with made.open(TENANT, lane, at) as snapshot:
        frames = [await snapshot.piece(index, own, packed=packed) for index in range(len(snapshot))]
    parts = [LinkResponse.FromString(frame).snapshot for frame in frames]
    assert [part.index for part in parts] == list(range(len(parts)))
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len({(part.lane, part.epoch, part.seq, part.snapshot_id, part.op_watermark) for part in parts}) == 1
    return parts


@pytest.fixture
async def shop_database(database: Database) -> Database:
    async with database.transaction(TENANT) as tx:
        await outlets.create_tenant(tx, "Toko", TaxClass.TAX_CLASS_PPN)
    return database


@pytest.fixture
async def made(shop_database: Database, tmp_path: Path) -> AsyncIterator[Snapshots]:
    made = Snapshots(shop_database, tmp_path / "spool")
    yield made
    await made.close()
    assert made._size == 0


async def test_an_empty_lane_has_one_empty_piece(made: Snapshots, shop_database: Database) -> None:
    (part,) = await download(made, await head(shop_database))
    assert (part.lane, part.epoch, part.seq, list(part.changes)) == (LANE, 1, 0, [])


async def test_pieces_hold_every_product_once_without_its_cost(
    made: Snapshots, shop_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PIECE_BYTES", 400)
    monkeypatch.setattr(snapshots, "ROWS_AT_ONCE", 3)
    await create(shop_database, *(f"Kopi {number}" for number in range(20)))
    async with shop_database.transaction(TENANT) as tx:
        (gone,) = (await tx.run(sa.text("SELECT id FROM products WHERE name = 'Kopi 7'"))).one()
        await products.delete(tx, gone)
    parts = await download(made, await head(shop_database))
    assert len(parts) > 4
    assert parts[0].seq == 21
    found = [change.product for part in parts for change in part.changes]
    assert sorted(product.name for product in found) == sorted(f"Kopi {number}" for number in range(20) if number != 7)
    assert not any(product.HasField("cost") for product in found)
    # The same compressed, for tills that take that.
    packed = await download(made, await head(shop_database), packed=True)
    unpacked = [SnapshotPart.FromString(zlib.decompress(part.packed)) for part in packed]
    assert [list(part.changes) for part in unpacked] == [list(part.changes) for part in parts]
    assert made.built == 1


async def test_a_crowd_builds_once_and_comes_again_to_the_same(made: Snapshots, shop_database: Database) -> None:
    await create(shop_database, "Kopi", "Teh")
    at = await head(shop_database)
    crowd = await asyncio.gather(*(download(made, at) for _ in range(50)))
    assert made.built == 1
    assert {parts[0].snapshot_id for parts in crowd} == {crowd[0][0].snapshot_id}
    await create(shop_database, "Susu")
    ((again,),) = [await download(made, await head(shop_database))]
    assert made.built == 1
    assert again.seq == 2  # the tail begins behind it
    # Whoever came first may leave: the others still get theirs.
    made._forget((TENANT, LANE))
    tasks = [asyncio.create_task(download(made, at)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks[1:])
    assert made.built == 2


@pytest.mark.parametrize(
    ("at", "serves"),
    [
        (log.Head(1, 100, 1), True),
        (log.Head(1, 99, 1), False),  # the cloud lost history
        (log.Head(2, 100, 1), False),
        (log.Head(1, 5_000, 101), True),  # right before the floor
        (log.Head(1, 5_000, 102), False),
        (log.Head(1, 100 + 5_000, 1), True),
        (log.Head(1, 101 + 5_000, 1), False),
    ],
)
def test_a_snapshot_serves_while_the_log_reaches_back_to_it(at: Any, serves: Any, tmp_path: Path) -> None:
    made = snapshots.Snapshot("snp_1", LANE, log.Head(1, 100, 1), Spool(tmp_path), rows=20_000)
    assert made.serves(at) is serves
    tiny = snapshots.Snapshot("snp_1", LANE, log.Head(1, 100, 1), Spool(tmp_path), rows=5)
    assert tiny.serves(log.Head(1, 100 + ranges.FEW, 1))
    assert not tiny.serves(log.Head(1, 101 + ranges.FEW, 1))


async def test_one_that_no_longer_serves_is_built_anew_and_the_old_one_read_to_its_end(
    made: Snapshots, shop_database: Database
) -> None:
    await create(shop_database, "Kopi")
    at = await head(shop_database)
    async with made.open(TENANT, LANE, at) as old:
        later = log.Head(at.epoch, at.last_seq, floor_seq=at.last_seq + 2)  # retention took what followed it
        async with made.open(TENANT, LANE, later) as new:
            assert new.id != old.id
            assert made.built == 2
        assert LinkResponse.FromString(await old.piece(0)).snapshot.changes[0].product.name == "Kopi"
    assert old.spool.closed
    assert not new.spool.closed


async def test_a_broken_download_goes_on_with_what_it_had_begun(made: Snapshots, shop_database: Database) -> None:
    await create(shop_database, "Kopi")
    at = await head(shop_database)
    async with made.open(TENANT, LANE, at) as first:
        pass
    far = log.Head(at.epoch, at.last_seq + ranges.FEW + 1, 1)
    async with made.open(TENANT, LANE, far, begun=first.id) as again:
        assert again is first
    async with made.open(TENANT, LANE, log.Head(at.epoch, far.last_seq, far.last_seq), begun=first.id) as other:
        assert other is not first  # its tail is gone: going on with it would end in a reset


async def test_the_spool_is_shared_and_the_watermark_is_not(made: Snapshots, shop_database: Database) -> None:
    async with shop_database.transaction(TENANT) as tx:
        outlet = await outlets.create(tx, Outlet(name="Pasar", code="PSR", time_zone="Asia/Jakarta"))
        tills = [(await outlets.add_till(tx, outlet.id, f"Kasir {number}", number, f"token {number}")).id for number in (1, 2)]
        await movements.apply(tx, [movements.Change(outlet.id, "prd_1", 5000, movements.COUNT)])
        for till_id, mark in zip(tills, (11, 22), strict=True):
            await tx.run(_STORED, tenant_id=TENANT, till_id=till_id, mark=mark)
        await tx.run(_STORED, tenant_id=TENANT, till_id="till_elsewhere", mark=33)
    at = await head(shop_database, outlet.id)
    got = []
    for own in (Own(tills[0], 3), Own(tills[1], 3), Own(tills[1], 4), Own("till_elsewhere", 3), None):
        (part,) = await download(made, at, outlet.id, own)
        got.append(part.op_watermark)
        assert [change.level.on_hand for change in part.changes] == ["5"]
    assert got == [11, 22, 0, 0, 0]
    assert made.built == 1


async def test_rows_and_position_are_of_one_moment(
    made: Snapshots, shop_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What commits between the position and the rows, and while the rows are read, belongs to the tail, and nothing else does."""
    await create(shop_database, *"abcdefgh")
    pages = products.pages

    async def interrupted(*arguments: Any) -> AsyncIterator[list[Product]]:
        await create(shop_database, "after the position")
        async for page in pages(*arguments):
            await create(shop_database, "among the rows")
            yield page

    monkeypatch.setattr(snapshots, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(products, "pages", interrupted)
    (part,) = await download(made, await head(shop_database))
    assert part.seq == 8
    assert sorted(change.product.name for change in part.changes) == list("abcdefgh")
    assert (await head(shop_database)).last_seq > 9


async def test_who_says_hello_far_behind_in_a_small_shop_gets_the_snapshot(
    made: Snapshots, shop_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "FEW", 2)
    await create(shop_database, *"abcdefgh")
    at = await head(shop_database)
    assert await made.reason(TENANT, at, Place(LANE, 1, 4)) is None
    assert await made.reason(TENANT, at, Place(LANE, 1, 3)) == ResetReason.RESET_REASON_TOO_OLD
    await download(made, at)
    assert await made.reason(TENANT, at, Place(LANE, 1, 3)) == ResetReason.RESET_REASON_TOO_OLD  # now the number is known
    assert await made.reason(TENANT, at, None) == ResetReason.RESET_REASON_NEW
    assert await made.reason(TENANT, at, Place(LANE, 1, 9)) == ResetReason.RESET_REASON_AHEAD


async def test_disk_is_bounded_and_given_back(shop_database: Database, tmp_path: Path) -> None:
    await create(shop_database, "Kopi")
    async with shop_database.transaction("ten_2") as tx:
        await outlets.create_tenant(tx, "Warung", TaxClass.TAX_CLASS_PPN)
    at, other = await head(shop_database), log.Head(1, 0, 1)
    made = Snapshots(shop_database, tmp_path / "spool", most_bytes=1, kept_seconds=0.01)
    async with made.open(TENANT, LANE, at) as held:
        with pytest.raises(Busy):
            async with made.open("ten_2", LANE, other):
                pass
        async with made.open(TENANT, LANE, at) as same:
            assert same is held
    async with made.open("ten_2", LANE, other) as second:  # the first is read by nobody any more and makes room
        assert held.spool.closed
    async with asyncio.timeout(5):
        while not second.spool.closed:  # too old
            await asyncio.sleep(0.01)
    assert made._size == 0
    assert list((tmp_path / "spool").iterdir()) == []  # a file without a name: nothing is left whatever happens
    await made.close()


async def test_a_build_that_fails_fails_for_those_who_wait_and_is_tried_again(
    made: Snapshots, shop_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(shop_database, "Kopi")
    at = await head(shop_database)

    def full(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    results = await asyncio.gather(*(download(made, at) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Busy] * 3
    monkeypatch.undo()
    assert len(await download(made, at)) == 1


async def test_a_piece_comes_back_as_it_was_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "folder")
    pieces = [os.urandom(300_000), b"", b"x" * 1_000_000]
    for piece in pieces:
        await spool.add(piece)
    assert [await spool.plain(index) for index in (2, 0, 1)] == [pieces[2], pieces[0], pieces[1]]
    assert zlib.decompress(await spool.packed(2)) == pieces[2]
    assert spool.size < 310_000
    with pytest.raises(IndexError):
        await spool.plain(3)
    spool.close()
    assert spool.closed
