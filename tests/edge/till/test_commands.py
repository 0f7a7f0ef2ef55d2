"""What the cloud may tell a till to do at its counter, on a printer that really listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge.link.executions import CommandFailed
from edge.storage.folder import Storage
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.commands import Commands
from edge.till.receipts import Receipts
from edge.till.requests import CheckoutRequest, ScanRequest, TenderRequest
from gipos.edge.v1.link_pb2 import Command, Reprint

DRAWER = b"\x1bp"


@pytest.fixture
def receipts(stocked: Storage, printer: Any) -> Callable[[], Receipts]:
    return lambda: Receipts(stocked, address=f"tcp://127.0.0.1:{printer.port}", paper=58)


async def test_a_copy_is_marked_and_opens_no_drawer(stocked: Storage, printer: Any, receipts: Any) -> None:
    async with receipts() as open_receipts:
        await Cart(stocked).scan(ScanRequest(barcode="8991002101418", product_id="", quantity=1000))
        paid = CheckoutRequest(tenders=(TenderRequest("cash", 20_000),))
        done = await Checkout(stocked, open_receipts, lambda: None).complete(paid, None)
        await open_receipts.settled(done.receipt_key, 10)
        ability = Commands(open_receipts).abilities()["reprint"]
        assert await ability(Command(reprint=Reprint(sale_id=done.sale.id))) == "Done."
        with pytest.raises(CommandFailed, match="no sale sal_none"):
            await ability(Command(reprint=Reprint(sale_id="sal_none")))
    first, copy = printer.receipts
    assert b"SALINAN" not in first
    assert b"SALINAN" in copy
    assert DRAWER not in copy


async def test_the_drawer_opens_and_nothing_is_printed(printer: Any, receipts: Any) -> None:
    async with receipts() as open_receipts:
        assert await Commands(open_receipts).abilities()["open_drawer"](Command()) == "Done."
    assert any(DRAWER in job for job in printer.jobs)
    assert printer.receipts == []


async def test_a_test_page_names_the_till(printer: Any, receipts: Any) -> None:
    async with receipts() as open_receipts:
        assert await Commands(open_receipts).abilities()["test_print"](Command()) == "Done."
    (page,) = printer.receipts
    assert b"TES CETAK" in page
    assert b"Kasa 2" in page
    assert DRAWER not in page


async def test_a_till_without_a_printer_says_so(stocked: Storage) -> None:
    async with Receipts(stocked, address="", paper=58) as none:
        for ability in Commands(none).abilities().values():
            with pytest.raises(CommandFailed, match="no printer"):
                await ability(Command(reprint=Reprint(sale_id="sal_1")))
