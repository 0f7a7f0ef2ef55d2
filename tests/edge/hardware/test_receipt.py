"""Receipts as people read them. The text comes from an interpreter that shares nothing with the encoder."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import pytest
import zxingcpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edge.hardware.printers import receipt
from edge.hardware.printers.escpos import DRAWER_PULSE
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.sales_pb2 import Sale
from kernel.money import format_digits
from sandboxes.escpos_drawing import draw
from sandboxes.escpos_paper import TextLine, interpret

SaleFactory = Callable[..., Sale]

SMALL = """\
       TOKO CONTOH KEMANG
  Jl. Kemang Raya 10, Jakarta
     NPWP 0012345678012000
--------------------------------
No     KMG-2611-200123
Tgl    23 Nov 2026 14.05 WIB
Kasir  Sari / Kasa 2
--------------------------------
Kopi Susu
  2 x 18.000              36.000
Roti Bakar
  1 x 18.000              18.000
--------------------------------
TOTAL                     54.000
Termasuk PPN               5.351
Tunai                     60.000
Kembali                    6.000
--------------------------------
DPP 48.649
DPP nilai lain 44.595
          Terima kasih
"""

WIDE_ENGLISH = """\
               TOKO CONTOH KEMANG
          Jl. Kemang Raya 10, Jakarta
             NPWP 0012345678012000
                      COPY
------------------------------------------------
No       KMG-2611-200123
Date     23 Nov 2026 14.05 WIB
Cashier  Sari / Kasa 2
------------------------------------------------
Kopi Susu
  2 x 18.000                              36.000
Roti Bakar
  1 x 18.000                              18.000
------------------------------------------------
TOTAL                                     54.000
Includes PPN                               5.351
Cash                                      60.000
Change                                     6.000
------------------------------------------------
Tax base 48.649
Other-value base 44.595
                  Terima kasih
"""

EVERYTHING = """\
No     KMG-2611-200123
Tgl    23 Nov 2026 14.05 WIB
Kasir  Sari / Kasa 2
--------------------------------
Gula Pasir Curah Lampung kiloan
langsung dari petani
  0,75 x 20.000           15.000
  Diskon                    -500
Kopi Susu
  1 x 18.000              18.000
--------------------------------
Subtotal                  32.500
Promo Senin               -1.234
PPN                        3.439
Pembulatan                    -5
TOTAL                     34.700
Tunai                     50.000
Kembali                   15.300
--------------------------------
DPP 31.266
DPP nilai lain 28.661
"""


def printed(data: bytes, paper: Literal[58, 80] = 58) -> str:
    """The receipt's text without the empty line before its QR code."""
    read = interpret(data, paper)
    assert read.warnings == []
    return "".join(f"{line}\n" for line in read.text_lines).rstrip("\n") + "\n"


