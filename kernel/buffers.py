"""Bytes that are kept: in buffers of their own size, without the room that their maker left behind them. Changes no content."""

from __future__ import annotations


def trimmed(data: bytes) -> bytes:
    """The same bytes in a buffer that is no larger than they are.

    orjson.dumps never gives back what its buffer has left over: a text of 450 bytes holds 4 to 8 KiB as long as it lives, one of
    1.1 KiB holds 16 (orjson 3.13, by tracemalloc; ijl/orjson issue 483). That is right for an answer, which is gone in a moment,
    and ruin for a cache: every text of orjson's that is kept passes here.
    """
    return bytes(memoryview(data))
