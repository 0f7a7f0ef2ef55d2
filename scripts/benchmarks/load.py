"""A load generator that costs little beside what it measures: one thread, raw sockets, epoll, no HTTP library.

Run as a program of its own (`python load.py`): a plan as JSON on standard input, the figures as JSON on standard output. Every
answer is checked for its status; whatever is not expected ends the run with the answer's text.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

COUNTER = b"{{n}}"
"""Stands for a number that is another one in each request."""


@dataclass
class Plan:
    """What to send where, and how long."""

    host: str
    port: int
    groups: list[list[str]]
    """Whole requests, headers and body. Each connection belongs to one group, in turn, and sends the group's requests in turn.
    `{{n}}` becomes a number of twelve digits, different each time."""
    connections: int
    seconds: float
    warmup_seconds: float = 0.3
    status: int = 200
    first_number: int = 0


@dataclass
class Figures:
    """What came back."""

    requests: int
    seconds: float
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    worst_group_p95_ms: float
    refused: dict[str, int] = field(default_factory=dict)
    """Answers with another status, by status. Not counted above."""


class WrongAnswer(Exception):
    """An answer that is no success; the text is the answer."""


class Connection:
    """One keep-alive connection with one request under way."""

    __slots__ = ("buffer", "group", "need", "sent_at", "socket")

    def __init__(self, plan: Plan, group: int) -> None:
        self.group = group
        self.socket = socket.create_connection((plan.host, plan.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.need = -1
        self.sent_at = 0.0

    def take(self) -> bytes | None:
        """Reads what is there; the whole answer once it is complete."""
        try:
            chunk = self.socket.recv(1 << 18)
        except BlockingIOError:
            return None
        if not chunk:
            raise WrongAnswer("the server closed the connection")
        self.buffer = self.buffer + chunk if self.buffer else chunk
        if self.need < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise WrongAnswer(f"an answer without a length: {self.buffer[:300]!r}")
            line_end = head.find(b"\r\n", at)
            self.need = end + 4 + int(head[at + 15 : line_end if line_end > 0 else None])
        if len(self.buffer) < self.need:
            return None
        answer, self.buffer, self.need = self.buffer, b"", -1
        return answer


def run(plan: Plan, *, tolerate: bool = False) -> Figures:
    """Sends as fast as answers come back, one request per connection at a time.

    Raises:
        WrongAnswer: another status than the plan's, unless tolerated.
        OSError: the server is not there.
    """
    groups = len(plan.groups)
    connections = {(one := Connection(plan, index % groups)).socket.fileno(): one for index in range(plan.connections)}
    poll = select.epoll()
    prepared = [[text.encode() for text in group] for group in plan.groups]
    turns = [0] * groups
    number = plan.first_number
    expected = str(plan.status).encode()

    def send(connection: Connection) -> None:
        nonlocal number
        requests, turn = prepared[connection.group], turns[connection.group]
        data = requests[turn]
        turns[connection.group] = turn + 1 if turn + 1 < len(requests) else 0
        if COUNTER in data:
            number += 1
            data = data.replace(COUNTER, b"%012d" % number)
        connection.sent_at = time.perf_counter()
        connection.socket.sendall(data)

    latencies: list[list[float]] = [[] for _ in range(groups)]
    refused: dict[str, int] = {}
    for file, connection in connections.items():
        poll.register(file, select.EPOLLIN)
        send(connection)
    started = time.perf_counter()
    counted_from = started + plan.warmup_seconds
    end = counted_from + plan.seconds
    now = started
    while now < end:
        for file, _ in poll.poll(1.0):
            connection = connections[file]
            answer = connection.take()
            now = time.perf_counter()
            if answer is None:
                continue
            if answer[9:12] != expected:
                if not tolerate:
                    raise WrongAnswer(answer[:600].decode("utf-8", "replace"))
                if now >= counted_from:
                    status = answer[9:12].decode("ascii", "replace")
                    refused[status] = refused.get(status, 0) + 1
            elif now >= counted_from:
                latencies[connection.group].append(now - connection.sent_at)
            send(connection)
        now = time.perf_counter()
    seconds = now - counted_from
    for connection in connections.values():
        connection.socket.close()
    every = sorted(value for group in latencies for value in group)
    worst = max(_at(sorted(group), 0.95) for group in latencies)
    count = len(every)
    return Figures(
        requests=count,
        seconds=round(seconds, 3),
        per_second=round(count / seconds, 1),
        p50_ms=_at(every, 0.5),
        p95_ms=_at(every, 0.95),
        p99_ms=_at(every, 0.99),
        max_ms=_at(every, 1.0),
        worst_group_p95_ms=worst,
        refused=refused,
    )


def _at(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2) if ordered else 0.0


def main() -> int:
    """Reads the plan, prints the figures; 1 and the wrong answer when there was one."""
    given: dict[str, Any] = json.load(sys.stdin)
    tolerate = bool(given.pop("tolerate", False))
    try:
        figures = run(Plan(**given), tolerate=tolerate)
    except (WrongAnswer, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(figures)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
