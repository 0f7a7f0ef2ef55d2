"""What an integrator does and gets wrong, over real HTTP: the resources end to end, bad input, a large catalogue."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest
from standardwebhooks.webhooks import Webhook

from scripts.story.chapters import new_barcode
from scripts.story.world import World, until

ROOT = Path(__file__).resolve().parents[2]

BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b'{"name":',
    b"{}",
    b'{"name": null}',
    b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}',
    b'{"price": 5}',
    b'{"price": {"amount": 1e400}}',
    b'{"price": {"amount": NaN}}',
    b'{"price": {"amount": 99999999999999999999}}',
    b'{"lines": [{"quantity": "x"}]}',
    b'{"lines": 5}',
    b'{"lines": [[[]]]}',
    b'{"on_hand": "1.2345"}',
    b'{"on_hand": []}',
    b'{"url": "ftp://x", "event_types": ["nope"]}',
    b'{"phone": "abc", "name": "x"}',
    b'{"items": {}}',
    b'{"unknown": {"deep": [1, 2, {"x": null}]}}',
    b'{"name": "x", "name": 5}',
    b"[" * 2000,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    json.dumps({"name": "x" * 100_000, "price": {"amount": 1}}).encode(),
]
WRITES = [
    ("POST", "/api/v1/products"),
    ("POST", "/api/v1/products:import"),
    ("PUT", "/api/v1/products/prd_x"),
    ("PATCH", "/api/v1/products/prd_x"),
    ("POST", "/api/v1/sales"),
    ("POST", "/api/v1/sales/sal_x:refund"),
    ("POST", "/api/v1/customers"),
    ("PUT", "/api/v1/customers/cus_x"),
    ("PATCH", "/api/v1/customers/cus_x"),
    ("PUT", "/api/v1/inventory/prd_x"),
    ("POST", "/api/v1/webhooks"),
]
BAD_READS = [
    "/api/v1/products?page_size=-1",
    "/api/v1/products?page_size=x",
    "/api/v1/products?page_token=x",
    "/api/v1/products?nope=1",
    "/api/v1/products?updated_since=yesterday",
    "/api/v1/sales?date_from=2026-02-30",
    "/api/v1/sales?status=gone",
    "/api/v1/events?cursor=x",
    "/api/v1/events?types=x.y",
    "/api/v1/inventory?outlet_id=out_x",
    "/api/v1/products/%00",
    "/api/v1/products/%ff",
    "/api/v1/customers?phone=x",
    "/api/v1/products?query=%00",
    "/api/v1/events:watch?cursor=x",
    "/api/v1/products/prd_x%2Fy",
    "/api/v1/nope",
]


def check_problem(status: int, headers: Any, text: str) -> dict[str, object]:
    assert 400 <= status < 500, text
    assert headers["content-type"].startswith("application/problem+json")
    problem: dict[str, object] = json.loads(text)
    assert problem["status"] == status
    assert problem["request_id"] == headers["x-request-id"]
    assert problem["detail"]
    assert "Traceback" not in text
    assert ".py" not in text
    return problem


async def test_bad_input_is_refused_in_words_and_never_breaks_anything(platform: Any) -> None:
    async with World.open(platform) as world, aiohttp.ClientSession() as http:
        base = world.facts["gateway_url"]
        headers = {"authorization": f"Bearer {world.facts['api_key']}", "content-type": "application/json"}
        for method, path in WRITES:
            for body in BAD_BODIES:
                async with http.request(method, base + path, data=body, headers=headers) as answer:
                    # Some of these bodies are right for some route (a refund needs none): then what is missing is the resource.
                    check_problem(answer.status, answer.headers, await answer.text())
        for path in BAD_READS:
            async with http.get(base + path, headers=headers) as answer:
                check_problem(answer.status, answer.headers, await answer.text())
        async with http.get(base + "/api/v1/products") as answer:
            assert answer.status == 401
            check_problem(answer.status, answer.headers, await answer.text())
        async with http.delete(base + "/api/v1/sales", headers=headers) as answer:
            assert answer.status == 405
            assert "GET" in answer.headers["allow"]
        async with http.post(base + "/api/v1/products", data=b"x" * (5 << 20), headers=headers) as answer:
            assert answer.status == 413
        # A client as simple as they come reads nothing before it has sent everything.
        simple = urllib.request.Request(base + "/api/v1/products", data=b"x" * (5 << 20), headers=headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(urllib.request.urlopen, simple, timeout=20)
        assert refused.value.code == 413
        async with http.post(base + "/api/v1/products", data=b"a=1", headers={**headers, "content-type": "text/plain"}) as answer:
            assert answer.status == 415


async def test_repeats_conflicts_and_versions_have_their_own_answers(platform: Any) -> None:
    async with World.open(platform) as world, aiohttp.ClientSession() as http:
        base, auth = world.facts["gateway_url"], {"authorization": f"Bearer {world.facts['api_key']}"}
        draft = {"name": "Sirop Pala", "price": {"amount": 21000}, "barcodes": [new_barcode()], "external_id": new_barcode()}

        async def call(method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, object], str]:
            async with http.request(method, base + path, json=body, headers={**auth, **headers}) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text else {}, answer.headers.get("etag", "")

        key = {"idempotency-key": new_barcode()}
        status, made, etag = await call("POST", "/api/v1/products", draft, **key)
        assert status == 201
        assert etag == f'"{made["etag"]}"'
        assert (await call("POST", "/api/v1/products", draft, **key))[1] == made
        assert (await call("POST", "/api/v1/products", {**draft, "name": "Lain"}, **key))[0] == 422
        assert (await call("POST", "/api/v1/products", draft))[0] == 409
        path = f"/api/v1/products/{made['id']}"
        status, changed, _ = await call("PATCH", path, {"price": {"amount": 22000}}, **{"if-match": etag})
        assert (status, changed["price"], changed["name"]) == (200, {"amount": 22000, "currency": "IDR"}, "Sirop Pala")
        assert (await call("PATCH", path, {"price": {"amount": 1}}, **{"if-match": etag}))[0] == 412
        assert (await call("GET", path, **{"if-none-match": f'"{changed["etag"]}"'}))[0] == 304
        assert (await call("DELETE", path))[0] == 204
        assert (await call("GET", path))[1]["delete_time"]
        assert (await call("PATCH", path, {"name": "x"}))[0] == 404


async def test_a_webhook_of_the_integrators_own_gets_signed_events(platform: Any) -> None:
    got: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def receive(request: aiohttp.web.Request) -> aiohttp.web.Response:
        await got.put((dict(request.headers), await request.read()))
        return aiohttp.web.Response(status=204)

    app = aiohttp.web.Application()
    app.router.add_post("/hook", receive)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with World.open(platform) as world:
            hook = {"url": f"http://127.0.0.1:{port}/hook", "event_types": ["product.created"]}
            made = await world.api("POST", "/api/v1/webhooks", hook)
            assert (await world.api("GET", f"/api/v1/webhooks/{made['id']}"))["secret"] == ""
            product = await world.api("POST", "/api/v1/products", {"name": "Kerupuk Udang", "price": {"amount": 7000}})
            async with asyncio.timeout(20):
                headers, body = await got.get()
            event = Webhook(made["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})
            assert event["type"] == "product.created"
            assert event["data"] == product

            async def settled() -> bool:
                deliveries = (await world.api("GET", f"/api/v1/webhooks/{made['id']}/deliveries"))["deliveries"]
                return [(one["event_id"], one["status"]) for one in deliveries] == [(event["id"], "succeeded")]

            await until("the delivery is settled", settled)
            await world.api("DELETE", f"/api/v1/webhooks/{made['id']}")
    finally:
        await runner.cleanup()


async def test_five_thousand_products_come_in_and_the_second_time_nothing_changes(platform: Any, tmp_path: Any) -> None:
    path = tmp_path / "besar.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Name", "Price", "Barcode", "Cost", "Stock", "Unit", "Category"])
        seen: set[str] = set()
        while len(seen) < 5000:
            code = new_barcode()
            if code not in seen:
                seen.add(code)
                writer.writerow(
                    [f"Barang {len(seen)}", 1000 + len(seen), code, 900, len(seen) % 50, "pcs", f"Rak {len(seen) % 20}"]
                )

    def run() -> str:
        command = [sys.executable, "-m", "scripts.import_catalog", str(path), "--state", str(platform), "--lang", "en"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert re.search("5000 created", await asyncio.to_thread(run))
    async with World.open(platform) as world:
        listed = await world.api("GET", f"/api/v1/products?barcode={code}")
        (product,) = listed["products"]
        assert product["name"] == "Barang 5000"
        for till in world.tills[:2]:

            async def known(till: Any = till) -> bool:
                found = await till.call("GET", f"/products?barcode={code}")
                return [one["id"] for one in found["products"]] == [product["id"]]

            await until("the tills know the last of them", known)
    assert re.search("5000 unchanged", await asyncio.to_thread(run))


async def test_the_samples_of_the_readme_run(platform: Any) -> None:
    readme = (ROOT / "README.md").read_text()
    samples = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    facts = json.loads(platform.read_text())
    assert len(samples) == 2
    script = "set -e\n" + "\n".join(samples)
    script = script.replace("var/up.json", str(platform)).replace("http://127.0.0.1:8080", facts["gateway_url"])
    script = script.replace("http://127.0.0.1:8091", facts["tills"][0]["url"]).replace("curl -s", "curl -sS --fail-with-body")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("Toko Contoh Kemang", "Es Jeruk", "product.created", '"change":'):
        assert part in done.stdout
