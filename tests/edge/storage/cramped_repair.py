"""A till whose store is broken on a disk with less and less room: what becomes of it, on stdout. Run on a small filesystem."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import apsw

from edge.storage import facts, outbox
from edge.storage import sales as stored_sales
from edge.storage.database import StorageUnusable
from edge.storage.folder import Storage
from edge.storage.space import Budget, Space
from gipos.edge.v1.link_pb2 import Operation
from gipos.v1.sales_pb2 import Sale
from kernel.money import rupiah

SALES = 200
BLOCK = 128 * 1024


def open_till(folder: Path) -> Storage:
    """Without a reserve worth mentioning: what is free is free."""
    return Storage.open(folder, space=Space(folder, Budget(reserve=4096, margin=4096, least=4096)))


def broken(folder: Path) -> None:
    """A store with sales that wait and one page of theirs that cannot be read."""
    storage = open_till(folder)

    def sell(connection: apsw.Connection) -> None:
        for number in range(1, SALES + 1):
            sale = Sale(id=f"sal_{number}", number=f"KMG-2611-2{number:05d}", total=rupiah(1000), note="x" * 900)
            sale.lines.add(id="sli_1", product_id="prd_1", quantity="1")
            outbox.append(connection, Operation(op_id=sale.id, sale_recorded=sale), {}, 1)
            stored_sales.insert(connection, sale, sold_at_ms=1, request_key=f"key-{number}", request_hash=b"h")
        facts.put(connection, facts.LAST_RECEIPT_SEQ, SALES)

    storage.store.write_and_wait(sell)
    storage.distrust()
    storage.close()
    content = bytearray((folder / "store.db").read_bytes())
    pages = range(4096, len(content), 4096)
    at = next(
        at
        for at in pages
        if content[at] == 0x0D and b"xxxx" in content[at : at + 4096] and b"key-" not in content[at : at + 4096]
    )
    content[at : at + 64] = b"\xff" * 64
    (folder / "store.db").write_bytes(content)


def attempt(folder: Path, room: int) -> dict[str, object]:
    """Opens the till with so much room, and with all of it if that was too little."""
    before = (folder / "store.db").read_bytes()
    fill = folder / "photos.bin"
    found = os.statvfs(folder)
    with fill.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - room)
    problem = ""
    try:
        storage = open_till(folder)
    except StorageUnusable as refusal:
        problem = str(refusal)
    left = (folder / "store.db").read_bytes()
    fill.unlink()
    if problem:
        storage = open_till(folder)
    sales, waiting = storage.store.write_and_wait(lambda connection: (stored_sales.count(connection), outbox.waiting(connection)))
    storage.close()
    return {"problem": problem, "left": hash(left), "before": hash(before), "sales": sales, "waiting": waiting}


def run(folder: Path) -> list[dict[str, object]]:
    """From hardly any room on to plenty."""
    image = folder / "image"
    broken(image)
    turns = []
    for blocks in range(1, 18):
        till = folder / "till"
        shutil.copytree(image, till)
        turns.append(attempt(till, blocks * BLOCK))
        shutil.rmtree(till)
    return turns


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]))))
