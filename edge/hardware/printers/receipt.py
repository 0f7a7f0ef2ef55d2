"""A sale as a receipt: one complete ESC/POS job. Pure; computes no amounts, prints the sale's own.

Contents follow PER-11/PJ/2025 art. 51 and 52 (receipts of retailers that collect PPN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from edge.hardware.printers import rasters
from edge.hardware.printers.columns import field, pair, wrap
from edge.hardware.printers.escpos import EscPos
from edge.hardware.printers.texts import Locale, texts
from edge.hardware.printers.transliteration import transliterate
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.sales_pb2 import Sale, SaleLine, Tender
from kernel import quantities
from kernel.money import format_digits

Paper = Literal[58, 80]

COLUMNS: dict[Paper, int] = {58: 32, 80: 48}
"""Characters of 12 dots across the printable width at 203 dpi."""
DOTS: dict[Paper, int] = {58: 384, 80: 576}
ZONES = {"Asia/Jakarta": "WIB", "Asia/Pontianak": "WIB", "Asia/Makassar": "WITA", "Asia/Jayapura": "WIT"}
"""The time zones of Indonesia and what people call them."""


def compose(
    sale: Sale,
    outlet: Outlet,
    till: Till,
    *,
    paper: Paper = 58,
    logo: bytes | None = None,
    is_copy: bool = False,
    locale: Locale = "id",
    opens_drawer: bool = False,
) -> bytes:
    """The job for one receipt.

    Args:
        sale: A completed sale.
        outlet: Where it was sold; gives name, address, tax number, footer and time zone.
        till: The till; its name is printed beside the cashier's.
        paper: Width in millimetres. 80 mm paper is cut, 58 mm printers have no knife.
        logo: A PNG, shrunk to the paper.
        is_copy: Marks the receipt as a copy, as the law asks of reprints.
        locale: The language of the fixed words.
        opens_drawer: Kicks the drawer before anything is printed. The pulse is the first command of the job.

    Raises:
        ValueError: the sale has no time, the outlet's zone is not an Indonesian one, or the logo cannot be read.
    """
    job = EscPos()
    if opens_drawer and not is_copy:
        job.kick_drawer()
    job.init()
    layout = _Layout(job, COLUMNS[paper], texts(locale))
    job.align("centre")
    if logo is not None:
        job.image(rasters.from_png(logo, DOTS[paper]))
    layout.centred(outlet.name, style=job.bold)
    layout.centred(outlet.address)
    if outlet.tax_number:
        layout.centred(layout.text("tax_number", number=outlet.tax_number))
    if is_copy:
        layout.centred(layout.text("copy"), style=job.bold)
    job.align("left")
    layout.rule()
    _print_origin(layout, sale, outlet, till)
    layout.rule()
    for line in sale.lines:
        _print_line(layout, line)
    layout.rule()
    _print_totals(layout, sale)
    _print_bases(layout, sale)
    job.align("centre")
    layout.centred(outlet.receipt_footer)
    if sale.id:
        job.line().qr(sale.id)
    job.align("left")
    job.feed(5 if paper == 80 else 4)
    if paper == 80:
        job.cut()
    return bytes(job)


class _Layout:
    """Lines of a width, in a language."""

    def __init__(self, job: EscPos, columns: int, words: Mapping[str, str]) -> None:
        self.job = job
        self.columns = columns
        self._words = words

    def text(self, key: str, **values: str) -> str:
        return self._words["receipt." + key].format(**values)

    def tender(self, tender: Tender) -> str:
        """The name of a way to pay; a merchant's own method is its own name."""
        return self._words.get("receipt.tender." + tender.method, tender.method)

    def lines(self, lines: Iterable[str], style: Callable[[str], EscPos] | None = None) -> None:
        for line in lines:
            (style or self.job.text)(line)
            self.job.line()

    def rule(self) -> None:
        self.job.line("-" * self.columns)

    def centred(self, text: str, style: Callable[[str], EscPos] | None = None) -> None:
        if text.strip():
            self.lines(wrap(_plain(text), self.columns), style)

    def amount(self, label: str, amount: int, style: Callable[[str], EscPos] | None = None, indent: str = "") -> None:
        self.lines(pair(_plain(label), format_digits(amount), self.columns, indent), style)


