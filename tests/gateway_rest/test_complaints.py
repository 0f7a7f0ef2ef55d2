"""What users of other transcoders complain about, one test a complaint: Envoy's filter, grpc-gateway, and gRPC from Python.

Each was reported to, or seen with, the project its group names. A comment says where more is tested.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gateway_rest.contract import Contract, installed
from gipos.v1 import catalog_pb2, events_pb2

BIG = 4294967297
"""2^32 + 1: equal to 1 for whoever compares 32 bits."""


async def refusal_of(call: Any) -> tuple[int, list[tuple[str, str]]]:
    """Status, and the fields with their reasons."""
    async with call as answer:
        assert answer.content_type == "application/problem+json"
        return answer.status, [(item["field"], item["reason"]) for item in (await answer.json())["errors"]]


# Envoy's grpc_json_transcoder


async def test_envoy_lets_the_body_override_the_path(echo: Any, echo_rest: Any) -> None:
    # More: test_queries_and_paths.py, COLLISIONS.
    assert await refusal_of(echo_rest("POST", "/e/star/n", json={"name": "other"})) == (400, [("name", "CONFLICT")])
    assert echo.requests == []


async def test_envoy_ignores_unknown_fields_of_the_body(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n", json={"snake_case_nam": "x"}) as answer:
        errors = (await answer.json())["errors"]
    assert errors[0]["reason"] == "UNKNOWN_FIELD"
    assert 'did you mean "snake_case_name"?' in errors[0]["message"]
    assert echo.requests == []


async def test_envoy_answers_404_to_an_unknown_query_parameter(echo_rest: Any) -> None:
    assert await refusal_of(echo_rest("GET", "/e/search?utm_source=x")) == (400, [("utm_source", "UNKNOWN_FIELD")])


async def test_envoy_answers_502_to_a_parameter_given_twice(echo_rest: Any) -> None:
    assert await refusal_of(echo_rest("GET", "/e/search?name=a&name=b")) == (400, [("name", "DUPLICATE_FIELD")])


async def test_envoy_words_errors_as_plain_text(echo_rest: Any) -> None:
    # Also of what never reaches a route: test_wire.py.
    calls = [("GET", "/e/search?i32=x", 400), ("GET", "/nope", 404), ("DELETE", "/e/search", 405), ("POST", "/e/star/n", 415)]
    for method, path, status in calls:
        async with echo_rest(method, path, data=b"x" if status == 415 else None) as answer:
            assert answer.status == status
            assert (await answer.json())["reason"]
            assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("form", ["application/json", "application/x-ndjson", "text/event-stream", "websocket"])
async def test_envoy_loses_the_error_of_a_stream(form: str, echo: Any, echo_rest: Any, refuse: Any) -> None:
    # More: test_streams.py.
    async def lines(request: Any, context: Any) -> AsyncIterator[Any]:
        yield request
        yield request
        await refuse(context, grpc.StatusCode.ABORTED, "GAVE_UP", "Try again.")

    echo.answer("ListLines", lines)
    if form == "websocket":
        async with echo_rest.session.ws_connect(f"{echo_rest.url}/e/lines") as socket:
            frames = [json.loads(message.data) async for message in socket]
            assert (len(frames), frames[2]["$status"]["reason"], socket.close_code) == (3, "GAVE_UP", 4010)
        return
    async with echo_rest("GET", "/e/lines", headers={"Accept": form}) as answer:
        text = await answer.text()
    assert "GAVE_UP" in text.strip().splitlines()[-1 if form != "text/event-stream" else -4]
    assert answer.status == (409 if form == "application/json" else 200)


@pytest.mark.parametrize(("path", "body"), [(BIG, 1), (1, BIG), (BIG, BIG + 2**32)])
async def test_envoy_compares_colliding_numbers_by_their_lower_32_bits(path: int, body: int, echo: Any, echo_rest: Any) -> None:
    call = echo_rest("POST", f"/e/long-numbers/{path}", json={"i64": body})
    assert await refusal_of(call) == (400, [("i64", "CONFLICT")])
    async with echo_rest("POST", f"/e/long-numbers/{path}", json={"i64": path}) as answer:
        assert answer.status == 200
    assert [request.i64 for request in echo.requests] == [path]


async def test_envoy_has_no_response_body(echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/many", json=[{"a": "1"}]) as answer:
        assert await answer.json() == [{"a": "1", "b": ""}]


async def test_envoy_drops_null_from_lists_and_takes_a_value_for_a_list(echo: Any, echo_rest: Any) -> None:
    assert await refusal_of(echo_rest("POST", "/e/star/n", json={"tags": ["a", None]})) == (400, [("tags[1]", "WRONG_TYPE")])
    assert await refusal_of(echo_rest("POST", "/e/star/n", json={"tags": "a"})) == (400, [("tags", "WRONG_TYPE")])
    assert echo.requests == []


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"a": "bottom"}
    for _ in range(levels):
        value = {"inner": value}
    return value


async def test_envoy_answers_200_and_nothing_to_a_deep_message(echo: Any, echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/star/n", json={"sub": deep(60)}) as answer:
        assert answer.status == 200
        assert "bottom" in await answer.text()
    status, errors = await refusal_of(echo_rest("POST", "/e/star/n", json={"sub": deep(80)}))
    assert (status, errors[0][1]) == (400, "TOO_DEEP")
    assert len(echo.requests) == 1

    # A service may nest deeper than a caller may: it is still answered whole.
    async def nested(request: Any, _context: Any) -> Any:
        message = request.sub
        for _ in range(90):
            message = message.inner
        message.a = "bottom"
        return request

    echo.answer("Search", nested)
    async with echo_rest("GET", "/e/search") as answer:
        assert answer.status == 200
        assert "bottom" in await answer.text()


async def test_envoy_answers_200_and_nothing_to_a_big_message(cloud: Any, rest: Any) -> None:
    products = [catalog_pb2.Product(id=f"prd_{number}", name="x" * 10_000) for number in range(600)]
    cloud.answer("ListProducts", catalog_pb2.ListProductsResponse(products=products))
    async with rest("GET", "/api/v1/products") as answer:
        assert answer.status == 200
        listed = (await answer.json())["products"]
    assert len(listed) == 600
    assert listed[-1]["id"] == "prd_599"


async def test_envoy_does_not_check_the_path_when_the_body_is_empty(echo: Any, echo_rest: Any) -> None:
    assert await refusal_of(echo_rest("POST", "/e/long-numbers/x")) == (400, [("i64", "WRONG_TYPE")])
    assert await refusal_of(echo_rest("GET", "/e/numbers/x")) == (400, [("i32", "WRONG_TYPE")])
    assert echo.requests == []


async def test_envoy_answers_415_to_an_unknown_path(echo_rest: Any) -> None:
    async with echo_rest("POST", "/e/nope", data=b"x", headers={"Content-Type": "text/plain"}) as answer:
        assert answer.status == 404


async def test_envoy_crashes_when_many_requests_look_up_types_at_once(echo: Any, echo_rest: Any) -> None:
    async def one(number: int) -> None:
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", f"/e/search?i32={number}&time=2026-01-01T00:00:00Z&any_json=%5B{number}%5D", {}),
            ("POST", f"/e/star/n{number}", {"json": {"i32": number, "free": {"a": [number]}, "wait": "1.5s"}}),
            ("POST", "/e/many", {"json": [{"a": str(number)}]}),
        ]
        method, path, options = calls[number % 3]
        async with echo_rest(method, path, **options) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            assert (body["i32"] == number) if number % 3 < 2 else body == [{"a": str(number), "b": ""}]

    await asyncio.gather(*(one(number) for number in range(300)))


class CountingPool:
    """A descriptor pool that counts who asks it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self._pool, name)


