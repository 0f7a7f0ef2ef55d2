"""What the shops of a soak sell: a few goods everybody wants, one of which there are three, and a catalogue of several pages."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress

from scripts.soaking.traffic import NO_ANSWER
from scripts.soaking.world import POLL_SECONDS, Tablet, World

SEEDED = 8
"""Products everybody sells from the beginning."""
SCARCE = 3
"""Pieces of the scarce product in each outlet. Nobody sells or counts it at a till; orders want it."""
THICK = 420
"""Products with all the text there may be, some 2 KB each: a copy of them has more pieces than may be under way."""
ARRIVES_SECONDS = 20.0
_AT_ONCE = 70
_LONG = "\U0001f96d"
"""Four bytes, as one character."""


async def stocked(world: World) -> None:
    """Makes them, and receives them."""
    for number in range(SEEDED):
        draft = {"name": f"Barang {number:02d}", "price": {"amount": 1000 * (number + 1)}}
        world.products.append(await _received(world, draft, 1000))
    world.journal.scarce = await _received(world, {"name": "Barang langka", "price": {"amount": 250_000}}, SCARCE)
    for start in range(0, THICK, _AT_ONCE):
        drafts = [_thick(number) for number in range(start, min(THICK, start + _AT_ONCE))]
        made = await world.must("POST", "/api/v1/products:batchCreate", {"products": drafts})
        world.thick += [result["product"]["id"] for result in made["results"]]


def _thick(number: int) -> dict[str, object]:
    words = f"Barang tebal {number:03d} "
    return {
        "name": words + _LONG * (200 - len(words)),
        "category": _LONG * 100,
        "external_id": f"{number:03d}" + _LONG * 197,
        "price": {"amount": 100 + number},
    }


async def _received(world: World, draft: Mapping[str, object], quantity: int) -> str:
    made = await world.must("POST", "/api/v1/products", draft)
    for outlet in world.facts["outlets"]:
        body = {"outlet_id": outlet["id"], "quantity": str(quantity), "reason": "received", "note": "opening"}
        await world.must("POST", f"/api/v1/inventory/{made['id']}:adjust", body)
    return str(made["id"])


async def reprice(world: World, how_many: int, choice: random.Random) -> None:
    """Changes the prices of so many of the thick products at once: more than a frame holds."""
    chosen = choice.sample(world.thick, how_many)
    changes = [{"product": {"id": product, "price": {"amount": choice.randint(1, 9_999) * 100}}} for product in chosen]
    await world.must("POST", "/api/v1/products:batchUpdate", {"updates": changes})


async def arrived(world: World) -> None:
    """Waits until all tablets have all of it, for a while: of what they never get the judge has more to say."""
    end = time.monotonic() + ARRIVES_SECONDS
    waiting = list(world.tablets)
    while waiting and time.monotonic() < end:
        waiting = [tablet for tablet in waiting if not await _knows(tablet)]


async def _knows(tablet: Tablet) -> bool:
    await asyncio.sleep(POLL_SECONDS)
    with suppress(*NO_ANSWER):
        shown = (await tablet.call("GET", "/status"))[1]
        return bool(shown["products_count"] >= SEEDED + 1 + THICK and shown["link"]["state"] == "online")
    return False
