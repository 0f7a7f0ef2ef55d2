"""Sends products to the public batch import, a few batches at a time, and again when the gateway was briefly away.

It knows HTTP and nothing of tables. Sending again is safe because the import is idempotent: what is in already is "unchanged".
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self

import aiohttp
import orjson
from yarl import URL

BATCH_ITEMS: Final = 500
"""What the contract takes in one call."""
BATCH_BYTES: Final = 900_000
"""Below the 1 MiB that proxies commonly let through."""
IN_FLIGHT: Final = 2
PATIENCE_SECONDS: Final = 60.0
"""The longest wait asked for by a gateway (Retry-After) that is waited out; a used-up daily quota is not."""

_AGAIN: Final = frozenset({409, 429, 502, 503, 504})
"""Statuses after which the same batch is sent again. 409 means that another import took a code in the same moment."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=10)

Progress = Callable[[int, int], None]
"""Called with how many products are through, and of how many."""


class UploadStopped(Exception):
    """The import cannot go on. `key` and `facts` choose the sentence in catalog_words; `done` products have been answered."""

    def __init__(self, key: str, done: int = 0, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.facts = facts
        self.done = done


@dataclass(frozen=True)
class Target:
    """Where products go."""

    gateway: str
    """For example http://127.0.0.1:8080."""
    api_key: str
    outlet_id: str | None = None
    """The outlet of the opening stock. None: the merchant's only one."""
    retries: int = 14
    """How often a batch is sent again before the import stops: enough for a restart of half a minute."""
    first_delay: float = 0.5
    """Seconds before the first repetition, where the gateway names none. Doubles, up to 3."""

    def __repr__(self) -> str:  # the key must not reach a log
        return f"Target({self.gateway!r}, outlet_id={self.outlet_id!r})"


@dataclass(frozen=True)
class Outcome:
    """What became of one product."""

    status: str
    """created, updated, unchanged or failed."""
    errors: tuple[Mapping[str, str], ...] = ()
    """field, reason and message of each error."""


def batches(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int, bytes]]:
    """Bodies of at most 500 items and about 0.9 MB, each with the positions (from, to) of its items."""
    begin, size = 0, 0
    printed: list[bytes] = []
    for position, item in enumerate(items):
        text = orjson.dumps(item)
        if printed and (len(printed) == BATCH_ITEMS or size + len(text) > BATCH_BYTES):
            yield begin, position, _body(printed)
            begin, size, printed = position, 0, []
        printed.append(text)
        size += len(text) + 1
    if printed:
        yield begin, len(items), _body(printed)


def _body(printed: list[bytes]) -> bytes:
    return b'{"items":[' + b",".join(printed) + b"]}"


