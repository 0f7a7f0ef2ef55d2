"""One update to many dashboards: a real cloud and gateway in one process, a thousand raw sockets in another, PostgreSQL beside.

`python -m scripts.benchmarks.link_dashboards` prints the figures. The clients are one thread with epoll and no WebSocket library:
they must not be what is measured. Times of both processes are of the same clock (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SOCKETS = 1_000
ROUNDS = 30
PATH = "/api/v1/dashboard"
_MASK = b"\x00\x00\x00\x00"


def _masked(text: bytes) -> bytes:
    """A text frame of a client, with a mask that changes nothing."""
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + struct.pack(">H", size)
    return head + _MASK + text


def clients(port: int, tickets: list[str], rounds: int) -> None:
    """The other process: opens a socket for each ticket and tells the times at which each update came first and last.

    Says "ready" when all dashboards show something, and then a line per round.
    """
    poll = select.epoll()
    by_file: dict[int, socket.socket] = {}
    upgrade = (
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    for ticket in tickets:
        one = socket.create_connection(("127.0.0.1", port), timeout=30)
        one.sendall(upgrade)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += one.recv(1)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(answer.decode("utf-8", "replace"))
        one.sendall(_masked(json.dumps({"ticket": ticket}).encode()))
        one.setblocking(False)
        by_file[one.fileno()] = one
        poll.register(one.fileno(), select.EPOLLIN)

    def wait(word: bytes) -> tuple[float, float]:
        """Until a frame with this word has come to each; when the first and the last of them did."""
        left = set(by_file)
        rest: dict[int, bytes] = {}
        first = last = 0.0
        until = time.monotonic() + 60
        while left:
            if time.monotonic() > until:
                raise RuntimeError(f"{len(left)} dashboards did not get {word!r}")
            for file, _ in poll.poll(1):
                data = rest.get(file, b"") + by_file[file].recv(1 << 16)
                rest[file] = data[-len(word) :]
                if file in left and word in data:
                    last = time.monotonic()
                    first = first or last
                    left.discard(file)
        return first, last

    wait(b'"value"')
    print("ready", flush=True)
    for number in range(1, rounds + 1):
        print(json.dumps(wait(f'"available":"{_stock(number)}"'.encode())), flush=True)


def _stock(number: int) -> str:
    """What is left in a round; each differs from the one before, and is little."""
    return f"0.{101 + 2 * number}"


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[tuple[Any, int, dict[str, Any]]]:
    """A cloud and a gateway in this process: the cloud, the gateway's port, the demo merchant."""
    from cloud import demo, server
    from cloud.settings import Settings
    from gateway_rest import contract
    from gateway_rest.__main__ import Server, bind, configured
    from gateway_rest.app import Gateway
    from gateway_rest.dashboards.sockets import Room
    from host.channel import LocalChannel

    async with server.running(Settings(data_dir=folder)) as cloud:
        await demo.create(cloud.database, folder / "demo.json", "")
        made = json.loads((folder / "demo.json").read_text("utf-8"))
        room = Room(per_merchant=100_000, per_viewer=100_000)
        gateway = Gateway(contract.installed(), lambda: LocalChannel(cloud.local), room=room)
        rest = Server(configured(gateway, graceful_seconds=1), gateway)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(rest.serve(sockets=[listener]))
        while not rest.started:  # noqa: ASYNC110 (the server has no event for it)
            await asyncio.sleep(0.01)
        try:
            yield cloud, listener.getsockname()[1], made
        finally:
            rest.should_exit = True
            await task


async def _tickets(cloud: Any, made: dict[str, Any], count: int) -> list[str]:
    """Tickets, made as the service makes them, but without asking for each."""
    from cloud.accounts import credentials, dashboard_tickets

    async with cloud.database.identifying() as connection:
        owner = (await credentials.look_up(connection, made["api_key"])).caller
    tickets = []
    async with cloud.database.transaction(owner.tenant_id) as tx:
        for _ in range(count):
            ticket, _ = await dashboard_tickets.create(tx, owner, "", "")
            tickets.append(ticket)
    return tickets


async def one_update_to_many(sockets: int = SOCKETS, rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures: medians over the rounds, in milliseconds, and the server's CPU for each message in microseconds.

    Raises:
        RuntimeError: an update did not reach every dashboard.
    """
    folder = Path(tempfile.mkdtemp(prefix="gipos-bench-"))
    try:
        async with _stage(folder) as (cloud, port, made):
            return await _measured(cloud, port, made, sockets, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measured(cloud: Any, port: int, made: dict[str, Any], sockets: int, rounds: int) -> dict[str, Any]:
    from gipos.v1.catalog_pb2 import CreateProductRequest, Product
    from gipos.v1.common_pb2 import Money
    from gipos.v1.inventory_pb2 import Inventory, SetInventoryRequest
    from host.channel import LocalChannel

    channel, auth = LocalChannel(cloud.local), [("authorization", f"Bearer {made['api_key']}")]
    add = channel.unary("/gipos.v1.ProductService/CreateProduct", CreateProductRequest, Product)
    put = channel.unary("/gipos.v1.InventoryService/SetInventory", SetInventoryRequest, Inventory)
    product = (await add(CreateProductRequest(product=Product(name="Kopi", price=Money(amount=1))), auth, 30)).message
    outlet_id = made["outlets"][0]["id"]
    tickets = await _tickets(cloud, made, sockets)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.benchmarks.link_dashboards", "--clients", str(port), str(rounds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(tickets).encode() + b"\n")
        if (await process.stdout.readline()) != b"ready\n":
            raise RuntimeError("The dashboards did not come up.")
        asked, committed, spans, cpu = [], [], [], []
        for number in range(1, rounds + 1):
            await asyncio.sleep(0.5)  # each update by itself: the first after a quiet time goes out at once
            request = SetInventoryRequest(product_id=product.id, outlet_id=outlet_id, on_hand=_stock(number))  # type: ignore[attr-defined]
            began, used = time.monotonic(), time.process_time()
            await put(request, auth, 30)
            done = time.monotonic()
            line = await process.stdout.readline()
            if not line:
                raise RuntimeError("The dashboards are gone.")
            first, last = json.loads(line)
            cpu.append((time.process_time() - used) / sockets * 1e6)
            asked.append((last - began) * 1e3)
            committed.append((last - done) * 1e3)
            spans.append((last - first) * 1e3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return {
        "cores": os.cpu_count(),
        "dashboards": sockets,
        "rounds": rounds,
        "last_after_commit_ms": round(statistics.median(committed), 1),
        "last_after_commit_best_ms": round(min(committed), 1),
        "last_after_request_ms": round(statistics.median(asked), 1),
        "first_to_last_ms": round(statistics.median(spans), 1),
        "server_cpu_per_message_us": round(statistics.median(cpu), 1),
    }


def main() -> int:
    """Prints the figures; or is the other process."""
    if sys.argv[1:2] == ["--clients"]:
        clients(int(sys.argv[2]), json.loads(sys.stdin.readline()), int(sys.argv[3]))
        return 0
    for name, value in asyncio.run(one_update_to_many()).items():
        print(f"  {name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
