"""Finds rows in the bytes of a SQLite file and of its log where SQLite itself does not find its way any more.

It follows no tree: each page that looks like one with rows is read for itself, in the order in which pages were written. It also
reads what was deleted or changed since, so whoever asks must doubt each row and tell by its id what it is. It writes nothing. The
formats are those of sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

LOG_HEADER, FRAME_HEADER = 32, 24
LOG_MAGICS = (0x377F0682, 0x377F0683)
USUAL_PAGE = 4096
_TABLE_LEAF, _INDEX_LEAF = 0x0D, 0x0A
_WIDTHS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
"""Bytes of whole numbers by serial type."""
_FIRST_BLOB = 12
_MOST_COLUMNS = 64

Value = int | str | bytes | None
Record = tuple[int, tuple[Value, ...]]
"""The rowid (0 in tables without) and the columns."""


def records(path: Path) -> Iterator[Record]:
    """Everything that looks like a row, the oldest first, as far as that can be told."""
    main, log = _content(path), _content(log_of(path))
    size = _page_size(main, log)
    pages = [(number, main[(number - 1) * size : number * size]) for number in range(1, len(main) // size + 1)]
    pages += [(number, page) for number, page, _, _ in frames(log, size)]
    newest = dict(pages)
    for number, page in pages:
        yield from _rows(page, 100 if number == 1 else 0, newest)


def is_cut_short(path: Path, frames_seen: int) -> bool:
    """Whether the log holds whole transactions that SQLite does not see, because something before them is broken.

    Args:
        path: The database's file.
        frames_seen: As many frames SQLite says the log has.
    """
    log = _content(log_of(path))
    if len(log) <= LOG_HEADER:
        return False
    size = _page_size(b"", log)
    hidden = list(frames(log, size))[frames_seen:]
    if frames_seen == 0 and not _is_header_whole(log):
        return any(is_commit for _, _, is_commit, _ in hidden)
    salts = log[16:24]
    return any(is_commit and salt == salts for _, _, is_commit, salt in hidden)


def frames(log: bytes, size: int) -> Iterator[tuple[int, bytes, bool, bytes]]:
    """The frames of a log: page number, page, whether a transaction ends with it, and the salts that say of which time it is."""
    for at in range(LOG_HEADER, len(log) - FRAME_HEADER - size + 1, FRAME_HEADER + size):
        number, after = int.from_bytes(log[at : at + 4]), int.from_bytes(log[at + 4 : at + 8])
        if number:
            yield number, log[at + FRAME_HEADER : at + FRAME_HEADER + size], after != 0, log[at + 8 : at + 16]


def log_of(path: Path) -> Path:
    """The file of the log."""
    return path.with_name(f"{path.name}-wal")


def _content(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _page_size(main: bytes, log: bytes) -> int:
    for found in (int.from_bytes(log[8:12]), int.from_bytes(main[16:18])):
        if found in {512, 1024, 2048, 4096, 8192, 16384, 32768}:
            return found
    return USUAL_PAGE


def _is_header_whole(log: bytes) -> bool:
    magic = int.from_bytes(log[:4])
    if magic not in LOG_MAGICS:
        return False
    order: Literal["big", "little"] = "big" if magic & 1 else "little"
    first = second = 0
    for at in range(0, 24, 8):
        first = (first + int.from_bytes(log[at : at + 4], order) + second) & 0xFFFFFFFF
        second = (second + int.from_bytes(log[at + 4 : at + 8], order) + first) & 0xFFFFFFFF
    return (first, second) == (int.from_bytes(log[24:28]), int.from_bytes(log[28:32]))


def _rows(page: bytes, start: int, newest: dict[int, bytes]) -> Iterator[Record]:
    kind = page[start] if start < len(page) else 0
    if kind not in {_TABLE_LEAF, _INDEX_LEAF}:
        return
    for index in range(int.from_bytes(page[start + 3 : start + 5])):
        place = start + 8 + 2 * index
        cell = int.from_bytes(page[place : place + 2])
        # A page that is broken in one place may be whole in all others.
        with contextlib.suppress(IndexError, ValueError, KeyError):
            yield _row(page, cell, newest, is_table=kind == _TABLE_LEAF)


def _row(page: bytes, at: int, newest: dict[int, bytes], *, is_table: bool) -> Record:
    length, at = _varint(page, at)
    rowid, at = _varint(page, at) if is_table else (0, at)
    return rowid, _columns(_payload(page, at, length, newest, is_table=is_table))


def _payload(page: bytes, at: int, length: int, newest: dict[int, bytes], *, is_table: bool) -> bytes:
    usable = len(page)
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if length <= most:
        return _exactly(page[at : at + length], length)
    least = (usable - 12) * 32 // 255 - 23
    here = least + (length - least) % (usable - 4)
    here = here if here <= most else least
    parts, left = [_exactly(page[at : at + here], here)], length - here
    following = int.from_bytes(_exactly(page[at + here : at + here + 4], 4))
    while left > 0:
        part = newest[following]
        parts.append(part[4 : 4 + left])
        left -= len(parts[-1])
        following = int.from_bytes(part[:4])
    return b"".join(parts)


def _columns(payload: bytes) -> tuple[Value, ...]:
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    if at != end or not 0 < len(kinds) <= _MOST_COLUMNS:
        raise ValueError
    values: list[Value] = []
    for kind in kinds:
        if kind >= _FIRST_BLOB:
            width = (kind - _FIRST_BLOB) // 2
            raw = _exactly(payload[at : at + width], width)
            values.append(raw.decode() if kind % 2 else raw)
        else:
            width = _WIDTHS[kind]
            raw = _exactly(payload[at : at + width], width)
            values.append(None if kind == 0 else kind - 8 if kind in {8, 9} else int.from_bytes(raw, signed=True))
        at += width
    return tuple(values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        byte = data[at + index]
        if index == 8:  # counts whole
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # the highest bit says that there is more
            return value, at + index + 1
    raise ValueError


def _exactly(raw: bytes, length: int) -> bytes:
    if len(raw) != length:
        raise ValueError
    return raw
