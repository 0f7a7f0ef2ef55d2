"""The counter without the cloud: limits before the sale is stored, clocks that are wrong, disks that are full, no catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from edge.storage import carts, facts, lanes, outbox, products
from edge.storage import sales as stored_sales
from edge.storage.database import StorageFull
from edge.storage.folder import Storage
from edge.storage.policies import Rules
from edge.storage.space import Budget, Room
from edge.till import edits, limits, shelves, stock
from edge.till.cart import Cart
from edge.till.checkout import CheckedOut, Checkout
from edge.till.receipts import Receipts
from edge.till.refusals import CatalogueComplete, OfflineLimitReached
from edge.till.requests import CheckoutRequest, CountRequest, EditRequest, ScanRequest, TenderRequest
from edge.till.supervisors import Supervisors
from gipos.edge.v1.link_pb2 import Change, Changes, ClockState, Operation
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level
from kernel.errors import NotFound

COFFEE = "8991002101418"
HOUR_MS = 3600 * 1000
PIN = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$"


class Counter:
    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.is_online = False
        self.cart = Cart(storage)
        self.receipts = Receipts(storage, address="", paper=58)
        self.checkout = Checkout(storage, self.receipts, lambda: None, is_online=lambda: self.is_online)

    async def sell(self, method: str = "cash", code: str = COFFEE, key: str | None = None) -> CheckedOut:
        await self.cart.clear()
        await self.cart.scan(ScanRequest(barcode=code, product_id="", quantity=1000))
        return await self.checkout.complete(CheckoutRequest(tenders=(TenderRequest(method, 18_000),)), key)

    async def last(self) -> Operation:
        seq = await self.storage.store.read(outbox.last_op_seq)
        (operation,) = await self.storage.store.read(lambda connection: outbox.batch(connection, seq, 1))
        return operation


@pytest.fixture
async def counter(stocked: Storage) -> AsyncIterator[Counter]:
    counter = Counter(stocked)
    async with counter.receipts:
        yield counter


def rules(**fields: Any) -> Rules:
    return replace(Rules(version=1), **fields)


async def test_at_the_limit_a_sale_is_refused_before_anything_is_stored_and_the_next_one_tells_the_owner(
    counter: Counter,
) -> None:
    counter.storage.rules = rules(most_sales=2)
    await counter.sell()
    await counter.sell()
    for _ in range(2):
        with pytest.raises(OfflineLimitReached, match="2 penjualan belum terkirim"):
            await counter.sell()
    assert await counter.storage.store.read(stored_sales.count) == 2
    assert await counter.storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == 2
    assert len(await counter.storage.store.read(carts.lines)) == 1, "the cart is still there"
    await counter.storage.store.write(lambda connection: outbox.acknowledge(connection, 2, 1))
    sale = (await counter.sell()).sale
    assert sale.review_reasons == ["OFFLINE_SALE_REFUSED"]
    assert "penjualan ditolak karena batas offline 2 kali" in sale.note
    assert (await counter.sell()).sale.review_reasons == [], "told once"


async def test_a_repeated_request_gets_its_sale_whatever_the_limits_say_by_then(counter: Counter) -> None:
    counter.storage.rules = rules(most_sales=1)
    first = await counter.sell(key="k1")
    paid = CheckoutRequest(tenders=(TenderRequest("cash", 18_000),))
    again = await counter.checkout.complete(paid, "k1")
    assert (again.repeated, again.sale) == (True, first.sale)


async def test_a_supervisor_lifts_a_limit_and_the_sale_says_so(counter: Counter, hands: Any) -> None:
    import base64
    import hashlib

    made = hashlib.scrypt(b"2468", salt=b"0123456789abcdef", n=16, r=8, p=1, dklen=32)
    phc = PIN + base64.b64encode(made).decode().rstrip("=")
    counter.storage.rules = rules(longest_hours=1, override_minutes=10, supervisor_pins=(phc,))
    await counter.sell()
    hands.pass_ms(2 * HOUR_MS)
    with pytest.raises(OfflineLimitReached, match="Minta supervisor"):
        await counter.sell()
    await Supervisors(counter.storage).permit("2468")
    sale = (await counter.sell()).sale
    assert set(sale.review_reasons) == {"OFFLINE_SALE_REFUSED", "OFFLINE_LIMIT_LIFTED", "OFFLINE_LIMIT_PASSED"}
    assert (await counter.sell()).sale.review_reasons == ["OFFLINE_LIMIT_PASSED"]
    hands.pass_ms(11 * 60_000)
    with pytest.raises(OfflineLimitReached):
        await counter.sell()


async def test_hours_count_from_when_the_cloud_was_heard_and_no_clock_can_be_turned_to_change_that(
    counter: Counter, hands: Any
) -> None:
    counter.storage.rules = rules(longest_hours=72)
    counter.storage.clock.heard()
    hands.pass_ms(71 * HOUR_MS)
    await counter.sell()
    hands.wall_ms -= 48 * HOUR_MS
    hands.pass_ms(2 * HOUR_MS)
    with pytest.raises(OfflineLimitReached, match="73 jam tanpa internet"):
        await counter.sell()
    await counter.storage.store.write(counter.storage.clock.save)
    hands.reboot()
    hands.wall_ms -= 48 * HOUR_MS
    with pytest.raises(OfflineLimitReached):
        await counter.sell()
    counter.storage.clock.heard()
    await counter.sell()


async def test_offline_only_the_owners_tenders_are_taken(counter: Counter, hands: Any) -> None:
    counter.storage.rules = rules(tenders=frozenset({"cash"}))
    with pytest.raises(OfflineLimitReached, match="hanya boleh dibayar dengan: tunai"):
        await counter.sell("qris")
    counter.is_online = True
    counter.storage.clock.heard()
    assert (await counter.sell("qris")).sale.tenders[0].method == "qris"
    hands.pass_ms(61_000)
    with pytest.raises(OfflineLimitReached):
        await counter.sell("qris")


async def test_without_rules_of_the_owners_cash_is_never_refused(counter: Counter, hands: Any) -> None:
    assert (await counter.sell("cash")).sale.review_reasons == []
    with pytest.raises(OfflineLimitReached, match=r"hanya boleh dibayar dengan: tunai\. Terima tunai"):
        await counter.sell("qris")
    hands.pass_ms(73 * HOUR_MS)
    sale = (await counter.sell("cash")).sale
    assert set(sale.review_reasons) == {"OFFLINE_SALE_REFUSED", "OFFLINE_LIMIT_PASSED"}


async def test_every_operation_says_what_the_till_knew_of_the_time_and_of_its_outlet(counter: Counter, hands: Any) -> None:
    true = hands.wall_ms + 7 * HOUR_MS
    counter.storage.clock.measured(hands.ticks_ms - 40, true - 20, true - 20, hands.ticks_ms)
    await counter.sell()
    operation = await counter.last()
    assert operation.seen_seq == 2
    assert operation.clock.state == ClockState.CLOCK_STATE_SYNCED
    assert operation.clock.device_time.ToMilliseconds() == hands.wall_ms
    assert operation.clock.offset_ms == 7 * HOUR_MS
    assert 20 <= operation.clock.uncertainty_ms <= 25
    assert operation.occurred_time.ToMilliseconds() == true
    assert operation.sale_recorded.sale_time == operation.occurred_time


async def test_a_tablet_in_1970_still_sells_and_its_receipt_shows_the_best_known_time(counter: Counter, hands: Any) -> None:
    await counter.sell()
    seen = hands.wall_ms
    hands.reboot()
    hands.wall_ms = 1_000
    sale = (await counter.sell()).sale
    assert sale.sale_time.ToMilliseconds() == seen + hands.ticks_ms
    operation = await counter.last()
    assert operation.clock.state == ClockState.CLOCK_STATE_WRONG
    assert operation.clock.device_time.ToMilliseconds() == 1_000
    shown = datetime.fromtimestamp(seen / 1000, UTC)
    assert sale.business_date >= shown.date().isoformat()


async def test_when_the_reserve_is_gone_nothing_new_is_begun_and_what_was_begun_is_finished(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = counter.storage.space
    await counter.cart.scan(ScanRequest(barcode=COFFEE, product_id="", quantity=1000))
    assert space.has_reserve
    space.give_up()
    monkeypatch.setattr(space, "free", lambda: 8 * 1024 * 1024)
    assert space.room() is Room.FULL
    done = await counter.checkout.complete(CheckoutRequest(tenders=(TenderRequest("cash", 18_000),)), None)
    with pytest.raises(StorageFull, match="jangan terima uang dulu"):
        await counter.cart.scan(ScanRequest(barcode=COFFEE, product_id="", quantity=1000))
    monkeypatch.setattr(space, "free", lambda: 1024)
    await counter.storage.store.write(
        lambda connection: carts.put(connection, carts.CartLine(Product(id="prd_1", name="Kopi"), 1000))
    )
    with pytest.raises(StorageFull):
        await counter.checkout.complete(CheckoutRequest(), None)
    monkeypatch.setattr(space, "free", lambda: 10**12)
    await counter.sell()
    assert space.has_reserve, "made again as soon as there is room"
    assert done.sale.number.endswith("1")


@pytest.mark.parametrize(
    ("free", "room"), [(10**9, Room.AMPLE), (499_999_999, Room.SPARSE), (99_999_999, Room.LOW), (1000, Room.LOW)]
)
def test_the_budget(storage: Storage, monkeypatch: pytest.MonkeyPatch, free: int, room: Room) -> None:
    assert Budget().reserve == 32 * 1024 * 1024
    storage.space.budget = Budget()
    monkeypatch.setattr(storage.space, "free", lambda: free)
    assert storage.space.room() is room


def test_on_a_tiny_disk_the_reserve_leaves_room_for_sales() -> None:
    assert Budget.of(64 * 10**9) == Budget()
    tiny = Budget.of(32 * 1024 * 1024)
    assert (tiny.reserve, tiny.margin, tiny.least) == (2 * 1024 * 1024, 1024 * 1024, 256 * 1024)


async def test_a_till_without_its_catalogue_sells_by_typed_name_and_price(
    storage: Storage, identity: Any, product: Callable[..., Any]
) -> None:
    from edge.storage import outlets

    await storage.replica.write(lambda connection: outlets.put(connection, identity))
    counter = Counter(storage)
    async with counter.receipts:
        typed = ScanRequest(barcode="", product_id="", quantity=2000, name="Kopi botol", price=9_000)
        await counter.cart.scan(typed)
        sale = (await counter.checkout.complete(CheckoutRequest(tenders=(TenderRequest("cash", 20_000),)), None)).sale
        assert (sale.lines[0].name, sale.total.amount, sale.change.amount) == ("Kopi botol", 18_000, 2_000)
        assert sale.review_reasons == ["PRICE_TYPED"]
        await storage.replica.write(lambda connection: products.put(connection, product(1, barcode=COFFEE), 1))
        assert (await counter.sell()).sale.review_reasons == [], "what is known is sold as always"


async def test_a_till_with_its_catalogue_takes_no_typed_prices(counter: Counter) -> None:
    with pytest.raises(CatalogueComplete):
        await counter.cart.scan(ScanRequest(barcode="", product_id="", quantity=1000, name="Kopi", price=1))


async def on_hand(storage: Storage, product_id: str = "prd_1") -> int:
    return (await stock.of_product(storage, product_id)).on_hand


async def test_a_count_is_queued_with_what_was_seen_and_shown_at_once(counter: Counter) -> None:
    await counter.sell()
    shown = await shelves.count(counter.storage, CountRequest(COFFEE, "", 12_000, "rak depan"))
    assert (shown.on_hand, shown.pending) == (12_000, 2_000)
    operation = await counter.last()
    assert (operation.stock_counted.product_id, operation.stock_counted.counted) == ("prd_1", "12")
    assert (operation.stock_counted.note, operation.seen_seq, operation.op_seq) == ("rak depan", 2, 2)
    await counter.sell()
    assert await on_hand(counter.storage) == 11_000
    assert (await shelves.count(counter.storage, CountRequest("", "prd_3", 0))).on_hand == 0
    with pytest.raises(NotFound):
        await shelves.count(counter.storage, CountRequest("", "prd_99", 0))


async def test_an_edit_is_queued_and_sold_at_once_until_the_catalogue_has_moved_on(
    counter: Counter, product: Callable[..., Any], hands: Any
) -> None:
    change = EditRequest(price=20_000, barcodes=(COFFEE, "KOPI-1"))
    shown = await edits.edit(counter.storage, "prd_1", change)
    assert (shown.price.amount, shown.name) == (20_000, "Kopi Susu")
    operation = await counter.last()
    assert list(operation.product_edited.fields) == ["price", "barcodes"]
    assert (operation.product_edited.product.id, operation.seen_seq) == ("prd_1", 2)
    await counter.cart.scan(ScanRequest(barcode="KOPI-1", product_id="", quantity=1000))
    assert (await counter.cart.view()).sale.total.amount == 20_000
    await counter.storage.store.write(lambda connection: outbox.acknowledge(connection, 9, counter.storage.clock()))
    assert (await edits.overlaid(counter.storage, [product(1)]))[0].price.amount == 20_000, "its effect comes down in a moment"
    newer = product(1, price=19_000, etag="2")
    assert (await edits.overlaid(counter.storage, [newer]))[0].price.amount == 19_000, "what the cloud says counts"
    hands.pass_ms(61_000)
    assert (await edits.overlaid(counter.storage, [product(1)]))[0].price.amount == 18_000, "the cloud has refused it"


async def test_an_edit_that_was_put_aside_is_no_longer_shown(counter: Counter, product: Callable[..., Any]) -> None:
    await edits.edit(counter.storage, "prd_1", EditRequest(name="Kopi Baru", active=False))
    assert (await edits.overlaid(counter.storage, [product(1)]))[0].name == "Kopi Baru"
    await counter.storage.store.write(lambda connection: outbox.quarantine(connection, [(1, "NOT_UNDERSTOOD", "")]))
    assert (await edits.overlaid(counter.storage, [product(1)]))[0].name == "Barang 1"
    with pytest.raises(NotFound):
        await edits.edit(counter.storage, "prd_99", EditRequest(name="x"))


async def test_an_edit_and_what_comes_down_meanwhile_are_both_seen(counter: Counter, product: Callable[..., Any]) -> None:
    await edits.edit(counter.storage, "prd_1", EditRequest(name="Kopi Baru"))
    changed = product(1, name="Kopi Susu", price=21_000, barcode=COFFEE, etag="5")
    frame = Changes(lane="tenant", epoch=1, from_exclusive=4, upto_inclusive=5, changes=[Change(seq=5, product=changed)])
    await counter.storage.replica.write(lambda connection: lanes.apply(connection, frame))
    view = await counter.cart.scan(ScanRequest(barcode=COFFEE, product_id="", quantity=1000))
    assert (view.sale.lines[0].name, view.sale.total.amount) == ("Kopi Baru", 21_000)


async def test_sales_made_at_once_cannot_pass_the_limit_together(counter: Counter) -> None:
    counter.storage.rules = rules(most_amount=40_000)
    await counter.sell()
    await counter.sell()
    outcomes = await asyncio.gather(*(counter.sell() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, Exception) for one in outcomes)
    assert (await counter.storage.store.read(outbox.unsent)).amount == 36_000


async def test_sales_a_restored_cloud_has_lost_do_not_stop_the_counter(counter: Counter) -> None:
    counter.storage.rules = rules(most_sales=3, most_amount=60_000)
    counter.is_online = True
    counter.storage.clock.heard()
    for acknowledged in (2, 4):
        for _ in range(2):
            await counter.sell()
        await counter.storage.store.write(partial(outbox.acknowledge, watermark=acknowledged, now_ms=1))
    await counter.storage.store.write(lambda connection: outbox.settle(connection, 0, 2))
    assert (await counter.storage.store.read(outbox.unsent)).sales == 4, "people see what waits"
    assert limits.warnings(counter.storage.rules, await counter.checkout.standing()) == []
    for _ in range(3):
        await counter.sell()
    with pytest.raises(OfflineLimitReached, match="3 penjualan belum terkirim"):
        await counter.sell()


async def test_a_copy_whose_place_was_forgotten_lacks_nothing_that_is_counted_in(counter: Counter) -> None:
    for _ in range(3):
        await counter.sell()
    await counter.storage.store.write(lambda connection: outbox.acknowledge(connection, 2, 1))
    level = Level(product_id="prd_1", outlet_id="out_kemang", on_hand="8")
    frame = Changes(lane="out_kemang", epoch=1, from_exclusive=2, upto_inclusive=3, op_watermark=2)
    frame.changes.add(seq=3, level=level)
    await counter.storage.replica.write(lambda connection: lanes.apply(connection, frame))
    assert await on_hand(counter.storage) == 7_000
    await counter.storage.replica.write(lambda connection: lanes.forget(connection, "out_kemang"))
    assert await on_hand(counter.storage) == 7_000
    assert (await shelves.count(counter.storage, CountRequest(COFFEE, "", 6_000))).on_hand == 6_000
    assert (await counter.last()).stock_counted.expected == "7"
