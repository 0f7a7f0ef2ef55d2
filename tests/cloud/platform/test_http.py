"""Outbound calls against real servers: bounded, and guarded at the socket."""

from __future__ import annotations

import asyncio
import gzip
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from cloud.platform.addresses import ForbiddenTarget
from cloud.platform.http import CallFailed, CallTimedOut, Client, Limits

QUICK = Limits(lookup_seconds=0.2, connect_seconds=0.5, head_seconds=0.5, body_seconds=0.2)


class Server:
    """A real HTTP server on loopback that counts what reaches it."""

    def __init__(self) -> None:
        self.count = 0
        self.hosts: list[str] = []
        self.answer: Any = None
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.count += 1
        self.hosts.append(request.host)
        await request.read()
        answer: web.StreamResponse = await self.answer(request)
        return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, keepalive_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]

    async def fine(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    server.answer = fine
    yield server
    await runner.cleanup()


@pytest.fixture
async def raw() -> AsyncIterator[Any]:
    """Starts a TCP server that answers every request head with the given bytes."""
    servers = []

    async def start(answer: bytes, *, close: bool = True) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while not writer.is_closing():
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                writer.write(answer)
                await writer.drain()
                if close:
                    break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()


async def post(client: Client, url: str, **options: Any) -> Any:
    return await client.call("POST", url, headers={}, body=b"{}", **options)


async def test_an_answer_has_status_headers_and_body(server: Server) -> None:
    async with Client(private_addresses=True) as client:
        answer = await post(client, f"http://127.0.0.1:{server.port}/a?b=c")
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers["Content-Type"].startswith("text/plain")


LOOPBACK_SPELLINGS = [
    "127.0.0.1", "127.1", "0", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "localhost", "LocalHost.",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "①②⑦.⓪.⓪.①", "127。0。0。1", "user@127.0.0.1",
    "127.0.0.1.", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
async def test_no_spelling_of_loopback_is_reached(server: Server, host: str) -> None:
    async with Client() as client:
        with pytest.raises(ForbiddenTarget):
            await post(client, f"https://{host}/")
        # Even when no rule looked at the URL: the session itself has the guard.
        assert client._session is not None
        with pytest.raises((aiohttp.ClientError, ValueError)):
            await client._session.post(f"http://{host}:{server.port}/")
    assert server.count == 0


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"], ["::1"], ["10.0.0.5"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["64:ff9b::a9fe:a9fe"],
        ["fd00:ec2::254"], ["93.184.216.34", "127.0.0.1"], ["2606:4700::1", "fe80::1%1"],
        ["100.64.3.2"], ["0.0.0.0"], ["not an address"],
    ],
)  # fmt: skip
async def test_a_name_with_any_forbidden_address_is_refused_as_a_whole(found: Sequence[str]) -> None:
    connected: list[object] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.connect" and watching:
            connected.append(arguments[1])

    async def lookup(_host: str) -> Sequence[str]:
        return found

    watching = True
    sys.addaudithook(watch)  # a hook cannot be removed, hence the flag
    async with Client(lookup=lookup, limits=QUICK) as client:
        with pytest.raises(ForbiddenTarget):
            await post(client, "https://rebound.example/")
    watching = False
    assert connected == []


async def test_the_socket_itself_refuses_what_a_lookup_let_through(server: Server) -> None:
    # As if the name had changed between check and connection: the connector is handed a forbidden address directly.
    async with Client() as client:
        with pytest.raises(ForbiddenTarget):
            client._open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)))


async def test_a_name_is_called_at_the_address_that_was_checked(server: Server) -> None:
    asked: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with Client(private_addresses=True, lookup=lookup) as client:
        answer = await post(client, f"http://Toko.Example.:{server.port}/")
    assert answer.status == 200
    assert asked == ["toko.example"]
    assert server.hosts == [f"toko.example:{server.port}"]


async def test_a_name_that_is_looked_up_too_long_is_a_timeout() -> None:
    async def lookup(_host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with Client(lookup=lookup, limits=QUICK) as client:
        with pytest.raises(CallTimedOut):
            await post(client, "https://slow.example/")


async def test_a_name_without_addresses_is_a_failure() -> None:
    async def nothing(_host: str) -> Sequence[str]:
        return []

    async def unknown(_host: str) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    for lookup in (nothing, unknown):
        async with Client(lookup=lookup, limits=QUICK) as client:
            with pytest.raises(CallFailed):
                await post(client, "https://nowhere.example/")


async def test_redirects_are_answers(server: Server) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})

    server.answer = away
    async with Client(private_addresses=True) as client:
        answer = await post(client, f"http://127.0.0.1:{server.port}/")
    assert answer.status == 302
    assert server.count == 1


async def test_the_environments_proxy_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Client(private_addresses=True) as client:
        assert (await post(client, f"http://127.0.0.1:{server.port}/")).status == 200


async def test_a_head_that_does_not_come_is_a_timeout(server: Server) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = never
    async with Client(private_addresses=True, limits=QUICK) as client:
        with pytest.raises(CallTimedOut):
            await post(client, f"http://127.0.0.1:{server.port}/")


async def test_endless_interim_answers_are_a_timeout(raw: Any) -> None:
    port = await raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20, close=False)
    async with Client(private_addresses=True, limits=QUICK) as client:
        with pytest.raises(CallTimedOut):
            await post(client, f"http://127.0.0.1:{port}/")


async def test_a_bomb_is_kept_packed_and_cut(server: Server) -> None:
    packed = gzip.compress(b"\x00" * 50_000_000, 9)

    async def bomb(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    server.answer = bomb
    async with Client(private_addresses=True) as client:
        answer = await post(client, f"http://127.0.0.1:{server.port}/")
    assert answer.body == packed[: 16 * 1024]


@pytest.mark.parametrize(
    "answer",
    [
        b"this is not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"",
    ],
)
async def test_what_is_not_http_is_a_failure(raw: Any, answer: bytes) -> None:
    port = await raw(answer)
    async with Client(private_addresses=True, limits=QUICK) as client:
        with pytest.raises(CallFailed):
            await post(client, f"http://127.0.0.1:{port}/")


async def test_a_body_that_breaks_off_keeps_its_status(raw: Any) -> None:
    port = await raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    async with Client(private_addresses=True, limits=QUICK) as client:
        answer = await post(client, f"http://127.0.0.1:{port}/")
    assert answer.status == 200


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_kept_connection_that_was_closed_is_replaced_once_when_that_is_harmless(*, repeatable: bool) -> None:
    """The server answers the first request of a connection and hangs up on the second, as after its keep-alive time."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Client(private_addresses=True, limits=QUICK) as client:
        assert (await post(client, url)).status == 204
        if repeatable:
            assert (await post(client, url, repeatable=True)).status == 204
            assert connections == 2
        else:
            with pytest.raises(CallFailed):
                await post(client, url)
            assert connections == 1
