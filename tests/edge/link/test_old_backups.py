"""A tablet and a real cloud that was restored from a backup older than what tablets keep."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from edge.link.client import LinkClient
from edge.storage import outbox, sales
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.common_pb2 import Money
from gipos.v1.sales_pb2 import Sale
from kernel.ids import new_id

PRODUCT = "prd_1"


async def sell(storage: Storage, number: int) -> str:
    now_ms = storage.clock()
    price = Money(currency="IDR", amount=18_000)
    sale = Sale(id=new_id("sal"), number=f"KMG-{number:06}", subtotal=price, total=price)
    sale.lines.add(product_id=PRODUCT, name="Kopi", quantity="1", unit_price=price, total=price)
    sale.sale_time.FromMilliseconds(now_ms)
    operation = Operation(op_id=sale.id, sale_recorded=sale)
    operation.occurred_time.FromMilliseconds(now_ms)

    def record(connection: Any) -> None:
        outbox.append(connection, operation, {PRODUCT: -1000}, now_ms)
        sales.insert(connection, sale, sold_at_ms=now_ms, request_key=None, request_hash=b"")

    await storage.store.write(record)
    return sale.id


async def test_a_cloud_put_back_behind_what_is_kept_gets_all_sales_again_and_takes_new_ones(
    fleet: Any, storage: Storage, eventually: Any
) -> None:
    cloud = await fleet.start()
    till = fleet.made["tills"][0]
    client = LinkClient(
        address=f"127.0.0.1:{cloud.port}", token=till["token"], storage=storage, enabled=True, software_version="test"
    )
    database = await asyncpg.connect(fleet.url)
    task = asyncio.create_task(client.run())

    async def arrived(*wanted: str) -> bool:
        rows = await database.fetch("SELECT id FROM sales WHERE till_id = $1 ORDER BY id", till["id"])
        return [row[0] for row in rows] == sorted(wanted)

    async def waits_for_nothing() -> bool:
        return await storage.store.read(outbox.waiting) == 0

    try:
        before = [await sell(storage, number) for number in range(1, 5)]
        client.wake()
        await eventually(lambda: arrived(*before))
        await eventually(waits_for_nothing)
        client.switch(enabled=False)
        # Of the first three nothing is left but the receipts; of the fourth, the cloud loses the memory as well.
        await storage.store.write(lambda connection: connection.execute("DELETE FROM operations WHERE op_seq <= 3"))
        await database.execute("UPDATE till_stores SET op_watermark = 0 WHERE till_id = $1", till["id"])
        await database.execute("DELETE FROM till_batches WHERE till_id = $1", till["id"])
        await database.execute("DELETE FROM sales WHERE till_id = $1 AND id <> $2", till["id"], before[0])
        life = storage.store_epoch
        client.switch(enabled=True)
        await eventually(lambda: arrived(*before))
        assert storage.store_epoch > life
        after = await sell(storage, 5)
        client.wake()
        await eventually(lambda: arrived(*before, after))
        await eventually(waits_for_nothing)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()
