"""One update to a thousand dashboards: a cloud and gateway in one process, a thousand raw WebSockets in another.

The process is what scripts/up runs, on uvloop. Measured from the return of COMMIT until the last socket has read the new value.
The clients are one thread with epoll and no WebSocket library: they must not be what is measured. Each update comes after half
a second of quiet: then it goes out at once.

Weakness: sockets and server have two cores together.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import statistics
import struct
import sys
import time

from scripts.benchmarks.link import lines, programs
from scripts.benchmarks.link.stage import Size, Stage
from scripts.benchmarks.link.table import Report

TARGET_MS = 50.0
QUIET_SECONDS = 0.5
PATH = "/api/v1/dashboard"
_CLOSE, _PING, _PONG = 8, 9, 10
_MASK = b"\x00\x00\x00\x00"


async def measure(stage: Stage, report: Report) -> None:
    """Adds the part's rows."""
    count, rounds = stage.size.crowd, stage.size.rounds * stage.size.updates
    programs.open_files(count + 500)
    watched = stage.others[2]  # where nothing else is sold: dashboards show what there is least of
    outlet_id, product_id, key = watched.outlets[0], watched.products[0], watched.api_key
    committed, answered, spans, cpu = [], [], [], []
    async with stage.cloud("--gateway") as (cloud, ports), stage.program("dashboards") as screens:
        await cloud.ask(do="stock", key=key, product_id=product_id, outlet_id=outlet_id, on_hand=_stock(0))
        tickets = (await cloud.ask(do="tickets", key=key, count=count))["tickets"]
        await screens.ask(port=ports["rest_port"], tickets=tickets, rounds=rounds)
        for number in range(1, rounds + 1):
            await asyncio.sleep(QUIET_SECONDS)
            used = cloud.cpu_seconds()
            change = await cloud.ask(do="stock", key=key, product_id=product_id, outlet_id=outlet_id, on_hand=_stock(number))
            first, last = await screens.hear()
            cpu.append((cloud.cpu_seconds() - used) / count * 1e6)
            committed.append((last - change["returned"]) * 1e3)
            answered.append((last - change["done"]) * 1e3)
            spans.append((last - first) * 1e3)
    last_ms = statistics.median(committed)
    report.figures["update_to_dashboards"] = {
        "dashboards": count,
        "rounds": rounds,
        "last_ms": round(last_ms, 1),
        "best_ms": round(min(committed), 1),
        "last_after_answer_ms": round(statistics.median(answered), 1),
        "first_to_last_ms": round(statistics.median(spans), 1),
        "server_cpu_us_each": round(statistics.median(cpu), 1),
    }
    report.section(f"one update to {count} dashboards (WebSocket)")
    report.target(
        "  until the last has it, after the commit (p50)",
        f"{last_ms:.0f} ms",
        f"<= {TARGET_MS:.0f} ms",
        met=last_ms <= TARGET_MS,
        whole=count >= Size.crowd,
    )
    report.row("    server CPU each", f"{statistics.median(cpu):.1f} us")


def _stock(number: int) -> str:
    """What is left in a round; each differs from the one before, and is little, so that it is shown."""
    return f"0.{101 + 2 * number}"


def _masked(text: bytes) -> bytes:
    """A text frame of a client, with a mask that changes nothing."""
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + struct.pack(">H", size)
    return head + _MASK + text


def main() -> None:
    """The sockets: opens one for each ticket, says so when all show something, then a line per round: first and last time."""
    output = lines.claim_output()
    command = json.loads(sys.stdin.buffer.readline())
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)
    by_file = {one.fileno(): one for one in (_opened(command["port"], ticket) for ticket in command["tickets"])}
    for file in by_file:
        poll.register(file, select.EPOLLIN)

    rest: dict[int, bytes] = {}

    def wait(word: bytes) -> tuple[float, float]:
        left = set(by_file)
        first = last = 0.0
        until = time.monotonic() + 60
        while left:
            if time.monotonic() > until:
                raise RuntimeError(f"{len(left)} dashboards did not get {word!r}")
            for file, _ in poll.poll(1):
                if file == 0:  # the benchmark is over, nobody says anything in the middle
                    raise SystemExit(1)
                received = by_file[file].recv(1 << 16)
                if not received:
                    raise RuntimeError("A dashboard was cut off.")
                payload, rest[file] = _payload(by_file[file], rest.get(file, b"") + received)
                if file in left and word in payload:
                    last = time.monotonic()
                    first = first or last
                    left.discard(file)
        return first, last

    wait(b'"value"')
    lines.say(output, {"ready": True})
    for number in range(1, command["rounds"] + 1):
        lines.say(output, wait(f'"available":"{_stock(number)}"'.encode()))


def _payload(one: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """The texts of all whole frames, and what is left of the next one. Pings are answered; a server cuts off who does not."""
    texts = []
    while len(data) >= 4:
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        if len(data) < head + size:
            break
        body, kind, data = data[head : head + size], data[0] & 15, data[head + size :]
        if kind == _PING:
            one.send(bytes((0x80 | _PONG, 0x80 | size)) + _MASK + body)
        elif kind == _CLOSE:
            raise RuntimeError(f"A dashboard was closed: {body!r}")
        else:
            texts.append(body)
    return b"".join(texts), data


def _opened(port: int, ticket: str) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = one.recv(1)
        if not piece:
            raise RuntimeError(f"A dashboard was refused: {answer.decode('utf-8', 'replace')}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(answer.decode("utf-8", "replace"))
    one.sendall(_masked(json.dumps({"ticket": ticket}).encode()))
    one.setblocking(False)
    return one


if __name__ == "__main__":
    main()
