"""Documentation, health, metrics, and the process: what an operator and a newcomer meet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway_rest import contract, openapi
from gateway_rest.openapi.schemas import EXAMPLES
from gateway_rest.transcoding import rules
from gipos.v1 import catalog_pb2, customers_pb2, events_pb2, inventory_pb2, sales_pb2, webhooks_pb2
from kernel import barcodes, protojson


def _document() -> Any:
    installed = contract.installed()
    return openapi.document(installed, rules.load(installed.files, installed.pool))


def test_the_document_is_valid_and_byte_stable() -> None:
    first = _document()
    assert first == _document()
    parsed = json.loads(first)
    assert parsed["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(parsed).iter_errors()) == []


def test_the_document_has_every_route_with_its_comment() -> None:
    installed = contract.installed()
    loaded = rules.load(installed.files, installed.pool)
    parsed = json.loads(_document())
    operations = [operation for path in parsed["paths"].values() for operation in path.values()]
    assert len(operations) == len(loaded.bindings)
    assert all(operation["summary"].endswith(".") for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_the_document_shows_values_as_they_are_printed() -> None:
    schemas = json.loads(_document())["components"]["schemas"]
    assert schemas["gipos.v1.Money"]["properties"]["amount"]["type"] == "integer"
    assert schemas["gipos.v1.SaleStatus"]["enum"] == ["unspecified", "completed", "partially_refunded", "refunded"]
    assert schemas["gipos.v1.SaleLine"]["properties"]["quantity"]["format"] == "decimal"
    assert schemas["gipos.v1.Sale"]["required"] == ["lines"]
    assert schemas["gipos.v1.Sale"]["properties"]["total"]["readOnly"] is True
    assert schemas["gipos.v1.Event"]["properties"]["data"]["type"] == "object"


def test_path_fields_and_header_fields_are_not_asked_for_twice() -> None:
    refund = json.loads(_document())["paths"]["/api/v1/sales/{id}:refund"]["post"]
    body = refund["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(body) == {"lines", "reason"}
    assert {parameter["name"] for parameter in refund["parameters"]} == {"id", "Idempotency-Key"}


def test_examples_can_be_sent_as_they_are() -> None:
    modules = (catalog_pb2, customers_pb2, events_pb2, inventory_pb2, sales_pb2, webhooks_pb2)
    for name, example in EXAMPLES.items():
        short = name.rpartition(".")[2]
        owner = next((module for module in modules if hasattr(module, short)), None)
        if owner is not None:
            protojson.decode_parsed(example, getattr(owner, short))
    assert [barcodes.problem(code) for code in EXAMPLES["gipos.v1.Product"]["barcodes"]] == [None]


async def test_the_document_is_served_with_an_etag(rest: Any) -> None:
    for path in ("/openapi.json", "/openapi/v1.json"):
        async with rest("GET", path) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            etag = answer.headers["ETag"]
            assert json.loads(await answer.read())["openapi"] == "3.1.0"
        async with rest("GET", path, headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304


async def test_the_documentation_page_needs_nothing_from_elsewhere_and_no_inline_script(rest: Any) -> None:
    async with rest("GET", "/") as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/docs")
    async with rest("GET", "/docs") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        page = await answer.text()
    assert "//" not in page.replace("<!doctype", "")
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    for reference in re.findall(r'(?:src|href)="([^"]+)"', page):
        async with rest("GET", reference) as answer:
            assert answer.status == 200, reference
            assert len(await answer.read()) > 100
    async with rest("GET", "/docs/../settings.py") as answer:
        assert answer.status == 404
    async with rest("GET", "/docs/nope.js") as answer:
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"


async def test_health_and_metrics_tell_the_truth(cloud: Any, rest: Any) -> None:
    async with rest("GET", "/healthz") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
    for path in ("/api/v1/products/a", "/api/v1/products/b"):
        async with rest("GET", path) as answer:
            await answer.read()
    async with rest("DELETE", "/api/v1/products") as answer:
        assert answer.status == 405
    async with rest("GET", "/metrics") as answer:
        text = await answer.text()
    assert 'gipos_gateway_requests_total{method="GET",route="/api/v1/products/{id}",status="200"} 2.0' in text
    assert 'gipos_gateway_requests_total{method="DELETE",route="other",status="405"} 1.0' in text
    assert "gipos_gateway_requests_in_flight 0.0" in text
    assert "gipos_gateway_request_seconds_bucket" in text


async def test_a_screen_refuses_other_methods_as_problem(rest: Any) -> None:
    async with rest("POST", "/healthz") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
        assert (await answer.json())["reason"] == "METHOD_NOT_ALLOWED"


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIPOS_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway_rest", *arguments), stderr=asyncio.subprocess.PIPE, env=environment
    )


async def test_the_process_stops_in_time_with_a_stream_open(cloud: Any, rest: Any, free_port: int) -> None:
    async def watch(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()
        yield

    cloud.answer("WatchEvents", watch)
    process = await _start("--port", str(free_port), "--cloud", f"127.0.0.1:{cloud.port}")
    assert process.stderr is not None
    base = f"http://127.0.0.1:{free_port}"
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                async with rest.session.get(f"{base}/healthz") as answer:
                    assert answer.status == 200
                    break
            await asyncio.sleep(0.05)
        async with rest.session.get(f"{base}/api/v1/events:watch") as answer:
            assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert json.loads(await answer.content.readline())["error"]["reason"] == "SHUTTING_DOWN"
        log = (await process.stderr.read()).decode().splitlines()
        assert await process.wait() == 0
    entries = [json.loads(line) for line in log]
    watched = next(entry for entry in entries if entry.get("route") == "/api/v1/events:watch")
    assert watched["event"] == "request"
    assert {"request_id", "method", "status", "ms"} <= watched.keys()


async def test_a_taken_port_is_one_clear_sentence_and_exit_code_1(rest: Any) -> None:
    port = rest.url.rpartition(":")[2]
    process = await _start("--port", port)
    _, errors = await process.communicate()
    assert process.returncode == 1
    lines = errors.decode().strip().splitlines()
    assert len(lines) == 1
    assert f"127.0.0.1:{port}" in lines[0]


async def test_a_bad_setting_is_one_clear_sentence() -> None:
    for arguments in (("--port", "99999"), ("--cloud", "nowhere")):
        process = await _start(*arguments)
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert len(errors.decode().strip().splitlines()) == 1
