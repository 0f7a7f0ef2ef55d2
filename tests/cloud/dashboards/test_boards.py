"""Boards: what follows the log shows at every position what the tables say, and nothing else reaches a watcher."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from cloud.dashboards.boards import Boards
from cloud.platform.wakeups import Wakeups
from gipos.v1.dashboards_pb2 import CreateDashboardTicketRequest, RedeemDashboardTicketRequest, WatchTopicsRequest
from gipos.v1.dashboards_pb2_grpc import DashboardServiceStub
from gipos.v1.inventory_pb2 import SetInventoryRequest
from gipos.v1.keys_pb2 import ApiKey, CreateApiKeyRequest, RevokeApiKeyRequest
from gipos.v1.keys_pb2_grpc import ApiKeyServiceStub
from gipos.v1.sales_pb2 import RefundSaleRequest
from kernel import business_days

Watching = Callable[..., Any]
Sell = Callable[..., Awaitable[Any]]


async def test_a_sale_a_refund_and_stock_that_runs_low_are_shown_as_they_happen(
    shop: Any, watching: Watching, sell: Sell, sql: Any
) -> None:
    coffee = await shop.product("Kopi", 18_000, stock="7")
    today, recent = f"sales.today:{shop.outlets[0]}", f"sales.recent:{shop.outlets[0]}"
    async with watching() as watch:
        await watch.until(lambda it: today in it.values and "devices" in it.values)
        before = watch.values[today]["total"]
        sale = await sell(coffee.id, "3")
        await watch.until(lambda it: it.values[today]["total"] == before + 54_000)
        assert sale.id in watch.values[recent]["sales"]
        await watch.until(lambda it: f"{shop.outlets[0]}/{coffee.id}" in it.values["stock.low"]["products"])
        low = watch.values["stock.low"]["products"][f"{shop.outlets[0]}/{coffee.id}"]
        assert (low["available"], low["name"]) == ("4", "Kopi")
        await shop.sales.RefundSale(RefundSaleRequest(id=sale.id), metadata=shop.auth)
        await watch.until(lambda it: it.values[today]["refunded"] == 54_000)
        assert watch.values[recent]["sales"][sale.id]["status"] == "refunded"
        await watch.until(lambda it: f"{shop.outlets[0]}/{coffee.id}" not in it.values["stock.low"]["products"])
        tills = watch.values["devices"]["tills"]
        assert {till["id"] for till in shop.tills} <= tills.keys()
        assert not any(till["is_online"] for till in tills.values())
    # A moment that has no text, as earlier versions took it from tills, is missing, and nothing else is.
    sale.sale_time.nanos = 2_000_000_000
    await sql("UPDATE sales SET body = :body WHERE id = :id", body=sale.SerializeToString(), id=sale.id)
    async with watching() as watch:
        await watch.until(lambda it: recent in it.values)
        shown = watch.values[recent]["sales"][sale.id]
        assert ("sale_time" in shown, shown["total"]) == (False, 54_000)


async def test_whatever_happens_a_stream_that_followed_shows_what_a_new_one_reads_from_the_tables(
    shop: Any, watching: Watching, sell: Sell
) -> None:
    chance = random.Random(7)
    goods = [await shop.product(f"Barang {number}", 1_000 + number, stock="9") for number in range(4)]
    sold: list[Any] = []

    async def act() -> None:
        match chance.randrange(4):
            case 0 if sold:
                sale = sold.pop(chance.randrange(len(sold)))
                await shop.sales.RefundSale(RefundSaleRequest(id=sale.id), metadata=shop.auth)
            case 1:
                request = SetInventoryRequest(
                    product_id=chance.choice(goods).id, outlet_id=shop.outlets[1], on_hand=str(chance.randrange(12))
                )
                await shop.inventory.SetInventory(request, metadata=shop.auth)
            case _:
                sold.append(await sell(chance.choice(goods).id, str(chance.randrange(1, 4)), chance.randrange(2)))

    async with watching() as watch:
        for _ in range(12):
            await asyncio.gather(*(act() for _ in range(chance.randrange(1, 6))))
        # Another board, made now from the tables, in another process as it were.
        boards = Boards(shop.database, Wakeups(shop.database))
        with boards.watching(shop.tenant_id, ["sales.today", "sales.recent", "stock.low"]) as (board, watcher):
            async with asyncio.timeout(20):
                while not board.epoch:
                    watcher.woken.clear()
                    await watcher.woken.wait()
            await watch.until(lambda it: it.position >= board.position)
            assert {topic: shown.version.partition("-")[2] for topic, shown in board.shown.items()} == {
                topic: version.partition("-")[2]
                for topic, version in watch.versions.items()
                if topic.startswith(("sales.", "stock."))
            }
    assert any(watch.values["stock.low"]["products"])


async def test_who_comes_back_is_told_only_what_changed(shop: Any, watching: Watching, sell: Sell) -> None:
    coffee = await shop.product(stock="100")
    async with watching() as watch:
        await watch.until(lambda it: len(it.values) >= 7)
        have, epoch = dict(watch.versions), watch.epoch
    await sell(coffee.id)
    async with watching(epoch=epoch, have=have) as watch:
        await watch.until(lambda it: len(it.values) >= 2)
        assert set(watch.values) == {f"sales.today:{shop.outlets[0]}", f"sales.recent:{shop.outlets[0]}"}
    async with watching(epoch="another", have=have) as watch:
        await watch.until(lambda it: len(it.values) >= 7)
    # Whoever asks for what is no more is told so.
    call = DashboardServiceStub(shop.way).WatchTopics(
        WatchTopicsRequest(epoch=epoch, have={**have, "sales.today:out_gone": "1-0"}), metadata=shop.auth
    )
    assert list((await call.read()).ended_topics) == ["sales.today:out_gone"]
    call.cancel()


async def test_a_stream_says_something_now_and_then_however_quiet_the_shop_is(
    shop: Any, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.dashboards.servicer.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("cloud.dashboards.boards.OUTSIDE_SECONDS", 0.1)
    async with watching() as watch, asyncio.timeout(20):
        while (message := await watch.read()).values:
            pass
        assert message.position == watch.position
        assert not (await watch.read()).values


async def test_a_new_day_begins_without_an_event(shop: Any, sell: Sell) -> None:
    coffee = await shop.product(stock="100")
    await sell(coffee.id)
    moment = business_days.now()
    boards = Boards(shop.database, Wakeups(shop.database), lambda: moment)
    topic = f"sales.today:{shop.outlets[0]}"
    with boards.watching(shop.tenant_id, ["sales.today"]) as (board, watcher):
        first = await _shown(board, watcher, topic, "")
        assert b'"count":1' in first.value
        moment += timedelta(days=1)
        board.woken.set()
        second = await _shown(board, watcher, topic, first.version)
        assert b'"count":0' in second.value


async def _shown(board: Any, watcher: Any, topic: str, after: str) -> Any:
    async with asyncio.timeout(20):
        while topic not in board.shown or board.shown[topic].version == after:
            watcher.woken.clear()
            await watcher.woken.wait()
    return board.shown[topic]


async def _refused(awaitable: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code()


async def _key(shop: Any, *scopes: str, **limits: Any) -> Any:
    request = CreateApiKeyRequest(api_key=ApiKey(name="layar", scopes=scopes, **limits))
    return await ApiKeyServiceStub(shop.way).CreateApiKey(request, metadata=shop.auth)


async def test_a_ticket_is_good_once_and_its_pass_for_the_stream_alone(shop: Any, watching: Watching) -> None:
    stub = DashboardServiceStub(shop.way)
    key = await _key(shop, "inventory:read")
    auth = [("authorization", f"Bearer {key.key}")]
    ticket = await stub.CreateDashboardTicket(CreateDashboardTicketRequest(viewer="kasir"), metadata=auth)
    assert list(ticket.topics) == ["stock.low"]
    used = await stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket=ticket.ticket))
    assert (used.tenant_id, used.key_id, used.viewer, list(used.topics)) == (shop.tenant_id, key.id, "kasir", ["stock.low"])
    again = stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket=ticket.ticket))
    assert await _refused(again) is grpc.StatusCode.UNAUTHENTICATED
    secret = getattr(used, "pass")
    async with watching(secret) as watch:
        assert list(watch.values) == ["stock.low"]
    as_pass = [("authorization", f"Bearer {secret}")]
    made = stub.CreateDashboardTicket(CreateDashboardTicketRequest(), metadata=as_pass)
    assert await _refused(made) is grpc.StatusCode.PERMISSION_DENIED
    wrong = stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket="gipos_ticket_x"))
    assert await _refused(wrong) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_ticket_ends_after_a_minute(shop: Any) -> None:
    stub = DashboardServiceStub(shop.way)
    ticket = await stub.CreateDashboardTicket(CreateDashboardTicketRequest(), metadata=shop.auth)
    life = ticket.expire_time.ToDatetime() - business_days.now().replace(tzinfo=None)
    assert timedelta(seconds=50) < life <= timedelta(seconds=61)
    async with shop.database.across_tenants() as connection:
        import sqlalchemy as sa

        await connection.execute(sa.text("UPDATE dashboard_tickets SET ends_at = now()"))
    late = stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket=ticket.ticket))
    assert await _refused(late) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_ticket_opens_nothing_from_pages_and_addresses_that_its_key_does_not_allow(shop: Any) -> None:
    stub = DashboardServiceStub(shop.way)
    key = await _key(shop, "sales:read", allowed_origins=["https://layar.example"])
    auth = [("authorization", f"Bearer {key.key}")]

    async def redeem(made_at: str, shown_at: str) -> Any:
        at = [("origin", made_at)] if made_at else []
        ticket = await stub.CreateDashboardTicket(CreateDashboardTicketRequest(), metadata=[*auth, *at])
        at = [("origin", shown_at)] if shown_at else []
        return await stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket=ticket.ticket), metadata=at)

    await redeem("", "")
    await redeem("", "https://layar.example")
    await redeem("https://layar.example", "https://layar.example")
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert await _refused(redeem("", "https://evil.example")) is denied
    assert await _refused(redeem("https://layar.example", "")) is denied
    assert await _refused(redeem("https://evil.example", "")) is denied
    near = await _key(shop, "sales:read", allowed_addresses=["127.0.0.0/8"])
    made = await stub.CreateDashboardTicket(
        CreateDashboardTicketRequest(), metadata=[("authorization", f"Bearer {near.key}"), ("x-forwarded-for", "127.0.0.9")]
    )
    far = stub.RedeemDashboardTicket(
        RedeemDashboardTicketRequest(ticket=made.ticket), metadata=[("x-forwarded-for", "203.0.113.7")]
    )
    assert await _refused(far) is denied


async def test_a_key_that_is_revoked_is_named_to_the_streams_of_its_merchant_and_ends_its_own(
    shop: Any, watching: Watching
) -> None:
    stub = DashboardServiceStub(shop.way)
    key = await _key(shop, "sales:read")
    auth = [("authorization", f"Bearer {key.key}")]
    ticket = await stub.CreateDashboardTicket(CreateDashboardTicketRequest(), metadata=auth)
    used = await stub.RedeemDashboardTicket(RedeemDashboardTicketRequest(ticket=ticket.ticket))
    async with watching() as watch, watching(getattr(used, "pass")) as own:
        await ApiKeyServiceStub(shop.way).RevokeApiKey(RevokeApiKeyRequest(id=key.id), metadata=shop.auth)
        await watch.until(lambda it: key.id in it.ended_keys)
        assert await _refused(own.until(lambda _: False)) is grpc.StatusCode.UNAUTHENTICATED
    # Who was cut off while it happened hears of it with the first message.
    async with watching(passes={key.id: getattr(used, "pass")}) as watch:
        assert watch.ended_keys == {key.id}
