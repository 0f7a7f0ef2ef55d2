"""A batch stored at one stroke against the same batch stored by the rules: every row the same, or nothing changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud.sync import strokes, watermarks
from cloud.webhooks import endpoints
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.inventory_pb2 import Level
from gipos.v1.sales_pb2 import Sale
from gipos.v1.webhooks_pb2 import Webhook
from kernel.errors import GiposError, PermissionDenied
from kernel.ids import new_id

TABLES = {
    "sales": "SELECT * FROM sales ORDER BY till_id, store_epoch, op_seq, id",
    "levels": "SELECT * FROM levels ORDER BY outlet_id, product_id",
    "movements": "SELECT * FROM movements ORDER BY product_id, id",
    "events": "SELECT * FROM events WHERE outlet_id <> '' ORDER BY lane, seq",
    "till_stores": "SELECT * FROM till_stores ORDER BY till_id",
    "till_batches": "SELECT * FROM till_batches ORDER BY till_id, last_op_seq",
    "log_heads": "SELECT lane, last_seq FROM log_heads WHERE lane LIKE 'out%' ORDER BY lane",
    "deliveries": "SELECT event_type FROM deliveries ORDER BY event_type",
    "audit_entries": "SELECT action, resource_ids FROM audit_entries WHERE action = 'tills.upload' ORDER BY created_at, id",
}
VARIES = {"tenant_id", "created_at", "updated_at", "recorded_at", "connected_at", "occurred_at", "due_at"}
"""The one till's merchant and moments; and ids that are made when storing."""


@pytest.fixture
def strokes_made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each attempt worked."""
    made: list[bool] = []
    sell = strokes.sell

    async def noted(*given: Any) -> bool:
        made.append(await sell(*given))
        return made[-1]

    monkeypatch.setattr(strokes, "sell", noted)
    return made


@pytest.fixture
async def pair(market: Any, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two merchants with the same products; the second is stored by the rules alone."""
    (tmp_path / "other").mkdir()
    other = await opened(market.database, tmp_path / "other")
    sell = strokes.sell

    async def for_one(tx: Any, *given: Any) -> bool:
        return tx.tenant_id == market.tenant_id and await sell(tx, *given)

    monkeypatch.setattr(strokes, "sell", for_one)
    return market, other


async def rows(market: Any, name: str) -> list[dict[str, Any]]:
    """The rows of a table, with the names of this merchant's places in place of their ids."""
    names = {place: f"outlet {number}" for number, place in enumerate(market.outlets)}
    names |= {till.caller.till_id: f"till {number}" for number, till in enumerate(market.tills)}
    found = []
    for row in await market.rows(TABLES[name]):
        one = {key: value for key, value in dict(row).items() if key not in VARIES}
        if name in {"movements", "events"}:
            del one["id"]
        if "body" in one:
            kind = Level if one.get("type") == "inventory.updated" else Sale
            body: Any = kind.FromString(one.pop("body"))
            for moment in ("create_time", "update_time"):
                if moment in kind.DESCRIPTOR.fields_by_name:
                    body.ClearField(moment)
            one["text"] = str(body)
        found.append({key: _named(value, names) for key, value in one.items()})
    return sorted(found, key=str) if name in {"movements", "levels"} else found


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for place, said in names.items():
            value = value.replace(place, said)
    return value


async def send(market: Any, till: int, operations: list[Operation]) -> Any:
    """Sends copies, as the till of this merchant would have made them."""
    mine = []
    for each in operations:
        copy = Operation()
        copy.CopyFrom(each)
        mine.append(copy)
    try:
        return await market.tills[till].send(*mine)
    except GiposError as error:
        return type(error)


