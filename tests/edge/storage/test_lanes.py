from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.storage import lanes, levels, products
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Change, Changes, SnapshotPart
from gipos.v1.inventory_pb2 import Level

OUTLET = "out_kemang"


def snapshot(*changes: Change, lane: str = "tenant", index: int = 0, last: bool = True, seq: int = 5) -> SnapshotPart:
    return SnapshotPart(lane=lane, epoch=1, seq=seq, index=index, last=last, changes=changes)


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

    def fail(connection: Any) -> None:
        lanes.apply(connection, frame)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        await storage.replica.write(fail)
    assert await names(storage) == []
    assert await storage.replica.read(lanes.positions) == {}


async def test_a_frame_without_a_watermark_brings_no_old_deltas_back(storage: Storage) -> None:
    first = Changes(lane=OUTLET, epoch=1, upto_inclusive=3, op_watermark=4)
    second = Changes(lane=OUTLET, epoch=1, from_exclusive=3, upto_inclusive=4)
    await storage.replica.write(lambda connection: lanes.apply(connection, first))
    await storage.replica.write(lambda connection: lanes.apply(connection, second))
    assert await storage.replica.read(lambda connection: lanes.position(connection, OUTLET)) == lanes.Position(1, 4, 4)


async def test_another_outlets_stock_is_passed_over(storage: Storage) -> None:
    level = Level(product_id="prd_1", outlet_id="out_other", on_hand="3")
    frame = Changes(lane=OUTLET, epoch=1, upto_inclusive=1, changes=[Change(seq=1, level=level)])
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
