"""Lists of sales: what an accountant, a marketplace and a poller ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1.common_pb2 import Money
from gipos.v1.customers_pb2 import CreateCustomerRequest, Customer
from gipos.v1.sales_pb2 import (
    CreateSaleRequest,
    GetSaleRequest,
    ListSalesRequest,
    RefundSaleRequest,
    Sale,
    SaleLine,
    SaleStatus,
    Tender,
)


def violations(error: Any) -> dict[str, str]:
    """Field to reason."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found.update({violation.field: violation.reason for violation in bad.field_violations})
    return found


async def sold(shop: Any, product: Any, outlet: int = 0, at: str = "", methods: tuple[str, ...] = (), **fields: Any) -> Sale:
    lines = [SaleLine(product_id=product.id, quantity="1")]
    share = product.price.amount // max(len(methods), 1)
    tenders = [Tender(method=method, amount=Money(amount=share)) for method in methods]
    draft = Sale(outlet_id=shop.outlets[outlet], lines=lines, tenders=tenders, **fields)
    if at:
        draft.sale_time.FromDatetime(datetime.fromisoformat(at))
    made: Sale = await shop.sales.CreateSale(CreateSaleRequest(sale=draft), metadata=shop.auth)
    return made


async def listed(shop: Any, **fields: Any) -> list[str]:
    page = await shop.sales.ListSales(ListSalesRequest(**fields), metadata=shop.auth)
    return [sale.number for sale in page.sales]


async def test_filters_narrow_a_list_and_add_up(shop: Any) -> None:
    coffee, tea = await shop.product("Kopi", 18000), await shop.product("Teh", 5000)
    request = CreateCustomerRequest(customer=Customer(name="Siti"))
    customer = await shop.customers.CreateCustomer(request, metadata=shop.auth)
    # 17.30 UTC is half past midnight of the next day in Jakarta and half past one in Bali.
    await sold(shop, coffee, at="2026-11-01T17:30:00+00:00", number="A", cashier="Budi", methods=("qris", "cash"))
    await sold(shop, tea, 1, at="2026-11-01T15:30:00+00:00", number="B", channel="tokopedia", external_id="tp-1")
    await sold(shop, tea, 1, at="2026-11-01T16:30:00+00:00", number="C", customer_id=customer.id, methods=("cash",))
    whole = await sold(shop, coffee, at="2026-11-03T03:00:00+00:00", number="D")
    await shop.sales.RefundSale(RefundSaleRequest(id=whole.id), metadata=shop.auth)
    assert await listed(shop) == ["D", "A", "C", "B"]
    assert await listed(shop, date_from="2026-11-02", date_to="2026-11-02") == ["A", "C"]
    assert await listed(shop, date_to="2026-11-01") == ["B"]
    assert await listed(shop, outlet_id=shop.outlets[1]) == ["C", "B"]
    assert await listed(shop, cashier="Budi") == ["A"]
    assert await listed(shop, payment_method="cash") == ["A", "C"]
    assert await listed(shop, payment_method="qris") == ["A"]
    assert await listed(shop, payment_method="gopay") == []
    assert await listed(shop, channel="tokopedia") == ["B"]
    assert await listed(shop, external_id="tp-1") == ["B"]
    assert await listed(shop, number="C") == ["C"]
    assert await listed(shop, customer_id=customer.id) == ["C"]
    assert await listed(shop, product_id=tea.id) == ["C", "B"]
    assert await listed(shop, product_id=tea.id, payment_method="cash") == ["C"]
    assert await listed(shop, status=SaleStatus.SALE_STATUS_REFUNDED) == ["D"]
    assert await listed(shop, status=SaleStatus.SALE_STATUS_COMPLETED, outlet_id=shop.outlets[0]) == ["A"]
    assert await listed(shop, order_by="total") == ["B", "C", "A", "D"]
    assert await listed(shop, order_by="total desc") == ["D", "A", "C", "B"]
    assert await listed(shop, order_by="sale_time") == ["B", "C", "A", "D"]
    found = await shop.sales.GetSale(GetSaleRequest(external_id="tp-1"), metadata=shop.auth)
    assert found.number == "B"


async def test_a_poller_by_change_sees_refunds_and_counts(shop: Any) -> None:
    coffee = await shop.product("Kopi", 18000)
    first = await sold(shop, coffee, number="A")
    second = await sold(shop, coffee, number="B")
    assert await listed(shop, updated_since=first.update_time) == ["A", "B"]
    refunded = await shop.sales.RefundSale(RefundSaleRequest(id=first.id), metadata=shop.auth)
    assert await listed(shop, updated_since=second.update_time) == ["B", "A"]
    assert await listed(shop, updated_since=refunded.update_time) == ["A"]
    request = ListSalesRequest(page_size=1, updated_since=first.create_time, show_total_size=True)
    page = await shop.sales.ListSales(request, metadata=shop.auth)
    assert (page.total_size, [sale.number for sale in page.sales]) == (2, ["B"])
    request.page_token = page.next_page_token
    assert [sale.number for sale in (await shop.sales.ListSales(request, metadata=shop.auth)).sales] == ["A"]


async def test_everything_that_is_wrong_is_said_at_once(shop: Any) -> None:
    request = ListSalesRequest(
        page_size=-1,
        status=77,  # type: ignore[arg-type]  # on purpose
        date_from="2026-13-01",
        date_to="yesterday",
        order_by="cashier",
        updated_since=Timestamp(seconds=-(10**15)),
        cashier="\0",
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.sales.ListSales(request, metadata=shop.auth)
    assert violations(caught.value) == {
        "page_size": "OUT_OF_RANGE",
        "status": "INVALID_ENUM",
        "date_from": "INVALID_DATE",
        "date_to": "INVALID_DATE",
        "order_by": "INVALID",
        "updated_since": "INVALID_TIME",
        "cashier": "INVALID_CHARACTER",
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(shop, date_from="2026-11-02", date_to="2026-11-01")
    assert violations(caught.value) == {"date_to": "OUT_OF_RANGE"}
    for missing in (GetSaleRequest(), GetSaleRequest(external_id="x")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.sales.GetSale(missing, metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_sales_of_the_release_before_get_their_columns(shop: Any) -> None:
    coffee = await shop.product("Kopi", 18000)
    sale = await sold(shop, coffee, cashier="Budi", methods=("qris", "cash"))
    migration = import_module("cloud.platform.migrations.versions.0006_resources")
    async with shop.database.across_tenants() as connection:
        row = (await connection.execute(sa.text("SELECT tenant_id, id, body, created_at FROM sales"))).one()
        kept = (await connection.execute(sa.text("SELECT updated_at, cashier, payment_methods FROM sales"))).one()
    values = migration._values(row)
    assert values["methods"].split("\x1f") == kept.payment_methods == ["cash", "qris"]
    assert (values["id"], values["cashier"]) == (sale.id, kept.cashier)
    assert datetime.fromisoformat(values["updated_at"]).astimezone(UTC) == kept.updated_at
