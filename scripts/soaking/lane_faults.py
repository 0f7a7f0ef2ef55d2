"""What makes a tablet's copies worthless while it is away: the log loses its oldest events, or is another one altogether."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import aiohttp
import asyncpg

from scripts.soaking.assortment import reprice
from scripts.soaking.cashiers import PRICED_BY_TILLS
from scripts.soaking.faults import OfTablet
from scripts.soaking.journal import Act, Fact, Shown
from scripts.soaking.programs import NotReady
from scripts.soaking.reading import goods, read_lane
from scripts.soaking.traffic import NO_ANSWER
from scripts.soaking.wire import Message

COUNTS_SECONDS = 3.0
PRICES = 3
GOODS = 450
FLOOD = 2_300
"""Positions: a frame covers 2000 at most."""

THICK_CHANGES = 60
"""Of 2 KB each: a frame has 64 KB at most."""

_HEAD = "SELECT last_seq FROM log_heads WHERE tenant_id = $1 AND lane = $2"
_FLOOR = "SELECT floor_seq FROM log_heads WHERE tenant_id = $1 AND lane = $2"


class Retention(OfTablet):
    """A tablet is away while the log loses its oldest events, up to the very place where the tablet stands, give or take one."""

    kind = "retention"
    excludes = frozenset(
        {
            *("kill-postgres", "pause-postgres", "terminate-backends", "kill-cloud", "pause-cloud", "second-cloud"),
            *("backlog-kill", "backup", "restore-unseen"),
        }
    )

    async def begin(self) -> str:
        """Cuts the tablet off, waits for news, and lets a month pass for the oldest events."""
        one = self.one
        one.cable.sever("up", "down")
        await one.program.kill()
        # What changes in the merchant's lane is not changed again a moment later, as stock is: nothing hides what was missed.
        lane = "tenant" if self.random.random() < 0.75 else one.outlet_id
        place = read_lane(one.folder, lane)
        if place is None:
            return f"{one.name} is cut, and has no copy that could be out of date"
        floor = place[1] + self.random.choice((1, 2, 2, 3))
        where = (self.world.facts["tenant_id"], lane)
        connection = await asyncpg.connect(self.world.dsn, timeout=10)
        try:
            if not await self._news(connection, where, floor):
                return f"{one.name} is cut, and nothing happened in lane {lane}"
            await self._age(connection, where, floor)
            # A tablet is away for a month until this happens, and no cloud remembers in memory what it sent a month ago. What a
            # cloud does first when it starts is to look after the log.
            await self.world.restart_clouds()
            for _ in range(200):
                if await connection.fetchval(_FLOOR, *where) >= floor:
                    break
                await asyncio.sleep(0.05)
            else:
                self.world.journal.wonder(f"The cloud does not take old events out of its log: lane {lane}, position {floor}.")
        finally:
            await connection.close()
        return f"{one.name} is away at {place[1]} of lane {lane[:6]}, the log begins at {floor} now, and the cloud starts anew"

    async def _news(self, connection: asyncpg.Connection, where: tuple[str, str], floor: int) -> bool:
        """Waits until the log has gone on."""
        for number in range(60):
            head = await connection.fetchval(_HEAD, *where)
            if head is not None and head >= floor + 2:
                return True
            if where[1] == "tenant":
                draft = {"name": f"Barang musiman {floor} {number}", "price": {"amount": 7000}}
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await self.world.rest("POST", "/api/v1/products", draft)
            else:
                await asyncio.sleep(0.1)
        return False

    async def _age(self, connection: asyncpg.Connection, where: tuple[str, str], floor: int) -> None:
        """Makes everything below the floor two months old, and notes what the judge will miss of it."""
        query = "SELECT subject_id, body FROM events WHERE tenant_id = $1 AND lane = $2 AND seq < $3 AND type LIKE 'product.%'"
        for product_id, body in await connection.fetch(query, *where, floor):
            made = goods(Message(body), is_archived=False)
            self.world.journal.history.append(Shown(product_id, made.name, made.price, made.barcodes, time.monotonic()))
        query = "UPDATE events SET recorded_at = recorded_at - interval '60 days' WHERE tenant_id = $1 AND lane = $2 AND seq < $3"
        await connection.execute(query, *where, floor)

    async def heal(self) -> None:
        """Connects it again."""
        self.one.cable.mend("up", "down")
        self.one.program.start()
        await self.one.ready()


class RestoreUnseen(OfTablet):
    """A tablet is off while the cloud is restored, and comes back when the new log is already longer than the one it knew."""

    kind = "restore-unseen"
    excludes = frozenset(
        {
            *("kill-postgres", "pause-postgres", "terminate-backends", "retention", "restore", "restore-twice", "backup"),
            *("kill-cloud", "pause-cloud", "backlog-kill", "second-cloud"),
        }
    )

    async def begin(self) -> str:
        """Backup, some trade, tablet off, restore, trade until the log has grown past the tablet's place."""
        one, world = self.one, self.world
        await world.backup()
        await world.cloud_ready()
        product = self.random.choice(world.products[:PRICED_BY_TILLS])
        await self._priced(product)
        await asyncio.sleep(1.5)
        await self._changed(product)
        await one.program.kill()
        place = read_lane(one.folder, one.outlet_id) or (0, 0, 0)
        await world.restore()
        await world.cloud_ready()
        await self._priced(product)
        connection = await asyncpg.connect(world.dsn, timeout=10)
        try:
            for _ in range(150):
                head = await connection.fetchval(_HEAD, world.facts["tenant_id"], one.outlet_id)
                if head > place[1]:
                    break
                await asyncio.sleep(0.1)
        finally:
            await connection.close()
        return f"{one.name} is off at {place[1]} while the cloud is restored, and finds a log that has grown to {head} again"

    async def heal(self) -> None:
        """Starts it again."""
        self.one.program.start()
        await self.one.ready()

    async def _priced(self, product: str) -> None:
        """The office prices a product anew, as often before the restore as after it: the versions will be the same."""
        for _ in range(PRICES):
            number = self.random.randrange(1 << 40)
            fact = Fact("price", f"unseen-{number}", product_id=product, price=20_000 + number % 9_000, began=time.monotonic())
            self.world.journal.facts.append(fact)
            with suppress(*NO_ANSWER):
                body = {"price": {"amount": fact.price}}
                status, _ = await self.world.rest("PATCH", f"/api/v1/products/{product}", body, **{"Idempotency-Key": fact.key})
                fact.done = time.monotonic() if status < 300 else 0.0

    async def _changed(self, product: str) -> None:
        """And so does somebody at the tablet, who has seen what will be undone."""
        number = self.random.randrange(10_000)
        value, (one, journal) = f"8{number:04d}", (self.one, self.world.journal)
        act = Act("edit", one.name, one.till_id, f"unseen-{number}", product, "price", value)
        journal.acts.append(act)
        with suppress(*NO_ANSWER):
            status, _ = await one.call("POST", f"/products/{product}", {"price": int(value)})
            act.done = time.monotonic() if status < 300 else 0.0


