"""Reads what the screen sends, and lists everything that is wrong with it at once. Pure: JSON values in, plain types out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel import barcodes, money, quantities
from kernel.errors import Invalid, Violation

MAX_TENDERS = 20
MAX_DISCOUNTS = 20
MAX_BARCODES = 20
MAX_TEXT = 200


@dataclass(frozen=True)
class ScanRequest:
    """A barcode, or a product picked by hand, or a name and a price typed by hand, and how much of it."""

    barcode: str
    product_id: str
    quantity: int
    """Thousandths, above 0."""
    name: str = ""
    price: int | None = None
    """Rupiah, typed because the catalogue does not have the product. None: the catalogue's."""


@dataclass(frozen=True)
class CountRequest:
    """Somebody counted a shelf."""

    barcode: str
    product_id: str
    counted: int
    """Thousandths, 0 or more."""
    note: str = ""


@dataclass(frozen=True)
class EditRequest:
    """New values of some fields of a product; None where nothing changes."""

    name: str | None = None
    price: int | None = None
    """Rupiah."""
    barcodes: tuple[str, ...] | None = None
    active: bool | None = None


@dataclass(frozen=True)
class TenderRequest:
    """How part of the sale is paid."""

    method: str
    amount: int
    reference: str = ""


@dataclass(frozen=True)
class DiscountRequest:
    """A reduction of the whole sale."""

    name: str
    amount: int


@dataclass(frozen=True)
class CheckoutRequest:
    """Everything a checkout needs besides the cart."""

    tenders: tuple[TenderRequest, ...] = ()
    discounts: tuple[DiscountRequest, ...] = ()
    cashier: str = ""
    note: str = ""


@dataclass
class _Reader:
    """Takes values out of a JSON object and collects what is wrong."""

    body: Mapping[str, Any]
    path: str = ""
    violations: list[Violation] = field(default_factory=list)

    def wrong(self, name: str, reason: str, message: str) -> None:
        self.violations.append(Violation(self.path + name, reason, message))

    def only(self, names: Iterable[str]) -> None:
        for name in self.body:
            if name not in set(names):
                self.wrong(name, "UNKNOWN_FIELD", "is not a field of this request")

    def text(self, name: str, *, required: bool = False, limit: int = MAX_TEXT) -> str:
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                self.wrong(name, "REQUIRED", "must be given")
            return ""
        if not isinstance(value, str):
            self.wrong(name, "INVALID_TYPE", "must be a text")
            return ""
        if len(value) > limit or "\x00" in value:
            self.wrong(name, "INVALID_TEXT", f"must be at most {limit} characters without NUL")
            return ""
        return value.strip()

    def flag(self, name: str) -> bool:
        value = self.body.get(name)
        if not isinstance(value, bool):
            self.wrong(name, "REQUIRED" if value is None else "INVALID_TYPE", "must be true or false")
            return False
        return value

    def quantity(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            self.wrong(name, "REQUIRED", "must be given")
            return 1
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.wrong(name, "INVALID_TYPE", 'must be a decimal number, for example "2" or "0.75"')
            return 1
        try:
            parsed = quantities.parse(value if isinstance(value, str) else repr(value))
        except ValueError as error:
            self.wrong(name, "INVALID_QUANTITY", str(error))
            return 1
        if parsed < least:
            self.wrong(name, "OUT_OF_RANGE", "must be above 0" if least else "must not be negative")
            return 1
        return parsed

    def amount(self, name: str) -> int:
        """Whole rupiah: a number, or {"amount": number, "currency": "IDR"}."""
        value = self.body.get(name)
        if isinstance(value, Mapping):
            if value.get("currency", money.RUPIAH) not in ("", money.RUPIAH):
                self.wrong(f"{name}.currency", "INVALID_CURRENCY", "must be IDR")
            value = value.get("amount")
        if value is None:
            self.wrong(name, "REQUIRED", "must be given")
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, "INVALID_AMOUNT", "must be a whole number of rupiah")
            return 0
        if not 0 <= value <= money.LIMIT:
            self.wrong(name, "OUT_OF_RANGE", f"must be between 0 and {money.LIMIT}")
            return 0
        return value

    def entries(self, name: str, limit: int) -> list[_Reader]:
        """Readers of the objects in a list, which share this reader's list of violations."""
        value = self.body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(name, "INVALID_TYPE", "must be a list")
            return []
        if len(value) > limit:
            self.wrong(name, "TOO_MANY", f"must have at most {limit} entries")
            return []
        readers = []
        for index, entry in enumerate(value):
            if isinstance(entry, Mapping):
                readers.append(_Reader(entry, f"{self.path}{name}[{index}].", self.violations))
            else:
                self.wrong(f"{name}[{index}]", "INVALID_TYPE", "must be an object")
        return readers

    def codes(self, name: str) -> tuple[str, ...]:
        """Barcodes, each of which must be one."""
        value = self.body.get(name)
        if not isinstance(value, list) or not all(isinstance(code, str) for code in value):
            self.wrong(name, "INVALID_TYPE", "must be a list of texts")
            return ()
        if len(value) > MAX_BARCODES:
            self.wrong(name, "TOO_MANY", f"must have at most {MAX_BARCODES} entries")
            return ()
        for index, code in enumerate(value):
            problem = barcodes.problem(code)
            if problem is not None:
                self.wrong(f"{name}[{index}]", "INVALID_BARCODE", problem)
        return tuple(value)

    def finish(self) -> None:
        if self.violations:
            raise Invalid(self.violations)


