"""A cloud is killed (SIGKILL) while it works on a sale with a key, and another one gets the same request: there is one sale.

The moment is chosen by a trigger that waits for a lock of the test, so nothing depends on being quick.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message

from gipos.v1 import catalog_pb2, catalog_pb2_grpc, inventory_pb2, inventory_pb2_grpc, sales_pb2, sales_pb2_grpc
from gipos.v1.common_pb2 import Money

LOCK = 4242
# The cloud's connections give up on a lock after two seconds; this one is meant to be waited for.
WAIT = f"""
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout TO '60s' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK});
    RETURN NULL;
END $$
"""
MOMENTS = {
    # Sale, stock and key are written; the log comes last, the commit is never asked for.
    "effect": "CREATE TRIGGER wait AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()",
    # The commit is under way when the process dies, and goes through: nobody is left to hear of it.
    "commit": """
        CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON sales DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()
    """,
}


class Caller:
    """An integration with a connection to one cloud."""

    def __init__(self, fleet: Any, port: int) -> None:
        self.auth = fleet.auth
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.products = catalog_pb2_grpc.ProductServiceStub(self.channel)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(self.channel)
        self.sales = sales_pb2_grpc.SaleServiceStub(self.channel)

    async def send(self, method: Any, request: Message) -> Any:
        return await method(request, metadata=self.auth)


async def until(connection: asyncpg.Connection[Any], query: str) -> None:
    async with asyncio.timeout(30):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.01)


WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted"


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_sale_happens_once_when_the_cloud_is_killed(fleet: Any, moment: str) -> None:
    first = await fleet.start()
    caller = Caller(fleet, first.port)
    draft = catalog_pb2.Product(name="Kopi", price=Money(amount=18000))
    coffee = await caller.send(caller.products.CreateProduct, catalog_pb2.CreateProductRequest(product=draft))
    outlet = fleet.made["outlets"][0]["id"]
    count = inventory_pb2.SetInventoryRequest(product_id=coffee.id, outlet_id=outlet, on_hand="10")
    await caller.send(caller.inventory.SetInventory, count)
    sale = sales_pb2.Sale(outlet_id=outlet, lines=[sales_pb2.SaleLine(product_id=coffee.id, quantity="1")])
    request = sales_pb2.CreateSaleRequest(sale=sale, request_id="order-1")

    database, holder = await asyncpg.connect(fleet.url), await asyncpg.connect(fleet.url)
    await database.execute(WAIT)
    await database.execute(MOMENTS[moment])
    await holder.execute(f"SELECT pg_advisory_lock({LOCK})")
    sent = asyncio.create_task(caller.send(caller.sales.CreateSale, request))
    await until(database, WAITING)
    await first.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sent
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await holder.execute(f"SELECT pg_advisory_unlock({LOCK})")
    await until(database, f"SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK}")
    if moment == "commit":
        await until(database, "SELECT count(*) = 1 FROM sales")

    second = await fleet.start()
    caller = Caller(fleet, second.port)
    again = await caller.send(caller.sales.CreateSale, request)
    repeated = await caller.send(caller.sales.CreateSale, request)
    assert repeated == again
    assert [row["id"] for row in await database.fetch("SELECT id FROM sales")] == [again.id]
    assert await database.fetchval("SELECT count(*) FROM movements WHERE sale_id = $1", again.id) == 1
    assert await database.fetchval("SELECT on_hand FROM levels WHERE product_id = $1", coffee.id) == 9000
    assert await database.fetchval("SELECT count(*) FROM events WHERE subject_id = $1 AND type = 'sale.created'", again.id) == 1
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = 'order-1' AND answer IS NOT NULL") == 1
    await database.close()
    await holder.close()
