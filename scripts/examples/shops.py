"""Merchants with nothing sold yet, on a cloud and a gateway of this process, for performing examples against real ports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from cloud import demo, server
from cloud.catalog import conflicts
from cloud.catalog.conflicts import Author, Met
from cloud.inventory.tables import reservations
from cloud.platform.database import Database
from cloud.settings import Settings
from cloud.sync import troubles
from cloud.sync.tables import quarantined_operations
from gateway_rest import contract
from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.catalog_pb2 import ConflictReason, Product
from gipos.v1.sales_pb2 import Sale
from kernel.ids import new_id
from kernel.money import rupiah


@dataclass(frozen=True)
class Shops:
    """Where they are."""

    url: str
    keys: list[str]
    """An API key for each merchant."""


@asynccontextmanager
async def opened(database_url: str, folder: Path, count: int) -> AsyncIterator[Shops]:
    """So many merchants on a database that exists and may be empty.

    Args:
        database_url: PostgreSQL.
        folder: For the secret key and the merchants' files.
        count: How many merchants.
    """
    settings = Settings(
        database_url=database_url, data_dir=folder, webhook_private_addresses=True, drain_seconds=0.2, database_connections=6
    )
    async with server.running(settings) as cloud:
        keys = []
        for number in range(count):
            state = folder / f"merchant-{number}.json"
            await demo.create(cloud.database, state, "")
            made = json.loads(state.read_text("utf-8"))
            keys.append(made["api_key"])
            await _put_aside(cloud.database, made["tenant_id"], made["tills"][0])
            await _keep_conflict(cloud.database, made["tenant_id"], made["tills"][0])
            await _promise(cloud.database, made["tenant_id"], made["outlets"][0]["id"])
        gateway = Gateway(contract.installed(), lambda: GrpcChannel(f"127.0.0.1:{cloud.port}"))
        rest = Server(configured(gateway, graceful_seconds=2), gateway)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(rest.serve(sockets=[listener]))
        while not rest.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)
        try:
            yield Shops(f"http://127.0.0.1:{listener.getsockname()[1]}", keys)
        finally:
            rest.should_exit = True
            await task


async def _put_aside(database: Database, tenant_id: str, till: dict[str, str]) -> None:
    """Two sales of the first till that could not be stored when they came: one can be by now, the other has no lines."""
    async with database.transaction(tenant_id) as tx:
        for number in (1, 2):
            sale = Sale(id=new_id("sal"), number=f"KMG-2611-20012{number}", cashier="Ani", prices_include_tax=True)
            if number == 1:
                sale.lines.add(id=new_id("sli"), product_id=new_id("prd"), quantity="1", unit_price=rupiah(18000))
            sale.tenders.add(method="cash", amount=rupiah(18000))
            sale.total.CopyFrom(rupiah(18000))
            operation = Operation(op_seq=number, op_id=sale.id, sale_recorded=sale)
            operation.occurred_time.FromDatetime(tx.now)
            # Straight into the table: an announcement would be the first event of the shop.
            await tx.connection.execute(
                sa.insert(quarantined_operations).values(
                    tenant_id=tenant_id,
                    till_id=till["id"],
                    store_epoch=1,
                    op_seq=number,
                    id=new_id("qop"),
                    outlet_id=till["outlet_id"],
                    kind="sale_recorded",
                    reason=troubles.NOT_STORABLE,
                    message=troubles.said(troubles.NOT_STORABLE),
                    operation=operation.SerializeToString(),
                    occurred_at=tx.now,
                    created_at=tx.now,
                )
            )


async def _keep_conflict(database: Database, tenant_id: str, till: dict[str, str]) -> None:
    """A price that was entered at a till and lost: no caller of REST can make one."""
    ours, theirs = Product(price=rupiah(5000)), Product(price=rupiah(5500))
    async with database.transaction(tenant_id) as tx:
        met = Met(new_id("prd"), "price", ConflictReason.CONFLICT_REASON_CHANGED, ours, theirs, met_version=4)
        await conflicts.keep(tx, met, Author(till["id"], new_id("ope"), base_version=3, at=tx.now))


async def _promise(database: Database, tenant_id: str, outlet_id: str) -> None:
    """A second reservation: one can be fulfilled or released, not both."""
    async with database.transaction(tenant_id) as tx:
        row = {"tenant_id": tenant_id, "id": new_id("rsv"), "outlet_id": outlet_id, "external_id": "INV/20261122/9", "version": 1}
        goods = {"product_ids": [new_id("prd")], "quantities": [1000]}
        times = {"expires_at": tx.now + timedelta(days=1), "created_at": tx.now, "updated_at": tx.now}
        await tx.connection.execute(sa.insert(reservations).values(**row, **goods, **times, status="open"))
