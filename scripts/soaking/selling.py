"""The outside client as a till: it sells at moments around midnight, hands over in batches that overlap, and keeps what it sold.

It shares no code with the product. What it made and what it was told is appended to a file; what breaks a promise is said.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.soaking.wire import Message, written

SOLD = "probe-sold.jsonl"
QUIET = "quiet"
"""While a file of this name lies in its folder, it makes nothing new."""
HOURS = (23, 0, 7, 8)
"""By the clock of Makassar: on both sides of midnight there, in Jayapura and in Jakarta, and in Greenwich."""
ZONE_SECONDS = 8 * 3600
AHEAD_MS = 5000
"""Its wall clock is slow by so much, and it knows."""
MOST_WAITING = 20
AGAIN = 0.4
"""How often a batch begins with operations that were sent before."""
CLOCKLESS = 0.2
"""How often its clock has lost all time, and says so."""
_SYNCED, _WRONG = 1, 3
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_DAY = 86_400


def _id(prefix: str) -> str:
    return f"{prefix}_0{''.join(secrets.choice(_ALPHABET) for _ in range(25))}"


def _moment(seconds: int) -> bytes:
    return written((1, seconds))


@dataclass
class Till:
    """What it has sold, in the order of its numbers. Nothing is forgotten: a cloud that was restored asks for it again."""

    folder: Path
    complain: Callable[[str], None]
    epoch: int
    operations: list[tuple[str, bytes]] = field(default_factory=list)
    """Id and message of each; the first has number 1."""
    told: int = 0
    """Up to where the cloud says it has them."""
    following: int = 1
    """The next number to send in this stream."""
    sent: int = 0
    """The last number sent, or known to be there, in this stream."""
    is_open: bool = False

    def said(self) -> list[tuple[int, int | bytes | str]]:
        """Fields of a hello."""
        last: list[tuple[int, int | bytes | str]] = [(3, len(self.operations))]
        return [*last, (6, self.told), (7, self.operations[self.told - 1][0])] if self.told else last

    def welcomed(self, welcome: Message) -> None:
        """Goes on after what the cloud has."""
        mark = welcome.number(1)
        if welcome.number(11):
            self.complain(f"A client that lives once was asked to begin life {welcome.number(11)}.")
        if mark > len(self.operations):
            self.complain(f"A client was welcomed with operation {mark}; it has made {len(self.operations)}.")
        self.is_open, self.following, self.sent = True, mark + 1, mark
        self._note({"till": Message(welcome.raw(7)).text(1), "outlet": Message(welcome.raw(6)).text(1), "epoch": self.epoch})
        self._tell(min(mark, self.told))

    def stored(self, stored: Message) -> None:
        """An acknowledgement."""
        mark, expected = stored.number(1), stored.number(3)
        for aside in stored.many(2):
            self.complain(f"A good sale of a client was put aside: {Message(aside).text(2)}.")
        if mark > self.sent:
            self.complain(f"Operation {mark} was acknowledged, and {self.sent} was the last that was sent.")
        elif mark > self.told:
            self._tell(mark)
        if expected:
            self.following = expected

    def batch(self, products: Sequence[str]) -> bytes | None:
        """The next frame to send, if there is one: now and then it repeats what was sent before."""
        if not self.is_open:
            return None
        is_quiet = (self.folder / QUIET).exists()
        if not is_quiet and products and len(self.operations) - self.told < MOST_WAITING:
            self._sell(random.choice(products))  # noqa: S311 (guards nothing)
        if self.following > len(self.operations):
            return None
        first = max(1, self.following - random.randint(1, 3)) if random.random() < AGAIN else self.following  # noqa: S311 (same)
        bodies = [(1, body) for _, body in self.operations[first - 1 :]]
        self.sent = len(self.operations)
        self.following = self.sent + 1
        return written((2, written(*bodies)))

    def _sell(self, product: str) -> None:
        number, quantity = len(self.operations) + 1, random.randint(1, 3)  # noqa: S311 (guards nothing)
        today = (int(time.time()) + ZONE_SECONDS) // _DAY * _DAY - ZONE_SECONDS
        days, hour, second = random.randint(2, 5), random.choice(HOURS), random.randrange(3600)  # noqa: S311 (same)
        at = today - days * _DAY + hour * 3600 + second
        sale, name = _id("sal"), f"LUAR-{number:05d}"
        line = written((1, _id("sli")), (2, product), (3, "Barang"), (4, str(quantity)), (6, written((1, 1000))))
        # offset_ms is zigzag coded.
        clock = written((1, _moment(at - AHEAD_MS // 1000)), (2, 2 * AHEAD_MS), (3, 20), (4, _SYNCED))
        if random.random() < CLOCKLESS:  # noqa: S311 (same)
            at = 0
            clock = written((1, _moment(second)), (3, _DAY * 366_000), (4, _WRONG))
        body = written(
            (1, sale), (2, name), (10, line), (14, 1), (19, written((1, 1000 * quantity))), (26, _moment(at or second))
        )
        operation = written((1, number), (2, sale), (3, _moment(at or second)), (4, clock), (10, body))
        made = {"op_seq": number, "id": sale, "number": name, "product": product, "quantity": quantity * 1000, "at": at}
        self._note({**made, "made_at": time.time()})
        self.operations.append((sale, operation))

    def _tell(self, mark: int) -> None:
        self.told = mark
        self._note({"told": mark, "when": time.monotonic()})

    def _note(self, what: dict[str, object]) -> None:
        with (self.folder / SOLD).open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")
