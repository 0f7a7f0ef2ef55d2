"""Frames put together by hand are what the generated classes would have written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.sync import wire
from gipos.edge.v1.link_pb2 import Change, Changes, LinkResponse, SnapshotPart
from gipos.v1.catalog_pb2 import Product
from gipos.v1.common_pb2 import Money
from gipos.v1.inventory_pb2 import Level

positions = st.integers(0, 2**62)
bodies = st.builds(lambda name, cost: Product(id="prd_1", name=name, cost=Money(amount=cost)), st.text(), st.integers(0, 2**50))


@given(positions)
def test_numbers_are_written_as_protobuf_writes_them(number: Any) -> None:
    assert b"\x08" + wire.varint(number) == Change(seq=number).SerializeToString() or number == 0


@given(bodies, positions)
def test_what_goods_cost_never_leaves_the_office(product: Any, seq: Any) -> None:
    change = Change.FromString(wire.product_change(seq, wire.without_cost(product.SerializeToString())))
    assert change.seq == seq
    assert not change.product.HasField("cost")
    product.ClearField("cost")
    assert change.product == product


def test_fields_of_a_newer_release_are_passed_on() -> None:
    unknown = b"\xfa\x3f\x03new"  # field 1023
    body = Product(name="Kopi", cost=Money(amount=9)).SerializeToString() + unknown
    assert wire.without_cost(body) == Product(name="Kopi").SerializeToString() + unknown


@given(st.lists(st.tuples(positions, st.text(max_size=300)), max_size=5), positions, positions, st.integers(0, 2**40))
def test_a_frame_is_what_the_generated_classes_would_have_written(rows: Any, after: Any, upto: Any, watermark: Any) -> None:
    meant = Changes(lane="out_1", epoch=3, from_exclusive=after, upto_inclusive=upto)
    for seq, name in rows:
        meant.changes.add(seq=seq, level=Level(product_id=name))
    parts = [wire.level_change(seq, Level(product_id=name).SerializeToString()) for seq, name in rows]
    inner = wire.changes("out_1", 3, after, upto, parts)
    assert Changes.FromString(inner) == meant
    plain, own = wire.changes_frame(inner), wire.changes_frame(memoryview(inner), watermark)
    assert LinkResponse.FromString(plain) == LinkResponse(changes=meant)
    meant.op_watermark = watermark
    assert LinkResponse.FromString(own) == LinkResponse(changes=meant)


def test_the_watermark_is_inside_the_one_message_and_not_a_second_one() -> None:
    """Two in a row would be merged by some libraries and replaced by others."""
    data = wire.changes_frame(wire.changes("out_1", 1, 4, 5, [wire.level_change(5, b"")]), 9)
    own = LinkResponse(changes=Changes(op_watermark=9)).SerializeToString()
    twice = wire.changes_frame(wire.changes("out_1", 1, 4, 5, [wire.level_change(5, b"")])) + own
    assert LinkResponse.FromString(data) == LinkResponse.FromString(twice)
    assert data.count(own[:1]) >= 1
    assert len(data) == 1 + 1 + data[1]  # a tag, a length below 128, and nothing after what it measures


@pytest.mark.parametrize("count", [0, 1, 700])
def test_a_piece_of_a_snapshot_is_what_the_generated_classes_would_have_written(count: Any) -> None:
    head = SnapshotPart(lane="tenant", epoch=2, seq=77, index=3, last=True, op_watermark=5, snapshot_id="snp_1")
    meant = SnapshotPart.FromString(head.SerializeToString())
    parts = []
    for number in range(count):
        product = Product(id=f"prd_{number}", name="Kopi" * (number % 60))
        meant.changes.add(seq=77, product=product)
        parts.append(wire.product_change(77, product.SerializeToString()))
    changes = wire.part_changes(parts)
    assert LinkResponse.FromString(wire.snapshot_frame(head, changes)) == LinkResponse(snapshot=meant)
    packed = LinkResponse.FromString(wire.packed_frame(head, b"zlib")).snapshot
    assert packed.packed == b"zlib"
    packed.ClearField("packed")
    assert packed == head
