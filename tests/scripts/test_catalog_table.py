from __future__ import annotations

import codecs
import contextlib
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import catalog_table
from scripts.catalog_table import Field, UnreadableTable

INDONESIAN = "barcode,nama,kategori,satuan,harga_beli,harga_jual,stok\n20001,Kopi,Minuman,pcs,900,1000,3\n"


def only(content: bytes) -> dict[str, str]:
    table = catalog_table.read(content)
    (record,) = table.records
    return {field.value: table.cells(record, field)[0] for field in table.columns}


EXPECTED = {
    "barcode": "20001", "name": "Kopi", "category": "Minuman", "unit": "pcs", "cost": "900", "price": "1000", "stock": "3",
}  # fmt: skip


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_usual_way_to_save_a_table_is_read_the_same(encoding: str, separator: str, line_end: str) -> None:
    assert only(INDONESIAN.replace(",", separator).replace("\n", line_end).encode(encoding)) == EXPECTED


@pytest.mark.parametrize(
    "header",
    [
        "Kode Barcode,Nama Produk,Kategori,Satuan,Harga Pokok,Harga Jual (Rp),Stok",
        "EAN,Product,Category,Unit,Cost,Price,Qty",
        "gtin,NAME,category,unit,Modal,harga,STOCK",
        " barcode , product_name,category,uom,cost price,Selling Price,stock on hand",
        '"barcode","nama","kategori","satuan","harga_beli","harga_jual","stok"',
        "barcode,nama,kategori,satuan,HPP,Harga Jual Rp,stok",
    ],
)
def test_indonesian_and_english_headers_mean_the_same(header: str) -> None:
    assert only(f"{header}\n20001,Kopi,Minuman,pcs,900,1000,3\n".encode()) == EXPECTED


def test_the_order_of_columns_does_not_matter() -> None:
    assert only(b"stok;harga_jual;nama;kategori;barcode;satuan;harga_beli\n3;1000;Kopi;Minuman;20001;pcs;900\n") == EXPECTED


def test_the_better_header_wins_and_the_other_is_named_as_unused() -> None:
    table = catalog_table.read(b"nama,harga,harga_jual,keterangan\nKopi,1,2,x\n")
    assert table.cells(table.records[0], Field.PRICE) == ["2"]
    assert table.notices == (("table.unused", {"columns": "harga, keterangan"}),)


def test_a_kode_column_is_the_sku_next_to_a_barcode_column() -> None:
    table = catalog_table.read(b"kode,kode barcode,barcode 2,nama,harga\nA1,1,2,Kopi,1000\n")
    assert table.cells(table.records[0], Field.SKU) == ["A1"]
    assert table.cells(table.records[0], Field.BARCODE) == ["1", "2"]


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    table = catalog_table.read(b'Daftar produk\n\nnama;harga\n\nKopi;1000\n;\n"Teh\nmanis";900\r\nRoti;800')
    assert [(record.line, record.last_line) for record in table.records] == [(5, 5), (7, 8), (9, 9)]
    assert table.header.line == 3


def test_a_separator_inside_quotation_marks_is_text() -> None:
    table = catalog_table.read(b'nama,harga\n"Air minum, 1,5 liter",3000\n"Paku 2"" isi 10",500\n')
    assert [table.cells(record, Field.NAME) for record in table.records] == [["Air minum, 1,5 liter"], ['Paku 2" isi 10']]


def test_the_hint_line_of_excel_is_no_obstacle() -> None:
    table = catalog_table.read(b"sep=;\nnama;harga\nKopi;1000\n")
    assert table.separator == ";"
    assert table.records[0].line == 3


def test_windows_text_is_read_with_a_notice() -> None:
    table = catalog_table.read("nama,harga\nKopi \u00e9clair,1000\n".encode("cp1252"))
    assert table.cells(table.records[0], Field.NAME) == ["Kopi \u00e9clair"]
    assert table.notices == (("table.windows", {}),)


def test_a_corrected_report_has_no_unused_columns() -> None:
    assert catalog_table.read(b"nama,harga,baris,alasan\nKopi,1000,7,x\n").notices == ()


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"", "table.empty"),
        (codecs.BOM_UTF8 + b" \n\n", "table.empty"),
        (b"PK\x03\x04rest", "table.spreadsheet"),
        (b"\xd0\xcf\x11\xe0rest", "table.spreadsheet"),
        (b"nama,harga\n\x00\x01", "table.not_text"),
        (b"nama,harga\n\x81\x8d", "table.not_text"),
        (b"nama,stok\nKopi,3\n", "table.columns"),
        (b'nama,harga\n"Kopi,1000\nTeh,900\n', "table.open_quote"),
        (b'nama,harga\n"' + b"x" * 200_000, "table.open_quote"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_reason(content: bytes, key: str) -> None:
    with pytest.raises(UnreadableTable) as caught:
        catalog_table.read(content)
    assert caught.value.key == key


def test_missing_columns_are_named_with_what_was_found() -> None:
    with pytest.raises(UnreadableTable) as caught:
        catalog_table.read(b"\nkode;stok;merek\nA1;3;x\n")
    assert caught.value.missing == (Field.NAME, Field.PRICE)
    assert caught.value.facts == {"found": "kode, stok, merek", "line": 2}


def test_an_open_quotation_mark_is_named_with_its_line() -> None:
    with pytest.raises(UnreadableTable) as caught:
        catalog_table.read(b'nama,harga\nTeh,900\n"Kopi,1000\nRoti,800\n')
    assert caught.value.facts == {"line": 3}


NAMES = st.text(st.characters(exclude_categories=["Cs", "Co", "Cc"]), min_size=1).filter(str.strip)


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 10**9)), min_size=1, max_size=8),
    st.sampled_from(catalog_table.SEPARATORS),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_a_spreadsheet_writes_comes_back(rows: list[tuple[str, int]], separator: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([("nama", "harga_jual"), *rows])
    table = catalog_table.read(text.getvalue().encode(encoding))
    assert [(table.cells(record, Field.NAME)[0], int(table.cells(record, Field.PRICE)[0])) for record in table.records] == rows


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_a_reason(content: bytes) -> None:
    for whole in (content, b"nama,harga\n" + content):
        # Any other exception than this one fails the test.
        with contextlib.suppress(UnreadableTable):
            table = catalog_table.read(whole)
            assert all(record.line > table.header.line for record in table.records)
