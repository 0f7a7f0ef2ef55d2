"""A plain HTTP/1.1 client that sends exactly the bytes of a request and keeps exactly what was answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from httptools import HttpResponseParser

from .cases import Request
from .services import NUMBER

ANSWER_SECONDS = 20


@dataclass
class Answer:
    """An HTTP answer. Status 0 means that the connection ended without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    """Whether the body came to its end, and was not cut."""


class _Listener:
    """Receives the parser's events."""

    def __init__(self) -> None:
        self.answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.answer.is_whole = True


class Wire:
    """A connection that is opened again whenever the other side has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, number: str, request: Request) -> Answer:
        """Sends a request and waits for the whole answer."""
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            "host: localhost",
            f"{NUMBER}: {number}",
            *(f"{name}: {value}" for name, value in request.headers),
        ]
        if request.body or request.method in {"POST", "PUT", "PATCH"}:
            lines.append(f"content-length: {len(request.body)}")
        text = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + request.body
        async with asyncio.timeout(ANSWER_SECONDS):
            for _ in range(2):
                reader, writer = await self._opened()
                answer = await self._exchange(reader, writer, text, is_head=request.method == "HEAD")
                if answer.status:
                    return answer
                self.close()  # the other side had closed an idle connection; once more on a new one
        return answer

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes, *, is_head: bool
    ) -> Answer:
        listener = _Listener()
        parser = HttpResponseParser(listener)
        answer = listener.answer
        try:
            writer.write(text)
            await writer.drain()
            while not answer.is_whole:
                data = await reader.read(65536)
                if not data:
                    break
                parser.feed_data(data)
                answer.status = parser.get_status_code()
                if is_head and answer.headers and answer.status >= 200:
                    answer.is_whole = True
        except ConnectionError:
            pass
        if not answer.is_whole or is_head or answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self._reader, self._writer

    def close(self) -> None:
        """Ends the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
