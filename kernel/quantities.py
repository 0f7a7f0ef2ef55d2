"""Quantities: exact decimals with at most three places, kept as whole thousandths ("1.5" is 1500)."""

from __future__ import annotations

import re

LIMIT = 10**12
"""Thousandths above this (a billion pieces) are taken for a typing error."""

_SHAPE = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,3})0*)?", re.ASCII)


def parse(text: str) -> int:
    """Thousandths of a decimal text such as "2", "0.75" or "-1.5".

    Raises:
        ValueError: not a decimal number, more than three places, or beyond the limit. The text is for the caller.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError('must be a decimal number with at most three places, for example "2" or "0.75"')
    sign, whole, places = match.groups()
    value = int(whole) * 1000 + int((places or "").ljust(3, "0"))
    if value > LIMIT:
        raise ValueError("must be at most 1000000000")
    return -value if sign else value


def text(thousandths: int) -> str:
    """The canonical text: no trailing zeros, "2" and not "2.000"."""
    whole, places = divmod(abs(thousandths), 1000)
    sign = "-" if thousandths < 0 else ""
    return f"{sign}{whole}.{places:03d}".rstrip("0") if places else f"{sign}{whole}"


def local_text(thousandths: int) -> str:
    """As people write it in Indonesia: dots between thousands, a decimal comma."""
    whole, _, places = text(abs(thousandths)).partition(".")
    grouped = f"{int(whole):,}".replace(",", ".")
    return f"{'-' if thousandths < 0 else ''}{grouped}{',' + places if places else ''}"