async def test_envoy_takes_a_lock_to_look_up_types_for_every_field(echo: Any, serve: Any) -> None:
    # What a request needs is worked out at start: no look-up is left that could need a lock.
    pool: Any = CountingPool(echo.contract.pool)
    counting = Contract(echo.contract.files, pool, echo.contract.packages)
    async for running in serve(counting, f"127.0.0.1:{echo.port}"):
        at_start = pool.asked
        assert at_start > 0
        for number in range(20):
            async with running("POST", "/e/star/n", json={"i32": number, "sub": {"a": "x"}, "free": {"a": 1}}) as answer:
                assert answer.status == 200
        assert pool.asked == at_start


async def test_envoy_has_no_mask_for_patch(cloud: Any, rest: Any) -> None:
    # More: test_products.py.
    async with rest("PATCH", "/api/v1/products/prd_1", json={"name": "", "price": {"amount": 1}}) as answer:
        assert answer.status == 200
    assert list(cloud.requests[0].update_mask.paths) == ["name", "price.amount"]


async def test_envoy_once_needed_more_than_a_descriptor_file(serve: Any, free_port: int) -> None:
    # All routes and the whole document come from the file; the service may be away.
    async for running in serve(installed(), f"127.0.0.1:{free_port}"):
        async with running("GET", "/openapi.json") as answer:
            assert answer.status == 200
        async with running("OPTIONS", "/api/v1/products") as answer:
            assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        async with running("GET", "/api/v1/products") as answer:
            assert answer.status == 503


