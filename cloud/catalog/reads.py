"""The two reads that carry load, a product and a plain page of products: asked together, printed once per version of a row.

Refuses nothing and decides nothing: pages with filters, orders or archived products are listing.py's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.catalog.products import to_proto
from cloud.catalog.tables import products
from cloud.platform import checks, paging
from cloud.platform.coalescing import Coalescer
from cloud.platform.database import Database
from cloud.platform.printed import Elements, Pages, Printed, printed
from gipos.v1.catalog_pb2 import ListProductsRequest, ListProductsResponse
from kernel.errors import Invalid, NotFound
from kernel.ids import is_id

KEPT_BYTES = 8 * 1024 * 1024
PAGES_BYTES = 8 * 1024 * 1024
"""Some 200 pages of 50 products. By weight, not by number: a page of 200 products with all they may carry weighs 2 MB."""
KEPT_SECONDS = 3600.0
"""How long a page is used at most: its token for the next page ages (see paging.py), whatever its rows do."""
KEPT_TOKENS = 2000
TOKEN_SECONDS = 60.0
"""How long a token that was opened is known; so much longer than three days it may live."""
GATHER_SECONDS = 0.0001
PLAIN = {"page_size", "page_token"}
"""Fields of a listing that a plain page may have."""

# See migration 0007: the functions set the tenant, so these run as single statements inside the fence.
_STATES = "SELECT tenant_id, id, version, written FROM product_states($1, $2)"
_PAGES = "SELECT place, states FROM product_pages($1, $2, $3)"

_TABLE = products.c
_WRITTEN: sa.Label[int] = sa.literal_column("products.xmin").label("written")

ProductKey = tuple[str, str]
"""Tenant and product."""
Stamp = tuple[int, int]
"""What names the state of a row exactly: its version and the transaction that wrote it."""
PageKey = tuple[str, str, int]
"""Tenant, the id after which the page begins (empty for the first) and its size."""


def is_plain(request: ListProductsRequest) -> bool:
    """Whether a listing asks for nothing but a page of what there is, newest first."""
    return all(field.name in PLAIN for field, _ in request.ListFields())


class ProductReads:
    """Answers them; one per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._elements: Elements[ProductKey] = Elements(KEPT_BYTES)
        self._last: Elements[PageKey] = Elements(PAGES_BYTES)
        """The last page of a kind, by the states of the rows it was made of and the hour it was made in."""
        self._tokens: dict[str, tuple[str, float]] = {}
        """Positions by the token that names them: opening one costs more than all the rest of asking for a page."""
        self._pages = Pages(ListProductsResponse, "products")
        self._one: Coalescer[ProductKey, Printed] = Coalescer(self._find, most=500, at_once=1, gather=GATHER_SECONDS)
        self._many: Coalescer[PageKey, Printed] = Coalescer(self._list, most=50, at_once=1, gather=GATHER_SECONDS)

    async def find(self, tenant_id: str, product_id: str) -> Printed:
        """One product, archived or not.

        Raises:
            NotFound: no such product.
        """
        # Questions of several merchants go out as one: a text that PostgreSQL refuses must not reach those of the others.
        found = await self._one.ask((tenant_id, product_id)) if is_id(product_id, "prd") else None
        if found is None:
            raise NotFound(f"Product {product_id} does not exist.", product_id=product_id)
        return found

    async def page(self, tenant_id: str, request: ListProductsRequest) -> Printed:
        """A plain page.

        Raises:
            Invalid, CursorInvalid: page_size or page_token is not right.
        """
        if wrong := list(checks.page_size(request.page_size)):
            raise Invalid(wrong)
        before = self._before(request) if request.page_token else ""
        answer = await self._many.ask((tenant_id, before, paging.size(request.page_size)))
        assert answer is not None, "every page has an answer, an empty one if need be"
        return answer

    def _before(self, request: ListProductsRequest) -> str:
        token, now = request.page_token, time.monotonic()
        known = self._tokens.get(token)
        if known is None or now >= known[1]:
            (position,) = paging.position(request, token, 1) or ("",)
            if len(self._tokens) >= KEPT_TOKENS:
                self._tokens.clear()
            known = self._tokens[token] = (position, now + TOKEN_SECONDS)
        return known[0]

    async def _find(self, keys: list[ProductKey]) -> Mapping[ProductKey, Printed]:
        rows = await self._database.statements.fetch(_STATES, [tenant for tenant, _ in keys], [one for _, one in keys])
        found: dict[ProductKey, Printed] = {}
        strange: dict[str, list[str]] = {}
        for tenant_id, product_id, version, written in rows:
            element = self._elements.find((tenant_id, product_id), (version, written))
            if element is None:
                strange.setdefault(tenant_id, []).append(product_id)
            else:
                found[tenant_id, product_id] = element
        for tenant_id, product_ids in strange.items():
            query = sa.select(products, _WRITTEN).where(
                _TABLE.tenant_id == tenant_id, _TABLE.id == sa.any_(sa.literal(product_ids, _TABLE.barcodes.type))
            )
            async with self._database.reading(tenant_id) as connection:
                for row in await connection.execute(query):
                    found[tenant_id, row.id] = self._learn(tenant_id, row)
        return found

    async def _list(self, keys: list[PageKey]) -> Mapping[PageKey, Printed]:
        tenants, befores, sizes = [key[0] for key in keys], [key[1] for key in keys], [key[2] + 1 for key in keys]
        states = [""] * len(keys)
        for place, text in await self._database.statements.fetch(_PAGES, tenants, befores, sizes):
            states[place - 1] = text or ""
        pages: dict[PageKey, Printed] = {}
        hour = asyncio.get_running_loop().time() // KEPT_SECONDS
        for key, asked in zip(keys, states, strict=True):
            tenant_id, _, size = key
            kept = self._last.find(key, (hour, asked))
            if kept is not None:
                pages[key] = kept
                continue
            rows = _states(asked)
            elements = [self._elements.find((tenant_id, product_id), stamp) for product_id, stamp in rows[:size]]
            if None in elements:
                # Read in one piece, so that the page is of one moment.
                async with self._database.reading(tenant_id) as connection:
                    rows, elements = await self._read_page(connection, key)
            pages[key] = page = self._made(key, [product_id for product_id, _ in rows], elements)
            text = _text(rows)
            self._last.keep(key, (hour, text), page, beside=len(text))
        return pages

    async def _read_page(self, connection: AsyncConnection, key: PageKey) -> tuple[list[tuple[str, Stamp]], list[Printed | None]]:
        """What the page is made of, and the states that this was: perhaps no longer those that were asked for a moment before."""
        tenant_id, before, size = key
        query = sa.select(products, _WRITTEN).where(_TABLE.tenant_id == tenant_id, _TABLE.deleted_at.is_(None))
        if before:
            query = query.where(_TABLE.id < before)
        rows = (await connection.execute(query.order_by(_TABLE.id.desc()).limit(size + 1))).all()
        states = [(row.id, (row.version, row.written)) for row in rows]
        return states, [self._learn(tenant_id, row) for row in rows[:size]]

    def _made(self, key: PageKey, ids: Sequence[str], elements: Sequence[Any]) -> Printed:
        size = key[2]
        if len(ids) <= size:
            return self._pages.page(elements)
        token = paging.next_token(ListProductsRequest(), [ids[size - 1]])
        return self._pages.page(elements, has_more=True, next_page_token=token)

    def _learn(self, tenant_id: str, row: Any) -> Printed:
        element = printed(to_proto(row))
        self._elements.keep((tenant_id, row.id), (row.version, row.written), element)
        return element


def _states(text: str) -> list[tuple[str, Stamp]]:
    """What product_pages says of a page."""
    rows = (row.split(" ") for row in text.split(",") if row)
    return [(product_id, (int(version), int(written))) for product_id, version, written in rows]


def _text(states: Sequence[tuple[str, Stamp]]) -> str:
    """The same as product_pages says it."""
    return ",".join(f"{product_id} {version} {written}" for product_id, (version, written) in states)
