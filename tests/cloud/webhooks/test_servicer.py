"""WebhookService over real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gipos.v1.webhooks_pb2 import (
    CreateWebhookRequest,
    DeleteWebhookRequest,
    DeliveryStatus,
    GetWebhookRequest,
    ListDeliveriesRequest,
    ListWebhooksRequest,
    Webhook,
    WebhookStatus,
)


async def create(shop: Any, url: str = "http://127.0.0.1:9/hook", types: tuple[str, ...] = ("*",), **fields: Any) -> Webhook:
    request = CreateWebhookRequest(webhook=Webhook(url=url, event_types=types, **fields))
    made: Webhook = await shop.webhooks.CreateWebhook(request, metadata=shop.auth)
    return made


def details(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    """Reason, and the violations by field."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs know only the blocking call
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(bad)
    return info.reason, {violation.field: violation.reason for violation in bad.field_violations}


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once(shop: Any) -> None:
    made = await create(shop, types=("sale.*", "sale.*", "product.created"), description="Gudang")
    assert made.id.startswith("whk_")
    assert made.secret.startswith("whsec_")
    assert made.status == WebhookStatus.WEBHOOK_STATUS_ACTIVE
    assert list(made.event_types) == ["sale.*", "product.created"]
    found = await shop.webhooks.GetWebhook(GetWebhookRequest(id=made.id), metadata=shop.auth)
    listed = await shop.webhooks.ListWebhooks(ListWebhooksRequest(), metadata=shop.auth)
    assert found.secret == ""
    made.secret = ""
    assert found == made
    assert [webhook.id for webhook in listed.webhooks] == [made.id]
    assert all(webhook.secret == "" for webhook in listed.webhooks)


