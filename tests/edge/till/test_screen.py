from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest
from uvicorn import Config

from edge.daemon import _Server, bind
from edge.link.client import LinkClient
from edge.storage.folder import Storage
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.receipts import Receipts
from edge.till.screen import Screen
from edge.till.supervisors import Supervisors

COFFEE = "8991002101418"


class Api:
    """A client of a local API that really listens."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.http = http

    async def call(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        async with self.http.request(method, path, **request) as response:
            answer = await response.json(content_type=None)
            assert response.status == status, answer
            expected = "application/json" if status < 400 else "application/problem+json"
            assert response.content_type == expected
            if status >= 400:
                assert answer["status"] == status
                assert answer["request_id"] == response.headers["X-Request-Id"]
                assert "Traceback" not in str(answer)
            return answer


async def serve(storage: Storage, receipts: Receipts) -> AsyncIterator[Api]:
    link = LinkClient(address="127.0.0.1:1", token="t", storage=storage, enabled=False, software_version="test")
    screen = Screen(
        storage=storage,
        link=link,
        receipts=receipts,
        cart=Cart(storage),
        checkout=Checkout(storage, receipts, link.wake),
        supervisors=Supervisors(storage),
    )
    listener = bind(0)
    port = listener.getsockname()[1]
    server = _Server(Config(screen.app(), log_config=None, lifespan="off"))
    async with receipts:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with aiohttp.ClientSession(base_url=f"http://127.0.0.1:{port}") as http:
            yield Api(port, http)
        server.should_exit = True
        await serving
    listener.close()


@pytest.fixture
async def api(stocked: Storage, tmp_path: Path) -> AsyncIterator[Api]:
    folder = tmp_path / "paper"
    folder.mkdir()
    async for api in serve(stocked, Receipts(stocked, address=f"file://{folder}", paper=80)):
        yield api


@pytest.fixture
async def fresh_api(storage: Storage) -> AsyncIterator[Api]:
    async for api in serve(storage, Receipts(storage, address="", paper=58)):
        yield api


async def test_a_sale_through_the_api(api: Api) -> None:
    cart = await api.call("POST", "/scan", json={"barcode": COFFEE, "quantity": 2})
    assert cart["total"] == {"amount": 36_000, "currency": "IDR"}
    assert cart["lines"][0]["name"] == "Kopi Susu"
    done = await api.call("POST", "/checkout", json={"tenders": [{"method": "cash", "amount": 50_000}], "cashier": "Sari"})
    assert done["change"] == 14_000
    assert done["receipt"]["state"] == "printed"
    assert done["sale"]["status"] == "completed"
    shown = await api.call("GET", f"/sales/{done['sale']['id']}")
    assert shown["sale"] == done["sale"]
    assert shown["upload"]["state"] == "waiting"
    assert (await api.call("GET", f"/receipts/{done['receipt']['key']}"))["state"] == "printed"
    copy = await api.call("POST", f"/sales/{done['sale']['id']}:reprint")
    assert copy["copy"] == 2
    assert (await api.call("GET", "/stock/prd_1"))["on_hand"] == "8"


async def test_status_tells_everything_at_once(api: Api) -> None:
    status = await api.call("GET", "/status")
    assert status["outlet"]["code"] == "KMG"
    assert status["till"]["number"] == 2
    assert status["tenant_id"] == "ten_1"
    assert status["link"]["state"] == "switched_off"
    assert status["link"]["waiting"] == 0
    assert status["products_count"] == 3
    assert status["printer"]["state"] == "ready"
    assert status["cart"]["lines"] == []
    assert {place["lane"]: place["seq"] for place in status["positions"]} == {"tenant": 4, "out_kemang": 2}


async def test_a_till_that_was_never_set_up_still_answers(fresh_api: Api) -> None:
    assert (await fresh_api.call("GET", "/healthz")) == {"status": "ok"}
    status = await fresh_api.call("GET", "/status")
    assert "outlet" not in status
    assert status["printer"]["state"] == "none"
    assert (await fresh_api.call("GET", "/cart", 409))["reason"] == "TILL_NOT_READY"
    assert (await fresh_api.call("POST", "/scan", 409, json={"barcode": COFFEE}))["reason"] == "TILL_NOT_READY"


async def test_products_are_found_by_words_and_by_barcode_and_never_show_their_cost(
    api: Api, stocked: Storage, product: Any
) -> None:
    from edge.storage import products
    from kernel import money

    await stocked.replica.write(lambda connection: products.put(connection, product(8, name="Gula", cost=money.rupiah(1)), 9))
    (found,) = (await api.call("GET", "/products", params={"query": "gu"}))["products"]
    assert found["id"] == "prd_8"
    assert "cost" not in found
    assert [one["id"] for one in (await api.call("GET", "/products", params={"barcode": COFFEE}))["products"]] == ["prd_1"]
    assert len((await api.call("GET", "/products", params={"page_size": 2}))["products"]) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/scan", {"barcode": "8991002101419"}, 400, "VALIDATION_FAILED"),
        ("POST", "/scan", {"barcode": "000201" + "1" * 300}, 400, "VALIDATION_FAILED"),
        ("POST", "/scan", {"barcode": "KG-404"}, 404, "RESOURCE_NOT_FOUND"),
        ("POST", "/scan", {"barcode": "8999909028234"}, 409, "PRODUCT_NOT_FOR_SALE"),
        ("POST", "/checkout", {"tenders": []}, 409, "CART_EMPTY"),
        ("POST", "/checkout?wait=2", {"tenders": []}, 400, "VALIDATION_FAILED"),
        ("PATCH", "/cart/lines/prd_1", {"quantity": 2}, 404, "RESOURCE_NOT_FOUND"),
        ("PUT", "/link", {"enabled": "no"}, 400, "VALIDATION_FAILED"),
        ("POST", "/receipts/none:resolve", {"printed": True}, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/receipts/none", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/sales/none", None, 404, "RESOURCE_NOT_FOUND"),
        ("POST", "/sales/none:reprint", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/sales?page_size=0", None, 400, "VALIDATION_FAILED"),
        ("GET", "/stock/none", None, 404, "RESOURCE_NOT_FOUND"),
        ("DELETE", "/cart/lines/none", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/nothing", None, 404, "ROUTE_NOT_FOUND"),
        ("GET", "/scan", None, 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_whatever_is_wrong_is_a_problem_with_a_reason(
    api: Api, method: str, path: str, body: object, status: int, reason: str
) -> None:
    answer = await api.call(method, path, status, **({} if body is None else {"json": body}))
    assert answer["reason"] == reason
    if status == 400:
        assert answer["errors"]


async def test_a_receipt_that_is_not_in_doubt_cannot_be_resolved(api: Api) -> None:
    await api.call("POST", "/scan", json={"barcode": COFFEE})
    done = await api.call("POST", "/checkout", json={"tenders": [{"method": "cash", "amount": 18_000}]})
    answer = await api.call("POST", f"/receipts/{done['receipt']['key']}:resolve", 409, json={"printed": True})
    assert answer["reason"] == "PRINT_NOT_UNKNOWN"


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", None, 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"barcode": "\xff"}', "application/json", 400),
        (b'{"barcode": "' + b"1" * 70_000 + b'"}', "application/json", 413),
        (b"[" * 60_000, "application/json", 400),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(api: Api, data: bytes, content_type: str | None, status: int) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    skip = () if content_type else ("Content-Type",)
    await api.call("POST", "/scan", status, data=data, headers=headers, skip_auto_headers=skip)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
async def test_a_page_from_elsewhere_may_not_use_the_till(api: Api, headers: dict[str, str]) -> None:
    assert (await api.call("GET", "/status", 403, headers=headers))["reason"] == "NOT_LOOPBACK"


async def test_a_page_on_the_tablet_itself_may(api: Api) -> None:
    await api.call("GET", "/status", headers={"Origin": f"http://localhost:{api.port}", "Host": f"localhost:{api.port}"})


async def test_a_fault_of_ours_shows_nothing_of_our_insides(api: Api, stocked: Storage) -> None:
    await stocked.store.write(lambda connection: connection.execute("DROP TABLE cart_lines"))
    answer = await api.call("GET", "/cart", 500)
    assert answer["reason"] == "INTERNAL"
    assert "cart_lines" not in str(answer)


async def test_a_full_disk_is_said_clearly_and_changes_nothing(api: Api, stocked: Storage) -> None:
    def limit(connection: apsw.Connection) -> None:
        # From now on every line put into the cart needs more room than the file may take.
        connection.pragma("max_page_count", connection.pragma("page_count") + 2)
        connection.execute(
            "CREATE TRIGGER heavy AFTER INSERT ON cart_lines BEGIN"
            " INSERT INTO facts (name, value) VALUES ('weight', hex(zeroblob(100000))); END"
        )

    await stocked.store.write(limit)
    answer = await api.call("POST", "/scan", 507, json={"barcode": COFFEE})
    assert answer["reason"] == "STORAGE_FULL"
    assert (await api.call("GET", "/cart"))["lines"] == []


async def test_the_switch_is_remembered_and_shown(api: Api) -> None:
    assert (await api.call("PUT", "/link", json={"enabled": True}))["state"] == "connecting"
    assert (await api.call("PUT", "/link", json={"enabled": False}))["state"] == "switched_off"


async def test_counting_editing_and_lifting_limits_through_the_api(api: Api) -> None:
    shown = await api.call("POST", "/count", json={"barcode": COFFEE, "counted": "7.5", "note": "rak"})
    assert (shown["on_hand"], shown["pending"]) == ("7.5", "-2.5")
    changed = await api.call("POST", "/products/prd_1", json={"price": 21_000})
    assert changed["price"]["amount"] == 21_000
    (listed,) = (await api.call("GET", "/products", params={"query": "kopi"}))["products"]
    assert listed["price"]["amount"] == 21_000
    assert (await api.call("POST", "/scan", json={"barcode": COFFEE}))["total"]["amount"] == 21_000
    assert (await api.call("POST", "/override", 409, json={"pin": "1"}))["reason"] == "OVERRIDE_NOT_POSSIBLE"
    assert (await api.call("POST", "/products/none", 404, json={"price": 1}))["reason"] == "RESOURCE_NOT_FOUND"
    status = await api.call("GET", "/status")
    assert (status["unsent"]["operations"], status["unsent"]["sales"]) == (2, 0)


async def test_the_status_and_each_sale_tell_what_to_be_warned_of(
    api: Api, stocked: Storage, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stocked.space, "free", lambda: 10**10)
    status = await api.call("GET", "/status")
    assert [warning["kind"] for warning in status["warnings"]] == ["tenders"], "offline, and without rules of the owner's: cash"
    assert status["link"]["label"]["id"] == "Offline dipilih di tablet ini \u2013 tetap bisa jualan"
    assert status["link"]["unsent"] == {"id": "Semua terkirim", "en": "All sent"}
    assert "message" not in status["link"]
    assert status["clock"]["state"] == "unverified"
    assert status["disk"]["room"] == "ample"
    assert status["offline_rules"]["longest_hours"] == 72
    stocked.clock.heard()
    hands.pass_ms(60 * 3600 * 1000)
    hands.wall_ms = 0
    monkeypatch.setattr(stocked.space, "free", lambda: 50_000_000)
    await api.call("POST", "/scan", json={"barcode": COFFEE})
    sold = await api.call("POST", "/checkout", json={"tenders": [{"method": "cash", "amount": 20_000}]})
    assert [warning["kind"] for warning in sold["warnings"]] == ["disk", "offline_hours", "tenders", "clock"]
    assert sold["warnings"][1]["percent"] == 80
    assert "60 jam" in sold["warnings"][1]["message"]["id"]
    hands.pass_ms(13 * 3600 * 1000)
    await api.call("POST", "/scan", json={"barcode": COFFEE})
    refusal = await api.call("POST", "/checkout", 409, json={"tenders": [{"method": "qris", "amount": 18_000}]})
    assert refusal["reason"] == "OFFLINE_LIMIT_REACHED"
    assert refusal["detail"].startswith("Penjualan tidak disimpan.")


async def test_a_file_found_broken_is_said_and_mended_by_a_new_start(api: Api, stocked: Storage) -> None:
    told: list[str] = []
    stocked.damaged = lambda: told.append("damaged")

    def fail(_: Any) -> None:
        raise apsw.CorruptError("database disk image is malformed")

    whole = stocked.replica.read
    stocked.replica.read = lambda _: whole(fail)  # type: ignore[assignment, method-assign, arg-type]
    answer = await api.call("POST", "/scan", 503, json={"barcode": COFFEE})
    assert answer["reason"] == "STORAGE_DAMAGED"
    assert told == ["damaged"]
    stocked.replica.read = whole  # type: ignore[method-assign]
