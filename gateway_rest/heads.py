"""What the headers of a request say, worked out once for as long as callers send the very same ones.

Programs read with the same headers again and again, and only the first line differs. What the parser said of the bytes after that
line is remembered for reads without a body, whose end is the end of their head; whatever is not exactly that goes to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Pair = tuple[bytes, bytes]

LONGEST = 2048
"""Bytes of headers that are remembered; nobody needs more to read."""
KEPT = 1000

_ONCE = frozenset(
    {
        *(b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"host", b"idempotency-key", b"if-match"),
        *(b"origin", b"x-request-timeout", b"last-event-id"),
    }
)
"""Headers that decide something: given twice, a proxy and we might believe different ones."""
_NEVER = frozenset(
    {
        # What says something of what follows, or of the connection: the parser looks at that each time.
        *(b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"http2-settings", b"connection", b"te", b"trailer"),
        # What is another one in each request: nothing to be gained.
        *(b"x-request-id", b"traceparent", b"tracestate", b"if-none-match", b"last-event-id", b"idempotency-key"),
    }
)
_TARGET = re.compile(rb"GET (/(?!/)[A-Za-z0-9_.~/:%-]*)(?:\?([A-Za-z0-9_.~/:%&=+,*-]*))? HTTP/1\.1")
"""A first line that can be read in one way only."""


class Head:
    """The headers of a request. What is read from them is shared by all requests that have the same: nobody changes it."""

    __slots__ = ("fields", "forwarded", "pairs", "repeated")

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        """As they came, names in lower case."""
        self.fields: dict[bytes, bytes] = dict(pairs)
        """By name."""
        self.repeated = ""
        """A header that must not be given twice, and was."""
        self.forwarded: list[tuple[str, str]] | None = None
        """What of them goes on to services, once somebody has worked it out (see transcoding.metadata)."""
        if len(self.fields) != len(pairs):
            self._merge(pairs)

    def _merge(self, pairs: Iterable[Pair]) -> None:
        """Lists may be spread over several headers of one name (RFC 9110 §5.3)."""
        self.fields = {}
        for name, value in pairs:
            before = self.fields.get(name)
            if before is not None and name in _ONCE:
                self.repeated = name.decode("latin-1").title()
            self.fields[name] = value if before is None else before + b", " + value


class Heads:
    """The heads of the last reads, by their bytes from the end of the first line to the empty one."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Head] = {}

    def read(self, data: bytes) -> tuple[Head, bytes, bytes] | None:
        """Headers, path and query of what came, if that is one read whose headers are known; else it is for the parser."""
        end = data.find(b"\r\n")
        head = self._kept.get(data[end:])
        if head is None:
            return None
        line = _TARGET.fullmatch(data, 0, end)
        return (head, line[1], line[2] or b"") if line is not None else None

    def learn(self, data: bytes, pairs: Iterable[Pair]) -> None:
        """Remembers what the parser said of a request, which began and ended with these bytes and leaves its connection open."""
        end = data.find(b"\r\n")
        headers = data[end:]
        # The first empty line ends the head: where it is not the end of the bytes as well, something follows.
        if len(headers) > LONGEST or headers.find(b"\r\n\r\n") != len(headers) - 4 or _TARGET.fullmatch(data, 0, end) is None:
            return
        pairs = tuple(pairs)
        # One line for each header, ended as it should be: the parser cannot have meant anything else by these bytes.
        lines = len(pairs) + 2
        if not (headers.count(b"\r\n") == headers.count(b"\r") == headers.count(b"\n") == lines):
            return
        if not _NEVER.isdisjoint(name for name, _ in pairs):
            return
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[headers] = Head(pairs)
