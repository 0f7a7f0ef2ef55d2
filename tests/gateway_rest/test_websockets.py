"""Streams over WebSocket, beyond what test_streams.py tells: subprotocols, refusals, pings, frames of all kinds, slow readers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from gipos.v1 import events_pb2

WATCH = "/api/v1/events:watch"


def events(count: int, *, ends: bool = True) -> Any:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(1, count + 1):
            yield events_pb2.WatchEventsResponse(event=events_pb2.Event(id=f"evt_{number}"), cursor=f"c{number}")
        if not ends:
            await asyncio.Event().wait()

    return watch


async def status_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[Any, int | None]:
    """The status frame, and the close code."""
    frame: Any = None
    async for message in socket:
        frame = json.loads(message.data)
    return frame["$status"], socket.close_code


async def test_protobuf_goes_in_binary_frames_and_the_status_as_text(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(2))
    async with rest.session.ws_connect(rest.url + WATCH, protocols=("gipos.v1.proto",)) as socket:
        assert socket.protocol == "gipos.v1.proto"
        for number in (1, 2):
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.BINARY
            assert events_pb2.WatchEventsResponse.FromString(message.data).cursor == f"c{number}"
        status, code = await status_of(socket)
    assert (status["reason"], code) == ("OK", 1000)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("chat",), None),
        (("gipos.v1.proto", "gipos.v1.json"), "gipos.v1.proto"),
        (("chat", "gipos.v1.json", "gipos.v1.proto"), "gipos.v1.json"),
    ],
)
async def test_the_first_subprotocol_we_know_is_spoken(
    offered: tuple[str, ...], chosen: str | None, cloud: Any, rest: Any
) -> None:
    cloud.answer("WatchEvents", events(1))
    async with rest.session.ws_connect(rest.url + WATCH, protocols=offered) as socket:
        assert socket.protocol == chosen
        message = await socket.receive()
        assert message.type is (aiohttp.WSMsgType.BINARY if chosen == "gipos.v1.proto" else aiohttp.WSMsgType.TEXT)


async def test_without_a_credential_the_handshake_is_refused_before_the_cloud_is_asked(cloud: Any, rest: Any) -> None:
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await stranger.ws_connect(rest.url + WATCH)
    assert caught.value.status == 401
    assert cloud.requests == []


async def test_a_header_wins_over_a_key_among_the_subprotocols(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(0))
    protocols = ("gipos.v1.json", "gipos.key.other")
    async with rest.session.ws_connect(rest.url + WATCH, protocols=protocols, headers={"X-API-Key": "mine"}) as socket:
        await status_of(socket)
    assert "other" not in str(cloud.metadata[0])


async def test_the_page_behind_a_socket_is_told_to_the_cloud_which_may_refuse_it(cloud: Any, rest: Any, refuse: Any) -> None:
    async def watch(_request: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "ORIGIN_NOT_ALLOWED", "Not from there.")
        yield

    cloud.answer("WatchEvents", watch)
    protocols = ("gipos.v1.json", "gipos.key.k")
    async with aiohttp.ClientSession() as browser:
        options: dict[str, Any] = {"protocols": protocols, "origin": "https://evil.example"}
        async with browser.ws_connect(rest.url + WATCH, **options) as socket:
            status, code = await status_of(socket)
    assert (status["reason"], code) == ("ORIGIN_NOT_ALLOWED", 4007)
    assert cloud.metadata[0]["origin"] == "https://evil.example"


async def test_a_bad_query_is_told_before_the_handshake(cloud: Any, rest: Any) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await rest.session.ws_connect(f"{rest.url}{WATCH}?nope=1")
    assert caught.value.status == 400
    assert cloud.requests == []


@pytest.mark.parametrize("frame", ["{}", "[]", '{"$close": false}', "null", "", b"\x00\x01"])
async def test_a_frame_we_do_not_know_ends_the_socket_and_the_call(frame: str | bytes, cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(0, ends=False))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        status, code = await status_of(socket)
    assert (status["reason"], code) == ("UNEXPECTED_FRAME", 4003)
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_a_frame_without_measure_closes_the_socket(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(0, ends=False))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.send_str("x" * 100_000)
        async for _ in socket:
            pass
        assert socket.close_code == 1009
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_closing_with_1000_is_as_good_as_asking(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(1, ends=False))
    async with rest.session.ws_connect(rest.url + WATCH) as socket:
        await socket.receive()
        await socket.close(code=1000)
    async with asyncio.timeout(20):
        await cloud.cancelled.wait()


async def test_the_time_a_caller_gives_ends_a_socket(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(1, ends=False))
    async with rest.session.ws_connect(rest.url + WATCH, headers={"X-Request-Timeout": "0.3"}) as socket:
        status, code = await status_of(socket)
    assert (status["status"], status["reason"], code) == (504, "DEADLINE_EXCEEDED", 4004)


async def test_fields_are_selected_in_frames_as_well(cloud: Any, rest: Any) -> None:
    cloud.answer("WatchEvents", events(1))
    async with rest.session.ws_connect(f"{rest.url}{WATCH}?fields=cursor") as socket:
        assert await socket.receive_json() == {"cursor": "c1"}


@pytest.fixture
async def impatient(cloud: Any, serve: Any) -> AsyncIterator[Any]:
    """A gateway that pings often."""
    async for running in serve(cloud.contract, f"127.0.0.1:{cloud.port}", server_options={"ping_seconds": 0.2}):
        yield running


async def _handshaken(rest: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket whose frames nobody answers for us."""
    host, _, port = rest.url.partition("//")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    key = base64.b64encode(os.urandom(16))
    writer.write(
        b"GET " + WATCH.encode() + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def test_who_does_not_answer_pings_is_let_go(cloud: Any, impatient: Any) -> None:
    cloud.answer("WatchEvents", events(0, ends=False))
    reader, writer = await _handshaken(impatient)
    async with asyncio.timeout(10):
        frames = await reader.read()  # until the gateway closes
        assert frames[0] == 0x89  # a ping
        assert struct.pack("!H", 1011) in frames
        await cloud.cancelled.wait()
    writer.close()


async def test_who_answers_pings_stays(cloud: Any, serve: Any) -> None:
    later = asyncio.Event()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        await later.wait()
        yield events_pb2.WatchEventsResponse(cursor="c1")

    cloud.answer("WatchEvents", watch)
    # Long enough for an answer on a machine that is busy.
    async for running in serve(cloud.contract, f"127.0.0.1:{cloud.port}", server_options={"ping_seconds": 1.0}):
        async with running.session.ws_connect(running.url + WATCH, autoping=False) as socket:
            for _ in range(3):
                ping = await socket.receive()
                assert ping.type is aiohttp.WSMsgType.PING
                await socket.pong(ping.data)
            later.set()
            while (frame := await socket.receive()).type is aiohttp.WSMsgType.PING:
                await socket.pong(frame.data)
            assert frame.json()["cursor"] == "c1"


async def test_a_slow_reader_slows_the_service_down_and_loses_nothing(cloud: Any, rest: Any) -> None:
    sent = 0

    async def flood(_request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal sent
        for sent in range(3000):
            # Random text: what shrinks on the wire would not fill anything.
            yield events_pb2.WatchEventsResponse(cursor=f"c{sent}", event=events_pb2.Event(id=os.urandom(5000).hex()))

    cloud.answer("WatchEvents", flood)
    async with rest.session.ws_connect(rest.url + WATCH, max_msg_size=0) as socket:
        await socket.receive()
        seen = -1
        while seen != sent:  # until the service is held up by our not reading
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < 2999
        cursors = []
        async for message in socket:
            frame = json.loads(message.data)
            cursors.append(frame.get("cursor"))
    assert cursors[:-1] == [f"c{number}" for number in range(1, 3000)]


async def test_half_a_handshake_is_an_error_and_no_socket(rest: Any, talk: Any) -> None:
    head = (
        b"GET "
        + WATCH.encode()
        + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    for field in (b"", b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: eA==\r\n"):
        raw = await talk(rest.url, head + field + b"\r\n")
        assert raw[9:12] in {b"400", b"426"}
