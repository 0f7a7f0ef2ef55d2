"""Reads what the screen sends, and lists everything that is wrong with it at once. Pure: JSON values in, plain types out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel import money, quantities
from kernel.errors import Invalid, Violation

MAX_TENDERS = 20
MAX_DISCOUNTS = 20
MAX_TEXT = 200


@dataclass(frozen=True)
class ScanRequest:
    """A barcode, or a product picked by hand, and how much of it."""

    barcode: str
    product_id: str
    quantity: int
    """Thousandths, above 0."""


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

    def quantity(self, name: str, default: int | None = None) -> int:
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
        if parsed <= 0:
            self.wrong(name, "OUT_OF_RANGE", "must be above 0")
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

    def finish(self) -> None:
        if self.violations:
            raise Invalid(self.violations)


def scan(body: Mapping[str, Any]) -> ScanRequest:
    """Reads {"barcode", "quantity"?} or {"product_id", "quantity"?}.

    Raises:
        Invalid: with every violation.
    """
    reader = _Reader(body)
    reader.only(("barcode", "product_id", "quantity"))
    # A QRIS code has up to 500 characters; it must get its own explanation and not be called too long.
    request = ScanRequest(
        barcode=reader.text("barcode", limit=1000),
        product_id=reader.text("product_id"),
        quantity=reader.quantity("quantity", default=1000),
    )
    if not reader.violations and bool(request.barcode) == bool(request.product_id):
        reader.wrong("barcode", "REQUIRED", "must be given (or product_id, for goods without a barcode)")
    reader.finish()
    return request


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
