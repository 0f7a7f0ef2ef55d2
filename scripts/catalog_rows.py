"""Judges the rows of a product table: which are good, which are doubtful and why, which cannot be imported at all. Pure.

It never repairs a row in silence: what is doubtful is held back until the owner corrects it or accepts its safe part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from kernel import barcodes, money, quantities
from scripts import catalog_numbers
from scripts.catalog_numbers import NOTHING, Style, Unreadable
from scripts.catalog_table import Field, Record, Table


class Kind(StrEnum):
    """What is wrong with a row. Values are what `--accept` takes."""

    # The row cannot go in.
    NO_NAME = "no_name"
    NO_PRICE = "no_price"
    UNREADABLE_PRICE = "unreadable_price"
    NEGATIVE_PRICE = "negative_price"
    TOO_LONG = "too_long"
    BAD_CHARACTER = "bad_character"
    LINE_BREAK = "line_break"
    EXTRA_CELLS = "extra_cells"
    # The row could go in, but something about it is probably not what the owner means.
    OWN_CODE = "own_code"
    CHECK_DIGIT = "check_digit"
    UNUSABLE_CODE = "unusable_code"
    UNDER_COST = "under_cost"
    ZERO_PRICE = "zero_price"
    BAD_COST = "bad_cost"
    NEGATIVE_STOCK = "negative_stock"
    BAD_STOCK = "bad_stock"
    DUPLICATE = "duplicate"


DOUBTFUL: Final = frozenset(
    {
        Kind.OWN_CODE,
        Kind.CHECK_DIGIT,
        Kind.UNUSABLE_CODE,
        Kind.UNDER_COST,
        Kind.ZERO_PRICE,
        Kind.BAD_COST,
        Kind.NEGATIVE_STOCK,
        Kind.BAD_STOCK,
        Kind.DUPLICATE,
    }
)
ACCEPTABLE: Final = DOUBTFUL - {Kind.DUPLICATE}
"""What an owner can accept. A duplicate has no safe part: the first row is the product."""

_LONGEST: Final = {Field.NAME: 200, Field.SKU: 64, Field.CATEGORY: 100, Field.UNIT: 20}
"""As the cloud allows."""

_BETWEEN_CODES: Final = re.compile(r"[|;,\r\n]+")
_EXCEL_TEXT: Final = re.compile(r'="(.*)"')
_FLOAT_CODE: Final = re.compile(r"([0-9]{6,14})\.0+")
_SCIENTIFIC: Final = re.compile(r"[0-9]+[.,]?[0-9]*e\+?[0-9]+", re.IGNORECASE)


class Verdict(StrEnum):
    """What a row is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Finding:
    """One thing about one cell that the owner should look at."""

    kind: Kind
    column: Field
    value: str
    reason: str
    """Key of the sentence in catalog_words."""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A judged row."""

    record: Record
    findings: tuple[Finding, ...]
    item: Mapping[str, Any] | None
    """What is sent: JSON of gipos.v1.ProductImport without outlet_id. None when the row stays out."""

    @property
    def verdict(self) -> Verdict:
        """Rejected when any finding is; good without findings."""
        if not self.findings:
            return Verdict.GOOD
        return Verdict.DOUBTFUL if all(finding.kind in DOUBTFUL for finding in self.findings) else Verdict.REJECTED


def judge(table: Table, accept: Collection[Kind] = ()) -> list[Row]:
    """Judges every row, in the order of the file.

    Args:
        table: What was read.
        accept: Kinds of doubt the owner accepts. A row goes in when all its doubts are accepted, without its doubtful parts.
    """
    judge = _Judge(table, frozenset(accept) & ACCEPTABLE)
    return [judge.row(record) for record in table.records]


class _Judge:
    """Goes through a table from top to bottom and remembers which codes it has seen."""

    def __init__(self, table: Table, accept: Collection[Kind]) -> None:
        self._table = table
        self._accept = accept
        self._styles: dict[Field, Style] = {
            column: catalog_numbers.style(cell for record in table.records for cell in table.cells(record, column))
            for column in (Field.PRICE, Field.COST, Field.STOCK)
        }
        self._lines: dict[tuple[Field, str], int] = {}
        """Where a code, or the name of a product without codes, first stood."""

    def row(self, record: Record) -> Row:
        """The next row."""
        found: list[Finding] = []
        product: dict[str, Any] = {}
        self._shape(record, found)
        self._texts(record, product, found)
        codes = self._barcodes(record, product, found)
        self._amounts(record, product, found)
        stock = self._stock(record, found)
        if all(finding.kind in DOUBTFUL for finding in found):
            found += self._duplicates(record, product, codes)
        findings = tuple(found)
        if any(finding.kind not in self._accept for finding in findings):
            return Row(record, findings, None)
        item: dict[str, Any] = {"product": product}
        if stock is not None:
            item["opening_stock"] = quantities.text(stock)
        return Row(record, findings, item)

    def _cell(self, record: Record, column: Field) -> str:
        """The cell with single spaces; empty for what people write when they have nothing to write."""
        text = " ".join("\n".join(self._table.cells(record, column)).split())
        return "" if text.casefold() in NOTHING else text

    def _shape(self, record: Record, found: list[Finding]) -> None:
        width = len(self._table.header.cells)
        surplus = [cell for cell in record.cells[width:] if cell.strip()]
        if surplus:
            facts = {"cells": len(record.cells), "columns": width}
            found.append(Finding(Kind.EXTRA_CELLS, Field.NAME, surplus[0].strip(), "row.extra_cells", facts))
        for column in _LONGEST:
            for cell in self._table.cells(record, column):
                # A stray quotation mark swallows the lines below it; taking them for a name would lose products unnoticed.
                if "\n" in cell.strip() or "\r" in cell.strip():
                    facts = {"last_line": record.last_line}
                    found.append(Finding(Kind.LINE_BREAK, column, " ".join(cell.split())[:60], "row.line_break", facts))

    def _texts(self, record: Record, product: dict[str, Any], found: list[Finding]) -> None:
        for column, limit in _LONGEST.items():
            text = self._cell(record, column)
            if len(text) > limit:
                facts = {"length": len(text), "limit": limit}
                found.append(Finding(Kind.TOO_LONG, column, text[:60], "row.too_long", facts))
            if any(ord(character) < 32 or 0xD800 <= ord(character) <= 0xDFFF for character in text):
                found.append(Finding(Kind.BAD_CHARACTER, column, ascii(text[:60]), "row.bad_character"))
            if text:
                product[column.value] = text
        if "name" not in product:
            found.append(Finding(Kind.NO_NAME, Field.NAME, "", "row.no_name"))

    def _barcodes(self, record: Record, product: dict[str, Any], found: list[Finding]) -> list[str]:
        """Puts the usable codes into the product; all codes in their normal form, for finding duplicates."""
        codes: list[str] = []
        for cell in self._table.cells(record, Field.BARCODE):
            codes += (_bare_code(part) for part in _BETWEEN_CODES.split(cell))
        given = [code for code in dict.fromkeys(codes) if code.casefold() not in NOTHING and code.strip("0")]
        usable = []
        for code in given:
            finding = _code_finding(code)
            if finding is not None:
                found.append(finding)
            if finding is None or finding.kind is Kind.OWN_CODE:
                usable.append(code)
        if usable:
            product["barcodes"] = usable
        return list(dict.fromkeys(map(barcodes.normal_form, given)))

    def _amounts(self, record: Record, product: dict[str, Any], found: list[Finding]) -> None:
        text = self._cell(record, Field.PRICE)
        price: int | None = None
        if not text:
            found.append(Finding(Kind.NO_PRICE, Field.PRICE, "", "row.no_price"))
        else:
            try:
                price = catalog_numbers.price(text, self._styles[Field.PRICE])
            except Unreadable as error:
                found.append(Finding(Kind.UNREADABLE_PRICE, Field.PRICE, text, error.reason))
        if price is not None:
            product["price"] = {"amount": price}
            if price < 0:
                found.append(Finding(Kind.NEGATIVE_PRICE, Field.PRICE, text, "row.negative_price"))
        cost = self._cost(record, found)
        if cost is not None:
            product["cost"] = {"amount": cost}
        if price is not None and price >= 0 and cost is not None and price < cost:
            facts = {"price": money.format_rupiah(price), "cost": money.format_rupiah(cost)}
            found.append(Finding(Kind.UNDER_COST, Field.PRICE, text, "row.under_cost", facts))
        elif price == 0:
            found.append(Finding(Kind.ZERO_PRICE, Field.PRICE, text, "row.zero_price"))

    def _cost(self, record: Record, found: list[Finding]) -> int | None:
        text = self._cell(record, Field.COST)
        if not text:
            return None
        try:
            cost = catalog_numbers.cost(text, self._styles[Field.COST])
        except Unreadable as error:
            found.append(Finding(Kind.BAD_COST, Field.COST, text, error.reason))
            return None
        if cost < 0:
            found.append(Finding(Kind.BAD_COST, Field.COST, text, "row.negative_cost"))
            return None
        return cost

    def _stock(self, record: Record, found: list[Finding]) -> int | None:
        text = self._cell(record, Field.STOCK)
        if not text:
            return None
        try:
            stock = catalog_numbers.stock(text, self._styles[Field.STOCK])
        except Unreadable as error:
            found.append(Finding(Kind.BAD_STOCK, Field.STOCK, text, error.reason))
            return None
        if stock < 0:
            found.append(Finding(Kind.NEGATIVE_STOCK, Field.STOCK, text, "row.negative_stock"))
            return None
        return stock

    def _duplicates(self, record: Record, product: dict[str, Any], codes: list[str]) -> list[Finding]:
        keys = [(Field.BARCODE, code) for code in codes]
        if sku := product.get("sku"):
            keys.append((Field.SKU, sku))
        if not sku and not product.get("barcodes"):
            # The cloud knows an article again by a code. One that has none is known by its name and unit, so that importing
            # the file twice does not make it twice.
            name = " ".join((product["name"], product.get("unit", "pcs"))).casefold()
            keys.append((Field.NAME, name))
            product["external_id"] = "csv-" + hashlib.sha256(name.encode()).hexdigest()[:24]
        findings = []
        for column, value in keys:
            first = self._lines.setdefault((column, value), record.line)
            if first != record.line:
                shown = product["name"] if column is Field.NAME else value
                findings.append(Finding(Kind.DUPLICATE, column, shown, "row.duplicate", {"line": first}))
        return findings


def _code_finding(code: str) -> Finding | None:
    """What is doubtful about a code; a doubt other than OWN_CODE means that it cannot be stored as a barcode."""
    if code.startswith(barcodes.QRIS_PREFIX):
        return Finding(Kind.UNUSABLE_CODE, Field.BARCODE, code[:60], "row.payment_qr")
    if barcodes.is_gtin(code):
        return None
    if _SCIENTIFIC.fullmatch(code):
        return Finding(Kind.UNUSABLE_CODE, Field.BARCODE, code, "row.scientific")
    if code.isascii() and code.isdigit() and len(code) in barcodes.GTIN_LENGTHS:
        right = barcodes.check_digit(code[:-1])
        # Eight digits may also be a number the store gave itself, so the cloud takes them; longer ones are typing errors.
        kind = Kind.OWN_CODE if barcodes.problem(code) is None else Kind.CHECK_DIGIT
        return Finding(kind, Field.BARCODE, code, "row.check_digit", {"found": code[-1], "right": right})
    if barcodes.problem(code) is not None:
        return Finding(Kind.UNUSABLE_CODE, Field.BARCODE, code[:60], "row.unusable_code")
    if code.isdigit():
        for length in barcodes.GTIN_LENGTHS[:3]:
            # Spreadsheets take codes for numbers and drop the zeros in front.
            padded = code.zfill(length)
            if len(code) >= length - 2 and len(code) < length and barcodes.is_gtin(padded):
                return Finding(Kind.OWN_CODE, Field.BARCODE, code, "row.lost_zero", {"padded": padded})
    return Finding(Kind.OWN_CODE, Field.BARCODE, code, "row.own_code")


def _bare_code(cell: str) -> str:
    """Without what spreadsheets put around a number to keep it text, and without the ".0" of programs that took it for one."""
    text = cell.strip()
    if match := _EXCEL_TEXT.fullmatch(text):
        text = match.group(1)
    text = text.lstrip("'").strip()
    match = _FLOAT_CODE.fullmatch(text)
    return match.group(1) if match else text