def _plain(text: str) -> str:
    """The text as it will be printed: only then its length is known ("EUR" for one sign)."""
    return transliterate(text, "cp437")[0]


def _print_origin(layout: _Layout, sale: Sale, outlet: Outlet, till: Till) -> None:
    number, date, cashier = layout.text("number"), layout.text("date"), layout.text("cashier")
    label_width = max(len(number), len(date), len(cashier)) + 2
    seller = " / ".join(part for part in (sale.cashier, till.name) if part)
    for label, value in ((number, sale.number), (date, _moment(layout, sale, outlet)), (cashier, seller)):
        if value:
            layout.lines(field(label, _plain(value), layout.columns, label_width))


def _moment(layout: _Layout, sale: Sale, outlet: Outlet) -> str:
    if not sale.HasField("sale_time"):
        raise ValueError("The sale has no sale_time, which every receipt must show.")
    zone = outlet.time_zone or "Asia/Jakarta"
    if zone not in ZONES:
        raise ValueError(f"The outlet's time zone is {zone!r}. It must be one of {', '.join(ZONES)}.")
    local = datetime.fromtimestamp(sale.sale_time.seconds, UTC).astimezone(ZoneInfo(zone))
    return layout.text(
        "moment",
        day=str(local.day),
        month=layout.text("months").split()[local.month - 1],
        year=str(local.year),
        hour=f"{local.hour:02}",
        minute=f"{local.minute:02}",
        zone=ZONES[zone],
    )


def _print_line(layout: _Layout, line: SaleLine) -> None:
    layout.lines(wrap(_plain(line.name), layout.columns))
    quantity = quantities.local_text(quantities.parse(line.quantity))
    layout.amount(
        layout.text("quantity", quantity=quantity, price=format_digits(line.unit_price.amount)), line.subtotal.amount, indent="  "
    )
    if line.discount.amount:
        layout.amount(layout.text("line_discount"), -line.discount.amount, indent="  ")


def _print_totals(layout: _Layout, sale: Sale) -> None:
    taxes = [tax for tax in sale.taxes if tax.amount.amount or tax.base.amount]
    added_taxes = [] if sale.prices_include_tax else taxes
    if sale.discounts or added_taxes or sale.rounding.amount:
        # What the column above adds up to: there the lines' own discounts are taken off already.
        layout.amount(layout.text("subtotal"), sale.subtotal.amount - sum(line.discount.amount for line in sale.lines))
    for discount in sale.discounts:
        layout.amount(discount.name or layout.text("sale_discount"), -discount.amount.amount)
    for tax in added_taxes:
        layout.amount(layout.text("tax", tax=tax.name), tax.amount.amount)
    if sale.rounding.amount:
        layout.amount(layout.text("rounding"), sale.rounding.amount)
    layout.amount(layout.text("total"), sale.total.amount, style=_emphasised(layout.job))
    if sale.prices_include_tax:
        for tax in taxes:
            layout.amount(layout.text("tax_included", tax=tax.name), tax.amount.amount)
    for tender in sale.tenders:
        layout.amount(layout.tender(tender), tender.amount.amount)
    if sale.change.amount or any(tender.method == "cash" for tender in sale.tenders):
        layout.amount(layout.text("change"), sale.change.amount)
    layout.rule()


def _emphasised(job: EscPos) -> Callable[[str], EscPos]:
    # Twice the height only: double width would leave 16 columns, too few for ten digits and a word.
    return lambda text: job.double(text, width=False, bold=True)


def _print_bases(layout: _Layout, sale: Sale) -> None:
    taxes = [tax for tax in sale.taxes if tax.base.amount]
    suffix = "_of" if len(taxes) > 1 else ""
    for tax in taxes:
        name = {"tax": tax.name} if suffix else {}
        layout.lines(wrap(layout.text("base" + suffix, amount=format_digits(tax.base.amount), **name), layout.columns))
        if tax.other_value_base.amount != tax.base.amount:
            other = layout.text("other_value_base" + suffix, amount=format_digits(tax.other_value_base.amount), **name)
            layout.lines(wrap(other, layout.columns))