async def test_envoy_answers_404_to_head_and_options(echo_rest: Any) -> None:
    async with echo_rest("HEAD", "/e/search?name=x") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0
    async with echo_rest("OPTIONS", "/e/search") as answer:
        assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


# grpc-gateway


@pytest.mark.parametrize("name", ["snake_case_name", "snakeCaseName"])
async def test_grpc_gateway_let_the_query_override_the_path_by_its_other_spelling(name: str, echo: Any, echo_rest: Any) -> None:
    call = echo_rest("GET", f"/e/snakes/truth?{name}=other")
    assert await refusal_of(call) == (400, [("snake_case_name", "CONFLICT")])
    assert echo.requests == []


async def test_grpc_gateway_takes_an_encoded_slash_apart(echo_rest: Any) -> None:
    # More: test_queries_and_paths.py, PATHS.
    for path, name in (("/e/things/a%2Fb", "a/b"), ("/e/shelves/a%2Fb/books/c%20d", "shelves/a%2Fb/books/c d")):
        async with echo_rest("GET", path) as answer:
            assert (await answer.json())["name"] == name


async def test_grpc_gateway_routes_by_order_of_registration(echo: Any, echo_rest: Any) -> None:
    # `special` is declared after `{name}`, `tail` before `**` would swallow it: the most specific wins either way.
    async with echo_rest("GET", "/e/things/special") as answer:
        assert (await answer.json())["name"] == ""
    async with echo_rest("GET", "/e/tail/a/b/end") as answer:
        assert (await answer.json())["name"] == "a/b"


async def test_grpc_gateway_has_trouble_with_verbs_and_colons(echo_rest: Any) -> None:
    async with echo_rest("GET", "/e/things/x:archive") as answer:
        assert (await answer.json())["name"] == "x:archive"
    async with echo_rest("POST", "/e/things/a:b:archive", json={}) as answer:
        assert (await answer.json())["name"] == "a:b"


async def test_grpc_gateway_drops_unknown_fields_at_any_depth(echo: Any, echo_rest: Any) -> None:
    body = {"sub": {"inner": {"x": 1}}, "subs": [{}, {"y": 1}]}
    status, errors = await refusal_of(echo_rest("POST", "/e/star/n", json=body))
    assert (status, errors) == (400, [("sub.inner.x", "UNKNOWN_FIELD"), ("subs[1].y", "UNKNOWN_FIELD")])
    assert echo.requests == []


@pytest.mark.parametrize("override", ["GET", "DELETE", "PATCH"])
async def test_grpc_gateway_lets_a_form_post_become_another_method(override: str, cloud: Any, rest: Any) -> None:
    headers = {"X-HTTP-Method-Override": override, "Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/api/v1/products/prd_1", "/api/v1/products"):
        async with rest("POST", path, data=b"id=prd_1", headers=headers) as answer:
            assert answer.status in {405, 415}
    assert cloud.requests == []


