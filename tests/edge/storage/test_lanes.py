from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from edge.storage import lanes, levels, products
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Change, Changes, SnapshotPart
from gipos.v1.inventory_pb2 import Level

OUTLET = "out_kemang"


def snapshot(*changes: Change, lane: str = "tenant", index: int = 0, last: bool = True, seq: int = 5) -> SnapshotPart:
    return SnapshotPart(lane=lane, epoch=1, seq=seq, index=index, last=last, changes=changes)


async def begin(storage: Storage, lane: str) -> None:
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(lane=lane, seq=0)))


async def names(storage: Storage) -> list[str]:
    return [one.name for one in await storage.replica.read(lambda connection: products.search(connection, [], 100))]


async def test_a_snapshot_takes_the_place_of_everything_before_it(storage: Storage, product: Callable[..., Any]) -> None:
    old, new = Change(product=product(1, name="Lama")), Change(product=product(2, name="Baru"))
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(old)))
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(new, seq=6)))
    assert await names(storage) == ["Baru"]


async def test_until_the_last_piece_the_old_copy_is_kept(storage: Storage, product: Callable[..., Any]) -> None:
    old, new = Change(product=product(1, name="Lama")), Change(product=product(2, name="Baru"))
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(old)))
    await storage.replica.write(lambda connection: lanes.stage(connection, snapshot(new, last=False, seq=6)))
    assert await names(storage) == ["Lama"]
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(index=1, seq=6)))
    assert await names(storage) == ["Baru"]


async def test_rows_and_position_move_together_or_not_at_all(storage: Storage, product: Callable[..., Any]) -> None:
    frame = Changes(lane="tenant", epoch=1, upto_inclusive=3, changes=[Change(seq=3, product=product(1))])
    await begin(storage, "tenant")

    def fail(connection: Any) -> None:
        lanes.apply(connection, frame)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        await storage.replica.write(fail)
    assert await names(storage) == []
    assert await storage.replica.read(lanes.positions) == {"tenant": lanes.Position(1, 0, 0)}


async def test_a_frame_without_a_watermark_brings_no_old_deltas_back(storage: Storage) -> None:
    first = Changes(lane=OUTLET, epoch=1, upto_inclusive=3, op_watermark=4)
    second = Changes(lane=OUTLET, epoch=1, from_exclusive=3, upto_inclusive=4)
    await begin(storage, OUTLET)
    await storage.replica.write(lambda connection: lanes.apply(connection, first))
    await storage.replica.write(lambda connection: lanes.apply(connection, second))
    assert await storage.replica.read(lambda connection: lanes.position(connection, OUTLET)) == lanes.Position(1, 4, 4)


async def test_another_outlets_stock_is_passed_over(storage: Storage) -> None:
    level = Level(product_id="prd_1", outlet_id="out_other", on_hand="3")
    frame = Changes(lane=OUTLET, epoch=1, upto_inclusive=1, changes=[Change(seq=1, level=level)])
    await begin(storage, OUTLET)
    await storage.replica.write(lambda connection: lanes.apply(connection, frame))
    assert await storage.replica.read(lambda connection: levels.of_products(connection, "out_other", ["prd_1"])) == {}
    assert (await storage.replica.read(lanes.positions))[OUTLET].seq == 1


async def test_a_till_that_moved_forgets_the_old_outlet(stocked: Storage) -> None:
    await stocked.replica.write(lambda connection: lanes.keep_only(connection, ["tenant", "out_new"]))
    assert list(await stocked.replica.read(lanes.positions)) == ["tenant"]
    assert await stocked.replica.read(lambda connection: levels.of_products(connection, OUTLET, ["prd_1"])) == {}


async def test_an_archived_product_frees_its_barcode_and_keeps_its_row(stocked: Storage, product: Callable[..., Any]) -> None:
    gone = product(1, barcode="8991002101418")
    gone.delete_time.GetCurrentTime()
    taken = product(9, name="Penerus", barcode="8991002101418")
    frame = Changes(lane="tenant", epoch=1, from_exclusive=4, upto_inclusive=6, changes=[Change(seq=5, product=gone)])
    frame.changes.add(seq=6, product=taken)
    await stocked.replica.write(lambda connection: lanes.apply(connection, frame))
    found = await stocked.replica.read(lambda connection: products.find_by_barcode(connection, "8991002101418"))
    assert found is not None
    assert found.id == "prd_9"
    assert await stocked.replica.read(lambda connection: products.find(connection, "prd_1")) is not None
    assert "Barang 1" not in await names(stocked)