class Flood(OfTablet):
    """A tablet is away while more happens in its outlet than fits into a frame, and meets that while it uploads itself."""

    kind = "flood"
    excludes = frozenset(
        {
            *("kill-postgres", "pause-postgres", "terminate-backends", "kill-cloud", "pause-cloud", "second-cloud"),
            *("backlog-kill", "backup", "restore", "restore-twice", "restore-unseen", "retention"),
        }
    )

    async def begin(self) -> str:
        """Cuts, and receives goods until the log has grown by more positions than a frame covers."""
        one, world = self.one, self.world
        one.cable.sever("up", "down")
        drafts = [{"name": f"Barang banjir {number:03d}", "price": {"amount": 100}} for number in range(GOODS)]
        with suppress(*NO_ANSWER):
            if not world.flooding:
                made = await world.must("POST", "/api/v1/products:batchCreate", {"products": drafts})
                world.flooding += [result["product"]["id"] for result in made["results"]]
        connection = await asyncpg.connect(world.dsn, timeout=10)
        try:
            where = (world.facts["tenant_id"], one.outlet_id)
            before = now = await connection.fetchval(_HEAD, *where)
            for number in range(2 * FLOOD // GOODS):
                body = [
                    {"product_id": product, "outlet_id": one.outlet_id, "quantity": "1", "reason": "received", "note": "flood"}
                    for product in world.flooding
                ]
                key = f"flood-{number}-{self.random.randrange(1 << 40)}"
                call = ("POST", "/api/v1/inventory:batchAdjust", {"adjustments": body})
                with suppress(*NO_ANSWER):
                    _, answer = await world.rest(*call, **{"Idempotency-Key": key})
                    if isinstance(answer, dict) and answer.get("failed"):
                        world.flooding.clear()  # a cloud that was restored since does not know them any more
                        break
                now = await connection.fetchval(_HEAD, *where)
                if now - before > FLOOD:
                    break
            with suppress(*NO_ANSWER, NotReady):
                await reprice(world, THICK_CHANGES, self.random)
        finally:
            await connection.close()
        one.counts_until = time.monotonic() + COUNTS_SECONDS
        one.cable.mend("up", "down")  # it catches up while it sells and counts
        return f"{one.name} is away while its lane grows by {now - before}"

    async def heal(self) -> None:
        """Connects it again."""
        self.one.cable.mend("up", "down")
