"""Pages by position: a token remembers the last row of a page and what was asked, so that rows added meanwhile shift nothing.

Tokens are sealed: nobody can read one or make one up. They grant no access.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from kernel.errors import CursorInvalid, Invalid, Violation

DEFAULT_SIZE = 50
MAX_SIZE = 200
PAGE_TOKEN_SECONDS = 3 * 24 * 3600
"""How long the next page can be asked for."""

_NONCE = 12
_MAX_TOKEN = 8192
_MAX_PLAIN = 1 << 20


class _Sealers:
    """The ciphers of tokens, the current one first. Random until the composition root gives those that all replicas share."""

    ciphers: Sequence[AESGCM] = (AESGCM(os.urandom(32)),)


def seal_with(keys: Sequence[bytes]) -> None:
    """Sets the keys of 32 bytes that tokens are sealed with from now on, the current one first; the others still open.

    Called once, by the composition root.
    """
    _Sealers.ciphers = tuple(AESGCM(key) for key in keys)


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
    nonce = os.urandom(_NONCE)
    plain = zlib.compress(orjson.dumps([int(time.time()), value]), 1)
    return base64.urlsafe_b64encode(nonce + _Sealers.ciphers[0].encrypt(nonce, plain, kind.encode())).rstrip(b"=").decode()


def unpack(kind: str, token: str, field: str, *, max_age: int | None = None) -> object:
    """What `pack` was given.

    Raises:
        CursorInvalid: not a token of this kind, or older than `max_age` seconds.
    """
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError(len(token))
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        issued, value = orjson.loads(zlib.decompressobj().decompress(_opened(kind, raw), _MAX_PLAIN))
    except (ValueError, binascii.Error, zlib.error, InvalidTag) as error:
        raise _refused(field, f"{field} is not one that this listing gave out. Use it as it came, or leave it out.") from error
    if max_age is not None and issued + max_age < time.time():
        raise _refused(field, f"{field} has expired: it is good for {max_age // 86400} days. Leave it out to start again.")
    return value


def _opened(kind: str, raw: bytes) -> bytes:
    for cipher in _Sealers.ciphers[:-1]:
        try:
            return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], kind.encode())
        except InvalidTag:
            continue  # sealed before the keys were rotated
    return _Sealers.ciphers[-1].decrypt(raw[:_NONCE], raw[_NONCE:], kind.encode())


def _refused(field: str, message: str) -> CursorInvalid:
    return CursorInvalid(message, [Violation(field, "CURSOR_INVALID", message)])


def _filters(request: Message) -> str:
    """What a token belongs to: the request without its paging fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in ("page_token", "page_size", "show_total_size"):
        if name in request.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + copy.SerializeToString(deterministic=True)).hexdigest()[:16]


def position(request: Message, page_token: str, parts: int) -> list[str] | None:
    """The sort values of the last row before the page; None on the first page.

    Raises:
        CursorInvalid: not a token of this listing with these filters, or older than three days.
    """
    if not page_token:
        return None
    value = unpack("page", page_token, "page_token", max_age=PAGE_TOKEN_SECONDS)
    if isinstance(value, list) and len(value) == parts + 1 and value[0] == _filters(request):
        return [str(part) for part in value[1:]]
    message = "page_token belongs to another listing or other filters. Repeat the filters of the first page, or start again."
    raise _refused("page_token", message)


def moment(text: str) -> datetime:
    """A moment that is part of a position.

    Raises:
        CursorInvalid: it is none, so the token was made up.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        message = "page_token is not one that this listing gave out. Use it as it came, or leave it out to start again."
        raise _refused("page_token", message) from error


def next_token(request: Message, values: Sequence[str]) -> str:
    """The token for the page after the row with these sort values."""
    return pack("page", [_filters(request), *values])


@dataclass(frozen=True)
class Order:
    """What rows are ordered by. The last column is unique, so that no two rows share a place."""

    columns: tuple[sa.ColumnElement[Any], ...]
    is_descending: bool = False


@dataclass(frozen=True)
class Found:
    """A page."""

    rows: Sequence[Any]
    next_page_token: str
    """Empty on the last page."""
    total_size: int | None
    """How many rows all pages have; None when nobody asked."""


def order_of(orders: dict[str, tuple[sa.ColumnElement[Any], ...]], wanted: str) -> Order | None:
    """The order that an `order_by` such as "name desc" names; None when there is no such order."""
    name, _, direction = wanted.partition(" ")
    columns = orders.get(name)
    return Order(columns, direction == "desc") if columns is not None and direction in {"", "desc", "asc"} else None


async def fetch(connection: AsyncConnection, query: sa.Select[Any], request: Any, order: Order) -> Found:
    """The page of a query that a request with the usual paging fields asks for.

    Raises:
        Invalid, CursorInvalid: page_size or page_token is not right.
    """
    limit = size(request.page_size)
    after = position(request, request.page_token, len(order.columns))
    total = None
    if getattr(request, "show_total_size", False):
        total = (await connection.execute(sa.select(sa.func.count()).select_from(query.subquery()))).scalar_one()
    labels = [f"place_{index}" for index in range(len(order.columns))]
    query = query.add_columns(*(column.label(label) for column, label in zip(order.columns, labels, strict=True)))
    if after is not None:
        here, there = sa.tuple_(*order.columns), sa.tuple_(*map(_value, order.columns, after))
        query = query.where(here < there if order.is_descending else here > there)
    query = query.order_by(*(column.desc() if order.is_descending else column for column in order.columns))
    rows = (await connection.execute(query.limit(limit + 1))).all()
    token = ""
    if len(rows) > limit:
        last = rows[limit - 1]
        token = next_token(request, [_text(getattr(last, label)) for label in labels])
    return Found(rows[:limit], token, total)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _value(column: sa.ColumnElement[Any], text: str) -> Any:
    if isinstance(column.type, sa.TIMESTAMP):
        return sa.literal(moment(text), column.type)
    return sa.literal(int(text) if isinstance(column.type, sa.Integer) else text, column.type)
