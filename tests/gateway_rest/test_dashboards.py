"""Dashboards over real sockets, on a real cloud and PostgreSQL: who is let in, what is shown, and that nothing is ever missed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from cloud import demo, server
from cloud.server import Cloud
from cloud.settings import Settings
from gateway_rest import contract
from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import Channel, GrpcChannel
from gateway_rest.dashboards import feeds, lines, patches
from gateway_rest.dashboards.lines import PATH
from gateway_rest.dashboards.screens import INTERVAL, Screen
from gateway_rest.dashboards.sockets import Room
from gateway_rest.dashboards.values import Values
from host.channel import LocalChannel
from kernel.ids import new_id

KINDS = ["sales.today", "sales.recent", "stock.low", "devices", "webhooks.health"]


@asynccontextmanager
async def serving(connect: Callable[[], Channel], room: Room | None = None, *, ping_seconds: float = 20) -> AsyncIterator[str]:
    """A gateway on any port; its address."""
    gateway = Gateway(contract.installed(), connect, room=room)
    rest = Server(configured(gateway, graceful_seconds=1, ping_seconds=ping_seconds), gateway)
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(rest.serve(sockets=[listener]))
    while not rest.started:
        if task.done():
            await task
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        rest.should_exit = True
        await task


@dataclass
class Shop:
    """The demo merchant behind a gateway."""

    url: str
    key: str
    tenant_id: str
    outlets: list[str]
    cloud: Cloud
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        headers = {"authorization": f"Bearer {key or self.key}"}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def ticket(self, key: str = "", **body: str) -> str:
        return (await self.call("POST", "/api/v1/dashboard-tickets", body, key))["ticket"]  # type: ignore[no-any-return]

    async def product(self, stock: str = "1000") -> str:
        made = await self.call("POST", "/api/v1/products", {"name": "Kopi", "price": {"amount": 1_000}})
        path = f"/api/v1/inventory/{made['id']}"
        await self.call("PUT", path, {"outlet_id": self.outlets[0], "on_hand": stock})
        return str(made["id"])

    async def sell(self, product_id: str, outlet: int = 0) -> Any:
        lines = [{"product_id": product_id, "quantity": "1"}]
        return await self.call("POST", "/api/v1/sales", {"outlet_id": self.outlets[outlet], "lines": lines})

    async def narrow_key(self, *scopes: str, **more: Any) -> Any:
        return await self.call("POST", "/api/v1/api-keys", {"name": "layar", "scopes": scopes, **more})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shops(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Shop]]:
    """One cloud behind two gateways: in the same process, and over gRPC."""
    folder = tmp_path_factory.mktemp("dashboards")
    admin = await asyncpg.connect(postgres_url.replace("/gipos?", "/postgres?"))
    await admin.execute("CREATE DATABASE dashboards TEMPLATE gipos STRATEGY file_copy")
    settings = Settings(
        database_url=postgres_url.replace("/gipos?", "/dashboards?"), data_dir=folder, drain_seconds=0.2, database_connections=6
    )
    async with server.running(settings) as cloud, aiohttp.ClientSession() as http:
        await demo.create(cloud.database, folder / "demo.json", "")
        made = json.loads((folder / "demo.json").read_text())
        outlets = [each["id"] for each in made["outlets"]]
        here: Callable[[], Channel] = lambda: LocalChannel(cloud.local)  # noqa: E731 (one of two)
        async with serving(here) as near, serving(lambda: GrpcChannel(f"127.0.0.1:{cloud.port}")) as far:
            yield {
                way: Shop(url, made["api_key"], made["tenant_id"], outlets, cloud, http)
                for way, url in (("in one process", near), ("apart", far))
            }
    await admin.execute("DROP DATABASE dashboards WITH (FORCE)")
    await admin.close()


@pytest.fixture(params=["in one process", "apart"])
def both_ways(request: pytest.FixtureRequest, shops: dict[str, Shop]) -> Shop:
    return shops[request.param]


@pytest.fixture
def shop(shops: dict[str, Shop]) -> Shop:
    return shops["in one process"]


shared = pytest.mark.asyncio(loop_scope="module")
"""For tests on the cloud that all share."""


@dataclass
class Dashboard:
    """What a page keeps, and does with what it hears: as the guide says."""

    epoch: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    heard: list[dict[str, Any]] = field(default_factory=list)
    live: bool | None = None

    def take(self, text: str | bytes) -> None:
        message = json.loads(text)
        self.heard.append(message)
        topic = message.get("topic", "")
        match message["t"]:
            case "hello":
                self.epoch = message["epoch"]
            case "value":
                self.values[topic], self.versions[topic] = message["value"], message["version"]
            case "patch":
                assert self.versions[topic].rpartition("-")[2] == message["from"], "a patch of something else"
                self.values[topic] = patches.applied(self.values[topic], message["patch"])
                self.versions[topic] = message["version"]
            case "ended":
                self.values.pop(topic, None)
                self.versions.pop(topic, None)
            case "hb":
                self.live = message["live"]

    @property
    def hellos(self) -> int:
        return sum(each["t"] == "hello" for each in self.heard)

    def first(self, ticket: str) -> str:
        return json.dumps({"ticket": ticket, "epoch": self.epoch, "topics": self.versions})


@asynccontextmanager
async def socket_of(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url.replace("http", "ws") + PATH, compression=None, **options) as line:
        yield line


async def follow(shop: Shop, dashboard: Dashboard, line: ClientConnection, holds: Callable[[Dashboard], object]) -> None:
    async with asyncio.timeout(30):
        while not holds(dashboard):
            dashboard.take(await line.recv())


async def closed(line: ClientConnection) -> int:
    """The close code, whatever is said before; 0 when the connection was cut."""
    async with asyncio.timeout(30):
        try:
            while True:
                await line.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 0


async def shown(shop: Shop, topics: int = 7) -> Dashboard:
    """What a fresh dashboard shows."""
    dashboard = Dashboard()
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: len(it.values) >= topics)
    return dashboard


@shared
async def test_a_dashboard_shows_a_sale_as_it_happens_and_goes_on_where_it_was(both_ways: Shop) -> None:
    shop = both_ways
    coffee = await shop.product()
    topic = f"sales.today:{shop.outlets[0]}"
    dashboard = Dashboard()
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: len(it.values) == 7)
        assert dashboard.heard[0]["t"] in {"hb", "hello"}
        before = dashboard.values[topic]["count"]
        await shop.sell(coffee)
        await follow(shop, dashboard, line, lambda it: it.values[topic]["count"] == before + 1)
        assert dashboard.heard[-1]["t"] == "patch"
    # Nothing happened: nothing but the hello and a heartbeat comes.
    dashboard.heard.clear()
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: {"hello", "hb"} <= {each["t"] for each in it.heard})
        sale = await shop.sell(coffee)
        await follow(shop, dashboard, line, lambda it: it.values[topic]["count"] == before + 2)
        recent = f"sales.recent:{shop.outlets[0]}"
        await follow(shop, dashboard, line, lambda it: sale["id"] in it.values[recent]["sales"])
    assert {each["t"] for each in dashboard.heard} == {"hello", "hb", "patch"}
    # Of another epoch everything counts for nothing.
    dashboard.epoch, dashboard.heard = "another", []
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: sum(each["t"] == "value" for each in it.heard) == 7)


@shared
async def test_who_is_let_in(shop: Shop) -> None:
    async with socket_of(shop.url) as line:
        await line.send("nonsense")
        assert await closed(line) == 4400
    for first in ({}, {"ticket": "gipos_ticket_x"}, {"ticket": shop.key}):
        async with socket_of(shop.url) as line:
            await line.send(json.dumps(first))
            assert await closed(line) == 4401
    ticket = await shop.ticket()
    async with socket_of(shop.url) as line:
        await line.send(json.dumps({"ticket": ticket}))
        await line.recv()
        async with socket_of(shop.url) as second:
            await second.send(json.dumps({"ticket": ticket}))
            assert await closed(second) == 4401, "a ticket is good once"
    async with socket_of(shop.url, origin="https://evil.example") as line:
        await line.send(json.dumps({"ticket": await shop.ticket()}))
        assert await closed(line) == 4403
    async with socket_of(shop.url, origin=shop.url) as line:
        await line.send(json.dumps({"ticket": await shop.ticket()}))
        assert json.loads(await line.recv())["t"] in {"hb", "hello"}, "a page of our own"
    async with socket_of(shop.url) as line:
        await line.send(json.dumps({"ticket": "x" * 70_000}))
        assert await closed(line) == 1009
    nothing = await shop.narrow_key("products:read")
    headers = {"authorization": f"Bearer {nothing['key']}"}
    async with shop.http.post(f"{shop.url}/api/v1/dashboard-tickets", json={}, headers=headers) as answer:
        assert answer.status == 403


@shared
async def test_what_a_hostile_screen_says_is_refused_and_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in ("[1]", '"ticket"', "{", b"\xff\xfe", json.dumps({"ticket": "x", "topics": {"a": 1}}), "[" * 50_000):
        async with socket_of(shop.url) as line:
            await line.send(said)
            problem = json.loads(await line.recv())
            assert (problem["t"], problem["reason"]) == ("error", "INVALID_FIRST_MESSAGE"), said
            assert await closed(line) == 4400
    # A secret in an address would be in somebody's log, so it opens nothing.
    ticket = await shop.ticket()
    async with connect(f"{shop.url.replace('http', 'ws')}{PATH}?ticket={ticket}", compression=None) as line:
        assert await closed(line) == 4400
    # Nor does a key in a header, which pages cannot send anyway.
    async with socket_of(shop.url, additional_headers={"authorization": f"Bearer {shop.key}"}) as line:
        await line.send("{}")
        assert await closed(line) == 4401
    monkeypatch.setattr("gateway_rest.dashboards.sockets.FIRST_SECONDS", 0.1)
    async with socket_of(shop.url) as line:
        assert await closed(line) == 4401, "nothing was said"


@shared
async def test_thousands_of_messages_end_a_dashboard_and_a_few_do_not(shop: Shop) -> None:
    async with socket_of(shop.url) as line:
        await line.send(Dashboard().first(await shop.ticket()))
        for _ in range(40):
            await line.send('{"subscribe": "sales.today:*"}')
        dashboard = Dashboard()
        await follow(shop, dashboard, line, lambda it: len(it.values) == 7)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3_000):
                await line.send('{"subscribe": "sales.today:*"}')
        assert await closed(line) == 4400


@shared
async def test_outlets_of_others_are_not_even_said_to_exist(shop: Shop) -> None:
    other = new_id("out")
    dashboard = Dashboard(epoch="1", versions={f"sales.today:{other}": "1-00", f"sales.recent:{shop.outlets[0]}x": "999999-00"})
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: len(it.values) == 7 and not it.versions.keys() - it.values.keys())
    ended = {each["topic"] for each in dashboard.heard if each["t"] == "ended"}
    assert ended == {f"sales.today:{other}", f"sales.recent:{shop.outlets[0]}x"}


async def raw_socket(shop: Shop, url: str, first: str) -> socket.socket:
    """A dashboard that does with its socket what it likes."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", int(url.rpartition(":")[2])))
    upgrade = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    await loop.sock_sendall(
        raw, f"{upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(raw, 1)
    assert b" 101 " in answer
    text = first.encode()
    await loop.sock_sendall(raw, b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text)
    return raw


@shared
async def test_a_peer_that_is_dead_is_found_and_one_that_is_only_quiet_is_kept(shop: Shop) -> None:
    async with (
        serving(lambda: LocalChannel(shop.cloud.local), ping_seconds=0.2) as url,
        socket_of(url, ping_interval=None) as quiet,
    ):
        dashboard = Dashboard()
        await quiet.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, quiet, lambda it: len(it.values) == 7)
        # It reads, and answers no ping: what a machine leaves behind that was switched off, as far as the gateway can see.
        dead = await raw_socket(shop, url, Dashboard().first(await shop.ticket()))
        with dead:
            heard = b""
            async with asyncio.timeout(20):
                while data := await asyncio.get_running_loop().sock_recv(dead, 65_536):
                    heard += data
        assert b"\x03\xf3keepalive ping timeout" in heard, "1011"
        coffee, topic = await shop.product(), f"sales.today:{shop.outlets[0]}"
        before = dashboard.values[topic]["count"]
        await shop.sell(coffee)
        await follow(shop, dashboard, quiet, lambda it: it.values[topic]["count"] == before + 1)


