"""An office that works by REST: sells, receives, prices, reserves, adds and archives products. Told is journalled."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

from scripts.soaking.journal import Fact
from scripts.soaking.traffic import AGAIN, LATER, NO_ANSWER, RETRY_SECONDS, Gate
from scripts.soaking.world import World

REUSED = 0.15
"""How often a key is used a second time, for something else."""
LATE = 0.3
"""How often somebody ends a reservation that has ended."""
HELD_SECONDS = 40
"""How long an order waits for its scarce goods."""
REFRESHES = 0.15
"""How many of the commands ask for a new copy of everything: that hides what a copy has missed."""


class Office:
    """Works by REST."""

    def __init__(self, world: World, seed: int, pace: float) -> None:
        self.pace = pace
        self.promised: list[tuple[str, str, str]] = []
        """Open reservations: external_id, id and outlet."""
        self._over: list[tuple[float, str, str]] = []
        """Reservations whose time is over from a moment on: id and outlet."""
        self.done = 0
        self._world = world
        self._random = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
        self._count = 0

    async def run(self, gate: Gate) -> None:
        """Works until cancelled."""
        tasks = (
            *(self._sale, self._sale, self._adjust, self._adjust, self._price, self._product, self._promise, self._settle),
            *(self._sale, self._sale, self._adjust, self._adjust, self._price, self._product, self._promise, self._settle),
            *(self._owner, self._command, self._order, self._order),
        )
        while True:
            await gate.work(self._random.choice(tasks))
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self.pace)

    async def _ask(self, fact: Fact, method: str, path: str, body: object) -> Any:
        """Asks until there is an answer."""
        fact.began = time.monotonic()
        self._world.journal.facts.append(fact)
        while True:
            asked = time.monotonic()
            with suppress(*NO_ANSWER):
                status, answer = await self._world.rest(method, path, body, **{"Idempotency-Key": fact.key})
                if status < 300:
                    fact.done = time.monotonic()
                    # An answer can have waited in a cloud that stood still while its database was put back.
                    fact.is_void = asked <= self._world.journal.restored_at
                    self._world.journal.note("fact", fact)
                    self.done += 1
                    return answer
                if status < AGAIN and status not in LATER and "IN_PROGRESS" not in str(answer):
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
        if fact.done and self._random.random() < REUSED:
            other = {**body, "quantity": "50", "note": f"{fact.key}-other"}
            await self._reuse(fact, f"/api/v1/inventory/{product}:adjust", other)

    async def _reuse(self, fact: Fact, path: str, body: object) -> None:
        """Somebody takes a key for something else: that must be refused."""
        with suppress(*NO_ANSWER):
            status, answer = await self._world.rest("POST", path, body, **{"Idempotency-Key": fact.key})
            # A cloud that was put back to a backup meanwhile does not know the key any more.
            if status < 300 and self._world.journal.restored_at < fact.done and not fact.is_void:
                self._world.journal.wonder(f"REST took the key {fact.key} for another request: {answer}")

    async def _owner(self) -> None:
        """The owner tries again what was put aside. It cannot be stored this time either."""
        till = self._random.choice(self._world.tablets).till_id
        with suppress(*NO_ANSWER):
            status, answer = await self._world.rest("GET", f"/api/v1/devices/{till}/quarantine?page_size=5")
            if status in {401, 403, 404}:
                self._world.journal.wonder(f"The owner may not see what was put aside: {status} {answer}")
            for aside in answer["operations"] if status < 300 else ():
                await self._world.rest("POST", f"/api/v1/devices/{till}/quarantine/{aside['id']}:retry", {})

    async def _price(self) -> None:
        product, price = self._random.choice(self._world.products), self._random.randint(10, 90) * 100
        fact = Fact("price", self._key("price"), product_id=product, price=price)
        await self._ask(fact, "PATCH", f"/api/v1/products/{product}", {"price": {"amount": price}})

    async def _promise(self) -> None:
        outlet, key = self._outlet(), self._key("reserve")
        wanted = {product: str(self._random.randint(1, 3)) for product in self._random.sample(self._world.products, 2)}
        seconds = self._random.choice((2, 600))
        made = await self._reserve(key, outlet, wanted, seconds)
        if made is not None and seconds > 2:
            self.promised.append((key, made["id"], outlet))
        elif made is not None:
            self._over.append((time.monotonic() + seconds, made["id"], outlet))

    async def _order(self) -> None:
        """Two customers want the last pieces at the same moment."""
        outlet, scarce = self._outlet(), self._world.journal.scarce
        wants = [(self._key("reserve"), str(self._random.randint(1, 2))) for _ in range(2)]
        await asyncio.gather(*(self._reserve(key, outlet, {scarce: quantity}, HELD_SECONDS) for key, quantity in wants))

    async def _command(self) -> None:
        """A till is told to send once more what it keeps, or to fetch its copies anew."""
        till = self._random.choice(self._world.tablets).till_id
        fact = Fact("command", self._key("command"))
        body: dict[str, object] = {"kind": "resend", "from_op_seq": self._random.choice((1, 20, 60)), "expires_in_seconds": 3600}
        if self._random.random() < REFRESHES:
            body = {"kind": "refresh", "expires_in_seconds": 3600}
        made = await self._ask(fact, "POST", f"/api/v1/devices/{till}/commands", body)
        fact.about = made["id"] if made is not None else ""

    async def _reserve(self, key: str, outlet: str, wanted: dict[str, str], seconds: int) -> Any:
        fact = Fact("reserve", key, outlet, about=key)
        lines = [{"product_id": product, "quantity": quantity} for product, quantity in wanted.items()]
        body = {"outlet_id": outlet, "lines": lines, "external_id": key, "expires_in_seconds": seconds}
        return await self._ask(fact, "POST", "/api/v1/reservations", body)

    async def _settle(self) -> None:
        """Gives promised goods back, or hands them over."""
        if self._over and self._over[0][0] < time.monotonic():
            _, reservation, outlet = self._over.pop(0)  # its goods are free by now, or about to be: not to be given back twice
            await self._end("release", reservation, outlet, "")
        if not self.promised:
            return
        order, reservation, outlet = self.promised.pop(self._random.randrange(len(self.promised)))
        kind = self._random.choice(("release", "fulfil"))
        await self._end(kind, reservation, outlet, order)
        if self._random.random() < LATE:
            await self._end(kind, reservation, outlet, order)  # somebody else, who has not heard of it

    async def _end(self, kind: str, reservation: str, outlet: str, order: str) -> None:
        fact = Fact(kind, self._key(kind), outlet, about=order)
        await self._ask(fact, "POST", f"/api/v1/reservations/{reservation}:{kind}", {})

    async def _product(self) -> None:
        if len(self._world.extra) > 3 and self._random.random() < 0.5:
            gone = self._world.extra.pop(0)
            await self._ask(Fact("archive", self._key("archive"), product_id=gone), "DELETE", f"/api/v1/products/{gone}", None)
            return
        fact = Fact("product", self._key("product"))
        draft = {"name": f"Barang baru {self._count}", "price": {"amount": 5000}, "barcodes": [f"B{self._count:06d}"]}
        draft["cost"] = {"amount": 3000}
        made = await self._ask(fact, "POST", "/api/v1/products", draft)
        if made is not None:
            fact.product_id = made["id"]
            self._world.extra.append(made["id"])
