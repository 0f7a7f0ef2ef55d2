"""Sales of an integration, recorded together: all that wait at the same moment share one transaction and its one commit.

Only what is in order goes this way; a sale with anything to refuse, to repeat or to look up more closely is left to the general
way (sales.create), which says what is wrong. The rules are the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.platform import idempotency, trail
from cloud.platform.calls import Call
from cloud.platform.claims import Claim, claim
from cloud.platform.coalescing import Bundler
from cloud.platform.database import Database, SharedTransaction
from cloud.sales import drafts, sales
from gipos.v1.sales_pb2 import CreateSaleRequest, Sale
from kernel import business_days
from kernel.errors import Unreachable

METHOD = "CreateSale"
MOST = 64
"""Sales in one transaction. More would let the first wait for the last."""

logger = structlog.get_logger()


@dataclass(slots=True)
class Wanted:
    """A sale to record and the call that wants it."""

    call: Call
    request: CreateSaleRequest


class Desk:
    """Records sales; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bundler: Bundler[str, Wanted, Sale] = Bundler(self._record, most=MOST)

    async def record(self, call: Call, tenant_id: str, request: CreateSaleRequest) -> Sale | None:
        """The recorded sale; None when it has to go the general way. Nothing has happened then.

        Raises:
            Unreachable: the database is away; whether the sale was recorded is not known.
        """
        draft = request.sale
        is_plain = (
            not draft.till_id
            and not draft.customer_id
            and len(request.request_id) <= idempotency.LONGEST_KEY
            and next(iter(drafts.violations(draft, business_days.now())), None) is None
        )
        return await self._bundler.make(tenant_id, Wanted(call, request)) if is_plain else None

    async def _record(self, tenant_id: str, wanted: list[Wanted]) -> Sequence[Sale | None]:
        try:
            async with self._database.together(tenant_id) as tx:
                recorded = await _recorded(tx, wanted)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 (rolled back: one by one the general way finds out whose fault it is, and says it)
            logger.info("sales_one_by_one", count=len(wanted), error=repr(error))
            return [None] * len(wanted)
        return recorded


async def _recorded(tx: SharedTransaction, wanted: list[Wanted]) -> list[Sale | None]:
    ids = {line.product_id for one in wanted for line in one.request.sale.lines}
    known = await products.sellable(tx, ids)
    shops = await outlets.shops(tx)
    only = next(iter(shops)) if len(shops) == 1 else ""
    ready: list[tuple[int, Wanted, Sale]] = []
    claims: dict[str, Claim] = {}
    for index, one in enumerate(wanted):
        key = one.request.request_id
        outlet = shops.get(one.request.sale.outlet_id or only)
        if outlet is None or key in claims:
            continue
        sale, wrong = drafts.prepared(one.request.sale, known, outlet, tx.now)
        if wrong:
            continue
        sales.stamp(sale, tx.now)
        if key:
            claims[key] = Claim(key, idempotency.fingerprint(one.request), sale.SerializeToString())
        ready.append((index, one, sale))
    ours = await claim(tx, METHOD, list(claims.values()))
    ready = [(index, one, sale) for index, one, sale in ready if not one.request.request_id or one.request.request_id in ours]
    answers: list[Sale | None] = [None] * len(wanted)
    if ready:
        await sales.store(tx, [sale for _, _, sale in ready])
    for index, one, sale in ready:
        tx.entries.append((one.call, trail.entry_for(one.call, tx.tenant_id, resource_ids=[sale.id], now=tx.now)))
        answers[index] = sale
    return answers
