from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import barcodes, quantities
from scripts import catalog_rows, catalog_table, import_catalog
from scripts.catalog_rows import ACCEPTABLE, DOUBTFUL, Kind, Row, Verdict

HEADER = "barcode,sku,nama,kategori,satuan,harga_beli,harga_jual,stok"
GTIN = "2000000000015"
OTHER = "2000000000022"


def judge(*lines: str, accept: frozenset[Kind] = frozenset(), header: str = HEADER) -> list[Row]:
    return catalog_rows.judge(catalog_table.read("\n".join([header, *lines]).encode()), accept)


def kinds(row: Row) -> list[Kind]:
    return [finding.kind for finding in row.findings]


def product(row: Row) -> dict[str, Any]:
    assert row.item is not None
    return dict(row.item["product"])


def test_a_good_row_becomes_what_the_contract_takes() -> None:
    (row,) = judge(f'{GTIN},A1,"  Kopi   tubruk ",Minuman,gelas,3.500,Rp8.000,"12,5"')
    assert row.verdict is Verdict.GOOD
    assert row.item == {
        "product": {
            "name": "Kopi tubruk",
            "sku": "A1",
            "barcodes": [GTIN],
            "category": "Minuman",
            "unit": "gelas",
            "price": {"amount": 8000},
            "cost": {"amount": 3500},
        },
        "opening_stock": "12.5",
    }


def test_empty_cells_are_left_out_and_never_sent_as_text() -> None:
    (row,) = judge("-,,Kopi,n/a,,kosong,1000,-")
    assert row.verdict is Verdict.GOOD
    assert row.item is not None
    assert set(row.item) == {"product"}
    assert set(product(row)) == {"name", "price", "external_id"}


def test_a_row_may_end_early() -> None:
    (row,) = judge(",,Kopi,Minuman,pcs,900,1000")
    assert row.verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("line", "kind", "column"),
    [
        (f"{GTIN},,,Minuman,pcs,1,2,3", Kind.NO_NAME, "nama"),
        (f"{GTIN},,-,Minuman,pcs,1,2,3", Kind.NO_NAME, "nama"),
        (f"{GTIN},,Kopi,Minuman,pcs,1,,3", Kind.NO_PRICE, "harga_jual"),
        (f"{GTIN},,Kopi,Minuman,pcs,1,murah,3", Kind.UNREADABLE_PRICE, "harga_jual"),
        (f'{GTIN},,Kopi,Minuman,pcs,1,"12,500",3', Kind.UNREADABLE_PRICE, "harga_jual"),
        (f"{GTIN},,Kopi,Minuman,pcs,,-500,3", Kind.NEGATIVE_PRICE, "harga_jual"),
        (f"{GTIN},,{'x' * 201},Minuman,pcs,1,2,3", Kind.TOO_LONG, "nama"),
        (f"{GTIN},,Kopi,Minuman,{'x' * 21},1,2,3", Kind.TOO_LONG, "satuan"),
        (f"{GTIN},,Ko\x07pi,Minuman,pcs,1,2,3", Kind.BAD_CHARACTER, "nama"),
        (f'{GTIN},,"Kopi\n{OTHER},,Teh",Minuman,pcs,1,2,3', Kind.LINE_BREAK, "nama"),
        (f"{GTIN},,Kopi, susu,Minuman,pcs,1,2,3", Kind.EXTRA_CELLS, "nama"),
    ],
)
def test_a_row_that_cannot_go_in_stays_out_whatever_is_accepted(line: str, kind: Kind, column: str) -> None:
    table = catalog_table.read(f"{HEADER}\n{line}\n".encode())
    (row,) = catalog_rows.judge(table, ACCEPTABLE)
    assert row.verdict is Verdict.REJECTED
    assert row.item is None
    assert kind in kinds(row)
    assert table.heading(next(finding for finding in row.findings if finding.kind is kind).column) == column


