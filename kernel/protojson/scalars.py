"""Reading of single JSON values: numbers without loss, base64, decimals, enum names.

Each reader answers None after noting a violation; none raises.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from kernel.protojson.enums import EnumNames
from kernel.protojson.findings import Findings, Path, shown

ScalarReader = Callable[[Any, Path, Findings], Any]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9\-_]*)={0,2}")
_DIGITS = 40
"""A number that needs more digits than this before or after its point is out of every range we have."""
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOAT_MAX = 3.4028234663852886e38
_FLOAT_ROUNDS_TO_INFINITY = 3.4028235677973366e38


def exact(value: Any, found: Findings) -> Decimal | None:
    """The number behind a float; None when the document must be read again without floats."""
    if isinstance(value, Decimal):
        return value
    if found.exact_at_hand:
        found.wants_exact = True
        return None
    return Decimal(repr(value))


def read_string(value: Any, path: Path, found: Findings) -> str | None:
    """Text without NUL and without half characters."""
    if type(value) is not str:
        found.wrong_type(path, "a string", value)
    elif "\0" in value:
        found.add(path, "INVALID_CHARACTER", "must not contain the NUL character (\\u0000)")
    elif not _is_unicode(value):
        found.add(path, "INVALID_CHARACTER", "must not contain half of a surrogate pair")
    else:
        return value
    return None


def _is_unicode(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def read_bool(value: Any, path: Path, found: Findings) -> bool | None:
    """Only true or false, nothing that looks like it."""
    if value is True or value is False:
        return bool(value)
    found.wrong_type(path, "true or false", value)
    return None


def integer_reader(low: int, high: int) -> ScalarReader:
    """A reader of whole numbers between two bounds, both included. Strings and "1e2" are understood if they are whole."""

    def read_integer(value: Any, path: Path, found: Findings) -> int | None:
        number: int | Decimal | None
        if type(value) is int:
            number = value
        elif type(value) is str and _NUMBER.fullmatch(value):
            number = Decimal(value)
        elif isinstance(value, (float, Decimal)):
            number = exact(value, found)
            if number is None:
                return None
        else:
            found.wrong_type(path, "a whole number", value)
            return None
        if isinstance(number, Decimal):
            if not number.is_finite() or number.adjusted() > _DIGITS:
                found.add(path, "OUT_OF_RANGE", f"must be between {low} and {high}")
                return None
            if number and (number.adjusted() < 0 or number != number.to_integral_value()):
                found.add(path, "WRONG_TYPE", "must be a whole number")
                return None
            number = int(number)
        if not low <= number <= high:
            found.add(path, "OUT_OF_RANGE", f"must be between {low} and {high}")
            return None
        return number

    return read_integer


def float_reader(*, single: bool) -> ScalarReader:
    """A reader of floating point numbers; too large for the type is refused instead of becoming infinite."""

    def read_float(value: Any, path: Path, found: Findings) -> float | None:
        if type(value) is str:
            if value in _NON_FINITE:
                return _NON_FINITE[value]
            if not _NUMBER.fullmatch(value):
                found.add(path, "WRONG_TYPE", "must be a number")
                return None
        elif not isinstance(value, (int, float, Decimal)) or isinstance(value, bool):
            found.wrong_type(path, "a number", value)
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number) or (single and abs(number) >= _FLOAT_ROUNDS_TO_INFINITY):
            found.add(path, "OUT_OF_RANGE", f"is too large for a number with {'32' if single else '64'} bits")
            return None
        return max(-_FLOAT_MAX, min(_FLOAT_MAX, number)) if single else number

    return read_float


def read_bytes(value: Any, path: Path, found: Findings) -> bytes | None:
    """Base64 of either alphabet, padding optional."""
    if type(value) is not str:
        found.wrong_type(path, "a base64 string", value)
        return None
    # Padding may be left out, but whoever begins it has to finish it.
    if _BASE64.fullmatch(value) and ("=" not in value or len(value) % 4 == 0):
        bare = value.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        except binascii.Error:
            pass
    found.add(path, "INVALID_FORMAT", "must be base64")
    return None


def read_decimal(value: Any, path: Path, found: Findings) -> str | None:
    """A decimal number as text, digits kept. Numbers come out without trailing zeros; texts are handed on as they are."""
    if type(value) is str:
        if not value or (_DECIMAL.fullmatch(value) and len(value) <= 2 * _DIGITS):
            return value
        comma = " (write the decimals after a point, not a comma)" if _DECIMAL.fullmatch(value.replace(",", ".")) else ""
        found.add(path, "INVALID_DECIMAL", f'must be a decimal number such as "2" or "0.75", not "{shown(value)}"{comma}')
        return None
    if type(value) is int:
        if abs(value) < 10**_DIGITS:
            return str(value)
        found.add(path, "OUT_OF_RANGE", "has too many digits")
        return None
    if not isinstance(value, (float, Decimal)):
        found.wrong_type(path, 'a decimal number such as "2" or "0.75"', value)
        return None
    number = exact(value, found)
    if number is None:
        return None
    if not number.is_finite() or number.adjusted() > _DIGITS or _places(number) > _DIGITS:
        found.add(path, "OUT_OF_RANGE", "has too many digits")
        return None
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _places(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def parse_number(text: str) -> Decimal:
    """A JSON number with a fraction or exponent, without loss; infinite when no decimal can hold it."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def enum_reader(names: EnumNames) -> ScalarReader:
    """A reader of enum values by printed name, full name or known number."""

    def read_enum(value: Any, path: Path, found: Findings) -> int | None:
        if type(value) is str:
            number = names.accepted.get(value)
        elif type(value) is int:
            number = value if value in names.printed else None
        elif isinstance(value, (float, Decimal)):
            number = None
        else:
            found.wrong_type(path, "a string", value)
            return None
        if number is None:
            given = f'"{shown(value)}"' if isinstance(value, str) else shown(str(value))
            found.add(path, "INVALID_ENUM", f"must be one of {names.allowed()}, not {given}")
        return number

    return read_enum


def single_precision(value: float) -> float:
    """The shortest number that is the same 32-bit float; NaN and infinities are handed on."""
    if not math.isfinite(value):
        return value
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _FLOAT_ROUNDS_TO_INFINITY and struct.unpack("<f", struct.pack("<f", short))[0] == value:
            return short
    return float(f"{value:.9g}")
