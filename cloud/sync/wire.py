"""Frames as bytes, put together from parts that are already serialised: what many tills get is serialised once. Decides nothing.

Protobuf is a list of tagged fields, so a message whose parts are bytes already is made by writing tags and lengths around them.
Only this file writes tags by hand; tests hold every function against the generated classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from gipos.edge.v1.link_pb2 import Change, Changes, LinkResponse, SnapshotPart
from gipos.v1.catalog_pb2 import Product


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


_SHORT = [_varint(number) for number in range(1 << 14)]
"""Lengths up to 16 KiB and small positions, which is nearly all of them."""


def varint(number: int) -> bytes:
    """A whole number, not negative, as protobuf writes it."""
    return _SHORT[number] if number < 1 << 14 else _varint(number)


def _inside(field: int) -> bytes:
    """The tag of a message or bytes within a message."""
    return _varint(field << 3 | 2)


_SEQ = _varint(Change.SEQ_FIELD_NUMBER << 3)
_PRODUCT, _LEVEL = _inside(Change.PRODUCT_FIELD_NUMBER), _inside(Change.LEVEL_FIELD_NUMBER)
_CHANGE, _CHANGES = _inside(Changes.CHANGES_FIELD_NUMBER), _inside(LinkResponse.CHANGES_FIELD_NUMBER)
_WATERMARK = _varint(Changes.OP_WATERMARK_FIELD_NUMBER << 3)
_PART_CHANGE, _PART = _inside(SnapshotPart.CHANGES_FIELD_NUMBER), _inside(LinkResponse.SNAPSHOT_FIELD_NUMBER)
_PACKED = _inside(SnapshotPart.PACKED_FIELD_NUMBER)


def without_cost(body: bytes) -> bytes:
    """A serialised product as the shop floor may see it: what goods cost never leaves the office."""
    product = Product.FromString(body)
    if not product.HasField("cost"):
        return body
    product.ClearField("cost")
    return product.SerializeToString()


def product_change(seq: int, body: bytes) -> bytes:
    """A serialised Change of a product, whose cost must be gone already."""
    return b"".join((_SEQ, varint(seq), _PRODUCT, varint(len(body)), body))


def level_change(seq: int, body: bytes) -> bytes:
    """A serialised Change of a level."""
    return b"".join((_SEQ, varint(seq), _LEVEL, varint(len(body)), body))


def changes(lane: str, epoch: int, from_exclusive: int, upto_inclusive: int, parts: Sequence[bytes]) -> bytes:
    """Serialised Changes without a watermark: the same for every till."""
    head = Changes(lane=lane, epoch=epoch, from_exclusive=from_exclusive, upto_inclusive=upto_inclusive).SerializeToString()
    return b"".join([head, *(piece for part in parts for piece in (_CHANGE, varint(len(part)), part))])


def changes_frame(inner: bytes | memoryview, op_watermark: int = 0) -> bytes:
    """A serialised LinkResponse around serialised Changes, with this till's watermark.

    The watermark goes inside, behind the shared bytes. Two Changes one after the other would mean the same by the rules of
    protobuf, but not every library merges a message that comes twice.
    """
    tail = _WATERMARK + varint(op_watermark) if op_watermark else b""
    return b"".join((_CHANGES, varint(len(inner) + len(tail)), inner, tail))


def part_changes(parts: Sequence[bytes]) -> bytes:
    """The changes of a SnapshotPart, serialised: the same for every till."""
    return b"".join([piece for part in parts for piece in (_PART_CHANGE, varint(len(part)), part)])


def snapshot_frame(head: SnapshotPart, changes: bytes) -> bytes:
    """A serialised LinkResponse of a part whose changes are serialised already; `head` has everything else."""
    own = head.SerializeToString()
    return b"".join((_PART, varint(len(own) + len(changes)), own, changes))


def packed_frame(head: SnapshotPart, packed: bytes) -> bytes:
    """As snapshot_frame, with the changes compressed."""
    own = head.SerializeToString()
    tag = _PACKED + varint(len(packed))
    return b"".join((_PART, varint(len(own) + len(tag) + len(packed)), own, tag, packed))


def serialised(frame: LinkResponse | bytes) -> bytes:
    """A frame as it goes out; a Progress gets its time here, as late as can be."""
    if type(frame) is bytes:
        return frame
    assert type(frame) is LinkResponse
    if frame.HasField("progress"):
        frame.progress.server_time.FromNanoseconds(time.time_ns())
    return frame.SerializeToString()