class Uploader:
    """One connection to a gateway, with its key. Use as an asynchronous context manager."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        try:
            self._url = URL(target.gateway.rstrip("/"))
            fine = self._url.scheme in {"http", "https"} and bool(self._url.host)
        except ValueError:
            fine = False
        if not fine:
            raise UploadStopped("stop.address", url=target.gateway)
        if not target.api_key.isascii() or not target.api_key.isprintable():
            raise UploadStopped("stop.key", detail="-")

    async def __aenter__(self) -> Self:
        # The key is for this gateway alone, hence no redirects below and no proxy from the environment.
        headers = {"Authorization": f"Bearer {self._target.api_key}", "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def outlets(self) -> dict[str, str] | None:
        """The merchant's outlets, name by id; None when the key may not list them.

        Raises:
            UploadStopped: the gateway is away, or does not take the key.
        """
        try:
            # The first call of all: a wrong address should be said soon, not after a long wait for a restart.
            answer = await self._call("GET", "/api/v1/outlets", retries=min(2, self._target.retries))
        except UploadStopped as error:
            if error.key == "stop.permission":
                return None
            raise
        try:
            return {outlet["id"]: outlet["name"] for outlet in answer["outlets"]}
        except (KeyError, TypeError, AttributeError):
            raise self._strange() from None

    async def send(self, items: Sequence[Mapping[str, Any]], progress: Progress) -> list[Outcome]:
        """Sends everything; one outcome per item, in their order.

        Raises:
            UploadStopped: the gateway stayed away, refused the key or did not understand.
        """
        outcomes: list[Outcome | None] = [None] * len(items)
        queue = batches(items)
        done = 0

        async def work() -> None:
            nonlocal done
            for begin, end, body in queue:
                outcomes[begin:end] = self._outcomes(await self._call("POST", "/api/v1/products:import", body), end - begin)
                done += end - begin
                progress(done, len(items))

        stop: UploadStopped | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(work())
        except* UploadStopped as stopped:
            error = stopped.exceptions[0]
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            stop = UploadStopped(error.key, done, **error.facts)
        if stop is not None:
            raise stop  # outside except*, where Python 3.11.2 would wrap it in a group
        return [outcome for outcome in outcomes if outcome is not None]

    async def _call(self, method: str, path: str, body: bytes | None = None, retries: int | None = None) -> dict[str, Any]:
        assert self._session is not None
        retries = self._target.retries if retries is None else retries
        url = URL(f"{self._url}{path}", encoded=True)
        for attempt in range(retries + 1):
            last = attempt == retries
            try:
                async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                    if response.status == 200:
                        return await self._json(response)
                    if response.status not in _AGAIN or last:
                        raise await self._refusal(response)
                    asked = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                    if asked is not None and asked > PATIENCE_SECONDS:
                        raise UploadStopped("stop.later", seconds=round(asked), detail=await _detail(response))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                if last:
                    raise UploadStopped("stop.unreachable", url=self._target.gateway, cause=_cause(error)) from None
                asked = None
            except aiohttp.ClientError:
                raise self._strange() from None
            longest = min(3.0, self._target.first_delay * 2**attempt)
            await asyncio.sleep(asked if asked is not None else random.uniform(longest / 2, longest))  # noqa: S311 (spreads load)
        raise AssertionError  # the last attempt returns or raises

    async def _json(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        try:
            answer = orjson.loads(await response.read())
        except orjson.JSONDecodeError:
            raise self._strange() from None
        if not isinstance(answer, dict):
            raise self._strange()
        return answer

    async def _refusal(self, response: aiohttp.ClientResponse) -> UploadStopped:
        detail = await _detail(response)
        key = {401: "stop.key", 403: "stop.permission"}.get(response.status, "stop.answer")
        return UploadStopped(key, url=self._target.gateway, status=response.status, detail=detail)

    def _outcomes(self, answer: dict[str, Any], count: int) -> list[Outcome]:
        try:
            found = [Outcome(result["status"], tuple(result.get("errors", ()))) for result in answer["results"]]
        except (KeyError, TypeError, AttributeError):
            raise self._strange() from None
        if len(found) != count:
            raise self._strange()
        return found

    def _strange(self) -> UploadStopped:
        return UploadStopped("stop.strange", url=self._target.gateway)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3: seconds or a date); None without a usable one."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


async def _detail(response: aiohttp.ClientResponse) -> str:
    """What a problem+json says, or the reason phrase; one line, short."""
    try:
        problem = orjson.loads(await response.read())
        errors = "; ".join(f"{error['field']}: {error['message']}" for error in problem.get("errors", ())[:3])
        words = str(problem.get("detail") or problem.get("title") or "") + (f" ({errors})" if errors else "")
        if request_id := problem.get("request_id"):
            words += f" [{request_id}]"
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        words = ""
    return " ".join((words or response.reason or str(response.status)).split())[:400]


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio puts addresses into strerror, so the plain words come from the number.
        return os.strerror(error.os_error.errno).lower() if error.os_error.errno else str(error.os_error)
    return "timeout" if isinstance(error, TimeoutError) else "connection lost"
