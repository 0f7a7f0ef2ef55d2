"""Over real gRPC: every change, every refusal and every look at personal data has an entry, which tells nothing it should not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from cloud.accounts import api_keys
from cloud.audit.recording import Recorder
from cloud.platform import trail
from cloud.platform.calls import Call, Caller
from gipos.edge.v1 import enrolment_pb2, link_pb2
from gipos.v1 import (
    accounts_pb2,
    audit_pb2,
    catalog_pb2,
    customers_pb2,
    devices_pb2,
    events_pb2,
    inventory_pb2,
    keys_pb2,
    sales_pb2,
    usage_pb2,
    webhooks_pb2,
)
from gipos.v1.audit_pb2 import AuditEntry, ExportAuditEntriesRequest, ListAuditEntriesRequest, VerifyAuditLogRequest
from gipos.v1.catalog_pb2 import CreateProductRequest, DeleteProductRequest, Product, UpdateProductRequest
from gipos.v1.common_pb2 import Money
from gipos.v1.customers_pb2 import (
    CreateCustomerRequest,
    Customer,
    GetCustomerRequest,
    ListCustomersRequest,
    UpdateCustomerRequest,
)
from gipos.v1.sales_pb2 import CreateSaleRequest, Sale, SaleLine, Tender
from gipos.v1.webhooks_pb2 import CreateWebhookRequest, DeleteWebhookRequest, Webhook
from kernel.errors import NotFound

ACTIONS = {
    "AccountService": "accounts.get_caller accounts.get_outlet accounts.list_outlets",
    "ApiKeyService": "api_keys.create api_keys.get api_keys.list api_keys.revoke api_keys.rotate api_keys.update",
    "AuditService": "audit.export audit.list audit.verify",
    "CustomerService": (
        "customers.batch_create customers.create customers.delete customers.find_duplicate customers.get customers.list "
        "customers.update customers.upsert"
    ),
    "DeviceService": (
        "devices.create_pairing_code devices.discard_quarantined devices.get devices.get_command devices.get_offline_policy "
        "devices.list devices.list_quarantine devices.retry_quarantined devices.send_command devices.set_device_state "
        "devices.set_offline_policy"
    ),
    "EdgeLinkService": "tills.link",
    "EnrolmentService": "tills.enrol tills.get_authorities tills.renew_certificate",
    "EventService": "events.list events.watch",
    "InventoryService": (
        "inventory.adjust inventory.batch_adjust inventory.get inventory.list_levels inventory.list_movements inventory.set"
    ),
    "OAuthClientService": "oauth_clients.create oauth_clients.delete oauth_clients.get oauth_clients.list",
    "OAuthService": (
        "oauth.decide_authorization oauth.introspect_token oauth.issue_token oauth.prepare_authorization oauth.revoke_token"
    ),
    "ProductService": (
        "products.batch_create products.batch_update products.create products.delete products.get products.import products.list "
        "products.list_conflicts products.resolve_conflict products.update products.upsert"
    ),
    "ReservationService": (
        "reservations.create reservations.extend reservations.fulfil reservations.get reservations.list reservations.release"
    ),
    "SaleService": "sales.create sales.get sales.list sales.refund",
    "UsageService": "usage.get",
    "WebhookService": "webhooks.create webhooks.delete webhooks.get webhooks.list webhooks.list_deliveries",
}


def test_every_method_of_the_contract_has_an_action() -> None:
    files: tuple[Any, ...] = (
        *(accounts_pb2, audit_pb2, catalog_pb2, customers_pb2, events_pb2, inventory_pb2, keys_pb2),
        *(sales_pb2, usage_pb2, webhooks_pb2, link_pb2, devices_pb2, enrolment_pb2),
    )
    found: dict[str, str] = {}
    for service in (service for file in files for service in file.DESCRIPTOR.services_by_name.values()):
        named = sorted(trail.action_of(f"/{service.full_name}/{method.name}")[0] for method in service.methods)
        found[service.name] = " ".join(named)
    assert found == ACTIONS


async def sealed(shop: Any, action: str = "", **filters: Any) -> list[AuditEntry]:
    """The entries, newest first, once the background has stored and sealed all there are."""
    async with asyncio.timeout(20):
        while True:
            request = ListAuditEntriesRequest(action=action, page_size=200, **filters)
            answer = await shop.audit.ListAuditEntries(request, metadata=shop.auth)
            if answer.entries and all(entry.sequence for entry in answer.entries):
                return list(answer.entries)
            await asyncio.sleep(0.05)


async def key_with(shop: Any, *scopes: str) -> list[tuple[str, str]]:
    async with shop.database.transaction(shop.tenant_id) as tx:
        return [("authorization", f"Bearer {await api_keys.create(tx, 'other', scopes=scopes)}")]


async def test_a_change_is_recorded_with_who_what_and_from_where(shop: Any) -> None:
    request = CreateProductRequest(product=Product(name="Kopi Susu", price=Money(amount=18000), category="Minuman"))
    auth = [*shop.auth, ("x-request-id", "req-mine"), ("x-forwarded-user-agent", "Toko/1.0")]
    made = await shop.products.CreateProduct(request, metadata=auth)
    (entry,) = await sealed(shop, request_id="req-mine")
    assert re.fullmatch(r"aud_[0-9a-z]{26}", entry.id)
    assert (entry.actor_type, entry.action, entry.outcome, entry.mode) == ("api_key", "products.create", "ok", "test")
    assert entry.actor_id.startswith("key_")
    assert (entry.resource_type, entry.resource_id, list(entry.resource_ids), entry.count) == ("product", made.id, [made.id], 1)
    assert list(entry.fields) == ["name", "category", "price"]
    assert (entry.address, entry.user_agent, entry.tenant_id) == ("127.0.0.1", "Toko/1.0", shop.tenant_id)
    assert "Kopi" not in str(entry)


async def test_every_kind_of_change_says_what_it_changed(shop: Any) -> None:
    product = await shop.product(stock="5")
    change = UpdateProductRequest(
        product=Product(id=product.id, price=Money(amount=1)), update_mask=FieldMask(paths=["price", "no.such\nfield"])
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await shop.products.UpdateProduct(change, metadata=shop.auth)
    change.update_mask.paths[:] = ["price"]
    await shop.products.UpdateProduct(change, metadata=shop.auth)
    sale = Sale(
        outlet_id=shop.outlets[0],
        lines=[SaleLine(product_id=product.id, quantity="1")],
        tenders=[Tender(method="cash", amount=Money(amount=1))],
    )
    sold = await shop.sales.CreateSale(CreateSaleRequest(sale=sale), metadata=shop.auth)
    await shop.products.DeleteProduct(DeleteProductRequest(id=product.id), metadata=shop.auth)
    webhook = Webhook(url="http://127.0.0.1:9/hook", event_types=["*"])
    hook = await shop.webhooks.CreateWebhook(CreateWebhookRequest(webhook=webhook), metadata=shop.auth)
    await shop.webhooks.DeleteWebhook(DeleteWebhookRequest(id=hook.id), metadata=shop.auth)
    found = [(entry.action, entry.outcome, entry.resource_id) for entry in reversed(await sealed(shop)) if entry.outcome == "ok"]
    assert [each for each in found if each[0] != "inventory.set"] == [
        ("products.create", "ok", product.id),
        ("products.update", "ok", product.id),
        ("sales.create", "ok", sold.id),
        ("products.delete", "ok", product.id),
        ("webhooks.create", "ok", hook.id),
        ("webhooks.delete", "ok", hook.id),
    ]
    by_action = {entry.action: list(entry.fields) for entry in await sealed(shop, outcome="ok")}
    assert by_action["products.update"] == ["price"]
    assert by_action["webhooks.create"] == ["url", "event_types"]
    assert by_action["inventory.set"] == ["on_hand"]
    (refused,) = await sealed(shop, outcome="VALIDATION_FAILED")
    assert (refused.action, refused.resource_id, list(refused.fields)) == ("products.update", product.id, ["price"])


async def test_what_was_refused_is_recorded_and_says_why(shop: Any) -> None:
    weak = await key_with(shop, "products:read")
    for stub, request, auth in (
        (shop.products.CreateProduct, CreateProductRequest(product=Product(name="x", price=Money(amount=-1))), shop.auth),
        (shop.products.DeleteProduct, DeleteProductRequest(id="0812-3456-7890"), shop.auth),
        (shop.products.CreateProduct, CreateProductRequest(product=Product(name="x")), weak),
        (shop.products.CreateProduct, CreateProductRequest(), [("authorization", "Bearer gipos_test_nobody")]),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub(request, metadata=auth)
    async with asyncio.timeout(20):
        while len(entries := await sealed(shop)) < 3:
            await asyncio.sleep(0.05)
    assert sorted((entry.action, entry.outcome, entry.resource_id) for entry in entries) == [
        ("products.create", "PERMISSION_DENIED", ""),
        ("products.create", "VALIDATION_FAILED", ""),
        ("products.delete", "RESOURCE_NOT_FOUND", ""),
    ]
    assert "0812-3456" not in str(entries)  # four digits alone may be part of a hash
    assert len({entry.actor_id for entry in entries}) == 2


async def test_a_change_that_is_rolled_back_has_no_entry_of_success(shop: Any) -> None:
    await shop.product(sku="SKU-1")
    with pytest.raises(grpc.aio.AioRpcError):
        await shop.product(sku="SKU-1")
    async with asyncio.timeout(20):
        while len(entries := await sealed(shop, "products.*")) < 2:
            await asyncio.sleep(0.05)
    assert [entry.outcome for entry in entries] == ["ALREADY_EXISTS", "ok"]


async def test_a_repeated_call_is_recorded_as_one(shop: Any) -> None:
    request = CreateCustomerRequest(customer=Customer(name="Siti"), request_id="again")
    made = [await shop.customers.CreateCustomer(request, metadata=shop.auth) for _ in range(2)]
    entries = await sealed(shop, "customers.create")
    assert [(entry.outcome, entry.resource_id) for entry in entries] == [("repeated", made[0].id), ("ok", made[0].id)]


async def test_looking_at_people_is_recorded_before_the_answer_leaves(shop: Any) -> None:
    masked = await key_with(shop, "customers:read", "customers:write")
    seeing = await key_with(shop, "customers:read", "customers:write", "customers:pii")
    ids = []
    for name in ("Siti", "Budi", *(f"Ani {number}" for number in range(20))):
        made = await shop.customers.CreateCustomer(CreateCustomerRequest(customer=Customer(name=name)), metadata=masked)
        ids.append(made.id)
    await shop.customers.GetCustomer(GetCustomerRequest(id=ids[0]), metadata=masked)
    rows = sa.text("SELECT resource_ids, count FROM audit_entries WHERE action = 'customers.read_personal_data' ORDER BY id")

    async def reads() -> list[tuple[list[str], int]]:
        async with shop.database.across_tenants() as connection:
            return [(row.resource_ids, row.count) for row in await connection.execute(rows)]

    assert await reads() == []
    await shop.customers.GetCustomer(GetCustomerRequest(id=ids[0]), metadata=seeing)
    assert await reads() == [([ids[0]], 1)]
    await shop.customers.ListCustomers(ListCustomersRequest(query="ani", page_size=5), metadata=seeing)
    assert await reads() == [([ids[0]], 1), (ids[:-6:-1], 5)]
    await shop.customers.ListCustomers(ListCustomersRequest(page_size=50), metadata=seeing)
    assert (await reads())[2] == (ids[:-21:-1], 22)
    change = UpdateCustomerRequest(customer=Customer(id=ids[1], note="Tempo"), update_mask=FieldMask(paths=["note"]))
    await shop.customers.UpdateCustomer(change, metadata=seeing)
    assert (await reads())[3] == ([ids[1]], 1)
    about = await sealed(shop, resource_id=ids[-1])
    assert [entry.action for entry in about] == ["customers.read_personal_data"] * 2 + ["customers.create"]
    assert [list(entry.fields) for entry in await sealed(shop, "customers.update")] == [["note"]]


async def test_the_trail_is_listed_by_filters_in_pages_exported_and_proved(shop: Any) -> None:
    for number in range(7):
        await shop.product(f"Teh {number}")
    entries = await sealed(shop, "products.*")
    assert len(entries) == 7
    listed, token = [], ""
    while True:
        request = ListAuditEntriesRequest(action="products.create", page_size=3, page_token=token)
        page = await shop.audit.ListAuditEntries(request, metadata=shop.auth)
        listed += page.entries
        token = page.next_page_token
        if not page.has_more:
            break
    assert listed == entries
    since = ListAuditEntriesRequest(since=entries[2].create_time, until=entries[0].create_time)
    page = await shop.audit.ListAuditEntries(since, metadata=shop.auth)
    assert list(page.entries) == entries[1:3]
    exported = [entry async for entry in shop.audit.ExportAuditEntries(ExportAuditEntriesRequest(), metadata=shop.auth)]
    assert exported == entries[::-1]
    assert [entry.sequence for entry in exported] == [1, 2, 3, 4, 5, 6, 7]
    verdict = await shop.audit.VerifyAuditLog(VerifyAuditLogRequest(), metadata=shop.auth)
    assert (verdict.intact, verdict.checked >= 7, verdict.broken_sequence) == (True, True, 0)
    assert len(verdict.head_hash) == 64
    (export,) = await sealed(shop, "audit.export")
    assert export.actor_type == "api_key"
    nobody = await key_with(shop, "products:read")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.audit.ListAuditEntries(ListAuditEntriesRequest(), metadata=nobody)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_an_end_of_a_span_that_is_no_moment_is_refused(shop: Any) -> None:
    for seconds in (2**62, -(2**62)):
        moment = Timestamp(seconds=seconds)
        for request in (ListAuditEntriesRequest(since=moment), ListAuditEntriesRequest(until=moment)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await shop.audit.ListAuditEntries(request, metadata=shop.auth)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(shop.audit.ExportAuditEntries(ExportAuditEntriesRequest(since=moment), metadata=shop.auth)))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_flood_of_refusals_is_bounded_and_an_end_stores_what_waits(database: Any, sql: Any) -> None:
    recorder = Recorder(database, waiting=700)
    call = Call("/gipos.v1.ProductService/DeleteProduct", {}, "10.0.0.1", "req_1")
    call.caller = Caller("ten_flood", "key_1", "test", frozenset())
    for _ in range(1000):
        recorder.refused(call, NotFound("There is none."))
    await recorder.finish()
    ((count,),) = await sql("SELECT count(*) FROM audit_entries WHERE tenant_id = 'ten_flood' AND outcome = 'RESOURCE_NOT_FOUND'")
    assert count == 700


async def test_entries_whose_commit_was_not_heard_of_are_stored_once_and_hold_up_nobody(database: Any, sql: Any) -> None:
    class Deaf:
        """A database whose first commit happens, and whose answer is lost."""

        is_lost = True

        @asynccontextmanager
        async def across_tenants(self) -> AsyncIterator[Any]:
            async with database.across_tenants() as connection:
                yield connection
            if self.is_lost:
                self.is_lost = False
                raise ConnectionResetError

    deaf: Any = Deaf()
    recorder = Recorder(deaf)
    call = Call("/gipos.v1.ProductService/DeleteProduct", {}, "10.0.0.1", "req_1")
    call.caller = Caller("ten_deaf", "key_1", "test", frozenset())
    recorder.refused(call, NotFound("There is none."))
    with pytest.raises(ConnectionResetError):
        await recorder.flush()
    recorder.refused(call, NotFound("There is still none."))
    await recorder.flush()
    ((count,),) = await sql("SELECT count(*) FROM audit_entries WHERE tenant_id = 'ten_deaf'")
    assert count == 2