async def test_a_upc_code_is_found_with_and_without_its_leading_zero(storage: Storage, product: Callable[..., Any]) -> None:
    part = snapshot(Change(product=product(1, barcode="036000291452")))
    await storage.replica.write(lambda connection: lanes.activate(connection, part))
    short = await storage.replica.read(lambda connection: products.find_by_barcode(connection, "036000291452"))
    long = await storage.replica.read(lambda connection: products.find_by_barcode(connection, "0036000291452"))
    assert short is not None
    assert short == long


async def test_words_find_products_whose_words_begin_like_them(stocked: Storage) -> None:
    async def found(*words: str) -> list[str]:
        return [one.name for one in await stocked.replica.read(lambda connection: products.search(connection, list(words), 9))]

    assert await found("kop") == ["Kopi Susu"]
    assert await found("SUSU", "kopi") == ["Kopi Susu"]
    assert await found("opi") == []
    assert await found("%") == []
    assert await found("sku2") == ["Roti Bakar"]


@pytest.mark.parametrize(
    ("epoch", "begins", "ends", "fits"),
    [(1, 5, 7, True), (1, 4, 7, True), (1, 5, 5, True), (1, 6, 7, False), (1, 2, 4, False), (2, 5, 7, False)],
)
async def test_a_range_that_does_not_follow_on_the_rows_is_never_applied(
    storage: Storage, epoch: int, begins: int, ends: int, fits: bool
) -> None:
    await storage.replica.write(lambda connection: lanes.activate(connection, snapshot(seq=5)))
    frame = Changes(lane="tenant", epoch=epoch, from_exclusive=begins, upto_inclusive=ends)
    if fits:
        await storage.replica.write(lambda connection: lanes.apply(connection, frame))
    else:
        with pytest.raises(lanes.OutOfPlace):
            await storage.replica.write(lambda connection: lanes.apply(connection, frame))
    place = (await storage.replica.read(lanes.positions))["tenant"]
    assert place.seq == (ends if fits else 5)


async def test_a_lane_without_a_snapshot_takes_no_changes(storage: Storage) -> None:
    with pytest.raises(lanes.OutOfPlace, match="stands nowhere"):
        await storage.replica.write(lambda connection: lanes.apply(connection, Changes(lane="tenant", epoch=1, upto_inclusive=3)))


async def test_a_broken_download_goes_on_only_with_the_very_same_snapshot(storage: Storage, product: Callable[..., Any]) -> None:
    first = SnapshotPart(lane="tenant", epoch=1, seq=9, snapshot_id="s1", changes=[Change(product=product(1))])
    await storage.replica.write(lambda connection: lanes.stage(connection, first))
    assert await storage.replica.read(lanes.begun) == {"tenant": lanes.Begun("s1", 1, 9, 1)}
    for other in (
        SnapshotPart(lane="tenant", epoch=1, seq=9, snapshot_id="s2", index=1, last=True),
        SnapshotPart(lane="tenant", epoch=1, seq=9, snapshot_id="s1", index=2, last=True),
    ):
        with pytest.raises(lanes.OutOfPlace):
            await storage.replica.write(partial(lanes.activate, part=other))
    last = SnapshotPart(lane="tenant", epoch=1, seq=9, snapshot_id="s1", index=1, last=True)
    await storage.replica.write(lambda connection: lanes.activate(connection, last))
    assert await names(storage) == ["Barang 1"]
    assert await storage.replica.read(lanes.begun) == {}


async def test_packed_pieces_are_unpacked_and_a_bomb_is_not(
    storage: Storage, product: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = zlib.compress(SnapshotPart(changes=[Change(product=product(number)) for number in range(50)]).SerializeToString())
    part = SnapshotPart(lane="tenant", epoch=1, seq=9, last=True, packed=packed)
    await storage.replica.write(lambda connection: lanes.activate(connection, part))
    assert len(await names(storage)) == 50
    monkeypatch.setattr(lanes, "MOST_UNPACKED", 1000)
    for bad in (packed, packed[:-9], b"not zlib"):
        broken = SnapshotPart(lane="tenant", epoch=1, seq=10, last=True, packed=bad)
        with pytest.raises(ValueError, match="snapshot of lane tenant"):
            await storage.replica.write(partial(lanes.activate, part=broken))
    assert len(await names(storage)) == 50, "the copy from before is still there"


async def test_a_lane_that_is_forgotten_serves_from_its_rows_until_the_snapshot(stocked: Storage) -> None:
    await stocked.replica.write(lanes.forget)
    assert await stocked.replica.read(lanes.positions) == {}
    assert "Kopi Susu" in await names(stocked)
