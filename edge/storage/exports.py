"""Writes what the cloud does not have, or all that is kept, into a file people can carry: one JSON object per line.

It only reads the store, a broken one as far as it goes, with a daemon running or not. It never replaces a file that exists.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from edge.storage import facts, salvage
from edge.storage.clocks import moment
from edge.storage.columns import blob, whole
from edge.storage.database import StorageUnusable
from edge.storage.salvage import Row, SavedStore
from gipos.edge.v1.link_pb2 import Operation
from kernel import protojson

FORMAT = "gipos-till-export-1"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    operations: int
    waiting: int
    """Of which the cloud does not have them."""
    unreadable: int
    """Rows of a broken store that could not be read."""


def write(store: Path, to: Path, *, everything: bool = False) -> Exported:
    """Writes the operations that wait (or all that are kept) and syncs the file before it gets its name.

    The first line says whose they are; each further line is one operation: as JSON for people, and its exact bytes in `body`.

    Raises:
        StorageUnusable: there is no store, or the file cannot be written or exists.
    """
    if not store.exists():
        raise StorageUnusable(
            f"Tidak ada kasir di {store.parent} ({store.name} tidak ada).\n"
            f"There is no till in {store.parent} ({store.name} is missing)."
        )
    if to.exists():
        raise StorageUnusable(
            f"{to} sudah ada; tidak ada yang ditulis. Pilih nama lain.\n"
            f"{to} exists already; nothing was written. Choose another name."
        )
    saved = salvage.read_store(store)
    chosen = sorted((row for row in saved.operations.values() if everything or row[4] is None), key=lambda row: whole(row[0]))
    fresh = to.with_name(to.name + ".part")
    try:
        with fresh.open("wb") as file:
            for line in _lines(saved, chosen):
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(to)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise StorageUnusable(
            f"Penjualan di {store} tidak bisa disimpan ke {to} ({error.strerror}).\n"
            f"The sales in {store} could not be exported to {to} ({error.strerror})."
        ) from error
    return Exported(len(chosen), sum(row[4] is None for row in chosen), saved.unreadable)


def _lines(saved: SavedStore, chosen: list[Row]) -> Iterator[dict[str, object]]:
    yield {
        "format": FORMAT,
        "till_id": saved.facts.get(facts.TILL_ID, ""),
        "store_epoch": int(saved.facts.get(facts.STORE_EPOCH, "0")),
        "last_op_seq": int(saved.facts.get(facts.LAST_OP_SEQ, "0")),
        "operations": len(chosen),
    }
    for op_seq, op_id, body, created_at, acknowledged_at, *_ in chosen:
        operation = Operation.FromString(blob(body))
        yield {
            "op_seq": op_seq,
            "op_id": op_id,
            "kind": operation.WhichOneof("body"),
            "created_time": moment(whole(created_at)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "uploaded": acknowledged_at is not None,
            "operation": protojson.to_dict(operation),
            "body": base64.b64encode(blob(body)).decode(),
        }
