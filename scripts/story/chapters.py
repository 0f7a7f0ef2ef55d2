"""The five chapters. Each says what it sees and fails with a sentence when something is not as it should be."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import aiohttp

from scripts.story.world import StoryFailed, Till, World, expect, until

PRICE = 18_000
OPENING_STOCK = 40


class Network(Protocol):
    """How a till loses the network and gets it back."""

    async def cut(self, till: Till) -> None:
        """From now on nothing passes."""

    async def heal(self, till: Till) -> None:
        """Everything passes again."""


class Switch:
    """The cashier's switch on the till itself. It survives the till's death, as a cut does."""

    async def cut(self, till: Till) -> None:
        """Switches to working offline."""
        await till.network(enabled=False)

    async def heal(self, till: Till) -> None:
        """Switches back."""
        await till.network(enabled=True)


def new_barcode() -> str:
    """An EAN-13 for use within a store (prefix 29), with its check digit."""
    body = "29" + "".join(str(secrets.randbelow(10)) for _ in range(10))
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return body + str(-total % 10)


class Story:
    """The story told on one platform.

    Args:
        world: The platform.
        say: Receives lines for a person.
        network: How tills are cut off.
    """

    def __init__(self, world: World, say: Callable[[str], None], network: Network | None = None) -> None:
        self.world = world
        self.say = say
        self.network = network or Switch()
        self.till_a, self.till_b = world.tills[0], world.tills[1]
        self.outlet_id = self.till_a.outlet_id
        self.barcode = new_barcode()
        self.product_id = ""
        self.on_hand = OPENING_STOCK
        self._cursor = ""
        self._sold: list[tuple[str, str]] = []
        """Till and sale of every sale the cloud announced, in the order of the log."""

    async def agree_on_stock(self) -> None:
        """REST and both tills of the outlet show the same pieces."""
        wanted = str(self.on_hand)

        async def agreed() -> bool:
            shown = [await till.stock(self.product_id) for till in (self.till_a, self.till_b)]
            return [await self.world.stock(self.product_id, self.outlet_id), *shown] == [wanted] * 3

        await until(f"stock is {wanted} in REST and at both tills", agreed)
        self.say(f"   stock is {wanted} in REST, at till A and at till B")

    async def product_reaches_the_tills(self) -> None:
        """1. An integrator creates a product by REST; both tills of the outlet can sell it."""
        self.say("1. An integrator creates a product by REST")
        draft = {"name": "Es Kopi Gula Aren", "barcodes": [self.barcode], "price": {"amount": PRICE}, "category": "Minuman"}
        product = await self.world.api("POST", "/api/v1/products", draft)
        created = time.monotonic()
        self.product_id = product["id"]
        self.say(f"   {product['id']}  {product['name']}  Rp{PRICE}")
        count = {"outlet_id": self.outlet_id, "on_hand": str(OPENING_STOCK)}
        await self.world.api("PUT", f"/api/v1/inventory/{self.product_id}", count)

        async def known(till: Till) -> bool:
            found = await till.call("GET", f"/products?barcode={self.barcode}")
            return [one["id"] for one in found["products"]] == [self.product_id]

        for till in (self.till_a, self.till_b):
            await until(f"{till.name} knows the product", lambda till=till: known(till))  # type: ignore[misc]  # bound now
        self.say(f"   both tills can sell it, {(time.monotonic() - created) * 1000:.0f} ms after REST answered")
        await self.agree_on_stock()

    async def sale_is_receipted(self) -> dict[str, Any]:
        """2. Till A scans twice, takes cash, prints; change and drawer are right."""
        self.say("2. Till A scans it twice and takes Rp50.000 in cash")
        before = len(self.till_a.printed())
        done = await self.till_a.sell(self.barcode, 2, 50_000)
        sale: dict[str, Any] = done["sale"]
        self.on_hand -= 2
        expect(sale["total"]["amount"] == 2 * PRICE, f"the total is {sale['total']}")
        expect(done["change"] == 50_000 - 2 * PRICE, f"the change is {done['change']}")
        printed = await until("the receipt is printed", lambda: self._printed(self.till_a, before + 1))
        receipt = printed[before]
        expect(receipt["drawer_pulses"], "the drawer got no pulse")
        expect(sale["id"] in receipt["qr_codes"], "the receipt's QR code is not the sale's id")
        text = receipt["path"].with_suffix(".txt").read_text()
        for part in (sale["number"], "Es Kopi Gula Aren", "36.000", "50.000", "14.000"):
            expect(part in text, f"{part} is not on the receipt")
        self.say("\n".join("      | " + line for line in text.splitlines()))
        self.say(f"   as a picture: {receipt['path'].with_suffix('.png')}")
        return sale

    async def sale_is_announced(self) -> None:
        """3. Stock drops everywhere; dashboard and receiver hear of the sale, once each."""
        async with self.world.dashboard() as seen:
            sale = await self.sale_is_receipted()
            self.say("3. Everybody hears of it")
            await self.agree_on_stock()
            wanted = {"sale.created", "sale.completed", "inventory.updated"}

            async def shown() -> bool:
                return wanted <= {event["type"] for event in seen if _is_about(event, sale, self.product_id)}

            await until("the dashboard shows sale and stock", shown)
            self.say("   dashboard: " + ", ".join(event["type"] for event in seen if _is_about(event, sale, self.product_id)))
            (level,) = [
                event for event in seen if event["type"] == "inventory.updated" and _is_about(event, sale, self.product_id)
            ]
            expect(level["data"]["on_hand"] == str(self.on_hand), f"the dashboard shows {level['data']}")
        ids = {event["id"] for event in seen if _is_about(event, sale, self.product_id)}

        async def delivered() -> bool:
            return ids <= {delivery["id"] for delivery in await self.world.deliveries()}

        await until("the receiver got the events", delivered)
        got = [delivery for delivery in await self.world.deliveries() if delivery["id"] in ids]
        expect(all(delivery["valid"] for delivery in got), "a signature is wrong")
        expect(Counter(delivery["type"] for delivery in got) == Counter(wanted), f"the receiver got {got}")
        self.say("   receiver: " + ", ".join(f"{delivery['type']} (signature valid)" for delivery in got))

    async def till_dies_offline(self) -> None:
        """4. Till A loses the network, sells three, dies in the third; every receipted sale arrives exactly once, in order."""
        self.say("4. Till A loses the network, sells three more and loses power in the third")
        printed_before = len(self.till_a.printed())
        known_before = await self._sales(self.till_a)
        await self.network.cut(self.till_a)
        sales = [(await self.till_a.sell(self.barcode, 1, 20_000))["sale"] for _ in range(2)]
        self.say("   sold offline: " + ", ".join(sale["number"] for sale in sales))
        third = asyncio.create_task(self.till_a.sell(self.barcode, 1, 20_000, wait=False))
        await until("the third sale is on its way", lambda: self._is_in_the_middle(third, printed_before + 2))
        old = self.world.kill(self.till_a.name)
        self.say("   kill -9")
        outcome = (await asyncio.gather(third, return_exceptions=True))[0]
        if isinstance(outcome, BaseException) and not isinstance(outcome, aiohttp.ClientError | StoryFailed):
            raise outcome
        await self.world.restarted(self.till_a.name, old)
        await until("the till answers again", lambda: self.till_a.call("GET", "/healthz"))
        stored = [one["sale"] for one in (await self.till_a.call("GET", "/sales"))["sales"]]
        kept = [sale["id"] for sale in reversed(stored) if sale["id"] not in known_before]
        expect([sale["id"] for sale in sales] == kept[:2], "the till forgot a sale")
        self.on_hand -= len(kept)
        self.say(f"   after the restart the till still has {len(kept)} sales of this hour; the network returns")
        await self.network.heal(self.till_a)
        await until("till A has uploaded everything", self.till_a.online)
        arrived = (await self._sales(self.till_a))[len(known_before) :]
        expect(arrived == kept, f"the cloud has {arrived}, the till {kept}")
        receipted = [code for receipt in self.till_a.printed()[printed_before:] for code in receipt["qr_codes"]]
        expect(set(receipted) <= set(arrived), "a receipted sale is missing in the cloud")
        expect(len(receipted) == len(set(receipted)), "a receipt was printed twice")
        expect(all(sale["id"] in receipted for sale in sales), "a receipt of the first two sales is missing")
        self.say(f"   {len(arrived)} sales arrived, each once, in order; {len(receipted)} receipts on paper")
        await self.agree_on_stock()

    async def cloud_dies(self, count: int = 25) -> None:
        """5. The cloud is killed while a till uploads; nothing is lost or doubled."""
        self.say(f"5. Till B sells {count} offline; the cloud is killed while it uploads them")
        known_before = await self._sales(self.till_b)
        await self.network.cut(self.till_b)
        sold = [(await self.till_b.sell(self.barcode, 1, 18_000, wait=False))["sale"]["id"] for _ in range(count)]
        self.on_hand -= count
        await self.network.heal(self.till_b)
        try:
            await until("the upload begins", self._uploads_or_done, 10)
        finally:
            old = self.world.kill(self.world.cloud_name)
        self.say("   kill -9")
        await self.world.restarted(self.world.cloud_name, old)
        await until("till B has uploaded everything", self.till_b.online)
        arrived = (await self._sales(self.till_b))[len(known_before) :]
        expect(arrived == sold, f"sold {len(sold)}, arrived {len(arrived)} (each once, in order expected)")
        self.say(f"   {len(arrived)} of {len(sold)} sales arrived, each once, in order")
        await until("till A is back", self.till_a.online)
        await self.agree_on_stock()
        wanted = set(sold)

        async def delivered() -> bool:
            got = [one for one in await self.world.deliveries() if one["type"] == "sale.completed"]
            return wanted <= {one["body"]["data"]["id"] for one in got}

        await until("the receiver heard of every sale", delivered, 90)
        got = [one for one in await self.world.deliveries() if one["type"] == "sale.completed"]
        events = {(one["id"], one["body"]["data"]["id"]) for one in got if one["body"]["data"]["id"] in wanted}
        expect(len(events) == count, "a sale was announced under two event ids")
        self.say("   the receiver heard of each of them under one event id")

    async def tell(self) -> None:
        """All chapters."""
        await self.product_reaches_the_tills()
        await self.sale_is_announced()
        await self.till_dies_offline()
        await self.cloud_dies()

    async def _sales(self, till: Till) -> list[str]:
        """The sales of a till as the cloud announced them, in that order, repeats included."""
        events, self._cursor = await self.world.events(self._cursor, "sale.created")
        self._sold += [(event["data"]["till_id"], event["subject"]["id"]) for event in events]
        return [sale_id for till_id, sale_id in self._sold if till_id == till.id]

    async def _printed(self, till: Till, count: int) -> list[dict[str, Any]]:
        found = till.printed()
        return found if len(found) >= count else []

    async def _is_in_the_middle(self, task: asyncio.Task[Any], printed: int) -> bool:
        """The checkout has answered (the sale is committed) but its receipt is not out yet, or just is."""
        return task.done() or len(self.till_a.printed()) > printed

    async def _uploads_or_done(self) -> bool:
        link = (await self.till_b.call("GET", "/status"))["link"]
        return bool(link["state"] == "online")


def _is_about(event: dict[str, Any], sale: dict[str, Any], product_id: str) -> bool:
    return event["subject"]["id"] in {sale["id"], product_id} and event["type"] != "product.created"


Chapter = Callable[[], Awaitable[object]]