def test_a_receipt_on_small_paper(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    assert printed(receipt.compose(a_sale(), outlet, till)) == SMALL


def test_a_copy_on_wide_paper_in_english(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    data = receipt.compose(a_sale(), outlet, till, paper=80, is_copy=True, locale="en")
    assert printed(data, 80) == WIDE_ENGLISH


def test_discounts_added_tax_and_rounding_add_up_in_the_column(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    sale = a_sale(
        (("Gula Pasir Curah Lampung kiloan langsung dari petani", "0.75", 20_000, 500), ("Kopi Susu", "1", 18_000, 0)),
        discounts=(("Promo Senin", 1_234),),
        tenders=(("cash", 50_000),),
        prices_include_tax=False,
        rounding_unit=100,
    )
    text = printed(receipt.compose(sale, outlet, till))
    assert EVERYTHING in text
    assert 32_500 - 1_234 + 3_439 - 5 == 34_700


def test_a_merchant_that_collects_no_tax_has_no_tax_lines(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    outlet.tax_number = ""
    text = printed(receipt.compose(a_sale(tax_class=TaxClass.TAX_CLASS_NON_PKP), outlet, till))
    assert not any(word in text for word in ("PPN", "DPP", "NPWP"))


def test_several_taxes_are_named_at_their_bases(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    sale = a_sale()
    other = sale.taxes.add(tax_class=TaxClass.TAX_CLASS_PBJT, name="PBJT")
    for field, amount in ((other.base, 1_000), (other.other_value_base, 1_000), (other.amount, 100)):
        field.amount = amount
    text = printed(receipt.compose(sale, outlet, till))
    assert "DPP PPN 48.649\nDPP nilai lain PPN 44.595\nDPP PBJT 1.000\n" in text
    assert "Termasuk PBJT                100\n" in text


def test_payment_without_cash_shows_no_change(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    text = printed(receipt.compose(a_sale(tenders=(("qris", 50_000), ("Kupon Desa", 4_000))), outlet, till))
    assert "QRIS                      50.000\nKupon Desa                 4.000\n" in text
    assert "Kembali" not in text


def test_exact_cash_shows_change_of_nothing(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    assert "Kembali                        0\n" in printed(receipt.compose(a_sale(tenders=(("cash", 54_000),)), outlet, till))


@pytest.mark.parametrize(
    ("zone", "moment"),
    [
        ("Asia/Jakarta", "14.05 WIB"),
        ("Asia/Pontianak", "14.05 WIB"),
        ("Asia/Makassar", "15.05 WITA"),
        ("Asia/Jayapura", "16.05 WIT"),
        ("", "14.05 WIB"),
    ],
)
def test_the_time_is_that_of_the_outlet(a_sale: SaleFactory, outlet: Outlet, till: Till, zone: str, moment: str) -> None:
    outlet.time_zone = zone
    assert f"Tgl    23 Nov 2026 {moment}\n" in printed(receipt.compose(a_sale(), outlet, till))


def test_months_are_indonesian(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    sale = a_sale()
    sale.sale_time.FromJsonString("2026-08-31T17:00:00Z")
    assert "Tgl    1 Sep 2026 00.00 WIB\n" in printed(receipt.compose(sale, outlet, till))
    sale.sale_time.FromJsonString("2026-08-31T16:59:59Z")
    assert "Tgl    31 Agu 2026 23.59 WIB\n" in printed(receipt.compose(sale, outlet, till))


def test_a_zone_outside_indonesia_and_a_sale_without_time_are_refused(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    sale = a_sale()
    outlet.time_zone = "Europe/Berlin"
    with pytest.raises(ValueError, match="time zone"):
        receipt.compose(sale, outlet, till)
    outlet.time_zone = "Asia/Jakarta"
    sale.ClearField("sale_time")
    with pytest.raises(ValueError, match="sale_time"):
        receipt.compose(sale, outlet, till)


def test_a_cash_sale_kicks_the_drawer_before_anything_else(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    data = receipt.compose(a_sale(), outlet, till, opens_drawer=True)
    assert data.startswith(DRAWER_PULSE)
    assert data.count(DRAWER_PULSE) == 1
    assert interpret(data).of_kind("drawer") == [{"kind": "drawer", "pin": 2, "on_ms": 50, "off_ms": 500}]


def test_a_copy_never_opens_the_drawer(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    paper = interpret(receipt.compose(a_sale(), outlet, till, opens_drawer=True, is_copy=True))
    assert paper.of_kind("drawer") == []
    assert "SALINAN" in "".join(paper.text_lines)


def test_only_wide_paper_is_cut(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    assert interpret(receipt.compose(a_sale(), outlet, till)).of_kind("cut") == []
    assert interpret(receipt.compose(a_sale(), outlet, till, paper=80), 80).events[-1] == {"kind": "cut", "partial": True}


def test_the_total_is_emphasised_and_stays_on_one_line(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    sale = a_sale((("Emas", "1000", 9_999_999_999, 0),), tenders=(("transfer", 9_999_999_999_000),))
    paper = interpret(receipt.compose(sale, outlet, till))
    (total,) = [line for line in paper.elements if isinstance(line, TextLine) and line.text(32).startswith("TOTAL")]
    assert total.text(32) == "TOTAL          9.999.999.999.000"
    assert all(cell.bold and cell.height == 2 for cell in total.cells)


@pytest.mark.parametrize("paper", [58, 80])
def test_the_qr_code_of_the_drawn_receipt_is_the_sale(
    a_sale: SaleFactory, outlet: Outlet, till: Till, paper: Literal[58, 80]
) -> None:
    sale = a_sale()
    image = Image.open(io.BytesIO(draw(interpret(receipt.compose(sale, outlet, till, paper=paper), paper))))
    assert [code.text for code in zxingcpp.read_barcodes(image)] == [sale.id]


def test_a_logo_is_printed_above_the_name(a_sale: SaleFactory, outlet: Outlet, till: Till) -> None:
    logo = io.BytesIO()
    Image.new("L", (200, 80), 0).save(logo, "PNG")
    paper = interpret(receipt.compose(a_sale(), outlet, till, logo=logo.getvalue()))
    assert paper.events[0] == {"kind": "image", "width": 200, "height": 80}
    assert printed(receipt.compose(a_sale(), outlet, till, logo=logo.getvalue())) == SMALL


NAMES = st.text(min_size=1, max_size=200)
LINES = st.tuples(
    NAMES,
    st.integers(1, 10**9).map(lambda thousandths: f"{thousandths // 1000}.{thousandths % 1000:03}"),
    st.integers(0, 10**9),
    st.just(0),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60)
@given(lines=st.lists(LINES, min_size=1, max_size=4), name=NAMES, cashier=st.text(max_size=80), paper=st.sampled_from([58, 80]))
def test_no_name_however_strange_breaks_the_layout_or_loses_an_amount(
    a_sale: SaleFactory,
    outlet: Outlet,
    till: Till,
    lines: list[tuple[str, str, int, int]],
    name: str,
    cashier: str,
    paper: Literal[58, 80],
) -> None:
    sale = a_sale(tuple(lines), tenders=(("cash", 10**15),), cashier=cashier)
    outlet.name = name
    read = interpret(receipt.compose(sale, outlet, till, paper=paper, opens_drawer=True), paper)
    assert read.warnings == []
    assert len(read.of_kind("drawer")) == 1
    assert len(read.of_kind("cut")) == (paper == 80)
    columns = receipt.COLUMNS[paper]
    amounts = [line for line in read.text_lines if len(line) == columns]
    for line in sale.lines:
        assert any(each.endswith(" " + format_digits(line.subtotal.amount)) for each in amounts)
    assert any(each.startswith("TOTAL ") and each.endswith(" " + format_digits(sale.total.amount)) for each in amounts)
