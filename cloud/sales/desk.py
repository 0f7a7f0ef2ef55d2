"""Sales of an integration that are recorded together: what their requests look like, and how they become sales."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.accounts import outlets
from cloud.catalog import products
from cloud.platform.database import SharedTransaction
from cloud.platform.together import Kind
from cloud.sales import drafts, sales
from gipos.v1.sales_pb2 import CreateSaleRequest, Sale
from kernel import business_days


def _may_be_plain(request: CreateSaleRequest) -> bool:
    draft = request.sale
    return not draft.till_id and not draft.customer_id and next(iter(drafts.violations(draft, business_days.now())), None) is None


async def _prepare(tx: SharedTransaction, requests: Sequence[CreateSaleRequest]) -> Sequence[Sale | None]:
    known = await products.sellable(tx, {line.product_id for request in requests for line in request.sale.lines})
    shops = await outlets.shops(tx)
    only = next(iter(shops)) if len(shops) == 1 else ""
    made: list[Sale | None] = []
    for request in requests:
        outlet = shops.get(request.sale.outlet_id or only)
        sale, wrong = drafts.prepared(request.sale, known, outlet, tx.now) if outlet is not None else (None, [])
        if sale is None or wrong:
            made.append(None)
        else:
            sales.stamp(sale, tx.now)
            made.append(sale)
    return made


async def _store(tx: SharedTransaction, recorded: Sequence[Sale]) -> None:
    await sales.store(tx, recorded)


RECORDINGS: Kind[CreateSaleRequest, Sale] = Kind("CreateSale", _may_be_plain, _prepare, _store)
