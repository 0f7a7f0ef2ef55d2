"""The cloud end of the link, spoken to by a till written here: exactly once, in order, without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from gipos.edge.v1.link_pb2 import (
    Applied,
    Hello,
    LanePosition,
    LinkRequest,
    LinkResponse,
    Operation,
    OperationBatch,
    Ping,
    ResetReason,
)
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.common_pb2 import Money
from gipos.v1.events_pb2 import ListEventsRequest
from gipos.v1.inventory_pb2 import GetInventoryRequest
from gipos.v1.sales_pb2 import ListSalesRequest, Sale, SaleLine, Tender
from kernel.ids import new_id
from kernel.pricing import total_up


class Till:
    """A hand-driven till: what it sends is said by the test, what it gets is kept."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.got: list[LinkResponse] = []

    async def send(self, **frame: Any) -> None:
        await self._call.write(LinkRequest(**frame))

    async def next(self, kind: str) -> Any:
        """The next frame of a kind; others are kept aside."""
        while True:
            async with asyncio.timeout(10):
                frame = await self._call.read()
            assert frame is not grpc.aio.EOF, await self._call.details()
            self.got.append(frame)
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)


@asynccontextmanager
async def connected(shop: Any, index: int = 0, **hello: Any) -> AsyncIterator[Till]:
    call = shop.link.Link(metadata=shop.till_auth(index))
    till = Till(call)
    hello.setdefault("store_epoch", 1)
    await till.send(hello=Hello(**hello))
    try:
        yield till
    finally:
        call.cancel()


def sale(shop: Any, product_id: str, seq: int, quantity: str = "1", price: int = 18000) -> Operation:
    made = Sale(
        id=new_id("sal"), number=f"KMG-2611-1{seq:05d}", channel="pos", prices_include_tax=True, business_date="2026-11-23"
    )
    made.lines.append(
        SaleLine(
            id=new_id("sli"),
            product_id=product_id,
            quantity=quantity,
            unit_price=Money(amount=price),
            tax_class=TaxClass.TAX_CLASS_PPN,
        )
    )
    made.tenders.append(Tender(method="cash", amount=Money(amount=100000)))
    made.sale_time.FromDatetime(datetime.now(UTC))
    total_up(made, datetime.now(UTC).date())
    return Operation(op_seq=seq, op_id=made.id, sale_recorded=made)


async def on_hand(shop: Any, product_id: str) -> str:
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=product_id), metadata=shop.auth)
    return str(stock.on_hand)


async def test_a_new_till_gets_snapshots_and_then_the_tail(shop: Any) -> None:
    coffee = await shop.product(stock="10", cost=Money(amount=9000))
    async with connected(shop) as till:
        welcome = await till.next("welcome")
        assert welcome.outlet.code == "KMG"
        assert welcome.till.id == shop.tills[0]["id"]
        catalogue = await till.next("snapshot")
        assert (catalogue.lane, catalogue.seq, catalogue.last) == ("tenant", 1, True)
        assert catalogue.changes[0].product.id == coffee.id
        assert not catalogue.changes[0].product.HasField("cost")  # the shop floor does not see what goods cost
        stock = await till.next("snapshot")
        assert (stock.lane, stock.changes[0].level.on_hand) == (shop.outlets[0], "10")
        assert [frame.reset.reason for frame in till.got if frame.HasField("reset")] == [ResetReason.RESET_REASON_NEW] * 2
        tea = await shop.product("Teh")
        changes = await till.next("changes")
        assert (changes.lane, changes.from_exclusive, changes.upto_inclusive) == ("tenant", 1, 2)
        assert changes.changes[0].product.id == tea.id


