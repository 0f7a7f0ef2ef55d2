"""Numbers as people and programs write them: "18.000", "Rp18.000,-", "18000.00", "1,5". Pure, exact, and never a guess.

"12.500" alone can mean two things; what else stands in its column decides, and if nothing does, the number is called unclear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from kernel import money, quantities

NOTHING: Final = frozenset({"", "-", "--", "n/a", "na", "#n/a", "none", "null", "nil", "kosong", "tidak ada"})
"""What people write into a cell that has no value, in small letters."""

_MARKS: Final = (",", ".")
_SHAPES: Final = {
    ",": re.compile(r"(-?)([0-9]{1,18}|[1-9][0-9]{0,2}(?:\.[0-9]{3}){1,5})(?:,([0-9]{1,12}))?"),
    ".": re.compile(r"(-?)([0-9]{1,18}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,5})(?:\.([0-9]{1,12}))?"),
}
"""By decimal mark; the other one stands between thousands."""

_CURRENCY: Final = re.compile(r"^(-?)\s*(?:rp\.?|idr)\s*|\s*(?:rp|idr)$", re.IGNORECASE)
_FIXED_THREE: Final = re.compile(r"-?[0-9]{4,}\.[0-9]{3}")


class Unreadable(ValueError):
    """No number of the wanted kind. `reason` is a key of catalog_words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Style:
    """How a column writes its numbers, as far as its own cells prove it."""

    mark: str | None = None
    """The decimal mark, when at least one cell allows only one reading and no two cells disagree."""
    three_places: bool = False
    """Whether a cell like "1500.000" shows that three digits behind a dot are decimals here."""


def style(cells: Iterable[str]) -> Style:
    """What the cells of a column prove."""
    proven: set[str] = set()
    three_places = False
    for cell in cells:
        text = _bare(cell)
        possible = [mark for mark in _MARKS if _SHAPES[mark].fullmatch(text)]
        if len(possible) == 1:
            proven.update(possible)
        three_places = three_places or _FIXED_THREE.fullmatch(text) is not None
    return Style(proven.pop() if len(proven) == 1 else None, three_places)


def price(cell: str, column: Style) -> int:
    """Whole rupiah, negative ones included.

    A dot before three digits stands between thousands, as kernel.money reads it, unless the column proves otherwise.

    Raises:
        Unreadable: no number, cents, unclear, or beyond kernel.money.LIMIT.
    """
    amount = _amount(cell, column)
    if amount != amount.to_integral_value():
        raise Unreadable("number.cents")
    return int(amount)


def cost(cell: str, column: Style) -> int:
    """As price, but rounded half up to the rupiah: programs write average costs with decimals.

    Raises:
        Unreadable: no number, unclear, or beyond kernel.money.LIMIT.
    """
    return int(_amount(cell, column).quantize(Decimal(1), ROUND_HALF_UP))


def stock(cell: str, column: Style) -> int:
    """Thousandths; a dot or a comma before decimals.

    Raises:
        Unreadable: no number, more than three places, unclear ("1.250" in a column that proves nothing), or beyond the limit.
    """
    found = _readings(_bare(cell))
    values = set(found.values())
    if not values:
        raise Unreadable("number.none")
    if len(values) > 1 and column.mark is None:
        raise Unreadable("number.unclear")
    value = values.pop() if len(values) == 1 else found[column.mark or ""]
    thousandths = value * 1000
    if thousandths != thousandths.to_integral_value():
        raise Unreadable("number.places")
    if abs(thousandths) > quantities.LIMIT:
        raise Unreadable("number.huge")
    return int(thousandths)


def _amount(cell: str, column: Style) -> Decimal:
    text = _bare(cell)
    found = _readings(text)
    values = set(found.values())
    if not values:
        raise Unreadable("number.none")
    if len(values) == 1:
        value = values.pop()
    elif "." in text and not column.three_places:
        value = found[","]
    elif column.mark == ".":
        value = found["."]
    else:
        raise Unreadable("number.unclear")
    if abs(value) > money.LIMIT:
        raise Unreadable("number.huge")
    return value


def _readings(text: str) -> dict[str, Decimal]:
    """The value by decimal mark, for every mark under which the text is a number."""
    found = {}
    for mark, shape in _SHAPES.items():
        if match := shape.fullmatch(text):
            sign, whole, places = match.groups()
            found[mark] = Decimal(f"{sign}{re.sub('[.,]', '', whole)}.{places or '0'}")
    return found


def _bare(cell: str) -> str:
    """Without currency, spaces at the ends and the dash for "no cents"; a minus in front."""
    text = cell.replace("\u2212", "-").strip().lstrip("'").strip()
    text = re.sub(r",[-\u2013]+$", ",00", text)
    text = re.sub(r"\.[-\u2013]+$", "", text)
    text = _CURRENCY.sub(r"\1", text).strip()
    if text.startswith("(") and text.endswith(")"):  # how bookkeepers write negative amounts
        text = "-" + text[1:-1].strip()
    text = re.sub(r"^-\s*", "-", text)
    return text.removeprefix("+")