async def test_every_violation_is_told(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(shop, "ftp://user@169.254.169.254/", ("sale.*", "sale.eaten", ""), description="a\x00" + "b" * 600)
    reason, violations = details(caught.value)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason == "VALIDATION_FAILED"
    assert violations["event_types[1]"] == violations["event_types[2]"] == "UNKNOWN_EVENT_TYPE"
    assert violations.keys() == {"url", "event_types[1]", "event_types[2]", "description"}


async def test_nothing_at_all_names_what_is_required(shop: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.webhooks.CreateWebhook(CreateWebhookRequest(), metadata=shop.auth)
    assert details(caught.value)[1] == {"url": "REQUIRED", "event_types": "REQUIRED"}


async def test_creating_again_with_the_same_key_is_the_same_webhook(shop: Any) -> None:
    request = CreateWebhookRequest(webhook=Webhook(url="http://127.0.0.1:9/", event_types=["*"]), request_id="once")
    calls = (shop.webhooks.CreateWebhook(request, metadata=shop.auth) for _ in range(2))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert [details(error)[0] for error in refused] == ["IDEMPOTENCY_IN_PROGRESS"] * len(refused)
    again = await shop.webhooks.CreateWebhook(request, metadata=shop.auth)
    assert [answer for answer in answers if not isinstance(answer, BaseException)] == [again] * (2 - len(refused))
    assert again.secret
    request.webhook.url = "http://127.0.0.1:10/"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.webhooks.CreateWebhook(request, metadata=shop.auth)
    assert details(caught.value)[0] == "IDEMPOTENCY_MISMATCH"


async def test_the_hundred_and_first_is_refused_even_when_asked_for_at_once(shop: Any) -> None:
    for _ in range(98):
        await create(shop)
    results = await asyncio.gather(*(create(shop) for _ in range(4)), return_exceptions=True)
    refused = [error for error in results if isinstance(error, grpc.aio.AioRpcError)]
    assert [details(error)[0] for error in refused] == ["LIMIT_REACHED"] * 2
    assert refused[0].code() == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "webhook_id", ["", "whk_nope", "whk_\x00", "'; DROP TABLE webhooks", "whk_" + "0" * 26, "prd_" + "0" * 26]
)
async def test_a_webhook_that_is_not_there_is_not_found(shop: Any, webhook_id: str) -> None:
    for call, request in (
        (shop.webhooks.GetWebhook, GetWebhookRequest(id=webhook_id)),
        (shop.webhooks.DeleteWebhook, DeleteWebhookRequest(id=webhook_id)),
        (shop.webhooks.ListDeliveries, ListDeliveriesRequest(id=webhook_id)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=shop.auth)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_another_merchants_webhook_is_not_found(shop: Any) -> None:
    made = await create(shop)
    async with shop.database.across_tenants() as connection:
        await connection.exec_driver_sql("UPDATE webhooks SET tenant_id = 'ten_other'")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.webhooks.GetWebhook(GetWebhookRequest(id=made.id), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_deleting_drops_what_still_waits(shop: Any) -> None:
    made = await create(shop)
    await shop.product()
    await shop.webhooks.DeleteWebhook(DeleteWebhookRequest(id=made.id), metadata=shop.auth)
    async with shop.database.across_tenants() as connection:
        left = (await connection.exec_driver_sql("SELECT count(*) FROM deliveries WHERE status = 1")).scalar_one()
    assert left == 0


async def test_deliveries_are_listed_in_pages_with_their_attempts(shop: Any) -> None:
    made = await create(shop, types=("product.created",))
    for number in range(5):
        await shop.product(name=f"Kopi {number}")
    async with asyncio.timeout(20):
        while True:
            response = await shop.webhooks.ListDeliveries(ListDeliveriesRequest(id=made.id), metadata=shop.auth)
            if len(response.deliveries) == 5 and all(delivery.attempt_count == 1 for delivery in response.deliveries):
                break
            await asyncio.sleep(0.05)
    assert not response.has_more
    assert [delivery.event_id for delivery in response.deliveries] == sorted(
        (delivery.event_id for delivery in response.deliveries), reverse=True
    )
    newest = response.deliveries[0]
    assert newest.id.startswith("dlv_")
    assert newest.event_type == "product.created"
    assert newest.status == DeliveryStatus.DELIVERY_STATUS_PENDING
    assert newest.HasField("next_attempt_time")
    assert [(attempt.result, attempt.response_status) for attempt in newest.attempts] == [("connection", 0)]

    seen: list[str] = []
    request = ListDeliveriesRequest(id=made.id, page_size=2)
    while True:
        page = await shop.webhooks.ListDeliveries(request, metadata=shop.auth)
        seen += [delivery.event_id for delivery in page.deliveries]
        request.page_token = page.next_page_token
        if not page.has_more:
            break
    assert seen == [delivery.event_id for delivery in response.deliveries]
    assert page.next_page_token == ""


async def test_deliveries_are_filtered_by_status(shop: Any) -> None:
    made = await create(shop, types=("product.created",))
    for _ in range(3):
        await shop.product()
    async with shop.database.across_tenants() as connection:
        await connection.exec_driver_sql(
            "UPDATE deliveries SET status = 3, settled_at = now() WHERE id = (SELECT min(id) FROM deliveries)"
        )
    counts = {}
    for status in (0, 1, 2, 3):
        request = ListDeliveriesRequest(id=made.id, status=status)  # type: ignore[arg-type]  # numbers are fine on the wire
        counts[status] = len((await shop.webhooks.ListDeliveries(request, metadata=shop.auth)).deliveries)
    assert counts == {0: 3, 1: 2, 2: 0, 3: 1}


async def test_bad_paging_is_told(shop: Any) -> None:
    made = await create(shop)
    for request, reason in (
        (ListDeliveriesRequest(id=made.id, page_size=-1), "VALIDATION_FAILED"),
        (ListDeliveriesRequest(id=made.id, page_token="nonsense"), "CURSOR_INVALID"),
        (ListDeliveriesRequest(id=made.id, status=77), "VALIDATION_FAILED"),  # type: ignore[arg-type]  # open enum
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.webhooks.ListDeliveries(request, metadata=shop.auth)
        assert details(caught.value)[0] == reason
