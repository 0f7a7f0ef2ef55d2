"""Pages by position: a token remembers the last row of a page and what was asked, so that rows added meanwhile shift nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Sequence
from datetime import datetime

import orjson
from google.protobuf.message import Message

from kernel.errors import CursorInvalid, Invalid, Violation

DEFAULT_SIZE = 50
MAX_SIZE = 200


def size(page_size: int) -> int:
    """How many rows a page has: 50 when not said, at most 200.

    Raises:
        Invalid: below 0.
    """
    if page_size < 0:
        raise Invalid([Violation("page_size", "OUT_OF_RANGE", "page_size must be between 1 and 200.")])
    return min(page_size or DEFAULT_SIZE, MAX_SIZE)


def pack(kind: str, value: object) -> str:
    """An opaque, URL-safe text that `unpack` reads again."""
    body = zlib.compress(orjson.dumps(value), 9)
    return base64.urlsafe_b64encode(zlib.crc32(kind.encode() + body).to_bytes(4, "big") + body).rstrip(b"=").decode()


def unpack(kind: str, token: str, field: str) -> object:
    """What `pack` was given.

    Raises:
        CursorInvalid: not a token of this kind. It grants no access, so a checksum against typing errors is enough.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        body = raw[4:]
        if len(token) > 4096 or raw[:4] != zlib.crc32(kind.encode() + body).to_bytes(4, "big"):
            raise ValueError(token)
        value: object = orjson.loads(zlib.decompressobj().decompress(body, 1 << 20))
    except (ValueError, binascii.Error, zlib.error) as error:
        message = f"{field} is not one that this listing gave out. Use it as it came, or leave it out to start again."
        raise CursorInvalid(message, [Violation(field, "CURSOR_INVALID", message)]) from error
    return value


def _filters(request: Message) -> str:
    """What a token belongs to: the request without its paging fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("page_token")
    copy.ClearField("page_size")
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + copy.SerializeToString(deterministic=True)).hexdigest()[:16]


def position(request: Message, page_token: str, parts: int) -> list[str] | None:
    """The sort values of the last row before the page; None on the first page.

    Raises:
        CursorInvalid: not a token of this listing with these filters.
    """
    if not page_token:
        return None
    value = unpack("page", page_token, "page_token")
    if isinstance(value, list) and len(value) == parts + 1 and value[0] == _filters(request):
        return [str(part) for part in value[1:]]
    message = "page_token belongs to another listing or other filters. Repeat the filters of the first page, or start again."
    raise CursorInvalid(message, [Violation("page_token", "CURSOR_INVALID", message)])


def moment(text: str) -> datetime:
    """A moment that is part of a position.

    Raises:
        CursorInvalid: it is none, so the token was made up.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        message = "page_token is not one that this listing gave out. Use it as it came, or leave it out to start again."
        raise CursorInvalid(message, [Violation("page_token", "CURSOR_INVALID", message)]) from error


def next_token(request: Message, values: Sequence[str]) -> str:
    """The token for the page after the row with these sort values."""
    return pack("page", [_filters(request), *values])
