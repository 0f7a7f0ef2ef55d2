"""How far a till may go without the cloud, judged by the owner's rules. Pure: numbers in, warnings and refusals out.

Refuses nothing by itself; the checkout does. Every text is for the cashier: Bahasa Indonesia first, then English.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.storage.policies import Rules
from gipos.v1.sales_pb2 import Sale
from kernel import money, pricing

STEPS = (50, 80, 100)
"""At so many percent of a limit the cashier is told."""
HOUR_MS = 3_600_000
SILENCE_IS_OFFLINE_MS = 60_000
"""A till that has heard nothing for so long counts as offline, whatever its link believes."""

HOURS, SALES, AMOUNT, TENDERS = "offline_hours", "waiting_sales", "waiting_amount", "tenders"
_WARNINGS = {
    HOURS: (
        "Sudah {used} jam tanpa internet, batasnya {limit} jam. Sambungkan tablet ke internet.",
        "{used} hours without the internet, the limit is {limit} hours. Connect the tablet to the internet.",
    ),
    SALES: (
        "{used} penjualan belum terkirim, batasnya {limit}. Sambungkan tablet ke internet.",
        "{used} sales are not uploaded, the limit is {limit}. Connect the tablet to the internet.",
    ),
    AMOUNT: (
        "Penjualan {used} belum terkirim, batasnya {limit}. Sambungkan tablet ke internet.",
        "Sales of {used} are not uploaded, the limit is {limit}. Connect the tablet to the internet.",
    ),
    TENDERS: (
        "Tanpa internet hanya boleh dibayar dengan: {limit}.",
        "Without the internet only these payments may be taken: {limit}.",
    ),
}
_TENDER_NAMES = {pricing.CASH: "tunai", "card": "kartu", "qris": "QRIS", "ewallet": "e-wallet"}
"""In Bahasa Indonesia, where that is another word."""
_WAYS_OUT = {
    True: (
        "Minta supervisor memasukkan PIN, atau sambungkan internet.",
        "Ask a supervisor for the PIN, or connect the internet.",
    ),
    False: ("Sambungkan tablet ke internet lebih dulu.", "Connect the tablet to the internet first."),
}
_BUILT_IN_WAY_OUT = ("Terima tunai, atau sambungkan internet.", "Take cash, or connect the internet.")


@dataclass(frozen=True)
class Standing:
    """Where the till stands."""

    silent_ms: int
    """Since the cloud was last heard."""
    sales: int
    """That wait for the cloud and that it never had."""
    amount: int
    """What they are worth, in rupiah."""
    is_online: bool

    @property
    def is_offline(self) -> bool:
        """Whether payments count as taken without the cloud."""
        return not self.is_online or self.silent_ms > SILENCE_IS_OFFLINE_MS


@dataclass(frozen=True)
class Finding:
    """A limit that is near or reached."""

    limit: str
    """offline_hours, waiting_sales, waiting_amount or tenders."""
    percent: int
    """The step that was reached: 50, 80 or 100."""
    indonesian: str
    english: str

    @property
    def text(self) -> str:
        """Both languages in a line."""
        return f"{self.indonesian} / {self.english}"


def warnings(rules: Rules, standing: Standing) -> list[Finding]:
    """What the cashier should know now: each limit of which half is used up, and what may be taken while offline."""
    found = []
    for limit, used, most in _measures(rules, standing):
        step = max((step for step in STEPS if most and used * 100 >= most * step), default=0)
        if step:
            found.append(_finding(limit, step, _shown(limit, used), _shown(limit, most)))
    if rules.tenders and standing.is_offline:
        # Before the customer holds out a card.
        found.append(_tenders(rules))
    return found


def refusals(rules: Rules, standing: Standing, sale: Sale) -> list[Finding]:
    """Why this sale may not be made now without a supervisor; empty if it may.

    The built-in rules never refuse cash: nobody has a PIN to help with, and the till may be new.
    """
    # Goods that are given away are paid with nothing, whatever that is called.
    methods = {tender.method for tender in sale.tenders if tender.amount.amount}
    found = []
    for limit, used, most in _measures(rules, standing):
        reached = used + sale.total.amount > most if limit == AMOUNT else used >= most
        if most and reached and not (rules.is_built_in and methods <= {pricing.CASH}):
            found.append(_finding(limit, 100, _shown(limit, used), _shown(limit, most)))
    if rules.tenders and standing.is_offline and not methods <= rules.tenders:
        found.append(_tenders(rules))
    return found


def passed(rules: Rules, standing: Standing) -> bool:
    """Whether some limit is used up, so that a sale made all the same wants to be looked at."""
    return any(most and used >= most for _, used, most in _measures(rules, standing))


def refusal_text(rules: Rules, found: Iterable[Finding]) -> str:
    """The whole refusal: what was reached and what can be done."""
    indonesian, english = _BUILT_IN_WAY_OUT if rules.is_built_in else _WAYS_OUT[can_override(rules)]
    reasons = list(found)
    return (
        f"Penjualan tidak disimpan. {' '.join(one.indonesian for one in reasons)} {indonesian}"
        f" / Nothing was sold. {' '.join(one.english for one in reasons)} {english}"
    )


def can_override(rules: Rules) -> bool:
    """Whether there is a PIN that lifts limits."""
    return bool(rules.override_minutes and rules.supervisor_pins)


def _measures(rules: Rules, standing: Standing) -> tuple[tuple[str, int, int], ...]:
    return (
        (HOURS, standing.silent_ms, rules.longest_hours * HOUR_MS),
        (SALES, standing.sales, rules.most_sales),
        (AMOUNT, standing.amount, rules.most_amount),
    )


def _shown(limit: str, value: int) -> str:
    if limit == HOURS:
        return str(value // HOUR_MS)
    return money.format_rupiah(value) if limit == AMOUNT else str(value)


def _tenders(rules: Rules) -> Finding:
    indonesian, english = _WARNINGS[TENDERS]
    allowed = sorted(rules.tenders)
    shown = ", ".join(_TENDER_NAMES.get(name, name) for name in allowed)
    return Finding(TENDERS, 100, indonesian.format(limit=shown), english.format(limit=", ".join(allowed)))


def _finding(limit: str, percent: int, used: str, most: str) -> Finding:
    indonesian, english = _WARNINGS[limit]
    return Finding(limit, percent, indonesian.format(used=used, limit=most), english.format(used=used, limit=most))
