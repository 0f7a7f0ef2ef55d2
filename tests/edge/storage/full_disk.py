"""A till on a disk that runs full: sells until it is refused, and says on stdout what happened. Run on a small filesystem."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from edge.storage import lanes, outbox, outlets
from edge.storage import sales as stored_sales
from edge.storage.database import StorageFull
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from edge.till.cart import Cart
from edge.till.checkout import Checkout
from edge.till.receipts import Receipts
from edge.till.requests import CheckoutRequest, ScanRequest, TenderRequest
from gipos.edge.v1.link_pb2 import Change, SnapshotPart
from gipos.v1.accounts_pb2 import Outlet, Till
from gipos.v1.catalog_pb2 import Product
from kernel.money import rupiah

MEBIBYTE = 1024 * 1024


def fill(path: Path) -> None:
    """Writes until there is no room for one more block."""
    with path.open("ab", buffering=0) as file:
        for size in (MEBIBYTE, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


async def run(folder: Path) -> dict[str, object]:
    """What became of carts begun before and after the disk ran full."""
    storage = Storage.open(folder, space=Space(folder, Budget(reserve=2 * MEBIBYTE, margin=MEBIBYTE, least=MEBIBYTE // 2)))
    identity = outlets.Identity("ten_1", Outlet(id="out_1", code="KMG", time_zone="Asia/Jakarta"), Till(id="dev_1", number=2))
    product = Product(id="prd_1", name="Kopi", price=rupiah(1000), barcodes=["KOPI"])
    part = SnapshotPart(lane="tenant", epoch=1, seq=1, last=True, changes=[Change(seq=1, product=product)])
    await storage.replica.write(lambda connection: outlets.put(connection, identity))
    await storage.replica.write(lambda connection: lanes.activate(connection, part))
    paper = folder.parent / "paper"
    paper.mkdir(exist_ok=True)
    answered: list[str] = []
    refusals: list[str] = []
    async with Receipts(storage, address=f"file://{paper}", paper=58) as receipts:
        cart, checkout = Cart(storage), Checkout(storage, receipts, lambda: None)
        scan = ScanRequest(barcode="KOPI", product_id="", quantity=1000)
        paid = CheckoutRequest(tenders=(TenderRequest("cash", 1000),))

        async def pay() -> None:
            done = await checkout.complete(paid, None)
            answered.append(done.sale.number)
            await receipts.settled(done.receipt_key, 10)

        await cart.scan(scan)
        await pay()
        await cart.scan(scan)  # a customer stands at the counter while the disk runs full
        had_reserve = storage.space.has_reserve
        fill(folder / "photos.bin")
        for _ in range(3000):
            # Until even the log of the store cannot grow in the blocks it has.
            try:
                if not (await cart.view()).lines:
                    await cart.scan(scan)
                await pay()
            except StorageFull as refusal:
                refusals.append(str(refusal))
                fill(folder / "photos.bin")
                if len(refusals) == 3:
                    break
        still = await storage.store.read(stored_sales.count)
        (folder / "photos.bin").unlink()
        await cart.clear()
        await cart.scan(scan)
        await pay()
        after = await storage.store.read(stored_sales.count)
        queue = [one.op_seq for one in await storage.store.read(lambda connection: outbox.batch(connection, 1, 100_000))]
    storage.close()
    return {
        "had_reserve": had_reserve,
        "answered": answered,
        "refusals": refusals,
        "stored_when_full": still,
        "stored_after": after,
        "queue_is_dense": queue == list(range(1, len(queue) + 1)),
        "printed": sorted({line for file in paper.iterdir() for line in numbers(file.read_bytes())}),
        "aside": [file.name for file in folder.glob("*.broken-*")],
    }


def numbers(page: bytes) -> list[str]:
    """The receipt numbers on a page."""
    return [word.decode() for word in page.split() if word.startswith(b"KMG-")]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(Path(sys.argv[1])))))
