"""What was put aside: seen by its owner, stored once it can be, or given up with a reason."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from structlog.testing import capture_logs

from cloud.platform import calls
from cloud.platform.calls import Call, Caller
from cloud.sync import facts, quarantine, retries, troubles
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.devices_pb2 import (
    Device,
    DiscardQuarantinedRequest,
    GetDeviceRequest,
    ListQuarantineRequest,
    RetryQuarantinedRequest,
)
from gipos.v1.devices_pb2_grpc import DeviceServiceStub
from gipos.v1.sales_pb2 import Sale
from kernel.errors import NotFound, VersionConflict
from kernel.ids import new_id


@pytest.fixture
def owner(market: Any) -> Any:
    """Calls as the owner."""
    who = Caller(market.tenant_id, "key_x", "test", frozenset({"customers:pii"}))
    token = calls.current.set(Call("/gipos.v1.DeviceService/RetryQuarantined", {}, "", "req_x", who, request=object()))
    yield who
    calls.current.reset(token)


async def listed(market: Any, who: Any, **request: Any) -> Any:
    async with market.database.reading(market.tenant_id) as connection:
        page = await quarantine.page(connection, who, ListQuarantineRequest(device_id=market.tills[0].caller.till_id, **request))
        return list(page.operations)


async def test_what_is_put_aside_can_be_read_and_is_announced(market: Any, owner: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    bad = till.sale((coffee, "1"), customer_id=new_id("cus"))
    bad.sale_recorded.id = "not-an-id"
    bad.occurred_time.FromJsonString("2026-11-23T05:00:00Z")
    await till.send(bad, Operation(op_seq=2, op_id="x"))
    first, second = await listed(market, owner)
    assert (first.kind, first.reason, first.status, first.op_seq) == ("sale_recorded", "SALE_ID_WRONG", "open", 1)
    assert first.sale_number == bad.sale_recorded.number
    assert (first.total.amount, first.occurred_time.ToJsonString()) == (18000, "2026-11-23T05:00:00Z")
    assert json.loads(first.content)["sale_recorded"]["id"] == "not-an-id"
    assert calls.call().seen == [bad.sale_recorded.customer_id]
    assert (second.kind, second.reason) == ("unknown", "UNSUPPORTED")
    masked = (await listed(market, Caller(market.tenant_id, "key_y", "test", frozenset())))[0]
    assert masked.content == "•••"
    rows = await market.rows("SELECT body FROM events WHERE type = 'device.operation_quarantined' ORDER BY seq")
    assert [Device.FromString(row[0]).quarantined_operations for row in rows] == [1, 2]


async def test_what_is_put_aside_for_a_value_that_has_no_text_can_be_read(market: Any, owner: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    bad, fine = till.sale((coffee, "1")), till.sale((coffee, "1"))
    bad.sale_recorded.sale_time.FromSeconds(5)
    bad.sale_recorded.sale_time.nanos = 2_000_000_000
    fine.sale_recorded.id = "not-an-id"
    bad.ClearField("clock")
    await till.send(bad, fine)
    first, second = await listed(market, owner)
    assert (first.reason, second.reason) == ("TIME_WRONG", "SALE_ID_WRONG")
    content = json.loads(first.content)
    assert content["$left_out"] == ["sale_recorded.sale_time"]
    assert content["sale_recorded"]["id"] == bad.sale_recorded.id
    assert "sale_time" not in content["sale_recorded"]
    assert "$left_out" not in json.loads(second.content)


async def mended(market: Any, count: int = 1) -> list[Any]:
    """Sales that were refused by the database for a reason that has gone since."""
    coffee = await market.product(100)
    till = market.tills[0]
    sent = [till.sale((coffee, "1"), customer_id=f"cus\0{number}") for number in range(count)]
    await till.send(*sent)
    for operation in sent:
        operation.sale_recorded.customer_id = ""
        await market.rows(
            "UPDATE quarantined_operations SET operation = $1 WHERE op_seq = $2", operation.SerializeToString(), operation.op_seq
        )
    return [coffee, *sent]


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("SALE_ID_WRONG", {"sale_recorded": {"id": "x"}}),
        ("SALE_EMPTY", {"sale_recorded": {"id": f"sal_{'0' * 26}"}}),
        ("QUANTITY_WRONG", {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "satu"}]}}),
        (
            "TIME_WRONG",
            {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "1"}]}, "occurred_time": {"seconds": 10**12}},
        ),
        (
            "TIME_WRONG",
            {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "1"}], "sale_time": {"nanos": -(2**31)}}},
        ),
        (
            "TIME_WRONG",
            {
                "sale_recorded": {
                    "id": f"sal_{'0' * 26}",
                    "lines": [{"quantity": "1"}],
                    "refunds": [{"create_time": {"seconds": 2**63 - 1}}],
                }
            },
        ),
        (
            "TIME_WRONG",  # 9999-12-31T18:00:00Z: in Jakarta it is the year 10000
            {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "1"}], "sale_time": {"seconds": 253_402_279_200}}},
        ),
        (
            "TOTAL_WRONG",
            {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "1"}], "total": {"amount": 2**63 - 1}}},
        ),
        (
            "SALE_PRODUCT_WRONG",
            {"sale_recorded": {"id": f"sal_{'0' * 26}", "lines": [{"quantity": "1", "product_id": "prd_\0"}]}},
        ),
        ("COUNT_PRODUCT_WRONG", {"stock_counted": {"product_id": "x"}}),
        ("COUNT_NEGATIVE", {"stock_counted": {"product_id": f"prd_{'0' * 26}", "counted": "-1"}}),
        ("QUANTITY_WRONG", {"stock_counted": {"product_id": f"prd_{'0' * 26}", "counted": "1.2345"}}),
        ("COUNT_NOTE_WRONG", {"stock_counted": {"product_id": f"prd_{'0' * 26}", "counted": "1", "note": "\0"}}),
        ("EDIT_EMPTY", {"product_edited": {}}),
        ("UNSUPPORTED", {}),
    ],
)
def test_what_stood_in_the_way_has_a_reason_and_is_said_in_both_languages(reason: str, fields: Any) -> None:
    (item,) = facts.understood([Operation(op_seq=1, **fields)], facts.Place("dev", "out", "Asia/Jakarta"), datetime.now(UTC))
    assert item.fact == facts.Poison(reason, " / ".join(troubles.TEXTS[reason]))


def test_every_moment_of_a_sale_is_looked_at() -> None:
    """A moment that cannot be written as JSON would make every list unreadable in which the sale is."""
    found = {
        f"{message.name}.{field.name}"
        for message in Sale.DESCRIPTOR.file.message_types_by_name.values()
        for field in message.fields
        if field.message_type is Timestamp.DESCRIPTOR
    }
    # Of a till's sale create_time and update_time are the cloud's; updated_since is no part of a sale.
    looked_at = {"Sale.sale_time", "Sale.create_time", "Sale.update_time", "Refund.create_time"}
    assert found == looked_at | {"ListSalesRequest.updated_since"}


async def test_it_is_stored_once_even_if_two_press_at_the_same_time(market: Any, owner: Any) -> None:
    coffee, sent = await mended(market)
    (aside,) = await listed(market, owner)
    assert await market.on_hand(coffee) == 100
    presses = [retries.retry(market.database, owner, aside.device_id, aside.id) for _ in range(4)]
    for answer in await asyncio.gather(*presses):
        assert (answer.status, answer.sale_id) == ("stored", sent.op_id)
    assert await market.on_hand(coffee) == 99
    assert await market.stored() == [sent.op_id]
    assert await listed(market, owner) == []
    assert [each.status for each in await listed(market, owner, status="all")] == ["stored"]
    with pytest.raises(VersionConflict):
        async with market.database.transaction(market.tenant_id) as tx:
            await quarantine.discard(tx, owner, aside.device_id, aside.id, "why not")
    await market.check()


async def test_a_count_that_is_tried_again_is_taken_as_of_when_it_was_made(market: Any, owner: Any) -> None:
    coffee = await market.product(20)
    till = market.tills[0]
    count = till.count(coffee, "-5", await market.head())
    await till.send(count)
    await till.send(till.sale((coffee, "2")))
    await market.move(coffee, -3)
    count.stock_counted.counted = "18"
    await market.rows("UPDATE quarantined_operations SET operation = $1", count.SerializeToString())
    (aside,) = await listed(market, owner)
    assert (await retries.retry(market.database, owner, aside.device_id, aside.id)).status == "stored"
    assert await market.on_hand(coffee) == 18 - 2 - 3
    await market.check()


async def test_what_still_cannot_be_stored_stays_open_with_the_new_reason(market: Any, owner: Any) -> None:
    till = market.tills[0]
    bad = till.sale(("prd_x", "1"))
    bad.sale_recorded.id = "not-an-id"
    await till.send(bad)
    (aside,) = await listed(market, owner)
    bad.sale_recorded.id = new_id("sal")
    del bad.sale_recorded.lines[:]
    await market.rows("UPDATE quarantined_operations SET operation = $1", bad.SerializeToString())
    answer = await retries.retry(market.database, owner, aside.device_id, aside.id)
    assert (answer.status, answer.message) == ("open", "Penjualan ini tidak berisi barang. / The sale has no lines.")
    with pytest.raises(NotFound):
        await retries.retry(market.database, owner, market.tills[1].caller.till_id, aside.id)


async def test_a_till_that_missed_the_answer_is_told_again_what_was_put_aside(market: Any, owner: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    good, later = till.sale((coffee, "1")), till.sale((coffee, "1"), seq=3)
    till.seq = 4
    bad = Operation(op_seq=2, op_id=new_id("opx"))
    first = await till.send(good, bad)
    (told,) = first.quarantined
    # The answer was lost with the link. What comes again may be mixed with what is new, or be all there is.
    for batch in ([good, bad, later], [good, bad, later], [bad]):
        again = await till.send(*batch)
        assert (again.op_watermark, list(again.quarantined)) == (batch[-1].op_seq, [told])
    assert list((await till.send(good)).quarantined) == []
    assert len(await listed(market, owner)) == 1
    assert await market.on_hand(coffee) == 8
    # Sales that the database refuses go up with those of others; so do they when they come again.
    refused = till.sale((coffee, "1"), seq=4, customer_id="cus\0")
    (told,) = (await till.send(refused)).quarantined
    assert list((await till.send(refused, till.sale((coffee, "1"), seq=5))).quarantined) == [told]
    assert await market.on_hand(coffee) == 7


async def test_ids_of_products_that_no_database_can_keep_do_not_stop_the_queue(market: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]
    # Separators become spaces wherever texts go packed into the database; two ids may be the same then.
    odd = [till.sale(("a\x1fb", "1"), ("a b", "2")), till.sale(("\x1f", "1"))]
    unreadable = till.sale((coffee, "1"), ("prd_\0", "1"))
    outcome = await till.send(*odd, unreadable, till.sale((coffee, "1")))
    told = [(each.op_seq, each.reason) for each in outcome.quarantined]
    assert (outcome.op_watermark, told) == (4, [(3, "SALE_PRODUCT_WRONG")])
    first, _, last = [Sale.FromString(row[0]) for row in await market.rows("SELECT body FROM sales ORDER BY op_seq")]
    assert [line.product_id for line in first.lines] == ["a\x1fb", "a b"], "the sale is kept as it was said"
    assert (list(first.review_reasons), list(last.review_reasons)) == (["PRODUCT_UNKNOWN"], [])
    assert (await market.on_hand("a b"), await market.on_hand(coffee)) == (-3, 9)
    await market.check()


async def test_a_change_that_the_catalogue_refuses_concerns_no_other(market: Any, owner: Any) -> None:
    coffee = await market.product(10)
    till = market.tills[0]

    def edit(product_id: str, price: int, *fields: str) -> Operation:
        operation: Operation = till._numbered(Operation(op_id=new_id("ope")), 0)
        operation.product_edited.product.id, operation.product_edited.product.price.amount = product_id, price
        operation.product_edited.fields.extend(fields)
        operation.product_edited.base_version = 99
        return operation

    batch = [
        edit(coffee, 1000, "price"),
        edit(new_id("prd"), 1000, "price"),
        edit(coffee, 1000, "cost"),
        till.sale((coffee, "1")),
    ]
    batch.append(edit(coffee, 2000, "price"))
    with capture_logs() as logs:
        outcome = await till.send(*batch)
    assert [(one.op_seq, one.reason) for one in outcome.quarantined] == [(2, "RESOURCE_NOT_FOUND"), (3, "VALIDATION_FAILED")]
    assert not [entry for entry in logs if entry["event"] == "batch_split"]
    assert await market.value("SELECT price FROM products WHERE id = $1", coffee) == 2000
    assert await market.on_hand(coffee) == 9
    await market.check()


async def test_a_store_that_sends_it_again_adds_nothing(market: Any, owner: Any) -> None:
    till = market.tills[0]
    bad = till.sale(("prd_x", "1"))
    bad.sale_recorded.id = "not-an-id"
    await till.send(bad)
    await market.rows("UPDATE till_stores SET op_watermark = 0")
    await market.rows("DELETE FROM till_batches")
    await till.send(bad)
    assert len(await listed(market, owner)) == 1
    assert await market.value("SELECT count(*) FROM events WHERE type = 'device.operation_quarantined'") == 1


async def test_the_owner_works_through_it_over_the_api_and_the_trail_has_it(shop: Any, sql: Any) -> None:
    devices = DeviceServiceStub(shop.channel)
    till = shop.tills[0]["id"]
    async with shop.database.transaction(shop.tenant_id) as tx:
        for number in (1, 2):
            await quarantine.put(tx, till, shop.outlets[0], 1, Operation(op_seq=number, op_id="x"), "UNSUPPORTED", "Not yet.")
    assert (await devices.GetDevice(GetDeviceRequest(id=till), metadata=shop.auth)).quarantined_operations == 2
    page = await devices.ListQuarantine(ListQuarantineRequest(device_id=till, page_size=1), metadata=shop.auth)
    (first,) = page.operations
    assert page.has_more
    tried = await devices.RetryQuarantined(RetryQuarantinedRequest(device_id=till, id=first.id), metadata=shop.auth)
    assert (tried.status, tried.reason) == ("open", "UNSUPPORTED")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await devices.DiscardQuarantined(DiscardQuarantinedRequest(device_id=till, id=first.id), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    request = DiscardQuarantinedRequest(device_id=till, id=first.id, reason="Sudah dicatat manual")
    for _ in range(2):
        gone = await devices.DiscardQuarantined(request, metadata=shop.auth)
        assert (gone.status, gone.discard_reason) == ("discarded", "Sudah dicatat manual")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await devices.RetryQuarantined(RetryQuarantinedRequest(device_id=till, id=first.id), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await devices.ListQuarantine(ListQuarantineRequest(device_id=new_id("dev")), metadata=shop.auth)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    rest = await devices.ListQuarantine(ListQuarantineRequest(device_id=till), metadata=shop.auth)
    assert [each.op_seq for each in rest.operations] == [2]
    entries = await sql(
        "SELECT action, outcome, resource_ids FROM audit_entries WHERE action LIKE 'devices.%quarantined' ORDER BY id"
    )
    assert ("devices.discard_quarantined", "ok", [first.id]) in [tuple(row) for row in entries]
    assert ("devices.retry_quarantined", "ok", [first.id]) in [tuple(row) for row in entries]
