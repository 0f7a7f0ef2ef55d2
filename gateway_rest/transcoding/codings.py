"""Content codings in both directions: gzip and zstd. A body that blows up when unpacked is stopped at the limit, not after it."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import zstandard

from gateway_rest.errors import Refusal

SMALLEST = 1024
"""Bytes below which packing an answer costs more than it saves."""
IN_A_THREAD = 256 * 1024
"""Bytes from which packing would keep everybody else waiting for milliseconds."""
ACCEPTED = b"gzip, zstd"

_WEIGHTED = re.compile(r"([a-z0-9_.*+-]+)(?:\s*;\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")
_ALIASES = {"x-gzip": "gzip"}
_WORTH = ("application/json", "application/problem+json", "text/", "application/xml", "image/svg+xml")
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 1
"""Levels that take 6 and 1 microseconds per kilobyte of our JSON; higher ones save another tenth of the bytes at most."""
_WINDOW_LIMIT = 8 * 1024 * 1024
_MEMBERS = 16
"""Parts of one packed body. Honest programs send one; thousands of empty ones would keep us busy for nothing."""


def negotiate(accept_encoding: bytes) -> str:
    """The coding to answer with, by the weights of RFC 9110 §12.5.3; empty for none. Of equals, zstd."""
    return _negotiated(accept_encoding[:1000])


@lru_cache(maxsize=256)
def _negotiated(accept_encoding: bytes) -> str:
    weights: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        match = _WEIGHTED.fullmatch(part.strip())
        if match:
            weights.setdefault(_ALIASES.get(match[1], match[1]), float(match[2] or 1))
    other = weights.get("*", 0.0)
    best, weight = "", weights.get("identity", 0.0)
    for coding in ("gzip", "zstd"):
        # Whoever takes anything is more likely to know the older one.
        own = weights.get(coding, other if coding == "gzip" else 0.0)
        if own > 0 and own >= weight:
            best, weight = coding, own
    return best


def is_worth_it(content_type: bytes) -> bool:
    """Whether content of this type shrinks; pictures and archives do not."""
    return content_type.decode("latin-1").lower().startswith(_WORTH)


def encode(body: bytes, coding: str) -> bytes:
    """The body in a coding that `negotiate` chose."""
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def decode(body: bytes, content_encoding: bytes, limit: int) -> bytes:
    """A request body without its coding.

    Raises:
        Refusal: 415, a coding we do not know; 413, more than `limit` bytes; 400, not what the header says.
    """
    name = content_encoding.decode("latin-1").strip().lower()
    coding = _ALIASES.get(name, name)
    if coding in {"", "identity"}:
        return body
    if coding not in {"gzip", "zstd"}:
        raise Refusal(415, "UNSUPPORTED_CONTENT_ENCODING", headers=[(b"accept-encoding", ACCEPTED)])
    if not body:
        return body
    try:
        plain = _gunzip(body, limit) if coding == "gzip" else _unzstd(body, limit)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise Refusal(400, "MALFORMED_ENCODING", coding=coding) from None
    if len(plain) > limit:
        raise Refusal(413, "PAYLOAD_TOO_LARGE", limit=str(limit))
    return plain


def _gunzip(body: bytes, limit: int) -> bytes:
    """Up to `limit` + 1 bytes; several members follow each other as RFC 1952 allows."""
    parts: list[bytes] = []
    size = 0
    while body and size <= limit:
        _count(parts)
        unpacker = zlib.decompressobj(31)
        parts.append(unpacker.decompress(body, limit + 1 - size))
        size += len(parts[-1])
        if not unpacker.eof and size <= limit:
            raise EOFError
        body = unpacker.unused_data
    return b"".join(parts)


def _unzstd(body: bytes, limit: int) -> bytes:
    """Up to `limit` + 1 bytes; several frames follow each other as RFC 8878 allows."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    parts: list[bytes] = []
    size = 0
    while body and size <= limit:
        _count(parts)
        with unpacker.stream_reader(body) as reader:
            parts.append(reader.read(limit + 1 - size))
        size += len(parts[-1])
        if size <= limit:
            # The reader stops at the limit, but does not tell whether a frame ended, nor where. Known to be small, read again.
            frame = unpacker.decompressobj()
            frame.decompress(body)
            if not frame.eof:
                raise EOFError
            body = frame.unused_data
    return b"".join(parts)


def _count(parts: list[bytes]) -> None:
    if len(parts) >= _MEMBERS:
        raise EOFError
