"""Barcodes: which texts are GTINs, whether their check digit is right, and one normal form to look them up by."""

from __future__ import annotations

import re

GTIN_LENGTHS = (8, 12, 13, 14)
QRIS_PREFIX = "000201"
"""A scan that begins like this is a payment QR, not a product (EMV QR code, payload format indicator 01)."""

# What a till's scanner can deliver from Code 128 and friends: printable ASCII, no space at the ends.
_OWN_CODE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,46}[\x21-\x7e])?")


def check_digit(digits: str) -> int:
    """The GS1 check digit that belongs behind these digits (GS1 General Specifications, 7.9)."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return -total % 10


def is_gtin(code: str) -> bool:
    """Whether this is a GTIN-8, -12 (UPC-A), -13 (EAN-13) or -14 with a right check digit."""
    return code.isascii() and code.isdigit() and len(code) in GTIN_LENGTHS and check_digit(code[:-1]) == int(code[-1])


def normal_form(code: str) -> str:
    """The form codes are stored and looked up in: UPC-A gets its leading zero, everything else stays."""
    return "0" + code if len(code) == 12 and is_gtin(code) else code


def problem(code: str) -> str | None:
    """Why this text cannot be a barcode; None when it can. A store's own code is fine, a mistyped EAN is not."""
    if _OWN_CODE.fullmatch(code) is None:
        return "must be 1 to 48 printable ASCII characters without spaces at the ends"
    if code.startswith(QRIS_PREFIX):
        return "is a payment QR, not a product code"
    if code.isdigit() and len(code) in (12, 13, 14) and not is_gtin(code):
        return f"has the length of a GTIN but the check digit {code[-1]} should be {check_digit(code[:-1])}"
    return None