async def test_a_till_resumes_where_it_stands(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    positions = [LanePosition(lane="tenant", epoch=1, seq=0), LanePosition(lane=shop.outlets[0], epoch=1, seq=1)]
    await shop.product("Teh")
    async with connected(shop, positions=positions) as till:
        changes = await till.next("changes")
        assert [change.product.name for change in changes.changes] == ["Kopi Susu", "Teh"]
        assert not any(frame.HasField("snapshot") for frame in till.got)
        assert coffee.id


@pytest.mark.parametrize(
    ("epoch", "seq", "reason"),
    [(2, 0, ResetReason.RESET_REASON_EPOCH), (1, 99, ResetReason.RESET_REASON_AHEAD), (1, -2, ResetReason.RESET_REASON_TOO_OLD)],
)
async def test_a_position_that_cannot_be_continued_gets_a_snapshot(shop: Any, epoch: Any, seq: Any, reason: Any) -> None:
    async with connected(shop, positions=[LanePosition(lane="tenant", epoch=epoch, seq=seq)]) as till:
        reset = await till.next("reset")
        assert (reset.lane, reset.reason) == ("tenant", reason)
        assert (await till.next("snapshot")).lane == "tenant"


async def test_sales_are_stored_once_however_often_they_are_sent(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    operations = [sale(shop, coffee.id, seq) for seq in (1, 2, 3)]
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=operations[:2]))
        assert (await till.next("stored")).op_watermark == 2
        await till.send(operations=OperationBatch(operations=operations))
        assert (await till.next("stored")).op_watermark == 3
    async with connected(shop) as till:
        assert (await till.next("welcome")).op_watermark == 3
        await till.send(operations=OperationBatch(operations=operations))
        assert (await till.next("stored")).op_watermark == 3
    assert await on_hand(shop, coffee.id) == "7"
    listed = await shop.sales.ListSales(ListSalesRequest(till_id=shop.tills[0]["id"]), metadata=shop.auth)
    assert {found.id for found in listed.sales} == {operation.op_id for operation in operations}
    events = await shop.events.ListEvents(ListEventsRequest(types=["sale.*"]), metadata=shop.auth)
    assert [event.type for event in events.events] == ["sale.created", "sale.completed"] * 3
    assert [event.subject.id for event in events.events][::2] == [operation.op_id for operation in operations]


async def test_a_gap_is_answered_with_what_is_expected(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=[sale(shop, coffee.id, 2)]))
        stored = await till.next("stored")
        assert (stored.op_watermark, stored.expected_op_seq) == (0, 1)
    assert await on_hand(shop, coffee.id) == "10"


async def test_a_poison_operation_is_put_aside_and_the_queue_moves_on(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    poison = Operation(op_seq=2, op_id="x", sale_recorded=Sale(id="not-an-id"))
    empty = Operation(op_seq=4, op_id="y")
    batch = [sale(shop, coffee.id, 1), poison, sale(shop, coffee.id, 3), empty]
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=batch))
        stored = await till.next("stored")
        assert stored.op_watermark == 4
        assert [aside.op_seq for aside in stored.quarantined] == [2, 4]
    assert await on_hand(shop, coffee.id) == "8"


async def test_a_sale_of_an_unknown_product_with_a_wrong_total_is_stored_and_marked(shop: Any) -> None:
    odd = sale(shop, new_id("prd"), 1)
    odd.sale_recorded.total.amount = 5
    odd.sale_recorded.sale_time.FromDatetime(datetime(1970, 1, 2, tzinfo=UTC))
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=[odd]))
        assert (await till.next("stored")).op_watermark == 1
    (found,) = (await shop.sales.ListSales(ListSalesRequest(), metadata=shop.auth)).sales
    assert list(found.review_reasons) == ["CLOCK_SUSPECT", "TOTAL_MISMATCH", "PRODUCT_UNKNOWN"]


