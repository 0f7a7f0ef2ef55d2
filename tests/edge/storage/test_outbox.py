from __future__ import annotations

from typing import Any

import pytest

from edge.storage import facts, outbox
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Operation

DAY_MS = 24 * 3600 * 1000


async def append(storage: Storage, op_id: str, now_ms: int = 0, size: int = 0) -> int:
    operation = Operation(op_id=op_id)
    operation.sale_recorded.note = "x" * size
    return await storage.store.write(lambda connection: outbox.append(connection, operation, {"prd_1": -1000}, now_ms))


async def batch(storage: Storage, start: int, limit: int = 200) -> list[tuple[int, str]]:
    found = await storage.store.read(lambda connection: outbox.batch(connection, start, limit))
    return [(operation.op_seq, operation.op_id) for operation in found]


async def standing(storage: Storage) -> outbox.Standing:
    return await storage.store.read(outbox.standing)


async def pending(storage: Storage, watermark: int) -> int:
    return (await storage.store.read(lambda connection: outbox.pending(connection, ["prd_1"], watermark)))["prd_1"]


async def test_numbers_are_dense_and_a_rollback_gives_its_number_back(storage: Storage) -> None:
    await append(storage, "a")

    def fail(connection: Any) -> None:
        outbox.append(connection, Operation(op_id="lost"), {}, 0)
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        await storage.store.write(fail)
    assert await append(storage, "b") == 2
    assert await batch(storage, 1) == [(1, "a"), (2, "b")]


async def test_a_batch_is_cut_at_its_size_but_never_empty(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name, size=200_000)
    assert await batch(storage, 1) == [(1, "a")]
    assert await batch(storage, 2, limit=1) == [(2, "b")]
    assert await batch(storage, 4) == []


async def test_a_restored_cloud_takes_acknowledgements_back(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name)
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 3, 5))
    assert (await standing(storage)).waiting == 0
    await storage.store.write(lambda connection: outbox.settle(connection, 1, 6))
    assert (await standing(storage)).waiting == 2


async def test_pending_deltas_are_those_above_the_watermark(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name)
    assert [await pending(storage, watermark) for watermark in (0, 1, 3, 9)] == [-3000, -2000, 0, 0]


async def test_only_what_was_acknowledged_long_ago_is_forgotten_and_only_from_the_low_end(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name)
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 2, 0))
    assert await storage.store.write(lambda connection: outbox.prune(connection, 30 * DAY_MS - 1)) == 0
    assert await storage.store.write(lambda connection: outbox.prune(connection, 31 * DAY_MS)) == 2
    assert await standing(storage) == outbox.Standing(last_op_seq=3, first_op_seq=3, waiting=1)
    assert await append(storage, "d") == 4
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 4, 0))
    assert await storage.store.write(lambda connection: outbox.prune(connection, 31 * DAY_MS)) == 2
    assert await standing(storage) == outbox.Standing(last_op_seq=4, first_op_seq=5, waiting=0)
    assert await append(storage, "e") == 5


async def test_renumbering_moves_what_waits_above_the_cloud_with_its_deltas_and_the_receipt_counter(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name)
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 1, 0))
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_RECEIPT_SEQ, 3))
    moved = await storage.store.write(lambda connection: outbox.renumber(connection, 4))
    assert moved == outbox.Standing(last_op_seq=6, first_op_seq=1, waiting=2)
    assert await batch(storage, 5) == [(5, "b"), (6, "c")]
    assert await pending(storage, 5) == -1000
    assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == 4
    assert await append(storage, "d") == 7
    assert await storage.store.write(lambda connection: outbox.renumber(connection, 4)) == await standing(storage)


async def test_what_the_cloud_put_aside_is_remembered(storage: Storage) -> None:
    await append(storage, "a")
    await storage.store.write(lambda connection: outbox.quarantine(connection, [(1, "NOT_UNDERSTOOD", "no lines")]))
    assert await storage.store.read(outbox.quarantined) == [(1, "a", "NOT_UNDERSTOOD", "no lines")]
