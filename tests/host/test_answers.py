"""REST says the same whichever way a request takes to the cloud: byte for byte, headers, errors and streams included."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from gipos.v1.sales_pb2 import Sale

WAYS = ("in process", "over gRPC")
OWN = {"x-request-id", "date"}
"""Headers that differ from answer to answer."""
COUNTED = ("ratelimit", "x-ratelimit")
"""What limits say of this moment."""


def lasting(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in OWN and not name.startswith(COUNTED)}


async def both(here: Any, path: str, method: str = "GET", **more: Any) -> tuple[int, dict[str, str], bytes]:
    """The one answer that both ways give."""
    (near, near_headers, near_body), (far, far_headers, far_body) = [
        await here.ask(method, path, way, headers={"X-Request-Id": "same", **more.get("headers", {})}, json=more.get("json"))
        for way in WAYS
    ]
    assert (near, lasting(near_headers), near_body) == (far, lasting(far_headers), far_body)
    return near, near_headers, near_body


async def test_products_and_pages_are_the_same_bytes_cold_and_warm(here: Any) -> None:
    made = [await here.product(f"Kopi “{number}” \\ \u2028", sku=f"S{number}", cost={"amount": 5}) for number in range(5)]
    for _ in range(2):
        for product in made:
            status, headers, body = await both(here, f"/api/v1/products/{product['id']}")
            assert (status, json.loads(body), headers["etag"]) == (200, product, '"1"')
        _, headers, body = await both(here, "/api/v1/products?page_size=3")
        page = json.loads(body)
        assert [product["id"] for product in page["products"]] == [product["id"] for product in made[:1:-1]]
        assert page["has_more"]
        assert page["next_page_token"] in headers["link"]
        _, _, body = await both(here, f"/api/v1/products?page_size=3&page_token={page['next_page_token']}")
        assert [product["id"] for product in json.loads(body)["products"]] == [product["id"] for product in made[1::-1]]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?fields=products.id,products.price.amount",
        "?prettyPrint=true",
        "?page_size=5&fields=products.name",
        "?query=kopi",
        "?sku=S1",
    ],
)
async def test_what_a_caller_asks_of_the_form_is_done_both_ways(here: Any, query: str) -> None:
    for number in range(3):
        await here.product(f"Kopi {number}", sku=f"S{number}")
    status, _, body = await both(here, f"/api/v1/products{query}")
    assert status == 200
    assert b"S1" in body or "fields" in query


async def test_an_unchanged_page_and_product_need_not_be_sent_again(here: Any) -> None:
    product = await here.product("Kopi")
    for path in ("/api/v1/products", f"/api/v1/products/{product['id']}"):
        _, headers, _ = await both(here, path)
        status, _, body = await both(here, path, headers={"If-None-Match": headers["etag"]})
        assert (status, body) == (304, b"")
    change = {"name": "Kopi tubruk"}
    await here.ask("PATCH", f"/api/v1/products/{product['id']}", json=change)
    status, _, body = await both(here, f"/api/v1/products/{product['id']}", headers={"If-None-Match": '"1"'})
    assert (status, json.loads(body)["name"]) == (200, "Kopi tubruk")
    status, _, body = await both(here, "/api/v1/products", headers={"If-None-Match": headers["etag"]})
    assert (status, json.loads(body)["products"][0]["etag"]) == (200, "2")


async def test_refusals_are_the_same_problems(here: Any) -> None:
    unknown = "/api/v1/products/prd_06h0hk18j7df7kb14rhkytqawk"
    assert (await both(here, unknown))[0] == 404
    assert (await both(here, "/api/v1/products?page_token=nonsense"))[0] == 404
    draft = {"name": "", "price": {"amount": -1}, "barcodes": ["8991234567007"]}
    status, _, body = await both(here, "/api/v1/products", "POST", json=draft)
    assert (status, len(json.loads(body)["errors"])) == (400, 3)
    status, headers, _ = await both(here, "/api/v1/products", headers={"Authorization": "Bearer nothing"})
    assert (status, "www-authenticate" in headers) == (401, True)


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_of_events_comes_as_it_happens(here: Any, way: str) -> None:
    url = here.ways[way] + "/api/v1/events:watch"
    async with here.http.get(url, headers={**here.headers, "Accept": "application/x-ndjson"}) as answer:
        assert answer.status == 200
        for number in range(3):
            made = await here.product(f"Teh {number}")
            async with asyncio.timeout(10):
                while True:
                    line = json.loads(await answer.content.readline())
                    if line.get("event"):
                        break
            assert line["event"]["subject"]["id"] == made["id"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_deadline_ends_the_call(here: Any, way: str) -> None:
    async with here.host.cloud.database.transaction(here.made["tenant_id"]) as tx:
        # A lane that somebody holds: whoever announces something has to wait for it.
        await tx.connection.exec_driver_sql("SELECT FROM log_heads WHERE lane = 'tenant' FOR UPDATE")
        draft = {"name": "Kopi", "price": {"amount": 1}}
        status, _, body = await here.ask("POST", "/api/v1/products", way, json=draft, headers={"X-Request-Timeout": "0.3"})
    assert (status, json.loads(body)["reason"]) == (504, "DEADLINE_EXCEEDED")


async def test_a_stored_time_that_no_calendar_has_hides_nothing_else(here: Any) -> None:
    """Earlier versions took such times from tills. One of them must not make every list unreadable that the sale is in."""
    product = await here.product("Kopi")
    draft = {"outlet_id": here.made["outlets"][0]["id"], "lines": [{"product_id": product["id"], "quantity": "1"}]}
    made = [json.loads((await here.ask("POST", "/api/v1/sales", json=draft))[2]) for _ in range(3)]
    broken = made[1]["id"]
    async with here.host.cloud.database.across_tenants() as connection:
        for table, column in (("sales", "id"), ("events", "subject_id")):
            changed = 0
            for row in await connection.execute(sa.text(f"SELECT ctid, body FROM {table} WHERE {column} = :id"), {"id": broken}):
                sale = Sale.FromString(row.body)
                sale.sale_time.nanos = 2_000_000_000
                put = sa.text(f"UPDATE {table} SET body = :body WHERE ctid = CAST(:ctid AS tid)")
                changed += (await connection.execute(put, {"body": sale.SerializeToString(), "ctid": row.ctid})).rowcount
            assert changed
    status, headers, body = await both(here, "/api/v1/sales?order_by=sale_time")
    sales = json.loads(body)["sales"]
    assert (status, [sale["id"] for sale in sales]) == (200, [sale["id"] for sale in made])
    assert headers["x-left-out"] == "sales[1].sale_time"
    assert sales[1] == {name: value for name, value in made[1].items() if name != "sale_time"}
    assert [sales[0], sales[2]] == [made[0], made[2]]
    status, headers, body = await both(here, f"/api/v1/sales/{broken}")
    assert (status, headers["x-left-out"], json.loads(body)) == (200, "sale_time", sales[1])
    for way in WAYS:
        status, _, body = await here.ask("GET", "/api/v1/events?page_size=1", way)
        path = f"/api/v1/events?types=sale.created&cursor={quote(json.loads(body)['next_cursor'])}"
        status, headers, body = await here.ask("GET", path, way)
        events = json.loads(body)["events"]
        assert (status, [event["subject"]["id"] for event in events]) == (200, [sale["id"] for sale in made])
        assert headers["x-left-out"] == "events[1].data.sale_time"
        assert [event["data"].get("sale_time") for event in events] == [sale.get("sale_time") for sale in sales]
        watch = here.ways[way] + path.replace("/events?", "/events:watch?")
        async with asyncio.timeout(10), here.http.get(watch, headers=here.headers) as answer:
            lines = [json.loads(await answer.content.readline()) for _ in made]
        async with asyncio.timeout(10), here.http.ws_connect(watch, headers=here.headers) as socket:
            frames = [await socket.receive_json() for _ in made]
        for each in (*lines, *frames):
            assert each.pop("cursor")
        assert frames == lines
        assert [line["event"] for line in lines] == events
        assert [line.get("$left_out") for line in lines] == [None, ["event.data.sale_time"], None]


async def test_everything_of_one_request_is_in_the_log_under_one_id(here: Any, capfd: pytest.CaptureFixture[str]) -> None:
    await here.ask("GET", "/api/v1/products", headers={"X-Request-Id": "find-me"})
    lines = [line for line in capfd.readouterr().out.splitlines() if "find-me" in line]
    assert any("request " in line for line in lines)