def scan(body: Mapping[str, Any]) -> ScanRequest:
    """Reads {"barcode", "quantity"?} or {"product_id", "quantity"?}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("barcode", "product_id", "quantity", "name", "price"))
    # A QRIS code has up to 500 characters; it must get its own explanation and not be called too long.
    request = ScanRequest(
        barcode=reader.text("barcode", limit=1000),
        product_id=reader.text("product_id"),
        quantity=reader.quantity("quantity", default=1000),
        name=reader.text("name"),
        price=reader.amount("price") if "price" in body else None,
    )
    if not reader.violations:
        if request.price is not None:
            if not request.name or request.product_id:
                reader.wrong("name", "REQUIRED", "must be given with a typed price, and no product_id")
        elif request.name:
            reader.wrong("price", "REQUIRED", "must be given with a typed name")
        elif bool(request.barcode) == bool(request.product_id):
            reader.wrong("barcode", "REQUIRED", "must be given (or product_id, for goods without a barcode)")
    reader.finish()
    return request


def count(body: Mapping[str, Any]) -> CountRequest:
    """Reads {"barcode" or "product_id", "counted", "note"?}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("barcode", "product_id", "counted", "note"))
    request = CountRequest(
        barcode=reader.text("barcode", limit=1000),
        product_id=reader.text("product_id"),
        counted=reader.quantity("counted", least=0),
        note=reader.text("note"),
    )
    if not reader.violations and bool(request.barcode) == bool(request.product_id):
        reader.wrong("barcode", "REQUIRED", "must be given (or product_id)")
    reader.finish()
    return request


def edit(body: Mapping[str, Any]) -> EditRequest:
    """Reads {"name"?, "price"?, "barcodes"?, "active"?}, at least one of them.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("name", "price", "barcodes", "active"))
    if not body:
        reader.wrong("name", "REQUIRED", "must be given (or price, barcodes or active)")
    request = EditRequest(
        name=reader.text("name", required=True) if "name" in body else None,
        price=reader.amount("price") if "price" in body else None,
        barcodes=reader.codes("barcodes") if "barcodes" in body else None,
        active=reader.flag("active") if "active" in body else None,
    )
    reader.finish()
    return request


def pin(body: Mapping[str, Any]) -> str:
    """Reads {"pin"}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("pin",))
    given = reader.text("pin", required=True, limit=64)
    reader.finish()
    return given


def quantity(body: Mapping[str, Any]) -> int:
    """Reads {"quantity"} as thousandths above 0.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("quantity",))
    parsed = reader.quantity("quantity")
    reader.finish()
    return parsed


def flag(body: Mapping[str, Any], name: str) -> bool:
    """Reads {name: true or false}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only((name,))
    value = reader.flag(name)
    reader.finish()
    return value


def checkout(body: Mapping[str, Any]) -> CheckoutRequest:
    """Reads {"tenders", "cashier"?, "discounts"?, "note"?}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("tenders", "cashier", "discounts", "note"))
    tenders = []
    for entry in reader.entries("tenders", MAX_TENDERS):
        entry.only(("method", "amount", "reference"))
        tender = TenderRequest(
            method=entry.text("method", required=True, limit=32), amount=entry.amount("amount"), reference=entry.text("reference")
        )
        tenders.append(tender)
    discounts = []
    for entry in reader.entries("discounts", MAX_DISCOUNTS):
        entry.only(("name", "amount"))
        discounts.append(DiscountRequest(name=entry.text("name", limit=60), amount=entry.amount("amount")))
    request = CheckoutRequest(
        tenders=tuple(tenders), discounts=tuple(discounts), cashier=reader.text("cashier", limit=60), note=reader.text("note")
    )
    reader.finish()
    return request