async def test_what_is_stored_at_one_stroke_is_what_the_rules_store(pair: Any) -> None:
    one, other = pair
    goods = [await one.product(100) for _ in range(3)]
    for product_id in goods:
        await other.product(100, product_id=product_id)
    first, second = one.tills[0], one.tills[1]
    for market in pair:
        for till in market.tills[:2]:
            await till.hello(store_epoch=3)
    many = [first.sale((goods[n % 3], "2"), (goods[0], "0.125"), (goods[n % 3], "1")) for n in range(60)]
    named = first.sale((goods[0], "1"), external_id="web-1", customer_id=new_id("cus"), cashier="")
    theirs = [second.sale((goods[1], "1")) for _ in range(5)]
    odd = [first.sale((goods[2], "1"), (new_id("prd"), "1")), first.sale((goods[1], "1")), first.sale((goods[2], "1"))]
    again = first.sale((goods[1], "1"))
    again.sale_recorded.CopyFrom(odd[1].sale_recorded)  # the same sale under another number
    gap = first.sale((goods[0], "1"), seq=900)
    steps: list[list[tuple[int, list[Operation]]]] = [
        [(0, many[:50])],
        [(0, [*many[50:], named]), (1, theirs)],
        [(0, many[40:50])],  # all of it known
        [(0, odd)],  # with an unknown product
        [(0, [again])],
        [(0, [gap])],
        [(0, [again, first.sale((goods[0], "3"))])],  # in part known
        [(0, [first.sale((goods[0], "1"))])],
    ]
    for step in steps:
        outcomes = []
        for market in pair:
            if step is steps[-2]:  # from here on somebody listens
                async with market.database.transaction(market.tenant_id) as tx:
                    draft = Webhook(url="http://127.0.0.1:9/", event_types=["*"])
                    await endpoints.create(tx, draft, private_addresses=True)
            answers = await asyncio.gather(*(send(market, till, operations) for till, operations in step))
            outcomes.append([(a.op_watermark, a.expected_op_seq, list(a.quarantined), a.log_seq) for a in answers])
        assert outcomes[0] == outcomes[1]
        for name in TABLES:
            assert await rows(one, name) == await rows(other, name), name
    assert [place[0] for place in outcomes[0]] == [first.seq], "everything but the gap is stored"
    assert len(await rows(one, "deliveries")) == 6
    for market in pair:
        await market.check()


async def test_only_what_is_usual_is_tried_and_what_is_not_changes_nothing(market: Any, strokes_made: list[bool]) -> None:
    coffee = await market.product(100)
    till, neighbour = market.tills[0], market.tills[1]
    await till.hello()
    sold = till.sale((coffee, "1"))
    await till.send(sold)
    assert strokes_made == [True]
    strokes_made.clear()
    twice = till.sale((coffee, "1"))
    copy = Operation(op_seq=twice.op_seq + 1, op_id=twice.op_id, sale_recorded=twice.sale_recorded)
    till.seq += 1
    await till.send(twice, copy)
    await till.send(till.sale((coffee, "1"), seq=50))
    assert strokes_made == [False], "the first was not even tried: one sale twice"
    strokes_made.clear()
    unusual = [sold, till.sale((new_id("prd"), "1"))]
    for operation in unusual:
        await till.send(operation)
    old = till.session
    await till.hello()
    till.session, newer = old, till.session
    assert await send(market, 0, [till.sale((coffee, "1"))]) is not None
    till.session, till.seq = newer, till.seq - 1
    async with market.database.transaction(market.tenant_id) as tx:
        driver = (await tx.connection.get_raw_connection()).driver_connection
        await driver.execute("UPDATE tills SET state = 'suspended' WHERE id = $1", neighbour.caller.till_id)
    await send(market, 1, [neighbour.sale((coffee, "1"))])
    assert strokes_made == [False] * 4
    assert len(await market.stored()) == 3
    await market.check()


async def test_what_is_refused_makes_the_cloud_forget_nothing(market: Any) -> None:
    coffee = await market.product(100)
    till = market.tills[0]
    old = await till.hello()
    await till.send(*[till.sale((coffee, "1")) for _ in range(3)])
    known = await market.rows("SELECT * FROM till_batches")
    far = [till.sale((coffee, "1"), seq=number) for number in range(2 * watermarks.KEPT - 1, 2 * watermarks.KEPT + 2)]
    assert (await till.send(*far)).expected_op_seq == 4
    assert await market.rows("SELECT * FROM till_batches") == known, "a gap"
    await till.hello()
    till.session = old
    with pytest.raises(PermissionDenied):
        await till.send(*far)
    assert await market.rows("SELECT * FROM till_batches") == known, "a session that is over"
