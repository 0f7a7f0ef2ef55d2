"""A cashier at each tablet: sells, counts shelves, changes products, and now and then lets something poisonous into the queue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import apsw

from scripts.soaking import poisons
from scripts.soaking.journal import Act, Journal, Receipt
from scripts.soaking.programs import NotReady
from scripts.soaking.reading import read_lane, read_life
from scripts.soaking.traffic import AGAIN, DISK_FULL, NO_ANSWER, RETRY_SECONDS, Gate
from scripts.soaking.wire import thousandths
from scripts.soaking.world import Tablet, World

CASH = 2_000_000
SHORT_OF_CASH = 0.1
"""How many of the customers hand over too little at first."""
COUNTS, EDITS, POISONS = 0.12, 0.12, 0.02
"""Shares of what a cashier does beside selling, when it does anything beside selling."""
RECOUNTS = 0.4
"""How often the shelf that was counted last is counted once more."""
SEASON = 15
"""Things it does until it chooses anew whether it only sells: sales alone go another way than what is mixed."""
ONLY_SALES = 0.5
MOST_QUESTIONS = 100
PRICED_BY_TILLS = 4
"""The first of the products sold have their prices changed at tills, too."""


class Cashier:
    """Works at one tablet.

    Args:
        world: What runs.
        tablet: Where.
        number: Tells its prices from those of other tills.
        seed: Of what it does.
        pace: Seconds between two things it does, about.
    """

    def __init__(self, world: World, tablet: Tablet, number: int, seed: int, pace: float) -> None:
        self.tablet = tablet
        self.pace = pace
        self.sold = 0
        self._world = world
        self._journal: Journal = world.journal
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._number = number
        self._left = 0
        self._only_sells = False
        self._shelf_counted = ""
        self._count = 0

    async def run(self, gate: Gate) -> None:
        """Works until cancelled."""
        while True:
            async with self.tablet.counter:
                await gate.work(self._something)
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self.pace)

    async def _something(self) -> None:
        self._watch()
        if not self._left:
            self._left, self._only_sells = SEASON, self._random.random() < ONLY_SALES
        self._left -= 1
        chance = 1.0 if self._only_sells else self._random.random()
        if time.monotonic() < self.tablet.counts_until:
            chance = self._random.choice((0.0, 1.0))
        if chance < COUNTS:
            await self._shelf()
        elif chance < COUNTS + EDITS:
            await self._change()
        elif chance < COUNTS + EDITS + POISONS:
            await self._poison()
        else:
            await self._sell()

    async def _shelf(self) -> None:
        """Counts a shelf. A count has no key: without an answer nobody knows, and nobody asks again."""
        self._count += 1
        key = f"count-{self.tablet.name}-{self._count}-{self._random.randrange(1 << 30)}"
        if self._random.random() >= RECOUNTS or not self._shelf_counted:
            self._shelf_counted = self._random.choice(self._world.products)
        product, counted = self._shelf_counted, self._random.randint(400_000, 1_200_000)
        act = Act("count", self.tablet.name, self.tablet.till_id, key, product, value=str(counted))
        body = {"product_id": product, "counted": f"{counted // 1000}.{counted % 1000:03}", "note": key}
        await self._act(act, "/count", body)

    async def _change(self) -> None:
        """Changes a product, as it is on the tablet at that moment."""
        self._count += 1
        name = self._random.choice(("name", "price", "barcodes"))
        products = self._world.products[:PRICED_BY_TILLS] if name == "price" else [*self._world.products, *self._world.extra]
        product = self._random.choice(products)
        mark = f"{self._number}{self._count:04d}{self._random.randrange(1000):03d}"
        value = {"name": f"Barang {mark}", "price": f"{self._number}{self._count:04d}", "barcodes": f"T{mark}"}[name]
        given: object = int(value) if name == "price" else value
        if name == "barcodes":
            known = self._world.codes.setdefault(product, [])
            given = [*known[-2:], value]
            known.append(value)
            value = " ".join(given)
        act = Act("edit", self.tablet.name, self.tablet.till_id, mark, product, name, value)
        await self._act(act, f"/products/{product}", {name: given})

    async def _act(self, act: Act, path: str, body: object) -> None:
        self._journal.acts.append(act)
        with suppress(*NO_ANSWER):
            status, answer = await self.tablet.call("POST", path, body)
            if status < 300:
                act.done = time.monotonic()
            elif status < AGAIN or status == DISK_FULL:
                act.refused = f"{status} {answer}"
        self._journal.note(act.kind, act)

    def _watch(self) -> None:
        """Notes for the judge where the tablet stands."""
        with suppress(apsw.Error):
            place = read_lane(self.tablet.folder, self.tablet.outlet_id)
            if place is not None:
                self._journal.saw(self.tablet.name, self.tablet.till_id, read_life(self.tablet.folder), place)

    async def _poison(self) -> None:
        if not poisons.let_in(self._journal, self.tablet, self._random.choice(self._world.products), self._random):
            return
        sold = self.sold
        while self.sold == sold:  # only a sale tells the link that there is something new
            await self._sell()
            await asyncio.sleep(RETRY_SECONDS)

    async def _sell(self) -> None:
        self._count += 1
        key = f"{self.tablet.name}-{self._count}-{self._random.randrange(1 << 30)}"
        wanted = {product: self._random.randint(1, 3) for product in self._random.sample(self._world.products, 2)}
        if not await self._fill(wanted):
            return
        if self._random.random() < SHORT_OF_CASH and not await self._too_little(key):
            return
        unsure, asked_at = False, time.time()
        body = {"tenders": [{"method": "cash", "amount": CASH}], "cashier": "Sari"}
        while True:
            try:
                status, answer = await self.tablet.call("POST", "/checkout?wait=0", body, **{"Idempotency-Key": key})
            except NO_ANSWER:
                unsure = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if status == DISK_FULL:
                self._journal.refuse(key, "disk full")
                return
            if status < 300:
                self._receipt(key, answer, asked_at, unsure=unsure)
                return
            if status >= AGAIN or "TILL_NOT_READY" in str(answer):
                unsure = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._journal.refuse(key, f"{status} {answer}")
            if unsure or status not in {409, 422}:
                self._journal.wonder(f"{self.tablet.name} lost a cart it had: the checkout {key} was answered {status} {answer}")
            return

    async def _too_little(self, key: str) -> bool:
        """A customer hands over too little, so the checkout must be refused; whether the till answered."""
        body = {"tenders": [{"method": "cash", "amount": 1}], "cashier": "Sari"}
        with suppress(*NO_ANSWER):
            status, answer = await self.tablet.call("POST", "/checkout?wait=0", body, **{"Idempotency-Key": f"{key}-short"})
            if status < 300:
                self._journal.wonder(f"{self.tablet.name} sold for one rupiah: {answer}")
            return status < AGAIN
        return False

    async def _fill(self, wanted: dict[str, int]) -> bool:
        """Puts the goods into an empty cart."""
        while True:
            try:
                status, _ = await self.tablet.call("DELETE", "/cart")
                for product, quantity in wanted.items():
                    if status >= 300:
                        break
                    status, _ = await self.tablet.call("POST", "/scan", {"product_id": product, "quantity": str(quantity)})
            except NO_ANSWER:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if status < 300:
                return True
            if status == DISK_FULL or status < AGAIN:
                await asyncio.sleep(RETRY_SECONDS)
                return False
            await asyncio.sleep(RETRY_SECONDS)

    def _receipt(self, key: str, answer: Any, asked_at: float, *, unsure: bool) -> None:
        sale = answer["sale"]
        quantities: dict[str, int] = {}
        for line in sale["lines"]:
            quantities[line["product_id"]] = quantities.get(line["product_id"], 0) + thousandths(line["quantity"])
        receipt = Receipt(
            tablet=self.tablet.name,
            till_id=sale["till_id"],
            key=key,
            sale_id=sale["id"],
            number=sale["number"],
            total=int(sale["total"]["amount"]),
            quantities=quantities,
            outlet_id=self.tablet.outlet_id,
            paid=CASH,
            asked_at=asked_at,
            given_at=time.time(),
        )
        self.sold += 1
        self._journal.sold(receipt)
        if answer["repeated"] and not unsure:
            self._journal.wonder(f"{self.tablet.name} says a new checkout was a repeated one: {key}")


async def shown(tablet: Tablet, product_id: str) -> tuple[int, int]:
    """How many thousandths of a product a till shows, and how many of them are promised.

    Raises:
        NotReady: it does not answer.
    """
    for _ in range(MOST_QUESTIONS):
        with suppress(*NO_ANSWER):
            status, answer = await tablet.call("GET", f"/stock/{product_id}")
            if status < 300:
                return thousandths(answer["on_hand"]), thousandths(answer["reserved"])
        await asyncio.sleep(RETRY_SECONDS)
    raise NotReady(f"{tablet.name} does not say how much there is of {product_id}.")


async def give_codes(world: World, tablets: Sequence[Tablet], choice: random.Random) -> None:
    """Each of these tablets gives another barcode to the same product, with what it had before."""
    product = choice.choice(world.products)
    known = world.codes.setdefault(product, [])
    before = known[-2:]
    for tablet in tablets:
        mark = f"{choice.randrange(1 << 40)}"
        given = [*before, f"T{mark}"]
        act = Act("edit", tablet.name, tablet.till_id, f"codes-{mark}", product, "barcodes", " ".join(given))
        world.journal.acts.append(act)
        with suppress(*NO_ANSWER):
            status, answer = await tablet.call("POST", f"/products/{product}", {"barcodes": given})
            act.done, act.refused = (time.monotonic(), "") if status < 300 else (0.0, f"{status} {answer}")
        known.append(given[-1])
