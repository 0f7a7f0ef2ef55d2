"""Statuses of a service as problem+json, headers in and out, deadlines, and a cloud that is not there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.protobuf.any_pb2 import Any as Any_
from google.rpc import error_details_pb2
from structlog.testing import capture_logs

from gateway_rest import copy
from gateway_rest.transcoding import omissions
from gipos.v1 import catalog_pb2, events_pb2
from kernel.protojson import EncodingFailed, Writer

CODES = [
    (grpc.StatusCode.UNKNOWN, 500),
    (grpc.StatusCode.INVALID_ARGUMENT, 400),
    (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    (grpc.StatusCode.NOT_FOUND, 404),
    (grpc.StatusCode.ALREADY_EXISTS, 409),
    (grpc.StatusCode.PERMISSION_DENIED, 403),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    (grpc.StatusCode.FAILED_PRECONDITION, 400),
    (grpc.StatusCode.ABORTED, 409),
    (grpc.StatusCode.OUT_OF_RANGE, 400),
    (grpc.StatusCode.UNIMPLEMENTED, 501),
    (grpc.StatusCode.INTERNAL, 500),
    (grpc.StatusCode.UNAVAILABLE, 503),
    (grpc.StatusCode.DATA_LOSS, 500),
    (grpc.StatusCode.UNAUTHENTICATED, 401),
    (grpc.StatusCode.CANCELLED, 499),
]


@pytest.mark.parametrize(("code", "status"), CODES)
async def test_every_code_has_its_status_with_and_without_a_reason(
    code: Any, status: int, cloud: Any, rest: Any, refuse: Any
) -> None:
    async def bare(_request: Any, context: Any) -> Any:
        await context.abort(code, "secret: /srv/app.py line 3")

    async def full(_request: Any, context: Any) -> Any:
        await refuse(context, code, "SOME_REASON", "What happened. What to do.")

    cloud.answer("GetProduct", bare)
    async with rest("GET", "/api/v1/products/x") as answer:
        assert answer.status == status
        problem = await answer.json()
    if status >= 500 and code is not grpc.StatusCode.UNIMPLEMENTED:
        assert "secret" not in str(problem)
    cloud.answer("GetProduct", full)
    async with rest("GET", "/api/v1/products/x") as answer:
        assert answer.status == status
        problem = await answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "reason", "request_id", "errors"}
        assert (problem["reason"], problem["detail"], problem["status"]) == ("SOME_REASON", "What happened. What to do.", status)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert ("Retry-After" in answer.headers) == (status in {429, 503})


async def test_violations_of_a_service_are_told_by_the_fields_the_caller_wrote(cloud: Any, rest: Any, refuse: Any) -> None:
    async def create(_request: Any, context: Any) -> Any:
        violations = (("product.name", "REQUIRED", "name is required."), ("price", "REQUIRED", "price is required."))
        await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", "2 fields are invalid.", violations)

    cloud.answer("CreateProduct", create)
    async with rest("POST", "/api/v1/products", json={}) as answer:
        assert answer.status == 400
        errors = (await answer.json())["errors"]
    assert errors[0] == {"field": "name", "reason": "REQUIRED", "message": "name is required."}
    assert errors[1]["field"] == "price"


async def test_a_reused_idempotency_key_is_422(cloud: Any, rest: Any, refuse: Any) -> None:
    async def create(_request: Any, context: Any) -> Any:
        await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_MISMATCH", "Another request had this key.")

    cloud.answer("CreateSale", create)
    async with rest("POST", "/api/v1/sales", json={}, headers={"Idempotency-Key": "k"}) as answer:
        assert answer.status == 422


async def test_the_caller_hears_how_long_to_wait(cloud: Any, rest: Any, refuse: Any) -> None:
    async def limited(_request: Any, context: Any) -> Any:
        retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=1))
        await refuse(
            context,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
            "Slow down.",
            details=(retry,),
            policy="per-second",
            seconds="3",
        )

    cloud.answer("ListProducts", limited)
    async with rest("GET", "/api/v1/products", headers={"Accept-Language": "fr, id;q=0.9, en;q=0.8"}) as answer:
        assert answer.headers["Retry-After"] == "3"
        assert answer.headers["Content-Language"] == "id"
        problem = await answer.json()
    assert problem["title"] == "Terlalu banyak permintaan"
    assert problem["detail"] == "Batas per-second tercapai; coba lagi dalam 3 detik."


async def test_english_is_the_default_and_unknown_facts_leave_the_services_words(cloud: Any, rest: Any, refuse: Any) -> None:
    async def taken(_request: Any, context: Any) -> Any:
        await refuse(context, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", "sku 'A' already belongs to product prd_1.")

    cloud.answer("CreateProduct", taken)
    async with rest("POST", "/api/v1/products", json={}) as answer:
        assert (await answer.json())["title"] == "Already in use"
    async with rest("POST", "/api/v1/products", json={}, headers={"Accept-Language": "id"}) as answer:
        problem = await answer.json()
    assert problem["title"] == "Sudah dipakai"
    assert problem["detail"].startswith("Sudah dipakai. Pakai yang sudah ada, atau nilai lain.")
    assert problem["detail"].endswith("(sku 'A' already belongs to product prd_1.)")


async def test_what_is_wrong_with_a_field_is_said_in_the_callers_language(rest: Any) -> None:
    async with rest("GET", "/api/v1/products?pagesize=1", headers={"Accept-Language": "id"}) as answer:
        (error,) = (await answer.json())["errors"]
    assert error == {
        "field": "pagesize",
        "reason": "UNKNOWN_FIELD",
        "message": f'{copy.violation("id", "UNKNOWN_FIELD")} (there is no such field; did you mean "page_size"?)',
    }


async def test_metadata_goes_in_by_allow_list_only(cloud: Any, rest: Any) -> None:
    headers = {
        "Authorization": "Bearer gipos_test_x",
        "X-API-Key": "gipos_test_y",
        "X-Request-Id": "mine-1",
        "User-Agent": "agent/é",
        "X-Tenant-Id": "ten_other",
        "X-User-Id": "root",
        "Cookie": "a=b",
        "Grpc-Timeout": "1m",
        "Origin": "https://toko.example",
        "Grpc-Metadata-X": "1",
        "X-Forwarded-For": "10.0.0.9",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    async with rest("GET", "/api/v1/me", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["X-Request-Id"] == "mine-1"
    seen = cloud.metadata[0]
    assert seen["authorization"] == "Bearer gipos_test_x"
    assert seen["x-api-key"] == "gipos_test_y"
    assert seen["x-request-id"] == "mine-1"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-user-agent"].isascii()
    assert seen["traceparent"] == headers["Traceparent"]
    assert seen["origin"] == "https://toko.example"
    assert not {"x-tenant-id", "x-user-id", "cookie", "x"} & seen.keys()
    assert cloud.deadlines[0] > 5


@pytest.mark.parametrize("value", ["b\xe9arer", "x" * 5000])
async def test_a_header_grpc_cannot_carry_is_dropped_and_breaks_nothing(value: str, cloud: Any, rest: Any) -> None:
    async with rest("GET", "/api/v1/me", headers={"Authorization": value}) as answer:
        assert answer.status == 200
    assert "authorization" not in cloud.metadata[0]


@pytest.mark.parametrize("given", ["", "has space", "x" * 65, "a\xe9"])
async def test_a_request_id_that_is_not_sane_is_replaced(given: str, rest: Any) -> None:
    async with rest("GET", "/api/v1/me", headers={"X-Request-Id": given}) as answer:
        assert answer.headers["X-Request-Id"].startswith("req_")


async def test_a_services_headers_come_out_by_allow_list(cloud: Any, rest: Any) -> None:
    async def answer_with_headers(_request: Any, context: Any) -> Any:
        metadata = (("ratelimit", '"per-second";r=12;t=1'), ("x-http-code", "202"), ("x-internal", "1"), ("server", "x"))
        await context.send_initial_metadata(metadata)
        return catalog_pb2.Product()

    cloud.answer("CreateProduct", answer_with_headers)
    async with rest("POST", "/api/v1/products", json={}) as answer:
        assert answer.status == 202
        assert answer.headers["RateLimit"] == '"per-second";r=12;t=1'
        assert not {"x-internal", "server", "x-http-code"} & {name.lower() for name in answer.headers}


async def test_the_deadline_is_15_seconds_and_can_only_be_shortened(cloud: Any, rest: Any) -> None:
    for given, low, high in ((None, 5, 15.5), ("2.5", 0, 3), ("600", 5, 15.5)):
        async with rest("GET", "/api/v1/me", headers={} if given is None else {"X-Request-Timeout": given}) as answer:
            assert answer.status == 200
        remaining = cloud.deadlines[-1]
        assert low < remaining < high
    for bad in ("0", "soon", "-1", "1e9", ""):
        async with rest("GET", "/api/v1/me", headers={"X-Request-Timeout": bad}) as answer:
            assert answer.status == 400


async def test_a_service_that_does_not_answer_in_time_is_504_and_is_told_to_stop(cloud: Any, rest: Any) -> None:
    async def slow(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    cloud.answer("GetCaller", slow)
    async with rest("GET", "/api/v1/me", headers={"X-Request-Timeout": "1"}) as answer:
        assert answer.status == 504
        assert (await answer.json())["reason"] == "DEADLINE_EXCEEDED"
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_a_caller_who_hangs_up_cancels_the_call(cloud: Any, rest: Any) -> None:
    begun = asyncio.Event()

    async def slow(_request: Any, _context: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    cloud.answer("CreateSale", slow)
    call = asyncio.ensure_future(rest("POST", "/api/v1/sales", json={}).__aenter__())
    await begun.wait()
    call.cancel()
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_a_service_that_crashes_shows_nothing_of_itself(cloud: Any, rest: Any) -> None:
    async def crash(_request: Any, _context: Any) -> Any:
        raise ValueError("password=hunter2")

    cloud.answer("GetCaller", crash)
    async with rest("GET", "/api/v1/me") as answer:
        assert answer.status == 500
        text = await answer.text()
    assert "hunter2" not in text
    assert "ValueError" not in text
    assert answer.headers["X-Request-Id"] in text


async def test_an_answer_without_json_form_is_500_with_an_id_only(cloud: Any, rest: Any) -> None:
    too_deep = Any_()
    for _ in range(1_000):
        outer = Any_()
        outer.Pack(too_deep)
        too_deep = outer
    cloud.answer("ListEvents", events_pb2.ListEventsResponse(events=[events_pb2.Event(data=too_deep)]))
    async with rest("GET", "/api/v1/events") as answer:
        assert answer.status == 500
        assert (await answer.json())["reason"] == "INTERNAL"


async def test_a_value_without_json_form_is_left_out_and_the_answer_says_so(cloud: Any, rest: Any) -> None:
    broken = catalog_pb2.Product(id="prd_x", name="Kopi")
    broken.create_time.seconds = 10**15
    cloud.answer("GetProduct", broken)
    every = [broken] * 25
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id="prd_1"), *every]))
    with capture_logs() as logs:
        for _ in range(2):
            async with rest("GET", "/api/v1/products/prd_x", headers={"Origin": "https://kasir.example"}) as answer:
                product = await answer.json()
                assert (answer.status, product["id"], product["name"]) == (200, "prd_x", "Kopi")
                assert "create_time" not in product
                assert answer.headers["X-Left-Out"] == "create_time"
                assert "x-left-out" in answer.headers["Access-Control-Expose-Headers"]
        async with rest("GET", "/api/v1/products?fields=products.id,products.create_time") as answer:
            assert await answer.json() == {"products": [{"id": "prd_1"}, *({"id": "prd_x"} for _ in every)]}
            listed = answer.headers["X-Left-Out"].split(", ")
    assert (listed[0], listed[-2:]) == ("products[1].create_time", ["products[20].create_time", "+5"])
    said = [(each["within"], each["field"]) for each in logs if each["event"] == "value_left_out"]
    assert said == [("prd_x", "create_time")], "a value is logged once, however often it is asked for"


def test_where_one_field_is_the_answer_paths_begin_within_it() -> None:
    page = catalog_pb2.ListProductsResponse(products=[catalog_pb2.Product(id="prd_1"), catalog_pb2.Product(id="prd_2")])
    page.products[1].update_time.nanos = -1
    write = Writer(catalog_pb2.ListProductsResponse, "products").write
    body, header = omissions.answered(page, "products", write, "req_1")
    assert [each["id"] for each in json.loads(body)] == ["prd_1", "prd_2"]
    assert header == (b"x-left-out", b"[1].update_time")
    alone = Writer(catalog_pb2.Product, "update_time").write
    with pytest.raises(EncodingFailed):
        omissions.answered(page.products[1], "update_time", alone, "req_1")
    assert omissions.marking(write, "req_1")(page) == body, "a list has no place for the mark"


async def test_a_cloud_that_is_gone_is_503_at_once_and_found_again(cloud: Any, rest: Any) -> None:
    async with rest("GET", "/api/v1/me") as answer:
        assert answer.status == 200
    await cloud.stop()
    for _ in range(3):
        async with rest("GET", "/api/v1/me") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            problem = await answer.json()
        assert problem["reason"] == "SERVICE_UNREACHABLE"
        assert "127.0.0.1" not in str(problem)
    async with rest("GET", "/healthz") as answer:
        assert answer.status == 503
        assert (await answer.json())["cloud"] == "unreachable"
    await cloud.start()
    async with asyncio.timeout(20):
        while True:
            async with rest("GET", "/api/v1/me") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.02)
    async with rest("GET", "/healthz") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
