"""Live streams as NDJSON, server-sent events, one list, and over WebSocket; errors, resumption, hanging up, going down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.any_pb2 import Any as Any_

from gipos.v1 import events_pb2, sales_pb2

WATCH = "/api/v1/events:watch"


def numbered(count: int) -> Any:
    """Events 1 to count, then the end."""

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(1, count + 1):
            yield events_pb2.WatchEventsResponse(event=events_pb2.Event(id=f"evt_{number}"), cursor=f"c{number}")

    return watch


def endless(count: int) -> Any:
    """Events 1 to count, then silence."""

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in numbered(count)(request, context):
            yield event
        await asyncio.Event().wait()

    return watch


def failing(refuse: Any, count: int) -> Any:
    """Events 1 to count, then an error."""

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in numbered(count)(request, context):
            yield event
        await refuse(context, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED", "Begin again without a cursor.")

    return watch


async def test_ndjson_is_the_default_one_message_per_line(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(3))
    async with rest("GET", f"{WATCH}?types=sale.*&types=product.created&outlet_id=out_1") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/x-ndjson"
        assert answer.headers["Cache-Control"] == "no-store"
        lines = (await answer.text()).splitlines()
    assert [json.loads(line)["event"]["id"] for line in lines] == ["evt_1", "evt_2", "evt_3"]
    assert list(cloud.requests[0].types) == ["sale.*", "product.created"]
    assert cloud.deadlines[0] is None


async def test_server_sent_events_carry_the_cursor_and_an_end(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(2))
    async with rest("GET", WATCH, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["X-Accel-Buffering"] == "no"
        blocks = (await answer.text()).strip().split("\n\n")
    assert blocks[0] == "retry: 1000"
    assert blocks[1].startswith('event: message\nid: c1\ndata: {"event":{"id":"evt_1"')
    assert blocks[-1] == "event: end\ndata: {}"


async def test_last_event_id_goes_on_even_where_the_address_names_an_older_cursor(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(0))
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "c9"}
    async with rest("GET", f"{WATCH}?cursor=c1", headers=headers) as answer:
        await answer.read()
    assert cloud.requests[0].cursor == "c9"


async def test_an_error_at_once_has_its_true_status(cloud: Any, rest: Any, refuse: Any) -> None:
    cloud.answer("WatchEvents", failing(refuse, 0))
    for accept in ("*/*", "text/event-stream"):
        async with rest("GET", WATCH, headers={"Accept": accept}) as answer:
            assert answer.status == 400
            assert (await answer.json(content_type=None))["reason"] == "CURSOR_EXPIRED"


async def test_an_error_in_the_middle_is_the_last_line(cloud: Any, rest: Any, refuse: Any) -> None:
    cloud.answer("WatchEvents", failing(refuse, 2))
    async with rest("GET", WATCH) as answer:
        assert answer.status == 200
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert len(lines) == 3
    assert lines[2]["error"]["reason"] == "CURSOR_EXPIRED"
    assert lines[2]["error"]["request_id"] == answer.headers["X-Request-Id"]
    async with rest("GET", WATCH, headers={"Accept": "text/event-stream"}) as answer:
        blocks = (await answer.text()).strip().split("\n\n")
    assert blocks[-2].startswith("event: error\ndata: {")
    assert "CURSOR_EXPIRED" in blocks[-2]


async def test_a_quiet_stream_opens_and_then_delivers_what_comes(cloud: Any, rest: Any) -> None:
    later = asyncio.Event()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        await later.wait()
        yield events_pb2.WatchEventsResponse(cursor="c1")

    cloud.answer("WatchEvents", watch)
    async with rest("GET", WATCH) as answer:
        assert answer.status == 200
        later.set()
        assert json.loads(await answer.content.readline())["cursor"] == "c1"


async def test_a_quiet_event_stream_is_kept_alive_by_comments(cloud: Any, chatty_rest: Any) -> None:
    cloud.answer("WatchEvents", endless(0))
    async with chatty_rest("GET", WATCH, headers={"Accept": "text/event-stream"}) as answer:
        assert await answer.content.readuntil(b"\n\n") == b"retry: 1000\n\n"
        assert await answer.content.readuntil(b"\n\n") == b":\n\n"


async def test_hanging_up_cancels_the_call(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest("GET", WATCH) as answer:
        await answer.content.readline()
        answer.close()
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_a_cloud_that_dies_in_the_middle_is_told_in_the_last_line(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest("GET", WATCH) as answer:
        await answer.content.readline()
        await cloud.stop()
        last = json.loads(await answer.content.readline())
    assert last["error"]["status"] in {499, 503}


async def test_going_down_ends_streams_with_a_reason(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest("GET", WATCH) as answer:
        await answer.content.readline()
        rest.gateway.drain()
        last = json.loads(await answer.content.readline())
        assert await answer.content.read() == b""
    assert last["error"]["reason"] == "SHUTTING_DOWN"


async def test_one_json_list_only_for_streams_that_end(echo: Any, echo_rest: Any, rest: Any) -> None:
    async def lines(request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            request.i32 = number
            yield request

    echo.answer("ListLines", lines)
    async with echo_rest("GET", "/e/lines", headers={"Accept": "application/json"}) as answer:
        assert [item["i32"] for item in await answer.json()] == [0, 1, 2]
    async with rest("GET", WATCH, headers={"Accept": "application/json"}) as answer:
        assert answer.status == 406
        assert (await answer.json())["reason"] == "NOT_ACCEPTABLE"


async def test_an_error_in_a_list_replaces_it_whole(echo: Any, echo_rest: Any, refuse: Any) -> None:
    async def lines(request: Any, context: Any) -> AsyncIterator[Any]:
        yield request
        await refuse(context, grpc.StatusCode.ABORTED, "GAVE_UP", "Try again.")

    echo.answer("ListLines", lines)
    async with echo_rest("GET", "/e/lines", headers={"Accept": "application/json"}) as answer:
        assert answer.status == 409
        assert (await answer.json())["reason"] == "GAVE_UP"


ACCEPTED = [
    ("application/json, */*", "application/x-ndjson"),
    ("application/json, text/event-stream", "text/event-stream"),
    ("text/event-stream;q=0.4, application/x-ndjson;q=0.5", "application/x-ndjson"),
    ("application/x-ndjson;q=0, text/event-stream;q=0.1", "text/event-stream"),
    ("TEXT/EVENT-STREAM; charset=utf-8; q=1.0", "text/event-stream"),
    ("application/jsonl", "application/x-ndjson"),
    ("text/html, application/xhtml+xml, */*;q=0.8", "application/x-ndjson"),
    (";;;,,q=,", "application/x-ndjson"),
]


@pytest.mark.parametrize(("accept", "kind"), ACCEPTED)
async def test_the_form_is_chosen_by_the_weights_of_accept(accept: str, kind: str, cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(1))
    async with rest("GET", WATCH, headers={"Accept": accept}) as answer:
        assert (answer.status, answer.content_type) == (200, kind)


async def test_the_time_a_caller_gives_ends_a_stream_and_nothing_else_does(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest("GET", WATCH, headers={"X-Request-Timeout": "1.5"}) as answer:
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert lines[0]["cursor"] == "c1"
    assert lines[1]["error"]["reason"] == "DEADLINE_EXCEEDED"
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()
    async with rest("GET", WATCH, headers={"X-Request-Timeout": "soon"}) as answer:
        assert answer.status == 400


async def test_a_message_without_json_form_ends_the_stream_with_an_error_line(cloud: Any, rest: Any) -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield events_pb2.WatchEventsResponse(cursor="c1")
        too_deep = Any_()
        for _ in range(1_000):
            outer = Any_()
            outer.Pack(too_deep)
            too_deep = outer
        yield events_pb2.WatchEventsResponse(event=events_pb2.Event(data=too_deep), cursor="c2")

    cloud.answer("WatchEvents", watch)
    async with rest("GET", WATCH) as answer:
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [lines[0]["cursor"], lines[1]["error"]["reason"]] == ["c1", "INTERNAL"]


async def test_a_value_without_json_form_is_named_in_its_element_and_the_stream_goes_on(cloud: Any, rest: Any) -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        broken = events_pb2.WatchEventsResponse(event=events_pb2.Event(id="evt_1"), cursor="c1")
        sale = sales_pb2.Sale(id="sal_1")
        sale.sale_time.nanos = -1
        broken.event.data.Pack(sale)
        yield broken
        yield events_pb2.WatchEventsResponse(cursor="c2")

    cloud.answer("WatchEvents", watch)
    for accept in ("application/x-ndjson", "text/event-stream", "websocket"):
        if accept == "websocket":
            async with rest.session.ws_connect(rest.url + WATCH) as socket:
                lines = [json.loads((await socket.receive()).data) for _ in range(2)]
        else:
            async with rest("GET", WATCH, headers={"Accept": accept}) as answer:
                texts = [line.removeprefix("data: ") for line in (await answer.text()).splitlines()]
            lines = [json.loads(text) for text in texts if '"cursor"' in text]
        assert [line["cursor"] for line in lines] == ["c1", "c2"]
        assert lines[0]["event"]["id"] == "evt_1"
        assert lines[0]["event"]["data"]["id"] == "sal_1"
        assert "sale_time" not in lines[0]["event"]["data"]
        assert lines[0]["$left_out"] == ["event.data.sale_time"]
        assert "$left_out" not in lines[1]


async def test_the_form_can_be_named_in_the_query(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(1))
    async with rest("GET", f"{WATCH}?$alt=sse") as answer:
        assert answer.content_type == "text/event-stream"


async def test_an_event_shows_its_resource_without_a_type(cloud: Any, rest: Any) -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        response = events_pb2.WatchEventsResponse()
        response.event.data.Pack(sales_pb2.Sale(id="sal_1", status=sales_pb2.SALE_STATUS_COMPLETED))
        yield response

    cloud.answer("WatchEvents", watch)
    async with rest("GET", WATCH) as answer:
        data = json.loads(await answer.text())["event"]["data"]
    assert data["id"] == "sal_1"
    assert data["status"] == "completed"
    assert "@type" not in data


async def _frames(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[Any], Any]:
    frames = []
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.TEXT
        frames.append(json.loads(message.data))
    return frames, socket.close_code


async def test_a_websocket_gets_one_frame_per_message_and_a_status(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(2))
    async with rest.session.ws_connect(f"{rest.url}{WATCH}?cursor=c0", headers={"Authorization": "Bearer k"}) as socket:
        frames, code = await _frames(socket)
    assert [frame["cursor"] for frame in frames[:2]] == ["c1", "c2"]
    assert frames[2] == {"$status": {"status": 200, "reason": "OK"}}
    assert code == 1000
    assert cloud.requests[0].cursor == "c0"
    assert cloud.metadata[0]["authorization"] == "Bearer k"


async def test_a_browser_authenticates_by_subprotocol_which_is_not_echoed(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", numbered(0))
    protocols = ("gipos.v1.json", "gipos.key.gipos_test_abc")
    async with aiohttp.ClientSession() as browser, browser.ws_connect(rest.url + WATCH, protocols=protocols) as socket:
        assert socket.protocol == "gipos.v1.json"
        await _frames(socket)
    assert cloud.metadata[0]["authorization"] == "Bearer gipos_test_abc"


async def _unauthenticated(_request: Any, context: Any) -> AsyncIterator[Any]:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")
    yield


async def test_a_refused_handshake_is_an_http_answer(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", _unauthenticated)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await rest.session.ws_connect(rest.url + WATCH)
    assert caught.value.status == 401
    assert caught.value.headers is not None
    assert "WWW-Authenticate" in caught.value.headers


async def test_a_browser_reads_a_refusal_in_the_status_frame(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", _unauthenticated)
    async with rest.session.ws_connect(rest.url + WATCH, protocols=("gipos.v1.json", "gipos.key.bad")) as socket:
        frames, code = await _frames(socket)
    assert frames[-1]["$status"]["status"] == 401
    assert code == 4016


async def test_an_error_in_the_middle_is_the_last_frame_and_the_close_code(cloud: Any, rest: Any, refuse: Any) -> None:
    cloud.answer("WatchEvents", failing(refuse, 1))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        frames, code = await _frames(socket)
    assert frames[0]["cursor"] == "c1"
    assert frames[1]["$status"]["reason"] == "CURSOR_EXPIRED"
    assert code == 4011


async def test_the_caller_ends_a_socket_politely_or_not(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.receive_json()
        await socket.send_json({"$close": True})
        frames, code = await _frames(socket)
    assert (frames[-1]["$status"]["reason"], code) == ("OK", 1000)
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()
    cloud.cancelled.clear()
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.receive_json()
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_a_frame_nobody_understands_ends_the_socket_with_a_reason(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(0))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.send_str("hello")
        frames, code = await _frames(socket)
    assert (frames[-1]["$status"]["reason"], code) == ("UNEXPECTED_FRAME", 4003)


@pytest.mark.parametrize(("path", "status"), [("/api/v1/products", 400), ("/nope", 404), ("/api/v1/sales/x:refund", 400)])
async def test_what_is_no_stream_has_no_websocket(path: str, status: int, rest: Any) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await rest.session.ws_connect(rest.url + path)
    assert caught.value.status == status


async def test_going_down_ends_sockets_with_a_reason(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", endless(1))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.receive_json()
        rest.gateway.drain()
        frames, code = await _frames(socket)
    assert (frames[-1]["$status"]["reason"], code) == ("SHUTTING_DOWN", 4014)


async def test_a_slow_reader_slows_the_service_down_and_loses_nothing(cloud: Any, rest: Any) -> None:
    sent = 0

    async def flood(_request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal sent
        for sent in range(3000):
            yield events_pb2.WatchEventsResponse(cursor=f"c{sent}", event=events_pb2.Event(id="x" * 10_000))

    cloud.answer("WatchEvents", flood)
    async with rest("GET", WATCH) as answer:
        await answer.content.readline()
        seen = -1
        while seen != sent:  # until the service is held up by our not reading
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < 2999
        count = 1
        async for _ in answer.content:
            count += 1
    assert count == 3000
