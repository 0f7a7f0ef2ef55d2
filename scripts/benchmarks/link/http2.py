"""HTTP/2 as far as a light gRPC client needs it: one connection with streams, frames in and out.

There is no flow control inwards (wide windows are opened at the beginning) and no decoder of headers. Ten thousand of these
cost less than a hundred real clients, which is the point: the clients share the machine with what they measure. RFC 9113, and
gRPC's "PROTOCOL-HTTP2".
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
_WIDE = 2**31 - 1
_WORDS = re.compile(rb"[ -~]{4,200}")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


_BEGIN = (
    _PREFACE
    + _frame(SETTINGS, 0, 0, struct.pack(">HIHI", 2, 0, 4, _WIDE))  # no pushes; the window of each stream
    + _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDE - 65_535))
)


def _text(value: str) -> bytes:
    """A string of HPACK, not compressed (RFC 7541, 5.2)."""
    raw = value.encode("ascii")
    size = len(raw)
    if size < 127:
        return bytes((size,)) + raw
    size -= 127
    head = [127]
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes((*head, size)) + raw


def headers(path: str, token: str) -> bytes:
    """The header block of a call: indexed where the static table has it, else literal and not remembered."""
    block = b"\x83\x86" + b"\x04" + _text(path) + b"\x01" + _text("localhost")  # POST, http
    block += b"\x00" + _text("te") + _text("trailers") + b"\x0f\x10" + _text("application/grpc")
    return block + (b"\x0f\x08" + _text(f"Bearer {token}") if token else b"")


def message(body: bytes) -> bytes:
    """A gRPC message, not compressed."""
    return b"\x00" + struct.pack(">I", len(body)) + body


class Connection:
    """One connection. `read` yields (stream, message) for what has arrived, and (stream, None) where a stream has ended."""

    __slots__ = ("_buffer", "_next", "_parts", "_room", "socket", "why")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closed with a reset: ten thousand connections that linger would leave no ports for the next round.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.sendall(_BEGIN)
        self.socket.setblocking(False)
        self._buffer = b""
        self._next = 1
        self._parts: dict[int, bytes] = {}
        self._room = 65_535
        """What may still be sent before the server opens its window further."""
        self.why = ""
        """What ended a stream last, for whoever has to explain it."""

    def open(self, path: str, token: str, first: bytes) -> int:
        """Opens a stream with its first message; its number."""
        stream = self._next
        self._next += 2
        self._parts[stream] = b""
        self._write(_frame(HEADERS, END_HEADERS, stream, headers(path, token)) + self._data(stream, first))
        return stream

    def send(self, stream: int, body: bytes) -> None:
        """Sends one more message."""
        self._write(self._data(stream, body))

    def _data(self, stream: int, body: bytes) -> bytes:
        whole = message(body)
        self._room -= len(whole)
        if self._room < 0:
            raise RuntimeError("The server takes nothing more on this connection.")
        return _frame(DATA, 0, stream, whole)

    def _write(self, data: bytes) -> None:
        # Small against a socket's buffer; a server that lets that much pile up is an error here.
        if self.socket.send(data) != len(data):
            raise RuntimeError("The server does not read.")

    def read(self) -> Iterator[tuple[int, bytes | None]]:
        """What has come."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            self.why = self.why or "the connection was closed"
            yield from [(stream, None) for stream in self._parts]
            return
        buffer = self._buffer + data
        at = 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at - 9 < size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            payload = buffer[at + 9 : at + 9 + size]
            at += 9 + size
            yield from self._take(kind, flags, stream, payload)
        self._buffer = buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Iterator[tuple[int, bytes | None]]:
        if kind == DATA:
            data = self._parts.get(stream, b"") + payload
            while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[1:5], "big")):
                yield stream, data[5:end]
                data = data[end:]
            self._parts[stream] = data
        elif kind in {SETTINGS, PING} and not flags & ACK:
            self._write(_frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == WINDOW_UPDATE and not stream:
            self._room += int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.why = f"GOAWAY {payload[4:].hex()}"
        if kind == RESET:
            self.why = f"RST_STREAM {int.from_bytes(payload, 'big')}"
        if kind == RESET and stream not in self._parts:
            return  # the server has done with a stream that had ended
        if kind == HEADERS and flags & END_STREAM:
            # Not decoded; gRPC's server writes status and words as plain text between the rest.
            self.why = " ".join(word.decode("ascii") for word in _WORDS.findall(payload)) or "without words"
        if kind == RESET or (kind in {DATA, HEADERS} and flags & END_STREAM):
            self._parts.pop(stream, None)
            yield stream, None