async def test_grpc_gateway_compares_accept_as_one_word(cloud: Any, rest: Any) -> None:
    # More: test_streams.py, ACCEPTED.
    async with rest("GET", "/api/v1/products", headers={"Accept": "application/json, */*;q=0.1"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")


async def test_grpc_gateway_wraps_every_message_of_a_stream(cloud: Any, rest: Any) -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield events_pb2.WatchEventsResponse(cursor="c1")

    cloud.answer("WatchEvents", watch)
    async with rest("GET", "/api/v1/events:watch") as answer:
        line = json.loads(await answer.text())
    assert line["cursor"] == "c1"
    assert "result" not in line


async def test_grpc_gateway_has_no_websocket(cloud: Any, rest: Any) -> None:
    # More: test_websockets.py.
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield events_pb2.WatchEventsResponse(cursor="c1")

    cloud.answer("WatchEvents", watch)
    async with rest.session.ws_connect(f"{rest.url}/api/v1/events:watch") as socket:
        assert (await socket.receive_json())["cursor"] == "c1"


NEW = """
syntax = "proto3";
// Written while the test runs.
package fresh.v1;
import "google/api/annotations.proto";
// Greets.
service GreetingService {
  // Greets somebody.
  rpc Greet(Greeting) returns (Greeting) {
    option (google.api.http) = {get: "/fresh/{name}"};
  }
}
// A greeting.
message Greeting {
  string name = 1;
}
"""


async def test_grpc_gateway_generates_code_for_every_change(
    compile_proto: Callable[[str, str], Contract], fake_cloud: Any, serve: Any
) -> None:
    contract = compile_proto(NEW, "fresh.v1")
    cloud = fake_cloud(contract)
    await cloud.start()
    async for running in serve(contract, f"127.0.0.1:{cloud.port}"):
        async with running("GET", "/fresh/Budi") as answer:
            assert await answer.json() == {"name": "Budi"}
    await cloud.stop()


async def test_grpc_gateway_needs_a_wrapper_to_have_path_query_and_body_and_so_do_we(echo: Any, echo_rest: Any) -> None:
    # A limit of google.api.http itself: the body is one field of the request, and what is beside it comes from path and query.
    async with echo_rest("POST", "/e/part/n?i32=5&tags=x", json={"a": "1"}) as answer:
        assert answer.status == 200
    request = echo.requests[0]
    assert (request.name, request.i32, list(request.tags), request.sub.a) == ("n", 5, ["x"], "1")


async def test_grpc_gateway_leaks_when_a_body_is_not_read(echo: Any, echo_rest: Any) -> None:
    for _ in range(30):
        async with echo_rest("GET", "/e/search?name=x", data=b"x" * 50_000) as answer:
            assert answer.status == 200
        async with echo_rest("POST", "/e/nope", data=b"x" * 50_000) as answer:
            assert answer.status == 404
    state = echo_rest.server.server_state
    async with asyncio.timeout(20):
        while state.tasks:
            await asyncio.sleep(0.01)
    # One client that keeps its connection alive: nothing else is open, and nothing is being served.
    assert len(state.connections) == 1
    async with echo_rest("GET", "/metrics") as answer:
        assert "gipos_gateway_requests_in_flight 0.0" in await answer.text()


async def test_grpc_gateway_described_itself_in_openapi_2(rest: Any) -> None:
    # More: test_operations.py.
    async with rest("GET", "/openapi.json") as answer:
        assert (await answer.json())["openapi"].startswith("3.1")


# gRPC and JSON from Python


def test_the_slow_json_printer_of_protobuf_is_not_on_the_way() -> None:
    code = "import sys, gateway_rest.app, kernel.protojson; print('google.protobuf.json_format' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


async def test_grpc_is_opened_in_the_loop_that_serves_and_only_there(echo: Any) -> None:
    # Several loops in one process wake each other up; there is one, and nothing of gRPC is made before it runs.
    made: list[asyncio.AbstractEventLoop] = []

    def connect() -> GrpcChannel:
        made.append(asyncio.get_running_loop())
        return GrpcChannel(f"127.0.0.1:{echo.port}")

    gateway = await asyncio.to_thread(Gateway, echo.contract, connect)
    assert made == []
    gateway.start()
    assert made == [asyncio.get_running_loop()]
    await gateway.stop()


async def test_binary_metadata_and_hostile_headers_do_not_break_a_call(echo: Any, echo_rest: Any) -> None:
    headers = {"X-Foo-Bin": base64.b64encode(b"hi").decode(), "Traceparent": "\xff", "Grpc-Status": "0", "Te": "trailers"}
    async with echo_rest("GET", "/e/search?name=x", headers=headers) as answer:
        assert answer.status == 200
    assert not {"x-foo-bin", "traceparent", "grpc-status"} & echo.metadata[0].keys()
