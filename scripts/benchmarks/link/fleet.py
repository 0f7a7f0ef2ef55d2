"""Merchants with outlets, tills and products for the benchmark, written as the platform's own features write them.

Tills, which are many, are written by the thousand. They have device tokens, as behind a proxy: with certificates, the handshake
and its memory would be measured and not the link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import sqlalchemy as sa

from cloud.accounts import api_keys, outlets
from cloud.demo import CONTRACT
from cloud.limits import plans
from cloud.platform.database import Database, Transaction
from gipos.v1.accounts_pb2 import Outlet
from gipos.v1.catalog_pb2 import TaxClass
from kernel.ids import new_id
from kernel.signatures import DEVICE_PREFIX, fingerprint, new_key

FILL = sa.text(
    """
    INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, cost, tax_class, image_url, active,
                          external_id, created_at, updated_at)
    SELECT :tenant_id, p.id, 'Kopi Susu Gula Aren ' || p.place, 'SKU-' || p.place,
           ARRAY['TOKO' || lpad(p.place::text, 8, '0')], 'Minuman', 'pcs', 1000 + p.place, 700, 1, '', true, '', now(), now()
    FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS p (id, place)
    """
)
_TILLS = sa.text(
    """
    INSERT INTO tills (tenant_id, id, outlet_id, name, number, token_fingerprint)
    SELECT :tenant_id, t.id, t.outlet_id, 'Kasa ' || t.number, t.number, t.print
    FROM unnest(CAST(:ids AS text[]), CAST(:outlets AS text[]), CAST(:numbers AS int[]), CAST(:prints AS bytea[]))
         AS t (id, outlet_id, number, print)
    """
)


@dataclass(frozen=True)
class Tablet:
    """A till that can connect."""

    tenant_id: str
    outlet_id: str
    till_id: str
    token: str


@dataclass(frozen=True)
class Merchant:
    """One tenant; tablets in the order of outlets and numbers."""

    tenant_id: str
    api_key: str
    outlets: list[str]
    products: list[str]
    tablets: list[Tablet]


async def merchant(database: Database, *, shops: int, tills: int, products: int) -> Merchant:
    """A merchant with so many outlets, so many tills in each, and so many products."""
    tenant_id = new_id("ten")
    async with database.transaction(tenant_id) as tx:
        await outlets.create_tenant(tx, "Toko Ukur", TaxClass.TAX_CLASS_PPN)
        await plans.agree(tx, CONTRACT)
        places = []
        for number in range(shops):
            shop = Outlet(name=f"Toko {number}", code=f"T{number:02d}", time_zone="Asia/Jakarta", prices_include_tax=True)
            places.append((await outlets.create(tx, shop)).id)
        tablets = await _tills(tx, places, tills)
        ids = await fill(tx, products)
        return Merchant(tenant_id, await api_keys.create(tx, "Bench"), places, ids, tablets)


async def fill(tx: Transaction, count: int) -> list[str]:
    """So many products, in the order of their ids."""
    ids = sorted(new_id("prd") for _ in range(count))
    await tx.run(FILL, tenant_id=tx.tenant_id, ids=ids)
    return ids


async def _tills(tx: Transaction, places: Sequence[str], each: int) -> list[Tablet]:
    tablets = [Tablet(tx.tenant_id, place, new_id("dev"), new_key(DEVICE_PREFIX)) for place in places for _ in range(each)]
    await tx.run(
        _TILLS,
        tenant_id=tx.tenant_id,
        ids=[one.till_id for one in tablets],
        outlets=[one.outlet_id for one in tablets],
        numbers=[place % each + 1 for place in range(len(tablets))],
        prints=[fingerprint(one.token) for one in tablets],
    )
    return tablets


async def greetings(url: str, tablets: Sequence[Tablet]) -> list[dict[str, Any]]:
    """What each says to be let in and go on at the end of its lanes: its token, its positions."""
    connection: Any = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT tenant_id, lane, epoch, last_seq FROM log_heads WHERE tenant_id = ANY($1)",
            list({one.tenant_id for one in tablets}),
        )
    finally:
        await connection.close()
    heads = {(row["tenant_id"], row["lane"]): (row["lane"], row["epoch"], row["last_seq"]) for row in rows}
    return [
        {
            "token": one.token,
            "outlet_id": one.outlet_id,
            "lanes": [heads[one.tenant_id, "tenant"], heads[one.tenant_id, one.outlet_id]],
        }
        for one in tablets
    ]
