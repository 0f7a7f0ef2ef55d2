"""Tills that do one thing and end, to be killed at any of their storage calls.

A line `["ACTION", "TILL", "PAPER", "DOOR", "ERRORS"]` makes one and writes its process id. It is a fork: loading the program
takes much longer than what it does. It begins when somebody opens DOOR, a named pipe, for writing; what goes wrong is in ERRORS.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # how they end is asked of their tracer
    for line in sys.stdin:
        action, folder, paper, door, errors = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with Path(errors).open("wb") as file:
                os.dup2(file.fileno(), sys.stderr.fileno())
            Path(door).open("rb").close()
            work(action, Path(folder), Path(paper))
            return
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def work(action: str, folder: Path, paper: Path) -> None:
    """One of the actions, on a till of its own."""
    storage = Storage.open(folder, space=Space(folder, Budget(reserve=4096)))
    asyncio.run(ACTIONS[action](storage, paper))
    storage.close()


if __name__ == "__main__":
    main()