@pytest.mark.parametrize(
    ("cells", "kind", "safe"),
    [
        ("2000000000016,A1,1,2", Kind.CHECK_DIGIT, {}),
        ("8.99E+12,A1,1,2", Kind.UNUSABLE_CODE, {}),
        ("00020101021126,A1,1,2", Kind.UNUSABLE_CODE, {}),
        ("caf\u00e9,A1,1,2", Kind.UNUSABLE_CODE, {}),
        ("KOPI-1,A1,1,2", Kind.OWN_CODE, {"barcodes": ["KOPI-1"]}),
        ("12345,A1,1,2", Kind.OWN_CODE, {"barcodes": ["12345"]}),
        ("18529556,A1,1,2", Kind.OWN_CODE, {"barcodes": ["18529556"]}),
        ("89686604443,A1,1,2", Kind.OWN_CODE, {"barcodes": ["89686604443"]}),
        (",A1,1800,200", Kind.UNDER_COST, {"price": {"amount": 200}, "cost": {"amount": 1800}}),
        (",A1,1,0", Kind.UNDER_COST, {"price": {"amount": 0}}),
        (",A1,0,0", Kind.ZERO_PRICE, {"price": {"amount": 0}, "cost": {"amount": 0}}),
        (",A1,mahal,2", Kind.BAD_COST, {"cost": None}),
        (",A1,-5,2", Kind.BAD_COST, {"cost": None}),
    ],
)
def test_a_doubtful_row_waits_and_goes_in_with_its_safe_part_when_accepted(cells: str, kind: Kind, safe: dict[str, Any]) -> None:
    header, line = "barcode,sku,modal,harga,nama,stok", f"{cells},Kopi,3"
    (held,) = judge(line, header=header)
    assert (held.verdict, held.item, kinds(held)) == (Verdict.DOUBTFUL, None, [kind])
    (accepted,) = judge(line, header=header, accept=frozenset({kind}))
    assert (accepted.verdict, kinds(accepted)) == (Verdict.DOUBTFUL, [kind])
    expected = {"sku": "A1", "name": "Kopi", "price": {"amount": 2}, "cost": {"amount": 1}, **safe}
    assert accepted.item == {
        "product": {name: value for name, value in expected.items() if value is not None},
        "opening_stock": "3",
    }


@pytest.mark.parametrize(("stock", "kind"), [("-10", Kind.NEGATIVE_STOCK), ("banyak", Kind.BAD_STOCK), ("1.250", Kind.BAD_STOCK)])
def test_doubtful_stock_is_left_out_when_accepted(stock: str, kind: Kind) -> None:
    line = f"{GTIN},,Kopi,,pcs,1,2,{stock}"
    assert kinds(judge(line)[0]) == [kind]
    (accepted,) = judge(line, accept=frozenset({kind}))
    assert accepted.item is not None
    assert "opening_stock" not in accepted.item


def test_every_doubt_must_be_accepted_before_a_row_goes_in() -> None:
    line = "KOPI-1,,Kopi,,pcs,5,2,-1"
    assert kinds(judge(line)[0]) == [Kind.OWN_CODE, Kind.UNDER_COST, Kind.NEGATIVE_STOCK]
    assert judge(line, accept=frozenset({Kind.OWN_CODE, Kind.UNDER_COST}))[0].item is None
    assert judge(line, accept=ACCEPTABLE)[0].item is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{GTIN},,Kopi,,pcs,1,2,3", f"{GTIN},,Teh,,pcs,1,2,3"),
        ("042100005264,,Kopi,,pcs,1,2,3", "0042100005264,,Kopi,,pcs,1,2,3"),
        (f"{GTIN},A1,Kopi,,pcs,1,2,3", f"{OTHER},A1,Teh,,pcs,1,2,3"),
        (f"{GTIN}|{OTHER},,Kopi,,pcs,1,2,3", f"{OTHER},,Teh,,pcs,1,2,3"),
        (",,Kopi  Susu,,pcs,1,2,3", ",,kopi susu,,,1,2,3"),
    ],
)
def test_the_first_of_two_equal_products_wins_even_when_doubt_is_accepted(first: str, second: str) -> None:
    for accept in (frozenset[Kind](), DOUBTFUL):
        rows = judge(first, second, accept=accept)
        assert [row.item is not None for row in rows] == [True, False]
        assert kinds(rows[1]) == [Kind.DUPLICATE]
        assert rows[1].findings[0].facts == {"line": 2}


def test_two_sizes_of_one_name_are_two_products() -> None:
    assert [row.verdict for row in judge(f"{GTIN},,Kopi,,pcs,1,2,3", f"{OTHER},,Kopi,,pcs,1,2,3")] == [Verdict.GOOD] * 2


def test_a_row_that_cannot_go_in_does_not_take_its_code_from_a_good_one() -> None:
    assert [row.verdict for row in judge(f"{GTIN},,,,pcs,1,2,3", f"{GTIN},,Kopi,,pcs,1,2,3")] == [Verdict.REJECTED, Verdict.GOOD]


