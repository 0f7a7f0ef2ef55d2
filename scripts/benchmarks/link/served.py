"""The cloud that is measured, as `python -m cloud serve` runs it, with a line to this benchmark beside it. A program.

The line makes changes through the services themselves and tells when their COMMIT was sent and when it had returned: from
outside nobody can see that moment. With --gateway it is what `python -m host` runs: REST, WebSocket and cloud on one uvloop.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import asyncpg.connection
import uvloop

from cloud import server
from cloud.accounts import credentials, dashboard_tickets
from cloud.catalog import products
from cloud.platform import telemetry
from cloud.settings import Settings
from gipos.v1.catalog_pb2 import Product, UpdateProductRequest
from gipos.v1.inventory_pb2 import Inventory, SetInventoryRequest
from host.channel import LocalChannel
from kernel import memory
from kernel.event_types import PRODUCT_UPDATED
from scripts.benchmarks.link import lines

AT_ONCE = 2_500
"""Changes that are announced in one transaction."""
_commits: ContextVar[list[tuple[float, float]] | None] = ContextVar("_commits", default=None)


def watch_commits() -> None:
    """Notes the times of every COMMIT that a call made here sends. At the driver, below whatever the cloud uses."""
    execute = asyncpg.connection.Connection.execute

    async def watched(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        mine = _commits.get()
        if mine is None or not query.startswith("COMMIT"):
            return await execute(self, query, *arguments, **options)
        sent = time.monotonic()
        answer = await execute(self, query, *arguments, **options)
        mine.append((sent, time.monotonic()))
        return answer

    asyncpg.connection.Connection.execute = watched


class Line:
    """Carries out what the benchmark asks for."""

    def __init__(self, cloud: server.Cloud) -> None:
        self._cloud = cloud
        channel = LocalChannel(cloud.local)
        self._update = channel.unary("/gipos.v1.ProductService/UpdateProduct", UpdateProductRequest, Product)
        self._put = channel.unary("/gipos.v1.InventoryService/SetInventory", SetInventoryRequest, Inventory)
        self._catalogue: list[Product] = []

    async def update(self, key: str, product_id: str, price: int) -> dict[str, Any]:
        """Changes a price."""
        request = UpdateProductRequest(product=Product(id=product_id))
        request.product.price.amount, request.product.price.currency = price, "IDR"
        request.update_mask.paths.append("price")
        return await self._timed(self._update, request, key)

    async def stock(self, key: str, product_id: str, outlet_id: str, on_hand: str) -> dict[str, Any]:
        """Sets a level."""
        return await self._timed(self._put, SetInventoryRequest(product_id=product_id, outlet_id=outlet_id, on_hand=on_hand), key)

    async def publish(self, tenant_id: str, first: int, count: int) -> dict[str, Any]:
        """Announces a change of so many products, as an import does."""
        if not self._catalogue:
            async with self._cloud.database.snapshot(tenant_id) as connection:
                self._catalogue = [one async for page in products.pages(connection, tenant_id, 500) for one in page]
        some = self._catalogue[first : first + count]
        for at in range(0, len(some), AT_ONCE):
            async with self._cloud.database.transaction(tenant_id) as tx:
                for product in some[at : at + AT_ONCE]:
                    tx.publish(PRODUCT_UPDATED, product, subject_id=product.id, version=2)
        return {"published": len(some)}

    async def tickets(self, key: str, count: int) -> dict[str, Any]:
        """Tickets for dashboards, made as the service makes them, but without asking for each."""
        async with self._cloud.database.identifying() as connection:
            owner = (await credentials.look_up(connection, key)).caller
        async with self._cloud.database.transaction(owner.tenant_id) as tx:
            return {"tickets": [(await dashboard_tickets.create(tx, owner, "", ""))[0] for _ in range(count)]}

    async def _timed(self, call: Any, request: Any, key: str) -> dict[str, Any]:
        commits: list[tuple[float, float]] = []
        token = _commits.set(commits)
        asked = time.monotonic()
        await call(request, [("authorization", f"Bearer {key}")], 30)
        done = time.monotonic()
        _commits.reset(token)
        if not commits:
            raise RuntimeError("The change was answered without a COMMIT that could be seen.")
        return {"asked": asked, "sent": commits[-1][0], "returned": commits[-1][1], "done": done}


@asynccontextmanager
async def _gateway(cloud: server.Cloud) -> AsyncIterator[int]:
    """REST and WebSocket before this cloud, with room for as many dashboards as come; the port."""
    from gateway_rest import contract
    from gateway_rest.__main__ import Server, bind, configured
    from gateway_rest.app import Gateway
    from gateway_rest.dashboards.sockets import Room

    room = Room(per_merchant=100_000, per_viewer=100_000)
    gateway = Gateway(contract.installed(), lambda: LocalChannel(cloud.local), room=room)
    rest = Server(configured(gateway, graceful_seconds=1), gateway)
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(rest.serve(sockets=[listener]))
    while not rest.started and not task.done():  # noqa: ASYNC110 (the server has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        rest.should_exit = True
        await task


async def serve(*, gateway: bool) -> None:
    """Until the input ends."""
    output = lines.claim_output()
    telemetry.configure("cloud")
    watch_commits()
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(server.running(Settings()))
        ports = {"port": cloud.port}
        if gateway:
            ports["rest_port"] = await stack.enter_async_context(_gateway(cloud))
        memory.settle()
        lines.say(output, ports)
        line = Line(cloud)
        async for command in lines.commands():
            lines.say(output, await getattr(line, command.pop("do"))(**command))


if __name__ == "__main__":
    if "--gateway" in sys.argv:
        uvloop.run(serve(gateway=True))
    else:
        asyncio.run(serve(gateway=False))
