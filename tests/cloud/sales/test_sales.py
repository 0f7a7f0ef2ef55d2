"""Sales by integrations: prices, totals, stock, events, refunds, repeats and refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1.common_pb2 import Money
from gipos.v1.customers_pb2 import CreateCustomerRequest, Customer
from gipos.v1.events_pb2 import ListEventsRequest
from gipos.v1.inventory_pb2 import GetInventoryRequest, ListMovementsRequest
from gipos.v1.sales_pb2 import (
    CreateSaleRequest,
    GetSaleRequest,
    ListSalesRequest,
    RefundLine,
    RefundSaleRequest,
    Sale,
    SaleLine,
    SaleStatus,
    Tender,
)

pytestmark = pytest.mark.parametrize("shop", ["over gRPC", "in process", "one by one"], indirect=True)


def violations(error: Any) -> dict[str, str]:
    """Field to reason."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.reason for violation in bad.field_violations})
    return found


def reason(error: Any) -> str:
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


def cash(amount: int) -> Tender:
    return Tender(method="cash", amount=Money(amount=amount))


async def test_a_sale_is_priced_taxed_and_taken_from_stock(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=coffee.id, quantity="3")], tenders=[cash(60000)])
    sale = await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert (sale.total.amount, sale.tax_total.amount, sale.change.amount) == (54000, 5351, 6000)
    assert sale.status == SaleStatus.SALE_STATUS_COMPLETED
    assert sale.lines[0].name == "Kopi Susu"
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=coffee.id), metadata=shop.auth)
    assert stock.on_hand == "7"
    again = await shop.sales.GetSale(GetSaleRequest(id=sale.id), metadata=shop.auth)
    assert again == sale
    events = await shop.events.ListEvents(ListEventsRequest(outlet_id=shop.outlets[0]), metadata=shop.auth)
    assert [event.type for event in events.events][-3:] == ["sale.created", "sale.completed", "inventory.updated"]
    assert [event.sequence for event in events.events if event.outlet_id] == list(range(1, 5))


async def test_the_ledger_adds_up_to_the_stock(shop: Any) -> None:
    rice = await shop.product("Beras", 14000, stock="5.5", unit="kg")
    for quantity in ("0.75", "1.25"):
        draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=rice.id, quantity=quantity)])
        await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    ledger = await shop.inventory.ListMovements(ListMovementsRequest(product_id=rice.id), metadata=shop.auth)
    assert [(m.reason, m.quantity, m.on_hand_after) for m in ledger.movements] == [
        ("sale", "-1.25", "3.5"),
        ("sale", "-0.75", "4.75"),
        ("count", "5.5", "5.5"),
    ]


async def test_every_violation_of_a_bad_sale_is_listed(shop: Any) -> None:
    bad = Sale(
        business_date="2026-13-01",
        sale_time=Timestamp(seconds=2**62),
        channel="Not A Word",
        lines=[SaleLine(quantity="0"), SaleLine(product_id="prd_x", quantity="1.2345", unit_price=Money(amount=-1))],
        tenders=[Tender(amount=Money(amount=5))],
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(CreateSaleRequest(sale=bad), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value) == {
        "business_date": "INVALID_DATE",
        "sale_time": "INVALID_TIME",
        "channel": "INVALID",
        "lines[0].product_id": "REQUIRED",
        "lines[0].quantity": "OUT_OF_RANGE",
        "lines[1].quantity": "INVALID_DECIMAL",
        "lines[1].unit_price.amount": "OUT_OF_RANGE",
        "tenders[0].method": "REQUIRED",
    }


@pytest.mark.parametrize(
    ("tenders", "field_reason"),
    [([cash(1000)], "INSUFFICIENT"), ([Tender(method="qris", amount=Money(amount=20000))], "OVERPAID")],
)
async def test_tenders_must_pay_for_the_sale_and_only_cash_gives_change(shop: Any, tenders: Any, field_reason: Any) -> None:
    coffee = await shop.product()
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=coffee.id, quantity="1")], tenders=tenders)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert violations(caught.value) == {"tenders": field_reason}


