"""A merchant on a fresh database, whose tills upload without a socket in between."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cloud import demo, reactions
from cloud.platform.calls import Caller
from cloud.platform.database import Database
from cloud.sync import uploads
from gipos.edge.v1.link_pb2 import Hello, Operation
from gipos.v1.catalog_pb2 import TaxClass
from gipos.v1.common_pb2 import Money
from gipos.v1.sales_pb2 import Sale, SaleLine, Tender
from kernel.ids import new_id
from kernel.pricing import total_up


@dataclass
class Till:
    """One till, as it is known to the cloud, and the numbers it has given out."""

    market: Market
    caller: Caller
    session: uploads.Session | None = None
    seq: int = 0
    seen_seq: int = 0
    made: list[Operation] = field(default_factory=list)

    async def hello(self, **given: Any) -> uploads.Session:
        given.setdefault("store_epoch", 1)
        self.session = await uploads.open_session(self.market.database, self.caller, Hello(**given))
        return self.session

    def sale(self, *lines: tuple[str, str], seq: int = 0, **fields: Any) -> Operation:
        """A sale of products and quantities at 18,000 each, under the next number."""
        sale = Sale(id=new_id("sal"), channel="pos", prices_include_tax=True, business_date="2026-11-23", cashier="Ani")
        for product_id, quantity in lines:
            price = Money(amount=18000)
            sale.lines.append(
                SaleLine(
                    id=new_id("sli"), product_id=product_id, quantity=quantity, unit_price=price, tax_class=TaxClass.TAX_CLASS_PPN
                )
            )
        sale.tenders.append(Tender(method="cash", amount=Money(amount=1_000_000)))
        sale.sale_time.FromDatetime(datetime.now(UTC))
        total_up(sale, date(2026, 11, 23))
        for name, value in fields.items():
            setattr(sale, name, value)
        operation = self._numbered(Operation(op_id=sale.id), seq)
        sale.number = f"T{self.caller.till_id[-4:]}-{operation.op_seq:06d}"
        operation.sale_recorded.CopyFrom(sale)
        return operation

    def count(
        self, product_id: str, counted: str, seen_seq: int, seq: int = 0, *, epoch: int = 0, expected: str = ""
    ) -> Operation:
        operation = self._numbered(Operation(op_id=new_id("cnt"), seen_seq=seen_seq, seen_epoch=epoch), seq)
        operation.stock_counted.expected = expected
        operation.occurred_time.FromDatetime(datetime.now(UTC))
        operation.stock_counted.product_id, operation.stock_counted.counted = product_id, counted
        return operation

    def _numbered(self, operation: Operation, seq: int) -> Operation:
        if not seq:
            self.seq += 1
        operation.op_seq = seq or self.seq
        self.made.append(operation)
        return operation

    async def send(self, *operations: Operation) -> uploads.Outcome:
        if self.session is None:
            await self.hello()
        assert self.session is not None
        return await uploads.store(self.market.database, self.caller, self.session, operations)


@dataclass
class Market:
    """The demo merchant."""

    database: Database
    tenant_id: str
    outlets: list[str]
    tills: list[Till]
    made: dict[str, Any]

    async def rows(self, text: str, *arguments: Any) -> list[Any]:
        async with self.database.statements.connection() as connection:
            await connection.execute(f"SET gipos.tenant_id = '{self.tenant_id}'")
            return list(await connection.fetch(text, *arguments))

    async def value(self, text: str, *arguments: Any) -> Any:
        ((value,),) = await self.rows(text, *arguments)
        return value

    async def product(self, stock: int = 0, outlet: int = 0, *, product_id: str = "") -> str:
        """A product with pieces of it in an outlet."""
        product_id = product_id or new_id("prd")
        async with self.database.transaction(self.tenant_id) as tx:
            driver = (await tx.connection.get_raw_connection()).driver_connection
            assert isinstance(driver, asyncpg.Connection)
            await driver.execute(
                "INSERT INTO products (tenant_id, id, name, sku, barcodes, category, unit, price, tax_class, image_url, active, "
                "external_id, created_at, updated_at) "
                "VALUES ($1, $2, 'Kopi', '', '{}', '', 'pcs', 18000, 1, '', true, '', now(), now())",
                self.tenant_id,
                product_id,
            )
        if stock:
            await self.move(product_id, stock, outlet)
        return product_id

    async def move(self, product_id: str, pieces: int, outlet: int = 0) -> int:
        """Somebody else changes the stock; the head of the outlet's lane afterwards."""
        from cloud.inventory import movements

        async with self.database.transaction(self.tenant_id) as tx:
            await movements.apply(tx, [movements.Change(self.outlets[outlet], product_id, pieces * 1000, "received")])
        return await self.head(outlet)

    async def head(self, outlet: int = 0) -> int:
        return int(await self.value("SELECT last_seq FROM log_heads WHERE lane = $1", self.outlets[outlet]))

    async def on_hand(self, product_id: str, outlet: int = 0) -> int:
        """Pieces."""
        rows = await self.rows(
            "SELECT on_hand FROM levels WHERE product_id = $1 AND outlet_id = $2", product_id, self.outlets[outlet]
        )
        return int(rows[0][0]) // 1000 if rows else 0

    async def stored(self) -> list[str]:
        return [row[0] for row in await self.rows("SELECT id FROM sales ORDER BY till_id, store_epoch, op_seq")]

    async def check(self) -> None:
        """Levels are the sums of their movements, each sale has its events once, lanes have no gaps."""
        assert (
            await self.rows(
                "SELECT 1 FROM levels l FULL JOIN (SELECT outlet_id, product_id, sum(quantity) AS moved FROM movements "
                "GROUP BY 1, 2) m USING (outlet_id, product_id) WHERE coalesce(l.on_hand, 0) <> coalesce(m.moved, 0)"
            )
            == []
        )
        assert (
            await self.rows(
                "SELECT s.id FROM sales s LEFT JOIN events e ON e.subject_id = s.id AND e.type LIKE 'sale.%' "
                "GROUP BY s.id HAVING count(e.id) <> 2"
            )
            == []
        )
        assert (
            await self.rows(
                "SELECT 1 FROM log_heads h LEFT JOIN events e USING (tenant_id, lane) GROUP BY h.tenant_id, h.lane, h.last_seq "
                "HAVING count(e.seq) <> h.last_seq OR coalesce(max(e.seq), 0) <> h.last_seq"
            )
            == []
        )


