"""Changes of one kind that wait at the same moment are made together: one transaction of their merchant, and its one commit.

Only what is in order goes this way; a change with anything to refuse, to repeat or to look up more closely is left to the general
way, which says what is wrong. The rules are the same functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from google.protobuf.message import Message

from cloud.platform import idempotency, trail
from cloud.platform.calls import Call
from cloud.platform.claims import Claim, claim
from cloud.platform.coalescing import Bundler
from cloud.platform.database import Database, SharedTransaction
from kernel.errors import Unreachable

R = TypeVar("R")
M = TypeVar("M", bound=Message)

MOST = 64
"""Changes in one transaction. More would let the first wait for the last."""

logger = structlog.get_logger()


@dataclass(frozen=True)
class Kind(Generic[R, M]):
    """A kind of change: requests with a request_id that make a resource with an id."""

    method: str
    """By which its idempotency keys are known, the same as in the general way."""
    may_be_plain: Callable[[R], bool]
    """Whether a request is in order, as far as can be told without the database."""
    prepare: Callable[[SharedTransaction, Sequence[R]], Awaitable[Sequence[M | None]]]
    """What each request makes, just as it will be answered; None for what has to go the general way."""
    store: Callable[[SharedTransaction, Sequence[M]], Awaitable[None]]
    """Stores and announces it. Any failure undoes the whole transaction."""


@dataclass(slots=True)
class _Wanted:
    call: Call
    request: Any


class Together(Generic[R, M]):
    """Makes changes of one kind; one per process."""

    def __init__(self, database: Database, kind: Kind[R, M]) -> None:
        self._database = database
        self._kind = kind
        self._bundler: Bundler[str, _Wanted, M] = Bundler(self._make, most=MOST)

    async def make(self, call: Call, tenant_id: str, request: R) -> M | None:
        """What the request made; None when it has to go the general way. Nothing has happened then.

        Raises:
            Unreachable: the database is away; whether it happened is not known.
        """
        given: Any = request
        if len(given.request_id) > idempotency.LONGEST_KEY or not self._kind.may_be_plain(request):
            return None
        return await self._bundler.make(tenant_id, _Wanted(call, request))

    async def _make(self, tenant_id: str, wanted: list[_Wanted]) -> Sequence[M | None]:
        try:
            async with self._database.together(tenant_id) as tx:
                made = await self._made(tx, wanted)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 (rolled back: one by one the general way finds out whose fault it is, and says it)
            logger.info("one_by_one", method=self._kind.method, count=len(wanted), error=repr(error))
            return [None] * len(wanted)
        return made

    async def _made(self, tx: SharedTransaction, wanted: list[_Wanted]) -> list[M | None]:
        prepared: list[M | None] = list(await self._kind.prepare(tx, [one.request for one in wanted]))
        claims: dict[str, Claim] = {}
        for index, (one, made) in enumerate(zip(wanted, prepared, strict=True)):
            key = one.request.request_id
            if made is None or not key:
                continue
            if key in claims:
                prepared[index] = None  # the same request twice: the general way finds the answer of the first
            else:
                claims[key] = Claim(key, idempotency.fingerprint(one.request), made.SerializeToString())
        ours = await claim(tx, self._kind.method, list(claims.values()))
        answers = [
            made if not one.request.request_id or one.request.request_id in ours else None
            for one, made in zip(wanted, prepared, strict=True)
        ]
        if ready := [made for made in answers if made is not None]:
            await self._kind.store(tx, ready)
        for one, answer in zip(wanted, answers, strict=True):
            if answer is not None:
                resource: Any = answer
                entry = trail.entry_for(one.call, tx.tenant_id, resource_ids=[resource.id], now=tx.now)
                tx.entries.append((one.call, entry))
        return answers
