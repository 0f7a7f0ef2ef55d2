from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.storage import facts, outbox
from edge.storage import sales as stored_sales
from edge.storage.folder import Storage
from edge.till import stock
from edge.till.cart import Cart
from edge.till.checkout import CheckedOut, Checkout
from edge.till.receipts import Receipts
from edge.till.refusals import CartEmpty, PrinterMissing, ProductNotForSale, TillNotReady
from edge.till.requests import CheckoutRequest, DiscountRequest, ScanRequest, TenderRequest
from kernel.errors import IdempotencyMismatch, Invalid, NotFound

COFFEE, TOAST, RICE, OLD_TEA = "8991002101418", "8998866200301", "KG-3", "8999909028234"
CASH = CheckoutRequest(tenders=(TenderRequest("cash", 100_000),))


class Counter:
    """A till's counter: cart, checkout and receipts over real files, without network and printer."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.rung = 0
        self.cart = Cart(storage)
        self.receipts = Receipts(storage, address="", paper=58)
        storage.clock.heard()
        self.checkout = Checkout(storage, self.receipts, self.ring, is_online=lambda: True)

    def ring(self) -> None:
        self.rung += 1

    async def scan(self, code: str, quantity: int = 1000) -> Any:
        return await self.cart.scan(ScanRequest(barcode=code, product_id="", quantity=quantity))

    async def pay(self, request: CheckoutRequest = CASH, key: str | None = None) -> CheckedOut:
        return await self.checkout.complete(request, key)


@pytest.fixture
async def counter(stocked: Storage) -> AsyncIterator[Counter]:
    counter = Counter(stocked)
    async with counter.receipts:
        yield counter


def reasons(error: pytest.ExceptionInfo[Invalid]) -> set[tuple[str, str]]:
    return {(violation.field, violation.reason) for violation in error.value.violations}


async def test_a_product_scanned_twice_adds_up(counter: Counter) -> None:
    await counter.scan(COFFEE)
    view = await counter.scan(COFFEE, 1500)
    (line,) = view.sale.lines
    assert (line.quantity, line.total.amount) == ("2.5", 45_000)
    assert view.sale.total.amount == 45_000


async def test_a_till_that_never_heard_from_the_cloud_says_so(storage: Storage) -> None:
    counter = Counter(storage)
    with pytest.raises(TillNotReady, match="Connect it to the network once"):
        await counter.scan(COFFEE)
    with pytest.raises(TillNotReady):
        await counter.pay()


async def test_a_payment_qr_is_explained(counter: Counter) -> None:
    with pytest.raises(Invalid) as error:
        await counter.scan("00020101021126680016ID.CO.CONTOH.WWW" + "0" * 400)
    (violation,) = error.value.violations
    assert violation.reason == "PAYMENT_QR"
    assert "QRIS" in violation.message


@pytest.mark.parametrize("code", ["4006381333931", "KG-9"])
async def test_a_code_nobody_has_is_not_found(counter: Counter, code: str) -> None:
    with pytest.raises(NotFound, match=code):
        await counter.scan(code)


async def test_a_mistyped_code_is_explained(counter: Counter) -> None:
    with pytest.raises(Invalid) as error:
        await counter.scan("8991002101419")
    assert "check digit" in error.value.violations[0].message


async def test_a_product_that_is_switched_off_cannot_be_scanned(counter: Counter) -> None:
    with pytest.raises(ProductNotForSale, match="Teh Lama"):
        await counter.scan(OLD_TEA)


async def test_lines_are_changed_removed_and_cleared(counter: Counter) -> None:
    await counter.scan(COFFEE)
    await counter.scan(TOAST)
    view = await counter.cart.change("prd_1", 3000)
    assert [(line.product_id, line.quantity) for line in view.sale.lines] == [("prd_1", "3"), ("prd_2", "1")]
    view = await counter.cart.remove("prd_1")
    assert [line.product_id for line in view.sale.lines] == ["prd_2"]
    for attempt in (counter.cart.remove("prd_1"), counter.cart.change("prd_1", 1)):
        with pytest.raises(NotFound):
            await attempt
    assert (await counter.cart.clear()).sale.total.amount == 0


async def test_more_than_a_sale_can_hold_is_refused_and_changes_nothing(counter: Counter) -> None:
    await counter.scan(COFFEE)
    with pytest.raises(Invalid) as error:
        await counter.scan(COFFEE, 10**12)
    assert reasons(error) == {("quantity", "OUT_OF_RANGE")}
    assert (await counter.cart.view()).sale.total.amount == 18_000


async def test_a_checkout_writes_sale_upload_deltas_and_receipt_and_empties_the_cart(counter: Counter) -> None:
    await counter.scan(COFFEE, 2000)
    await counter.scan(RICE, 1250)
    done = await counter.pay(CheckoutRequest(tenders=(TenderRequest("cash", 60_000),), cashier="Sari"))
    sale = done.sale
    assert (sale.total.amount, sale.paid_total.amount, sale.change.amount) == (54_625, 60_000, 5_375)
    assert (sale.channel, sale.cashier, sale.till_id, sale.outlet_id) == ("pos", "Sari", "dev_kasa2", "out_kemang")
    assert sale.id.startswith("sal_")
    assert all(line.id.startswith("sli_") for line in sale.lines)
    (operation,) = await counter.storage.store.read(lambda connection: outbox.batch(connection, 1, 10))
    assert (operation.op_seq, operation.op_id, operation.sale_recorded) == (1, sale.id, sale)
    shown = await stock.shown(counter.storage, ["prd_1", "prd_3"])
    assert (shown["prd_1"].on_hand, shown["prd_1"].pending, shown["prd_1"].reserved) == (8000, -2000, 1000)
    assert shown["prd_3"].on_hand == -1250, "a product without a level counts from 0"
    assert (await counter.cart.view()).lines == ()
    assert counter.rung == 1


async def test_receipt_numbers_have_no_gaps_even_when_a_checkout_fails(counter: Counter) -> None:
    numbers = []
    for _ in range(3):
        await counter.scan(COFFEE)
        with pytest.raises(Invalid):
            await counter.pay(CheckoutRequest(tenders=(TenderRequest("cash", 1),)))
        numbers.append((await counter.pay()).sale.number)
    assert [number[-6:] for number in numbers] == ["200001", "200002", "200003"]
    assert all(number.startswith("KMG-") and len(number) == len("KMG-2611-200001") for number in numbers)


async def test_a_failing_commit_leaves_everything_as_it_was(counter: Counter) -> None:
    await counter.scan(COFFEE)

    # The last statement of the checkout fails, as on a broken disk.
    await counter.storage.store.write(
        lambda connection: connection.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON cart_lines BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    )
    with pytest.raises(Exception, match="no"):
        await counter.pay()
    await counter.storage.store.write(lambda connection: connection.execute("DROP TRIGGER broken"))
    assert await counter.storage.store.read(stored_sales.count) == 0
    assert (await counter.storage.store.read(outbox.standing)).last_op_seq == 0
    assert await counter.storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == 0
    assert (await counter.pay()).sale.number.endswith("200001")


@pytest.mark.parametrize(
    ("tenders", "reason"),
    [
        ((), "REQUIRED"),
        ((TenderRequest("cash", 17_999),), "NOT_ENOUGH"),
        ((TenderRequest("card", 18_001),), "TOO_MUCH"),
        ((TenderRequest("card", 10_000), TenderRequest("cash", 7_999)), "NOT_ENOUGH"),
    ],
)
async def test_what_does_not_pay_is_refused(counter: Counter, tenders: tuple[TenderRequest, ...], reason: str) -> None:
    await counter.scan(COFFEE)
    with pytest.raises(Invalid) as error:
        await counter.pay(CheckoutRequest(tenders=tenders))
    assert reasons(error) == {("tenders", reason)}


async def test_change_comes_from_cash_only(counter: Counter) -> None:
    await counter.scan(COFFEE)
    done = await counter.pay(CheckoutRequest(tenders=(TenderRequest("card", 10_000), TenderRequest("cash", 10_000))))
    assert done.sale.change.amount == 2_000


async def test_discounts_lower_the_total_and_may_not_exceed_the_goods(counter: Counter) -> None:
    await counter.scan(COFFEE)
    with pytest.raises(Invalid) as error:
        await counter.pay(CheckoutRequest(tenders=CASH.tenders, discounts=(DiscountRequest("Promo", 18_001),)))
    assert reasons(error) == {("discounts", "OUT_OF_RANGE")}
    done = await counter.pay(CheckoutRequest(discounts=(DiscountRequest("Gratis", 18_000),)))
    assert done.sale.total.amount == 0


async def test_an_empty_cart_sells_nothing(counter: Counter) -> None:
    with pytest.raises(CartEmpty):
        await counter.pay()


async def test_the_same_key_gives_the_same_sale_also_when_both_come_at_once(counter: Counter) -> None:
    await counter.scan(COFFEE)
    both = await asyncio.gather(counter.pay(key="k1"), counter.pay(key="k1"))
    assert both[0].sale == both[1].sale
    assert sorted(done.repeated for done in both) == [False, True]
    assert await counter.storage.store.read(stored_sales.count) == 1
    assert counter.rung == 1


async def test_a_key_with_other_content_is_refused(counter: Counter) -> None:
    await counter.scan(COFFEE)
    await counter.pay(key="k1")
    await counter.scan(TOAST)
    with pytest.raises(IdempotencyMismatch):
        await counter.pay(CheckoutRequest(tenders=(TenderRequest("cash", 99_000),)), key="k1")


async def test_a_till_without_a_printer_sells_and_says_why_nothing_came_out(counter: Counter) -> None:
    await counter.scan(COFFEE)
    done = await counter.pay()
    row = await counter.receipts.settled(done.receipt_key, 2)
    assert (row.state, row.problem) == ("failed", "no_printer")
    with pytest.raises(PrinterMissing):
        await counter.receipts.reprint(done.sale.id)
