"""Calls to servers that are not ours: bounded in time and size, and never to an address a stranger must not reach through us.

It follows no redirects, uses no proxy of the environment, keeps no cookies and never unpacks what it receives.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from cloud.platform import addresses
from cloud.platform.addresses import ForbiddenTarget

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""A host name to its numeric addresses; raises OSError when there are none."""


@dataclass(frozen=True)
class Limits:
    """How long a call may take, in seconds, and how much of an answer is kept."""

    lookup_seconds: float = 3.0
    connect_seconds: float = 5.0
    """Look-up, TCP and TLS together."""
    head_seconds: float = 15.0
    """From the start until the status line and headers are there."""
    body_seconds: float = 2.0
    body_bytes: int = 16 * 1024


@dataclass(frozen=True)
class Answer:
    """What the server said. That there is a status is what counts: the body is as much as came in its own small budget."""

    status: int
    headers: Mapping[str, str]
    """Names are matched in any case."""
    body: bytes


class CallTimedOut(Exception):
    """No complete head of an answer in time."""


class CallFailed(Exception):
    """No answer: the name is unknown, the connection or TLS failed, or what came was not HTTP."""


class Client:
    """A pool of connections for outbound calls; an async context manager. Connections are checked when they are opened."""

    def __init__(
        self,
        *,
        private_addresses: bool = False,
        limits: Limits | None = None,
        lookup: Lookup | None = None,
        agent: str = "GiPos/1",
    ) -> None:
        self._private = private_addresses
        self._limits = limits or Limits()
        self._lookup = lookup
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._resolver: _Resolver | None = None

    async def __aenter__(self) -> Self:
        self._resolver = _Resolver(self._lookup, self._limits.lookup_seconds, private=self._private)
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # who may call how often is decided by the caller; a pool limit would let one slow host block all others
                resolver=self._resolver,
                use_dns_cache=False,
                socket_factory=self._open_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_seconds),
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[tracing],
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, repeatable: bool = False) -> Answer:
        """Sends one request and returns the answer, whatever its status.

        With `repeatable` a kept-alive connection that turns out to be closed is replaced once by another: the server may
        then see the request twice.

        Raises:
            ForbiddenTarget: the URL or an address behind its name is not allowed; nothing was sent.
            CallTimedOut: there was no answer in time.
            CallFailed: there was no answer for another reason.
        """
        assert self._session is not None, "use the client as a context manager"
        target = addresses.target(url, private=self._private)
        seen = SimpleNamespace(reused=False)
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                try:
                    response = await self._send(method, target, headers, body, seen)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    if not (repeatable and seen.reused) or isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    response = await self._send(method, target, headers, body, seen)
        except TimeoutError as error:
            raise CallTimedOut("There was no answer in time.") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenTarget):
                raise error.os_error from error
            raise CallFailed(str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(str(error)) from error
        return Answer(response.status, response.headers, await self._read(response))

    async def _send(
        self, method: str, target: Any, headers: Mapping[str, str], body: bytes, seen: SimpleNamespace
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        return await self._session.request(
            method, target, data=body, headers=headers, allow_redirects=False, trace_request_ctx=seen
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while len(body) < self._limits.body_bytes:
                    chunk = await response.content.read(self._limits.body_bytes - len(body))
                    if not chunk:
                        break
                    body += chunk
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass  # the answer was in its head; what is missing of the body changes nothing
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        return bytes(body)

    def _open_socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """The last code before `connect()`: it sees the numeric address, however it was written or looked up."""
        family, kind, protocol, _, address = info
        if not addresses.is_allowed(str(address[0]), private=self._private):
            raise ForbiddenTarget(f"connection to {address[0]}")
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up and refuses a name as a whole when any of its addresses is forbidden."""

    def __init__(self, lookup: Lookup | None, seconds: float, *, private: bool) -> None:
        self._lookup = lookup or self._ask_system
        self._seconds = seconds
        self._private = private
        # Its own threads: a name server that hangs would otherwise take the few the event loop shares among everything.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="lookup")

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 (aiohttp's signature; all families are looked up)
    ) -> list[ResolveResult]:
        """Called by aiohttp for names; numeric addresses never come here."""
        async with asyncio.timeout(self._seconds):
            found = await self._lookup(host)
        if not found:
            raise OSError(f"{host} has no address")
        for address in found:
            if not addresses.is_allowed(address, private=self._private):
                raise ForbiddenTarget(f"{host} leads to {address}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def _ask_system(self, host: str) -> list[str]:
        # The closing dot keeps the machine's search domains out of it; on a developer's machine they are wanted.
        name = host if self._private else host + "."
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._threads, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(row[4][0]) for row in rows))

    async def close(self) -> None:
        """Called by aiohttp with the connector."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True