async def _opened(database: Database, folder: Path) -> Market:
    state = folder / "demo.json"
    await demo.create(database, state, "")
    made = json.loads(state.read_text())
    outlets = [outlet["id"] for outlet in made["outlets"]]
    market = Market(database, made["tenant_id"], outlets, [], made)
    for till in made["tills"]:
        outlet_id = await market.value("SELECT outlet_id FROM tills WHERE id = $1", till["id"])
        who = Caller(market.tenant_id, till["id"], "test", frozenset(), till_id=till["id"], outlet_id=outlet_id, kind="till")
        market.tills.append(Till(market, who))
    return market


@pytest.fixture
async def market(database: Database, tmp_path: Path) -> Market:
    database.react(before_commit=reactions.BEFORE_COMMIT, after_commit=())
    return await _opened(database, tmp_path)


@pytest.fixture
def opened() -> Any:
    """Makes another merchant: of a database and a folder."""
    return _opened


@pytest.fixture
def reopen(tmp_path: Path) -> Any:
    """The same merchant on another database, which is a copy."""

    def make(market: Market, database: Database) -> Market:
        database.react(before_commit=reactions.BEFORE_COMMIT, after_commit=())
        copy = Market(database, market.tenant_id, market.outlets, [], market.made)
        copy.tills = [Till(copy, till.caller, None, till.seq, till.seen_seq, till.made) for till in market.tills]
        return copy

    return make