@shared
async def test_who_sends_pings_and_takes_no_answers_is_not_listened_to_and_then_cut_off(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "STUCK_SECONDS", 3600)
    monkeypatch.setattr(feeds, "MOST_WAITING_BYTES", 1 << 40)
    monkeypatch.setattr(feeds, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(lines, "PARTING_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    pings = (b"\x89\xfd" + bytes(4) + b"x" * 125) * 500
    async with serving(lambda: LocalChannel(shop.cloud.local)) as url:
        with await raw_socket(shop, url, Dashboard().first(await shop.ticket())) as raw:
            sent = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(1):
                        await loop.sock_sendall(raw, pings)
                    sent += len(pings)
                    assert sent < 50_000_000, "more than lies between two sockets: somebody takes all this, and keeps the answers"
            monkeypatch.setattr(feeds, "STUCK_SECONDS", 0.1)
            with pytest.raises(OSError):
                async with asyncio.timeout(30):
                    await loop.sock_sendall(raw, pings * 1_000)


@shared
async def test_compression_is_not_agreed_on(shop: Shop) -> None:
    async with connect(shop.url.replace("http", "ws") + PATH) as line:
        assert line.protocol.extensions == []


@shared
async def test_what_is_shown_is_what_the_key_allows(shop: Shop) -> None:
    narrow = await shop.narrow_key("inventory:read")
    wide, slim = Dashboard(), Dashboard()
    async with socket_of(shop.url) as one, socket_of(shop.url) as other:
        await one.send(wide.first(await shop.ticket()))
        await other.send(slim.first(await shop.ticket(narrow["key"])))
        await follow(shop, wide, one, lambda it: len(it.values) == 7)
        await follow(shop, slim, other, lambda it: it.values and it.epoch)
        assert list(slim.values) == ["stock.low"]
        assert next(each for each in slim.heard if each["t"] == "hello")["topics"] == ["stock.low"]


@shared
async def test_a_revoked_key_closes_its_dashboards_and_nobody_elses(both_ways: Shop) -> None:
    shop = both_ways
    # The same topics, so one stream serves both; whichever key it was opened with.
    keys = [await shop.narrow_key("sales:read", "inventory:read") for _ in range(2)]
    coffee, topic = await shop.product(), f"sales.today:{shop.outlets[0]}"

    async def one_goes(victim: int) -> None:
        dashboards = [Dashboard(), Dashboard()]
        async with socket_of(shop.url) as one, socket_of(shop.url) as other:
            lines = [one, other]
            for line, dashboard, key in zip(lines, dashboards, keys, strict=True):
                await line.send(dashboard.first(await shop.ticket(key["key"])))
                await follow(shop, dashboard, line, lambda it: topic in it.values)
            await shop.call("DELETE", f"/api/v1/api-keys/{keys[victim]['id']}")
            assert await closed(lines[victim]) == 4401
            left = dashboards[1 - victim]
            before = left.values[topic]["count"]
            await shop.sell(coffee)
            await follow(shop, left, lines[1 - victim], lambda it: it.values[topic]["count"] == before + 1)

    for victim in (1, 0):
        await one_goes(victim)
        keys[victim] = await shop.narrow_key("sales:read", "inventory:read")


@shared
async def test_there_is_room_for_so_many(shop: Shop) -> None:
    async with serving(lambda: LocalChannel(shop.cloud.local), Room(per_merchant=3, per_viewer=2)) as url:
        shop = replace(shop, url=url)
        async with socket_of(shop.url) as a, socket_of(shop.url) as b, socket_of(shop.url) as c, socket_of(shop.url) as d:
            for line in (a, b):
                await line.send(Dashboard().first(await shop.ticket(viewer="ani")))
                await line.recv()
            await c.send(Dashboard().first(await shop.ticket(viewer="ani")))
            assert await closed(c) == 4429
            await d.send(Dashboard().first(await shop.ticket(viewer="budi")))
            await d.recv()
            async with socket_of(shop.url) as e:
                await e.send(Dashboard().first(await shop.ticket(viewer="cici")))
                assert await closed(e) == 4429
        async with socket_of(shop.url) as line:
            await line.send(Dashboard().first(await shop.ticket(viewer="ani")))
            await line.recv()


@shared
async def test_a_stop_tells_dashboards_to_come_back(shop: Shop) -> None:
    async with serving(lambda: LocalChannel(shop.cloud.local)) as url:
        line = await connect(url.replace("http", "ws") + PATH)
        await line.send(Dashboard().first(await shop.ticket()))
        await line.recv()
    assert await closed(line) == 1012


async def open_dashboards(shop: Shop) -> int:
    """As the gateway's own numbers say."""
    async with shop.http.get(f"{shop.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("gipos_gateway_streams "))))


@shared
async def test_a_dashboard_that_takes_nothing_is_closed_and_nobody_waits_for_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(feeds, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(feeds, "PUBLISH_SECONDS", 0.001)
    monkeypatch.setattr("gateway_rest.dashboards.screens.INTERVAL", 0.0)
    coffee = await shop.product("1")
    # A screen that reads nothing, with hardly any room on the way to it.
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    raw.connect(("127.0.0.1", int(shop.url.rpartition(":")[2])))
    raw.setblocking(False)
    dashboard = Dashboard()
    name = f"{shop.outlets[0]}/{coffee}"
    async with connect(shop.url.replace("http", "ws") + PATH, compression=None, sock=raw, max_size=None) as stuck:
        await stuck.send(Dashboard().first(await shop.ticket()))
        stuck.transport.pause_reading()
        async with socket_of(shop.url, max_size=None) as line:
            await line.send(dashboard.first(await shop.ticket()))
            await follow(shop, dashboard, line, lambda it: name in it.values.get("stock.low", {}).get("products", {}))
            for number in range(5):
                # A huge value fills whatever lies between.
                async with shop.cloud.database.across_tenants() as connection:
                    changed = {"unit": f"{number} " + "x" * 1_500_000, "id": coffee}
                    await connection.execute(sa.text("UPDATE products SET unit = :unit WHERE id = :id"), changed)
                await shop.sell(coffee)
                stock = str(-number)
                await follow(shop, dashboard, line, lambda it: it.values["stock.low"]["products"][name]["available"] == stock)  # noqa: B023 (called here)
            async with asyncio.timeout(20):
                while await open_dashboards(shop) > 1:
                    await asyncio.sleep(0.05)
            assert dashboard.live
            await shop.call("PATCH", f"/api/v1/products/{coffee}", {"unit": "pcs"})
            await follow(shop, dashboard, line, lambda it: it.values["stock.low"]["products"][name]["unit"] == "pcs")
        stuck.transport.resume_reading()
        assert await closed(stuck) in {1013, 0}, "told, if it reads in time"


@shared
async def test_messages_of_a_topic_come_five_a_second_at_most_and_the_first_at_once(shop: Shop) -> None:
    coffee, topic = await shop.product(), f"sales.today:{shop.outlets[0]}"
    dashboard, times = Dashboard(), []
    async with socket_of(shop.url) as line:
        await line.send(dashboard.first(await shop.ticket()))
        await follow(shop, dashboard, line, lambda it: len(it.values) == 7)
        before = dashboard.values[topic]["count"]

        async def sell_many() -> None:
            for _ in range(40):
                await shop.sell(coffee)

        selling = asyncio.create_task(sell_many())
        while dashboard.values[topic]["count"] < before + 40:
            dashboard.take(await line.recv())
            if dashboard.heard[-1].get("topic") == topic:
                times.append(time.monotonic())
        await selling
    # What is measured here is what was received; a late reader sees two closer together, but never more of them.
    assert len(times) <= (times[-1] - times[0]) / INTERVAL + 2


# Nothing is missed, whatever is cut.


class Way:
    """A forwarder on a port of its own, between a gateway and a cloud that moves."""

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> asyncio.Server:
        running = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = running.sockets[0].getsockname()[1]
        return running

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                for each in pair:
                    each.transport.abort()

        await asyncio.gather(pump(reader, back), pump(there, writer))
        self._writers -= pair


async def test_after_any_cut_a_dashboard_that_goes_on_shows_what_a_fresh_one_shows(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real clouds that are killed, streams and sockets that are cut at random, two gateways, and sales all the while."""
    monkeypatch.setattr(feeds, "LONGEST_PAUSE", 0.3)
    chance = random.Random(11)
    way = Way()
    forwarder = await way.start()
    clouds = list(await asyncio.gather(fleet.start(), fleet.start()))
    way.target = clouds[0].port
    made = fleet.made
    outlets = [each["id"] for each in made["outlets"]]
    stop = asyncio.Event()
    dashboards, sales = [Dashboard() for _ in range(6)], 0
    async with (
        serving(lambda: GrpcChannel(f"127.0.0.1:{way.port}")) as first,
        serving(lambda: GrpcChannel(f"127.0.0.1:{clouds[1].port}")) as second,
        aiohttp.ClientSession() as http,
    ):
        nobody: Any = None  # the clouds are reached through the gateways only
        steady = Shop(second, made["api_key"], made["tenant_id"], outlets, nobody, http)
        goods = [await steady.product(str(stock)) for stock in (4, 8, 1_000)]
        held: dict[int, ClientConnection] = {}

        def counted(dashboard: Dashboard) -> int:
            return sum(dashboard.values[f"sales.today:{outlet}"]["count"] for outlet in outlets)

        async def live(number: int, dashboard: Dashboard) -> None:
            while not stop.is_set():
                url = chance.choice([first, second])
                try:
                    ticket = await steady.ticket(viewer=str(number))
                    async with connect(url.replace("http", "ws") + PATH, compression=None) as line:
                        held[number] = line
                        await line.send(dashboard.first(ticket))
                        try:
                            while True:
                                dashboard.take(await line.recv())
                        finally:
                            del held[number]
                except (ConnectionClosed, OSError, TimeoutError):
                    await asyncio.sleep(chance.random() / 10)

        lives = [asyncio.create_task(live(number, each)) for number, each in enumerate(dashboards)]
        for step in itertools.count():
            if step < 30:
                await steady.sell(chance.choice(goods), chance.randrange(2))
                sales += 1
            elif all(each.hellos >= 2 for each in dashboards):
                break
            else:
                await asyncio.sleep(0.05)  # who was cut comes back by and by
            settled = [number for number in held if dashboards[number].hellos]
            if step % 4 == 0 and settled:
                # Each of them is cut at least once.
                held[min(settled, key=lambda number: dashboards[number].hellos)].transport.abort()
            match chance.randrange(5):
                case 2:
                    way.cut()
                case 3:
                    way.target = 0 if chance.random() < 0.5 else clouds[chance.randrange(2)].port
                    way.cut()
            if step == 15:
                await clouds[0].kill()
                clouds[0] = await fleet.start()
        way.target = clouds[0].port
        fresh = Dashboard()
        async with socket_of(second) as line:
            await line.send(fresh.first(await steady.ticket(viewer="fresh")))
            await follow(steady, fresh, line, lambda it: len(it.values) == 7)
            # The pace may hold back the last word for a moment.
            async with asyncio.timeout(40):
                while counted(fresh) < sales or any(each.values != fresh.values for each in dashboards):
                    try:
                        async with asyncio.timeout(0.3):
                            fresh.take(await line.recv())
                    except TimeoutError:
                        pass
        stop.set()
        for each in lives:
            each.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
    assert counted(fresh) == sales
    forwarder.close()


# The pure core.

JSON = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=1), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=1), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_one_value_of_the_other(before: Any, after: Any) -> None:
    made = patches.applied(before, patches.difference(before, after))
    assert json.dumps(made, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert (patches.difference(before, after) == {}) == (json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True))


class Client(Dashboard):
    """A dashboard whose socket is a list."""

    def read(self, data: bytes) -> list[dict[str, Any]]:
        """Takes all the frames in it; what they said."""
        before = len(self.heard)
        while data:
            start = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
            size = data[1] if start == 2 else int.from_bytes(data[2:start])
            self.take(data[start : start + size])
            data = data[start + size :]
        return self.heard[before:]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(["a", "b", "c"]), OBJECTS),
        st.tuples(st.just("end"), st.sampled_from(["a", "b", "c"]), st.just({})),
        st.tuples(st.just("anew"), st.just(""), st.just({})),
        st.tuples(st.just("drain"), st.just(""), st.just({})),
        st.tuples(st.just("cut"), st.just(""), st.just({})),
        st.tuples(st.just("pass"), st.just(""), st.just({})),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_whatever_is_set_ended_overtaken_or_cut_a_screen_that_is_drained_shows_the_newest(steps: Any, chance: Any) -> None:
    values, client, now, position, epoch = Values(), Client(), 0.0, 0, 1
    truth: dict[str, Any] = {}
    sent: dict[str, list[float]] = {}

    def screen_of() -> Screen:
        screen = Screen(values, client.epoch, client.versions)
        if values.epoch:
            screen.begin(_hello(), now)
        return screen

    def _hello() -> bytes:
        from gateway_rest.dashboards.lines import frame

        return frame(json.dumps({"t": "hello", "epoch": values.epoch}).encode())

    def publish() -> None:
        for topic in values.publish(now, 0.25):
            screen.changed((topic,))
        screen.release(now)

    def drain(most: int) -> None:
        while most:
            made, _ = screen.take(now)
            if not made:
                return
            for said in client.read(made):
                if said["t"] in {"value", "patch"}:
                    sent.setdefault(str(said["topic"]), []).append(now)
            most -= 1

    screen = screen_of()
    for kind, name, value in [*steps, ("set", "a", {"last": 1})]:
        position += 1
        newer, ended = [], []
        if kind == "set":
            truth[name] = value
            mark = format(hash(json.dumps(value, sort_keys=True)) & 0xFFFFFFFF, "x")
            newer = [(name, f"{position}-{mark}", json.dumps(value).encode())]
        elif kind == "end" and name in truth:
            del truth[name]
            ended = [name]
        elif kind == "anew":
            epoch += 1
            position = 1
            newer = [
                (each, f"{position}-{format(hash(json.dumps(one, sort_keys=True)) & 0xFFFFFFFF, 'x')}", json.dumps(one).encode())
                for each, one in truth.items()
            ]
        if values.stage(str(epoch), position, newer, ended):
            values.publish(now, 0.25)
            screen.begin(_hello(), now)
        else:
            for each in ended:
                screen.end(each)
            publish()
        if kind == "drain":
            drain(chance.randrange(1, 9))
        elif kind == "cut":
            screen = screen_of()
            sent.clear()  # another socket
        elif kind == "pass":
            now += chance.choice([0.05, 0.2, 0.3])
    for _ in range(60):
        drain(99)
        now += 0.1
        publish()
    drain(99)
    assert client.values == truth
    for times in sent.values():
        assert all(later - earlier >= INTERVAL - 1e-9 for earlier, later in itertools.pairwise(times))
