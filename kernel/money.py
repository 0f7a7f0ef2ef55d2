"""Money as whole minor units (rupiah have none), and how people write it. There is no float here."""

from __future__ import annotations

import re

from gipos.v1.common_pb2 import Money

RUPIAH = "IDR"
LIMIT = 10**13
"""Amounts above this (ten trillion rupiah) are taken for a typing error; sums of them still fit in 63 bits."""

_INPUT = re.compile(r"(-?)(?:Rp\.?\s*)?(-?)(\d{1,3}(?:\.\d{3})+|\d+)(?:,(\d{1,2}))?", re.IGNORECASE | re.ASCII)


def rupiah(amount: int) -> Money:
    """An amount of rupiah."""
    return Money(amount=amount, currency=RUPIAH)


def half_up(numerator: int, denominator: int) -> int:
    """The quotient rounded to the nearest whole, halves away from zero. The denominator is above 0."""
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def allocate(total: int, weights: list[int]) -> list[int]:
    """Splits a total by weights so that the parts add up to it exactly (largest remainder, earlier parts first).

    Weights are not negative. When all are 0 the first part gets everything.
    """
    whole = sum(weights)
    if not weights:
        return []
    if whole == 0:
        return [total] + [0] * (len(weights) - 1)
    sign = -1 if total < 0 else 1
    parts = [abs(total) * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(abs(total) * weights[i] % whole), i))
    for index in by_remainder[: abs(total) - sum(parts)]:
        parts[index] += 1
    return [sign * part for part in parts]


def format_digits(amount: int) -> str:
    """Digits with dots between thousands, as on receipts: 36000 is "36.000"."""
    return f"{amount:,}".replace(",", ".")


def format_rupiah(amount: int) -> str:
    """As people write it: "Rp36.000", "-Rp2.500"."""
    return f"{'-' if amount < 0 else ''}Rp{format_digits(abs(amount))}"


def parse_rupiah(text: str) -> int:
    """Reads "12500", "12.500", "Rp 12.500" or "Rp12.500,00".

    Raises:
        ValueError: not a whole amount of rupiah; "12,500" is refused because it could mean 12.5 or 12,500.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise ValueError('must be an amount of rupiah, for example "12500" or "Rp12.500"')
    before, after, whole, cents = match.groups()
    if before and after:
        raise ValueError("an amount of rupiah has one sign at most")
    if cents and int(cents):
        raise ValueError("rupiah have no cents")
    return int(whole.replace(".", "")) * (-1 if before or after else 1)
