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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import changes, checks
from kernel.errors import CursorInvalid, Invalid, Violation
from kernel.ids import is_id

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
    if wrong := list(checks.page_size(page_size)):
        raise Invalid(wrong)
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
        raise _foreign(field) from error
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


def _foreign(field: str) -> CursorInvalid:
    return _refused(field, f"{field} is not one that this listing gave out. Use it as it came, or leave it out.")


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


def last_id(request: Any, prefix: str) -> str:
    """The id that the page begins after, of a listing by ids alone; empty on the first page.

    Raises:
        CursorInvalid: as `position`, or it is no id with this prefix.
    """
    place = position(request, request.page_token, 1)
    if place is None:
        return ""
    if not is_id(place[0], prefix):
        raise _foreign("page_token")
    return place[0]


def next_token(request: Message, values: Sequence[str]) -> str:
    """The token for the page after the row with these sort values."""
    return pack("page", [_filters(request), *values])


def token_behind(request: Message, ids: Sequence[str], limit: int) -> str:
    """The token for the page after the `limit`th of these ids; empty when there are no more."""
    return next_token(request, [ids[limit - 1]]) if len(ids) > limit else ""


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

    @property
    def paging(self) -> dict[str, Any]:
        """What every answer with a page says besides its rows, as fields of the message."""
        return {"next_page_token": self.next_page_token, "has_more": bool(self.next_page_token), "total_size": self.total_size}


def order_of(orders: Mapping[str, tuple[sa.ColumnElement[Any], ...]], wanted: str) -> Order | None:
    """The order that an `order_by` such as "name desc" names; None when there is no such order."""
    name, _, direction = wanted.partition(" ")
    columns = orders.get(name)
    return Order(columns, direction == "desc") if columns is not None and direction in {"", "desc", "asc"} else None


async def listed(
    connection: AsyncConnection,
    query: sa.Select[Any],
    request: Any,
    orders: Mapping[str, tuple[sa.ColumnElement[Any], ...]],
    usual: str,
    *,
    deleted_at: sa.ColumnElement[datetime] | None = None,
) -> Found:
    """The page of a query that a request with the usual fields of a list asks for; they were checked before.

    With updated_since it is by change: in the order "update_time", and with what was deleted, which others show when asked to.

    Args:
        connection: Reads, each statement on its own moment.
        query: With the list's own filters.
        request: With order_by and updated_since, and with show_deleted where there is a deleted_at.
        orders: The columns of each order.
        usual: The order when none is asked for.
        deleted_at: When a row was deleted, where that leaves one.

    Raises:
        Invalid, CursorInvalid: page_size or page_token is not right.
    """
    by_change = request.HasField("updated_since")
    if by_change:
        query = await changes.since(connection, query, request.updated_since, orders["update_time"][0])
    elif deleted_at is not None and not request.show_deleted:
        query = query.where(deleted_at.is_(None))
    order = order_of(orders, request.order_by or ("update_time" if by_change else usual))
    assert order is not None, "checked before"
    return await fetch(connection, query, request, order)


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
        try:
            here, there = sa.tuple_(*order.columns), sa.tuple_(*map(_value, order.columns, after))
        except ValueError as error:  # of a release that had other columns here
            raise _foreign("page_token") from error
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
        return sa.literal(datetime.fromisoformat(text), column.type)
    return sa.literal(int(text) if isinstance(column.type, sa.Integer) else text, column.type)
