"""The shops at work: a cashier at each tablet, and an office that works by REST. Everything they are told is journalled.

Whoever gets no answer asks again with the same key until there is one, as a sensible client does.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp

from scripts.soaking.journal import Fact, Journal, Receipt
from scripts.soaking.wire import thousandths
from scripts.soaking.world import Tablet, World

CASH = 1_000_000
SHORT_OF_CASH = 0.1
"""How many of the customers hand over too little at first."""
RETRY_SECONDS = 0.1
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError)
_AGAIN = 500
"""From this status on nobody knows what happened, or it may be tried again."""
_DISK_FULL = 507
_LATER = {408, 425, 429}


class Gate:
    """Lets traffic flow, or holds it until everybody stands still."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._busy = 0
        self._still = asyncio.Event()
        self._still.set()

    async def stop(self) -> None:
        """No new work; returns when what was begun is finished."""
        self.is_open.clear()
        await self._still.wait()

    def go(self) -> None:
        """Work goes on."""
        self.is_open.set()

    async def work(self, once: Callable[[], Awaitable[None]]) -> None:
        """Does one piece of work when the gate is open."""
        await self.is_open.wait()
        self._busy += 1
        self._still.clear()
        try:
            await once()
        finally:
            self._busy -= 1
            if not self._busy:
                self._still.set()


class Cashier:
    """Sells at one tablet."""

    def __init__(self, world: World, tablet: Tablet, seed: int, pace: float) -> None:
        self.tablet = tablet
        self.pace = pace
        self.sold = 0
        self._world = world
        self._journal: Journal = world.journal
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._count = 0

    async def run(self, gate: Gate) -> None:
        """Sells until cancelled."""
        while True:
            await gate.work(self._sell)
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self.pace)

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
            except _NO_ANSWER:
                unsure = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if status == _DISK_FULL:
                self._journal.refuse(key, "disk full")
                return
            if status < 300:
                self._receipt(key, answer, asked_at, unsure=unsure)
                return
            if status >= _AGAIN or "TILL_NOT_READY" in str(answer):
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
        with suppress(*_NO_ANSWER):
            status, answer = await self.tablet.call("POST", "/checkout?wait=0", body, **{"Idempotency-Key": f"{key}-short"})
            if status < 300:
                self._journal.wonder(f"{self.tablet.name} sold for one rupiah: {answer}")
            return status < _AGAIN
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
            except _NO_ANSWER:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if status < 300:
                return True
            if status == _DISK_FULL or status < _AGAIN:
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
            asked_at=asked_at,
            given_at=time.time(),
        )
        self.sold += 1
        self._journal.sold(receipt)
        if answer["repeated"] and not unsure:
            self._journal.wonder(f"{self.tablet.name} says a new checkout was a repeated one: {key}")


class Office:
    """Works by REST."""

    def __init__(self, world: World, seed: int, pace: float) -> None:
        self.pace = pace
        self.extra: list[str] = []
        """Products that come and go."""
        self.done = 0
        self._world = world
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._count = 0

    async def run(self, gate: Gate) -> None:
        """Works until cancelled."""
        tasks = (self._sale, self._sale, self._adjust, self._adjust, self._price, self._product)
        while True:
            await gate.work(self._random.choice(tasks))
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self.pace)

    async def _ask(self, fact: Fact, method: str, path: str, body: object) -> Any:
        """Asks until there is an answer."""
        fact.began = time.monotonic()
        self._world.journal.facts.append(fact)
        while True:
            asked = time.monotonic()
            with suppress(*_NO_ANSWER):
                status, answer = await self._world.rest(method, path, body, **{"Idempotency-Key": fact.key})
                if status < 300:
                    fact.done = time.monotonic()
                    # An answer can have waited in a cloud that stood still while its database was put back.
                    fact.is_void = asked <= self._world.journal.restored_at
                    self._world.journal.note("fact", fact)
                    self.done += 1
                    return answer
                if status < _AGAIN and status not in _LATER and "IN_PROGRESS" not in str(answer):
                    fact.refused = f"{status} {answer}"
                    self._world.journal.note("refused_fact", fact)
                    return None
            await asyncio.sleep(RETRY_SECONDS)

    def _key(self, kind: str) -> str:
        self._count += 1
        return f"office-{kind}-{self._count}-{self._random.randrange(1 << 30)}"

    def _outlet(self) -> str:
        chosen: str = self._random.choice(self._world.facts["outlets"])["id"]
        return chosen

    async def _sale(self) -> None:
        product, quantity, outlet = self._random.choice(self._world.products), self._random.randint(1, 3), self._outlet()
        fact = Fact("sale", self._key("sale"), outlet, product, quantity * 1000)
        lines = [{"product_id": product, "quantity": str(quantity)}]
        await self._ask(fact, "POST", "/api/v1/sales", {"outlet_id": outlet, "lines": lines, "note": fact.key})

    async def _adjust(self) -> None:
        product, quantity, outlet = self._random.choice(self._world.products), self._random.randint(1, 9), self._outlet()
        fact = Fact("adjust", self._key("adjust"), outlet, product, quantity * 1000)
        body = {"outlet_id": outlet, "quantity": str(quantity), "reason": "received", "note": fact.key}
        await self._ask(fact, "POST", f"/api/v1/inventory/{product}:adjust", body)

    async def _price(self) -> None:
        product, price = self._random.choice(self._world.products), self._random.randint(10, 90) * 100
        fact = Fact("price", self._key("price"), product_id=product, price=price)
        await self._ask(fact, "PATCH", f"/api/v1/products/{product}", {"price": {"amount": price}})

    async def _product(self) -> None:
        if len(self.extra) > 3 and self._random.random() < 0.5:
            gone = self.extra.pop(0)
            await self._ask(Fact("archive", self._key("archive"), product_id=gone), "DELETE", f"/api/v1/products/{gone}", None)
            return
        fact = Fact("product", self._key("product"))
        draft = {"name": f"Barang baru {self._count}", "price": {"amount": 5000}, "barcodes": [f"B{self._count:06d}"]}
        made = await self._ask(fact, "POST", "/api/v1/products", draft)
        if made is not None:
            self.extra.append(made["id"])
