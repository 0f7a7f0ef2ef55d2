"""Reads the bytes of somebody's product table: encoding, separator, header row, columns, line numbers. Pure.

It judges nothing about products, and refuses files it could only guess at: spreadsheets, open quotation marks, no name or price.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

SEPARATORS: Final = ",;\t|"
HEADER_WITHIN: Final = 10
"""Rows in which the header is looked for: some programs write a title above it."""

_END: Final = "\ue000"
"""Stands on a line of its own behind the text. Whoever finds it inside a cell has found an open quotation mark."""


class Field(StrEnum):
    """What a column can hold."""

    BARCODE = "barcode"
    NAME = "name"
    CATEGORY = "category"
    UNIT = "unit"
    COST = "cost"
    PRICE = "price"
    STOCK = "stock"
    SKU = "sku"


HEADERS: Final[Mapping[Field, tuple[str, ...]]] = {
    field: tuple(headers.split(", "))
    for field, headers in {
        Field.BARCODE: "barcode, kode barcode, barcodes, ean, gtin, ean13, ean8, upc, kode batang, no barcode",
        Field.NAME: "nama, name, nama produk, product name, nama barang, item name, product, produk, barang, item, nama item",
        Field.CATEGORY: "kategori, category, kelompok, jenis, department, departemen, group",
        Field.UNIT: "satuan, unit, uom",
        Field.COST: "harga_beli, cost, harga pokok, modal, hpp, harga modal, cost price, purchase price, buy price, buying price",
        Field.PRICE: "harga_jual, price, harga, selling price, sale price, sell price, retail price, unit price, harga satuan",
        Field.STOCK: "stok, stock, qty, quantity, stok awal, opening stock, stock on hand, on hand, jumlah, sisa stok",
        Field.SKU: "sku, kode, code, kode produk, product code, kode barang, item code, kode item, plu",
    }.items()
}
"""The headers taken for each field, best first; compared without case, spaces, marks and "(Rp)"."""

OWN_COLUMNS: Final = frozenset({"baris", "alasan", "line", "reason"})
"""What the report of held-back rows adds. Passed over in silence, so that a corrected report can be imported as it is."""

REQUIRED: Final = (Field.NAME, Field.PRICE)


class UnreadableTable(Exception):
    """The file cannot be read as a product table. `key` and `facts` choose the sentence in catalog_words."""

    def __init__(self, key: str, missing: tuple[Field, ...] = (), **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.missing = missing
        """The required fields for which there is no column."""
        self.facts = facts


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in the file."""

    line: int
    """Where it begins; the first line of the file is 1."""
    last_line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A product table, columns found, nothing judged."""

    header: Record
    separator: str
    columns: Mapping[Field, tuple[int, ...]]
    """Positions of each field's columns. Only barcodes may have more than one."""
    records: tuple[Record, ...]
    """The rows below the header that are not blank."""
    notices: tuple[tuple[str, Mapping[str, object]], ...]
    """What the owner should know about the file as a whole: key and facts of sentences in catalog_words."""

    def cells(self, record: Record, field: Field) -> list[str]:
        """The row's cells of a field, those that are there."""
        return [record.cells[place] for place in self.columns.get(field, ()) if place < len(record.cells)]

    def heading(self, field: Field) -> str:
        """What the owner calls this column."""
        places = self.columns.get(field)
        return self.header.cells[places[0]].strip() if places else field.value


def read(content: bytes) -> Table:
    """Reads a table.

    Raises:
        UnreadableTable: no text, a spreadsheet file, an open quotation mark, or no columns for name and price.
    """
    text, notices = _decode(content)
    if not text.strip():
        raise UnreadableTable("table.empty")
    separator, header, columns = _layout(text)
    records = tuple(
        record for record in _records(text, separator) if record.line > header.line and any(cell.strip() for cell in record.cells)
    )
    unused = [
        cell.strip()
        for place, cell in enumerate(header.cells)
        if cell.strip() and _plain(cell) not in OWN_COLUMNS and all(place not in places for places in columns.values())
    ]
    if unused:
        notices.append(("table.unused", {"columns": ", ".join(unused)}))
    return Table(header, separator, columns, records, tuple(notices))


def _decode(content: bytes) -> tuple[str, list[tuple[str, Mapping[str, object]]]]:
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UnreadableTable("table.spreadsheet")
    notices: list[tuple[str, Mapping[str, object]]] = []
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise UnreadableTable("table.not_text") from None
        notices.append(("table.windows", {}))
    if "\0" in text or _END in text:
        raise UnreadableTable("table.not_text")
    return text, notices


def _records(text: str, separator: str) -> Iterator[Record]:
    # newline="" leaves CR, LF and CRLF as they are, so that the reader's own count of lines is the editor's.
    lines = io.StringIO(text + ("" if text.endswith(("\n", "\r")) else "\n") + _END, newline="")
    reader = csv.reader(lines, delimiter=separator)
    done = 0
    while True:
        try:
            cells = next(reader)
        except csv.Error:  # a cell of more than 128 KiB: nothing but an open quotation mark gets there
            raise UnreadableTable("table.open_quote", line=done + 1) from None
        if cells == [_END]:
            return
        if cells and _END in cells[-1]:
            raise UnreadableTable("table.open_quote", line=done + 1)
        yield Record(done + 1, reader.line_num, tuple(cells))
        done = reader.line_num


def _layout(text: str) -> tuple[str, Record, Mapping[Field, tuple[int, ...]]]:
    """The separator and header row under which most columns are understood."""
    best: tuple[str, Record, Mapping[Field, tuple[int, ...]]] | None = None
    widest: Record | None = None
    broken: UnreadableTable | None = None
    for separator in SEPARATORS:
        try:
            filled = [record for record in islice(_records(text, separator), HEADER_WITHIN) if any(map(str.strip, record.cells))]
        except UnreadableTable as error:  # with another separator the same mark may be an ordinary character
            broken = broken or error
            continue
        for record in filled:
            columns = _columns(record.cells)
            understood = all(field in columns for field in REQUIRED)
            if understood and (best is None or len(columns) > len(best[2])):
                best = separator, record, columns
        if filled and (widest is None or len(filled[0].cells) > len(widest.cells)):
            widest = filled[0]
    if best is not None:
        return best
    if widest is None:
        raise broken or UnreadableTable("table.empty")
    found = _columns(widest.cells)
    raise UnreadableTable(
        "table.columns",
        missing=tuple(field for field in REQUIRED if field not in found),
        found=", ".join(cell.strip()[:40] or "-" for cell in widest.cells[:20]),
        line=widest.line,
    )


def _columns(cells: tuple[str, ...]) -> dict[Field, tuple[int, ...]]:
    names = [_plain(cell) for cell in cells]
    columns: dict[Field, tuple[int, ...]] = {}
    for field, headers in HEADERS.items():
        ranks = {_plain(header): rank for rank, header in enumerate(headers)}
        if field is Field.BARCODE:
            places = [place for place, name in enumerate(names) if name in ranks or name.rstrip("0123456789") in ranks]
        else:
            known = [place for place, name in enumerate(names) if name in ranks]
            places = [min(known, key=lambda place: ranks[names[place]])] if known else []
        if places:
            columns[field] = tuple(places)
    return columns


def _plain(header: str) -> str:
    """Small letters and digits only: "Harga Jual (Rp)" is "hargajual"."""
    bare = "".join(character for character in re.sub(r"\(.*?\)|\[.*?\]", "", header).casefold() if character.isalnum())
    return bare.removesuffix("rp").removesuffix("idr") or bare