async def test_the_same_idempotency_key_records_one_sale_even_at_once(shop: Any) -> None:
    coffee = await shop.product(stock="10")
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=coffee.id, quantity="1")])
    request = CreateSaleRequest(sale=draft, request_id="order-1")
    calls = (shop.sales.CreateSale(request, metadata=shop.auth) for _ in range(5))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    # Nobody waits for the one who was first: either its answer is there already, or it is still being worked on.
    assert {reason(error) for error in refused} <= {"IDEMPOTENCY_IN_PROGRESS"}
    again = await shop.sales.CreateSale(request, metadata=shop.auth)
    assert {sale.id for sale in answers if not isinstance(sale, BaseException)} == {again.id}
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=coffee.id), metadata=shop.auth)
    assert stock.on_hand == "9"
    request.sale.lines[0].quantity = "2"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(request, metadata=shop.auth)
    assert reason(caught.value) == "IDEMPOTENCY_MISMATCH"


async def test_refunds_in_parts_end_at_exactly_the_total(shop: Any) -> None:
    candy = await shop.product("Permen", 333, stock="3")
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=candy.id, quantity="3", discount=Money(amount=100))])
    sale = await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert sale.total.amount == 899
    given = []
    for _ in range(3):
        lines = [RefundLine(line_id=sale.lines[0].id, quantity="1")]
        sale = await shop.sales.RefundSale(RefundSaleRequest(id=sale.id, lines=lines), metadata=shop.auth)
        given.append(sale.refunds[-1].amount.amount)
    assert sum(given) == 899
    assert sale.refunded_total.amount == 899
    assert sale.status == SaleStatus.SALE_STATUS_REFUNDED
    stock = await shop.inventory.GetInventory(GetInventoryRequest(product_id=candy.id), metadata=shop.auth)
    assert stock.on_hand == "3"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.RefundSale(RefundSaleRequest(id=sale.id), metadata=shop.auth)
    assert reason(caught.value) == "NOT_REFUNDABLE"


async def test_sales_are_found_by_filter_and_paged_without_gaps(shop: Any) -> None:
    coffee = await shop.product()
    made = []
    for number in range(5):
        draft = Sale(
            outlet_id=shop.outlets[number % 2],
            lines=[SaleLine(product_id=coffee.id, quantity="1")],
            business_date=f"2026-11-0{number + 1}",
            external_id=f"web-{number}",
        )
        made.append((await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)).id)
    seen, token = [], ""
    while True:
        page = await shop.sales.ListSales(ListSalesRequest(page_size=2, page_token=token), metadata=shop.auth)
        seen += [sale.id for sale in page.sales]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    days = ListSalesRequest(date_from="2026-11-02", date_to="2026-11-03")
    assert {sale.id for sale in (await shop.sales.ListSales(days, metadata=shop.auth)).sales} == set(made[1:3])
    one = await shop.sales.ListSales(ListSalesRequest(external_id="web-4"), metadata=shop.auth)
    assert [sale.id for sale in one.sales] == [made[4]]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.ListSales(ListSalesRequest(page_token="nonsense"), metadata=shop.auth)
    assert reason(caught.value) == "CURSOR_INVALID"


async def test_an_external_id_belongs_to_one_sale(shop: Any) -> None:
    coffee = await shop.product()
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=coffee.id, quantity="1")], external_id="same")
    await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_a_customer_of_a_sale_must_exist(shop: Any) -> None:
    coffee = await shop.product()
    customer = await shop.customers.CreateCustomer(
        CreateCustomerRequest(customer=Customer(name="Sari", phone="0812-3456-7890")), metadata=shop.auth
    )
    assert customer.phone == "+6281234567890"
    draft = Sale(outlet_id=shop.outlets[0], lines=[SaleLine(product_id=coffee.id, quantity="1")], customer_id=customer.id)
    sale = await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert sale.customer_id == customer.id
    draft.customer_id = "cus_unknown"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    assert violations(caught.value) == {"customer_id": "NOT_FOUND"}