@pytest.mark.parametrize(
    ("cell", "codes"),
    [
        (f"{GTIN}|{OTHER}", [GTIN, OTHER]),
        (f'"{GTIN}, {OTHER}"', [GTIN, OTHER]),
        (f'"{GTIN}\n{OTHER}"', [GTIN, OTHER]),
        (f"{GTIN};{GTIN}", [GTIN]),
        (f"'{GTIN}", [GTIN]),
        (f'"=""{GTIN}"""', [GTIN]),
        (f"{GTIN}.0", [GTIN]),
        ("18529555", ["18529555"]),
    ],
)
def test_codes_are_found_however_a_spreadsheet_keeps_them(cell: str, codes: list[str]) -> None:
    (row,) = judge(f"{cell},,Kopi,,pcs,1,2,3")
    assert row.verdict is Verdict.GOOD
    assert product(row)["barcodes"] == codes


@pytest.mark.parametrize("cell", ["0", "0000000000000", "-", "N/A"])
def test_a_placeholder_is_no_code(cell: str) -> None:
    rows = judge(f"{cell},,Kopi,,pcs,1,2,3", f"{cell},,Teh,,pcs,1,2,3")
    assert [row.verdict for row in rows] == [Verdict.GOOD] * 2
    assert "barcodes" not in product(rows[0])


def test_a_product_without_codes_has_a_key_that_depends_on_name_and_unit_only() -> None:
    keys = [product(row)["external_id"] for line in (",,Es Teh,A,gelas,1,2,3", ",,es  teh,B,Gelas,9,99,") for row in judge(line)]
    assert keys[0] == keys[1]
    assert product(judge(",,Es Teh,A,teko,1,2,3")[0])["external_id"] != keys[0]
    assert "external_id" not in product(judge(f"{GTIN},,Es Teh,A,gelas,1,2,3")[0])
    assert "external_id" not in product(judge(",A1,Es Teh,A,gelas,1,2,3")[0])


def test_lost_zeros_are_named() -> None:
    finding = judge("89686604443,,Kopi,,pcs,1,2,3")[0].findings[0]
    assert (finding.reason, finding.facts) == ("row.lost_zero", {"padded": "089686604443"})


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[0-9A-Z]{0,14}", fullmatch=True),
            st.from_regex(r"[A-Za-z ]{0,12}", fullmatch=True),
            st.from_regex(r"-?[0-9]{0,6}([.,][0-9]{1,3})?", fullmatch=True),
            st.from_regex(r"-?[0-9]{0,6}([.,][0-9]{1,3})?", fullmatch=True),
            st.from_regex(r"-?[0-9]{0,4}([.,][0-9]{1,4})?", fullmatch=True),
        ),
        max_size=12,
    ),
    st.sets(st.sampled_from(sorted(ACCEPTABLE))),
)
def test_what_goes_in_is_always_something_the_cloud_can_take(rows: list[tuple[str, ...]], accept: set[Kind]) -> None:
    lines = ["kode barcode;nama;modal;harga;stok", *(";".join(row) for row in rows)]
    judged = catalog_rows.judge(catalog_table.read("\n".join(lines).encode()), frozenset(accept))
    codes: list[str] = []
    for row in judged:
        assert (row.item is None) == any(finding.kind not in accept for finding in row.findings)
        if row.item is None:
            continue
        sent = product(row)
        assert sent["name"].strip()
        assert sent["price"]["amount"] >= 0
        assert sent.get("cost", {"amount": 0})["amount"] >= 0
        assert quantities.parse(row.item.get("opening_stock", "0")) >= 0
        assert all(barcodes.problem(code) is None for code in sent.get("barcodes", ()))
        codes += sent.get("barcodes", [sent.get("external_id", "")])
    assert len(codes) == len(set(codes))


def test_our_own_demo_catalogue_has_nothing_doubtful() -> None:
    table = catalog_table.read(Path(import_catalog.__file__).with_name("demo_catalog.csv").read_bytes())
    rows = catalog_rows.judge(table)
    assert len(rows) >= 40
    assert {row.verdict for row in rows} == {Verdict.GOOD}
    assert any(product(row)["unit"] == "kg" for row in rows)
    # In-store numbers (GS1 prefix 20 to 29) belong to nobody, so no real product is hit.
    assert all(code.startswith("2") and barcodes.is_gtin(code) for row in rows for code in product(row)["barcodes"])
