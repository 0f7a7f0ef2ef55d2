"""Thousands of tablets in one thread, on raw HTTP/2. A program.

It opens streams, pings as tablets do, confirms what it gets, and tells when all have got it. Times are of CLOCK_MONOTONIC,
which all processes of a machine share. What a tablet does with its disk is not done here.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable
from typing import Any

from gipos.edge.v1.link_pb2 import Applied, Hello, LanePosition, LinkRequest, LinkResponse, Ping
from kernel import capabilities
from scripts.benchmarks.link import lines
from scripts.benchmarks.link.http2 import Connection

UNANSWERED = 100
"""Streams that are opened before the first of them was answered: a queue of any length would measure the queue."""
BEAT_SECONDS = 10.0
SLICES = 100
WELCOME, CHANGES, DRAIN = b"\x0a", b"\x1a", b"\x3a"
"""First bytes of a LinkResponse with these frames."""


class Crowd:
    """All streams of this process."""

    def __init__(self, port: int, path: str, *, confirms: bool) -> None:
        self._port = port
        self._path = path
        self._confirms = confirms
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._order: list[Connection] = []
        self._streams: list[tuple[Connection, int]] = []
        self._answered = 0
        self._beats = b""
        self._next_beat = 0.0
        self._slice = 0
        self._applied: dict[bytes, bytes] = {}
        self._wanted: Callable[[bytes], bool] = lambda _message: False
        self._left: set[tuple[int, int]] = set()
        self._first = self._last = 0.0
        self._hellos: list[tuple[str, bytes]] = []
        self._new: dict[tuple[int, int], int] = {}
        """Streams that are not answered yet, and which tablets they are."""
        self.refused: list[str] = []
        """Why streams had to be opened once more."""
        self.sample = b""
        self._poll.register(0, select.EPOLLIN)

    def open(self, hellos: list[tuple[str, bytes]], connections: int) -> float:
        """Opens a stream for each token and first message, spread over so many connections; seconds until all were answered."""
        began = time.monotonic()
        self._hellos = hellos
        while self._answered < len(hellos):
            while len(self._streams) < len(hellos) and len(self._streams) - self._answered < UNANSWERED:
                number = len(self._streams)
                if number < connections:
                    self._connect()
                connection = self._order[number % connections]
                self._streams.append((connection, 0))
                self._begin(number)
            self._pump_or_end()
            if time.monotonic() - began > 300:
                raise RuntimeError(f"Only {self._answered} of {len(hellos)} streams were answered.")
        return time.monotonic() - began

    def beat(self, message: bytes) -> None:
        """From here on each stream sends this every 10 s, one after the other."""
        self._beats = message
        self._next_beat = time.monotonic()

    def wait(self, wanted: Callable[[bytes], bool]) -> tuple[float, float]:
        """Until each stream has got such a message: when the first and the last of them did. `sample` is one."""
        self._wanted = wanted
        self._left = {(connection.socket.fileno(), stream) for connection, stream in self._streams}
        self._first = self._last = 0.0
        until = time.monotonic() + 60
        while self._left:
            self._pump_or_end()
            if time.monotonic() > until:
                raise RuntimeError(f"{len(self._left)} of {len(self._streams)} streams did not get what was sent.")
        self._wanted = lambda _message: False
        return self._first, self._last

    def _connect(self) -> None:
        connection = Connection(self._port)
        self._connections[connection.socket.fileno()] = connection
        self._order.append(connection)
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)

    def _begin(self, number: int) -> None:
        connection = self._streams[number][0]
        stream = connection.open(self._path, *self._hellos[number])
        self._streams[number] = (connection, stream)
        self._new[connection.socket.fileno(), stream] = number

    def _ended(self, connection: Connection, file: int, stream: int) -> None:
        """A tablet that was not let in tries again; nothing else may happen to a stream here."""
        number = self._new.pop((file, stream), None)
        self.refused.append(connection.why)
        if number is None or len(self.refused) > 10 + len(self._hellos) // 20:
            raise RuntimeError(f"A stream has ended: {connection.why}. Before: {self.refused[:3]}")
        self._begin(number)

    def _pump_or_end(self) -> None:
        # Nobody gives a command while one is carried out: what is there to read is the end.
        if self.pump(1.0):
            raise SystemExit(1)

    def pump(self, seconds: float) -> bool:
        """Takes what comes, for at most so long; whether there is something on standard input."""
        if self._beats:
            seconds = min(seconds, BEAT_SECONDS / SLICES)
        told = False
        for file, _ in self._poll.poll(seconds):
            if file == 0:
                told = True
                continue
            connection = self._connections[file]
            for stream, message in connection.read():
                if message is None:
                    self._ended(connection, file, stream)
                else:
                    self._take(connection, file, stream, message)
        now = time.monotonic()
        if self._beats and now >= self._next_beat:
            self._next_beat = max(self._next_beat + BEAT_SECONDS / SLICES, now - BEAT_SECONDS / SLICES)
            for connection, stream in self._streams[self._slice :: SLICES]:
                if (connection.socket.fileno(), stream) not in self._new:
                    connection.send(stream, self._beats)
            self._slice = (self._slice + 1) % SLICES
        return told

    def _take(self, connection: Connection, file: int, stream: int, message: bytes) -> None:
        if (file, stream) in self._new:
            del self._new[file, stream]
            self._answered += 1
            if message[:1] == DRAIN:
                raise RuntimeError("A stream was told to come back later.")
        if (file, stream) in self._left and self._wanted(message):
            self._last = time.monotonic()
            self._first = self._first or self._last
            self.sample = message
            self._left.discard((file, stream))
        if self._confirms and message[:1] == CHANGES:
            connection.send(stream, self._confirmation(message))

    def _confirmation(self, message: bytes) -> bytes:
        known = self._applied.get(message)
        if known is None:
            changes = LinkResponse.FromString(message).changes
            applied = Applied(lane=changes.lane, epoch=changes.epoch, upto=changes.upto_inclusive)
            known = LinkRequest(applied=applied).SerializeToString()
            self._applied = {message: known}
        return known


def hello(greeting: dict[str, Any]) -> tuple[str, bytes]:
    """What a tablet says first, which stands where its lanes end; without lanes any bytes, for a server that only echoes."""
    if "lanes" not in greeting:
        return "", bytes(350)
    positions = [LanePosition(lane=lane, epoch=epoch, seq=seq) for lane, epoch, seq in greeting["lanes"]]
    first = Hello(
        store_epoch=1, positions=positions, software_version="bench", capabilities=sorted(capabilities.ALL), boot_id="1"
    )
    return greeting["token"], LinkRequest(hello=first).SerializeToString()


def main() -> None:
    """Carries out commands until the input ends."""
    output = lines.claim_output()
    crowd: Crowd | None = None
    while True:
        if crowd is not None:
            while not crowd.pump(1.0):
                pass
        line = sys.stdin.buffer.readline()
        if not line:
            return
        command = json.loads(line)
        if command["do"] == "open":
            crowd = Crowd(command["port"], command["path"], confirms=command["confirms"])
            # From the beginning: while thousands come, the first of them would count as gone.
            crowd.beat(LinkRequest(ping=Ping(number=1)).SerializeToString() if command["beats"] else b"")
            seconds = crowd.open([hello(one) for one in command["greetings"]], command["connections"])
            lines.say(output, {"seconds": seconds, "refused": crowd.refused})
        else:
            assert crowd is not None
            lines.say(output, {"armed": True})
            first, last = crowd.wait(lambda message: message[:1] == CHANGES)
            lines.say(output, {"first": first, "last": last, "message": crowd.sample.hex()})


if __name__ == "__main__":
    main()
