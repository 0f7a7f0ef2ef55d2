"""Receipts that were committed and not printed: taken up when they can be, failed where a cashier sees it, never in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.storage import outlets
from edge.storage.folder import Storage
from edge.till.cart import Cart
from edge.till.checkout import CheckedOut, Checkout
from edge.till.receipts import Receipts
from edge.till.requests import CheckoutRequest, ScanRequest, TenderRequest

CASH = CheckoutRequest(tenders=(TenderRequest("cash", 100_000),))
DRAWER = b"\x1bp"


@pytest.fixture
def receipts(stocked: Storage, printer: Any) -> Callable[[], Receipts]:
    """Makes the receipts of one start of the till; what an unopened one takes up is never printed, as after a crash."""
    return lambda: Receipts(stocked, address=f"tcp://127.0.0.1:{printer.port}", paper=58)


async def sell(storage: Storage, receipts: Receipts, key: str | None = None) -> CheckedOut:
    await Cart(storage).scan(ScanRequest(barcode="8991002101418", product_id="", quantity=1000))
    return await Checkout(storage, receipts, lambda: None).complete(CASH, key)


async def test_receipts_that_cannot_be_composed_yet_are_printed_in_order_once_the_outlet_is_known(
    stocked: Storage, printer: Any, receipts: Any, identity: outlets.Identity
) -> None:
    made = [await sell(stocked, receipts()) for _ in range(3)]
    await stocked.replica.write(outlets.forget)
    async with receipts() as again:
        await again.take_up_waiting()
        for done in made:
            row = await again.settled(done.receipt_key, 5)
            assert (row.state, row.problem) == ("queued", "")
        assert printer.receipts == []
        await stocked.replica.write(lambda connection: outlets.put(connection, identity))
        await again.take_up_waiting()
        await again.take_up_waiting()
        assert (await again.settled(made[-1].receipt_key, 5)).state == "printed"
        assert len(printer.receipts) == 3
        for done, paper in zip(made, printer.receipts, strict=True):
            assert done.sale.number.encode() in paper
            assert DRAWER not in paper, "a drawer does not open by surprise"


async def test_a_reprint_that_cannot_be_composed_yet_waits(
    stocked: Storage, printer: Any, receipts: Any, identity: outlets.Identity
) -> None:
    async with receipts() as till:
        done = await sell(stocked, till)
        await till.settled(done.receipt_key, 5)
        await stocked.replica.write(outlets.forget)
        copy = await till.reprint(done.sale.id)
        assert (await till.settled(copy.key, 5)).state == "queued"
        await stocked.replica.write(lambda connection: outlets.put(connection, identity))
        await till.take_up_waiting()
        assert (await till.settled(copy.key, 5)).state == "printed"


@pytest.mark.parametrize("damage", ["DELETE FROM sales WHERE id = ?", "UPDATE sales SET body = x'ff' WHERE id = ?"])
async def test_a_receipt_that_can_never_be_composed_has_failed_and_holds_nothing_up(
    stocked: Storage, printer: Any, receipts: Any, damage: str
) -> None:
    broken, whole = [await sell(stocked, receipts()) for _ in range(2)]
    await stocked.store.write(lambda connection: connection.execute(damage, (broken.sale.id,)))
    async with receipts() as again:
        row = await again.settled(broken.receipt_key, 5)
        assert (row.state, row.problem) == ("failed", "unprintable")
        assert (await again.settled(whole.receipt_key, 5)).state == "printed"
    async with receipts() as once_more:
        assert (await once_more.settled(broken.receipt_key, 5)).state == "failed"
    assert len(printer.receipts) == 1


async def test_a_repeated_checkout_takes_up_a_receipt_that_was_committed_and_not_taken_up(
    stocked: Storage, printer: Any, receipts: Any
) -> None:
    async with receipts() as till:
        done = await sell(stocked, receipts(), key="visit-1")
        checkout = Checkout(stocked, till, lambda: None)
        for _ in range(2):
            again = await checkout.complete(CASH, "visit-1")
            assert (again.sale, again.repeated) == (done.sale, True)
            assert (await till.settled(done.receipt_key, 5)).state == "printed"
    (paper,) = printer.receipts
    assert DRAWER not in paper, "nobody knows how long ago the sale was"