async def test_the_other_till_sees_the_stock_drop_with_the_watermark_only_for_the_seller(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    async with connected(shop, 0) as seller, connected(shop, 1) as other:
        for till in (seller, other):
            await till.next("snapshot")
            await till.next("snapshot")
        await seller.send(operations=OperationBatch(operations=[sale(shop, coffee.id, 1, "2")]))
        mine, theirs = await seller.next("changes"), await other.next("changes")
        assert mine.changes[0].level.on_hand == theirs.changes[0].level.on_hand == "8"
        assert (mine.op_watermark, theirs.op_watermark) == (1, 0)


async def test_a_till_without_credit_gets_the_latest_in_one_frame_later(shop: Any) -> None:
    async with connected(shop) as till:
        await till.next("snapshot")
        await till.next("snapshot")
        # Nothing is confirmed, so one more frame of this lane may be under way after the snapshot, no more.
        await shop.product("Satu")
        assert (await till.next("changes")).upto_inclusive == 1
        for name in ("Dua", "Tiga", "Empat"):
            await shop.product(name)
        await till.send(ping=Ping())
        await till.next("progress")
        assert sum(frame.HasField("changes") for frame in till.got) == 1
        await till.send(applied=Applied(lane="tenant", epoch=1, upto=1))
        changes = await till.next("changes")
        assert (changes.from_exclusive, changes.upto_inclusive, len(changes.changes)) == (1, 4, 3)


async def test_a_newer_session_fences_the_older_one(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    async with connected(shop) as old:
        await old.next("welcome")
        async with connected(shop) as new:
            await new.next("welcome")
            await old.send(operations=OperationBatch(operations=[sale(shop, coffee.id, 1)]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await old.next("stored")
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
            await new.send(operations=OperationBatch(operations=[sale(shop, coffee.id, 1)]))
            assert (await new.next("stored")).op_watermark == 1


async def test_only_a_device_token_opens_a_link(shop: Any) -> None:
    call = shop.link.Link(metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_who_comes_without_anything_is_told_how_a_till_gets_in(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="python -m edge enroll") as refused:
        await shop.link.Link().read()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_frame_never_ends_within_the_tills_own_upload(shop: Any) -> None:
    """Else the till would take the same sales off its stock twice: once as pending, once in the level."""
    coffee = await shop.product(stock="5000")
    async with connected(shop) as till:
        await till.next("snapshot")
        await till.next("snapshot")
        for start in (1, 501, 1001):
            batch = [sale(shop, coffee.id, seq) for seq in range(start, start + 500)]
            await till.send(operations=OperationBatch(operations=batch))
            assert (await till.next("stored")).op_watermark == start + 499
        frames = [frame.changes for frame in till.got if frame.HasField("changes")]
        while not frames or frames[-1].op_watermark < 1500:
            await till.send(applied=Applied(lane=shop.outlets[0], epoch=1, upto=frames[-1].upto_inclusive if frames else 0))
            frames.append(await till.next("changes"))
        for frame in frames:
            (change,) = frame.changes
            assert int(change.level.on_hand) == 5000 - frame.op_watermark


async def test_a_store_that_comes_back_goes_on_where_it_was(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    operations = [sale(shop, coffee.id, seq) for seq in (1, 2)]
    async with connected(shop, store_epoch=5) as till:
        await till.send(operations=OperationBatch(operations=operations))
        await till.next("stored")
    async with connected(shop, store_epoch=6) as till:
        assert (await till.next("welcome")).op_watermark == 0
        await till.send(operations=OperationBatch(operations=[sale(shop, coffee.id, 1)]))
        assert (await till.next("stored")).op_watermark == 1
    async with connected(shop, store_epoch=5) as till:
        welcome = await till.next("welcome")
        assert (welcome.op_watermark, welcome.last_sale_number) == (2, "KMG-2611-100002")
    assert await on_hand(shop, coffee.id) == "7"


async def test_the_watermark_rises_even_where_nothing_happened(shop: Any) -> None:
    """A repeat of a stored sale, or one put aside, has no event; the till must still stop counting it as pending."""
    coffee = await shop.product(stock="10")
    one = sale(shop, coffee.id, 1)
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=[one]))
        await till.next("stored")
    one.op_seq = 3  # as a store that was restored from a copy numbers it
    two = Operation(op_seq=2, op_id="x", sale_recorded=Sale(id="poison"))
    place = [LanePosition(lane=shop.outlets[0], epoch=1, seq=4), LanePosition(lane="tenant", epoch=1, seq=1)]
    async with connected(shop, positions=place) as till:
        await till.next("welcome")
        await till.send(operations=OperationBatch(operations=[two, one]))
        assert (await till.next("stored")).op_watermark == 3
        while (frame := await till.next("changes")).op_watermark < 3:
            pass
        assert (frame.from_exclusive, frame.upto_inclusive, list(frame.changes)) == (4, 4, [])
    assert await on_hand(shop, coffee.id) == "9"


@pytest.mark.parametrize("field", ["channel", "cashier", "customer_id"])
async def test_data_that_the_database_refuses_is_put_aside(shop: Any, field: str) -> None:
    coffee = await shop.product(stock="10")
    bad = sale(shop, coffee.id, 1)
    setattr(bad.sale_recorded, field, "\0")
    huge = sale(shop, coffee.id, 2)
    huge.sale_recorded.external_id = "".join(chr(33 + number * 7 % 90) + str(number) for number in range(9000))
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=[bad, huge, sale(shop, coffee.id, 3)]))
        stored = await till.next("stored")
        assert stored.op_watermark == 3
        assert 2 in [aside.op_seq for aside in stored.quarantined]
    assert await on_hand(shop, coffee.id) == str(10 - 3 + len(stored.quarantined))


async def test_lines_with_one_id_are_told_apart(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    odd = sale(shop, coffee.id, 1)
    odd.sale_recorded.lines.append(odd.sale_recorded.lines[0])
    total_up(odd.sale_recorded, datetime.now(UTC).date())
    async with connected(shop) as till:
        await till.send(operations=OperationBatch(operations=[odd]))
        await till.next("stored")
    (found,) = (await shop.sales.ListSales(ListSalesRequest(), metadata=shop.auth)).sales
    assert len({line.id for line in found.lines}) == 2
    assert list(found.review_reasons) == ["LINE_IDS_REPLACED"]
