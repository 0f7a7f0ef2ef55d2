"""A till that does one thing and ends, to be killed at any of its storage calls: `crashing_till.py ACTION FOLDER PAPER`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from edge.storage import carts, lanes, outbox
from edge.storage.carts import CartLine
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from edge.till.checkout import Checkout
from edge.till.receipts import Receipts
from edge.till.requests import CheckoutRequest, TenderRequest
from gipos.edge.v1.link_pb2 import Change, Changes
from gipos.v1.catalog_pb2 import Product
from gipos.v1.inventory_pb2 import Level
from kernel.money import rupiah

PRICE = 1000
OUTLET = "out_1"


async def sell(storage: Storage, paper: Path) -> None:
    """A sale of PRICE, with a printed receipt."""
    product = Product(id="prd_1", name="Kopi", price=rupiah(PRICE))
    async with Receipts(storage, address=f"file://{paper}", paper=58) as receipts:
        await storage.store.write(lambda connection: carts.put(connection, CartLine(product, 1000)))
        paid = CheckoutRequest(tenders=(TenderRequest("cash", PRICE),))
        done = await Checkout(storage, receipts, lambda: None).complete(paid, None)
        await receipts.settled(done.receipt_key, 10)


async def acknowledge(storage: Storage, _: Path) -> None:
    """The cloud has the first operation, and then the second."""
    for number in (1, 2):
        await storage.store.write(partial(outbox.acknowledge, watermark=number, now_ms=5))


async def apply(storage: Storage, _: Path) -> None:
    """A level moves with its lane, twice; each time the level says where the lane stands."""
    for seq in (2, 3):
        level = Level(outlet_id=OUTLET, product_id="prd_1", on_hand=str(seq), reserved="0")
        frame = Changes(lane=OUTLET, epoch=1, from_exclusive=seq - 1, upto_inclusive=seq, changes=[Change(seq=seq, level=level)])
        await storage.replica.write(partial(lanes.apply, changes=frame))


async def begin(storage: Storage, _: Path) -> None:
    """A new life of the store."""
    await storage.begin_epoch(storage.store_epoch + 1)


ACTIONS = {"sell": sell, "acknowledge": acknowledge, "apply": apply, "begin": begin}


def main() -> None:
    action, folder, paper = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    storage = Storage.open(folder, space=Space(folder, Budget(reserve=4096)))
    asyncio.run(ACTIONS[action](storage, paper))
    storage.close()


if __name__ == "__main__":
    main()
