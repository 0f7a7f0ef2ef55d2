from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.storage import facts, outbox, schema
from edge.storage import sales as stored_sales
from edge.storage.database import Database
from edge.storage.folder import Storage
from edge.storage.space import Budget
from gipos.edge.v1.link_pb2 import Operation, ProductEdited, StockCounted
from gipos.v1.catalog_pb2 import Product
from gipos.v1.sales_pb2 import Sale
from kernel.ids import new_id
from kernel.money import rupiah

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


async def numbers(storage: Storage) -> tuple[int, int, int]:
    now = await standing(storage)
    return now.last_op_seq, now.first_op_seq, now.waiting


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
    assert (await numbers(storage)) == (3, 3, 1)
    assert await append(storage, "d") == 4
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 4, 0))
    assert await storage.store.write(lambda connection: outbox.prune(connection, 31 * DAY_MS)) == 2
    assert (await numbers(storage)) == (4, 5, 0)
    assert await append(storage, "e") == 5


async def test_renumbering_moves_what_waits_above_the_cloud_with_its_deltas_and_the_receipt_counter(storage: Storage) -> None:
    for name in "abc":
        await append(storage, name)
    await storage.store.write(lambda connection: outbox.acknowledge(connection, 1, 0))
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_RECEIPT_SEQ, 3))
    moved = await storage.store.write(lambda connection: outbox.renumber(connection, 4))
    assert (moved.last_op_seq, moved.first_op_seq, moved.waiting) == (6, 1, 2)
    assert await batch(storage, 5) == [(5, "b"), (6, "c")]
    assert await pending(storage, 5) == -1000
    assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == 4
    assert await append(storage, "d") == 7
    assert await storage.store.write(lambda connection: outbox.renumber(connection, 4)) == await standing(storage)


async def test_what_the_cloud_put_aside_is_remembered(storage: Storage) -> None:
    await append(storage, "a")
    await storage.store.write(lambda connection: outbox.quarantine(connection, [(1, "NOT_UNDERSTOOD", "no lines")]))
    assert await storage.store.read(outbox.quarantined) == [(1, "a", "NOT_UNDERSTOOD", "no lines")]


async def sell(storage: Storage, op_id: str, amount: int = 1000, now_ms: int = 0) -> int:
    operation = Operation(op_id=op_id, sale_recorded=Sale(id=op_id, number=f"KMG-{op_id}", total=rupiah(amount)))
    return await storage.store.write(lambda connection: outbox.append(connection, operation, {"prd_1": -1000}, now_ms))


async def acknowledge(storage: Storage, watermark: int, now_ms: int = 5) -> None:
    await storage.store.write(lambda connection: outbox.acknowledge(connection, watermark, now_ms))


async def test_only_sales_that_wait_count_as_unsent(storage: Storage) -> None:
    for name in "abc":
        await sell(storage, name, 1500)
    counted = Operation(op_id="d", stock_counted=StockCounted(product_id="prd_1", counted="3"))
    await storage.store.write(lambda connection: outbox.append(connection, counted, {}, 0))
    await acknowledge(storage, 1)
    assert await storage.store.read(outbox.unsent) == outbox.Unsent(sales=2, amount=3000)


async def test_the_outbox_says_what_was_acknowledged_last_and_how_long_the_oldest_waits(storage: Storage) -> None:
    for number, name in enumerate("abc"):
        await sell(storage, name, now_ms=100 + number)
    await acknowledge(storage, 2)
    now = await standing(storage)
    assert (now.acknowledged_op_seq, now.acknowledged_op_id, now.oldest_waiting_ms) == (2, "b", 102)
    await storage.store.write(lambda connection: outbox.settle(connection, 1, 6))
    now = await standing(storage)
    assert (now.acknowledged_op_seq, now.acknowledged_op_id) == (2, "b"), "what the cloud once had, whatever it remembers now"


async def test_a_new_life_numbers_what_waits_from_one_and_keeps_order_ids_receipts_and_deltas(storage: Storage) -> None:
    for name in "abcde":
        await sell(storage, name)
    await acknowledge(storage, 3)
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_RECEIPT_SEQ, 5))
    now = await storage.begin_epoch(storage.store_epoch + 7)
    assert (now.last_op_seq, now.first_op_seq, now.waiting, now.acknowledged_op_seq) == (2, 1, 2, 0)
    assert await batch(storage, 1) == [(1, "d"), (2, "e")]
    assert await pending(storage, 0) == -2000
    assert await pending(storage, 1) == -1000
    receipts = await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ))
    assert receipts == 5
    assert await storage.store.read(lambda connection: facts.number(connection, facts.STORE_EPOCH)) == storage.store_epoch
    assert await sell(storage, "f") == 3


async def test_a_cloud_that_lost_what_it_had_acknowledged_gets_what_was_done_in_earlier_lives_too(storage: Storage) -> None:
    for name in "ab":
        await sell(storage, name)
    count = Operation(op_id="c", stock_counted=StockCounted(product_id="prd_1", counted="5"))
    await storage.store.write(lambda connection: outbox.append(connection, count, {}, 1))
    await acknowledge(storage, 3)
    await storage.begin_epoch(storage.store_epoch + 1)
    await sell(storage, "d")
    await acknowledge(storage, 1)
    await storage.store.write(lambda connection: outbox.settle(connection, 0, 9))
    assert await batch(storage, 1) == [(1, "d"), (2, "a"), (3, "b"), (4, "c")]
    assert (await numbers(storage)) == (4, 1, 4)
    await storage.store.write(lambda connection: outbox.settle(connection, 0, 10))
    assert (await numbers(storage)) == (4, 1, 4), "once is enough"
    assert (await storage.store.read(outbox.unsent)).sales == 3


async def test_changes_of_earlier_lives_come_back_without_what_was_changed_again_since(storage: Storage) -> None:
    def edit(op_id: str, product_id: str, *fields: str) -> Operation:
        return Operation(op_id=op_id, product_edited=ProductEdited(product=Product(id=product_id), fields=fields))

    async def make(operation: Operation) -> None:
        await storage.store.write(lambda connection: outbox.append(connection, operation, {}, 1))

    for operation in (edit("a", "prd_1", "price", "name"), edit("b", "prd_2", "price"), edit("c", "prd_1", "price")):
        await make(operation)
    await acknowledge(storage, 3)
    await storage.begin_epoch(storage.store_epoch + 1)
    await make(edit("d", "prd_1", "price"))
    await acknowledge(storage, 1)
    await storage.store.write(outbox.revive)
    found = await storage.store.read(lambda connection: outbox.batch(connection, 2, 9))
    assert [(one.op_id, list(one.product_edited.fields)) for one in found] == [("a", ["name"]), ("b", ["price"])]


async def test_what_a_restored_cloud_lacks_of_a_life_that_ends_waits_in_the_next_one(storage: Storage) -> None:
    for name in "abcd":
        await sell(storage, name)
    await acknowledge(storage, 3)
    now = await storage.begin_epoch(storage.store_epoch + 1, 1)
    assert (now.last_op_seq, now.waiting) == (4, 4)
    assert await batch(storage, 1) == [(1, "b"), (2, "c"), (3, "d"), (4, "a")], "even of what it has by the numbers nobody knows"
    await acknowledge(storage, 4)
    now = await storage.begin_epoch(storage.store_epoch + 1, 4)
    assert now.waiting == 0
    await sell(storage, "e")
    await acknowledge(storage, 1)
    now = await storage.begin_epoch(storage.store_epoch + 1, 0)
    assert await batch(storage, 1) == [(1, "e"), *enumerate("bcda", 2)], "and what was done in the life before it"


async def test_what_a_restored_cloud_took_from_another_till_under_these_numbers_is_sent_once_more(storage: Storage) -> None:
    for name in "abcd":
        await sell(storage, name)
    await acknowledge(storage, 4)
    await storage.store.write(lambda connection: outbox.settle(connection, 3, 9))
    assert await batch(storage, 4) == [(4, "d")], "by its numbers the cloud seems to have the others"
    await acknowledge(storage, 4)
    await storage.begin_epoch(storage.store_epoch + 1, 4)
    assert await batch(storage, 1) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    await acknowledge(storage, 4)
    now = await storage.begin_epoch(storage.store_epoch + 1, 4)
    assert now.waiting == 0, "nothing was restored in this life"


async def test_a_number_of_a_life_that_is_given_out_again_takes_nothing_away(storage: Storage) -> None:
    epoch = storage.store_epoch
    for name, next_epoch in (("a", epoch + 1), ("b", epoch + 2), ("c", epoch + 1), ("d", epoch + 2)):
        await sell(storage, name)
        await acknowledge(storage, 1)
        await storage.begin_epoch(next_epoch)
    await storage.store.write(outbox.revive)
    assert sorted(op_id for _, op_id in await batch(storage, 1)) == ["a", "b", "c", "d"]


async def test_another_epoch_of_the_cloud_is_met_once(storage: Storage) -> None:
    met = [await storage.store.write(partial(outbox.met, epoch=epoch)) for epoch in (0, 5, 5, 0, 7, 7, 5)]
    assert met == [False, False, False, False, True, False, True]


async def test_on_a_short_disk_old_acknowledged_operations_go_early_and_waiting_ones_never(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "KEEP_AT_LEAST", 2)
    for name in "abcdef":
        await sell(storage, name)
    await acknowledge(storage, 5)
    assert await storage.store.write(lambda connection: outbox.prune(connection, 10, pressed=True)) == 4
    assert await numbers(storage) == (6, 5, 1)
    await sell(storage, "g")
    await storage.store.write(lambda connection: outbox.settle(connection, 4, 11))
    assert await storage.store.write(lambda connection: outbox.prune(connection, 12, pressed=True)) == 0


async def test_what_the_cloud_had_once_waits_and_is_not_counted_as_made_without_it(storage: Storage) -> None:
    async def counted() -> tuple[int, int]:
        unsent, fresh = await storage.store.read(lambda connection: (outbox.unsent(connection), outbox.fresh(connection)))
        return unsent.amount, fresh.amount

    for number in range(10):
        await sell(storage, f"sal_{number}", 1 << number)
    await acknowledge(storage, 4)
    await storage.begin_epoch(storage.store_epoch + 1)
    await acknowledge(storage, 4)
    assert await counted() == (0b1100000000, 0b1100000000)
    await storage.store.write(lambda connection: outbox.settle(connection, 1, 9))
    assert await counted() == (0b1111101111, 0b1100000000), "numbers 2 to 4, and at the end those of the life before"
    await sell(storage, "sal_10", 1 << 10)
    await acknowledge(storage, 3)
    assert await counted() == (0b11110001111, 0b11100000000)
    await storage.store.write(lambda connection: outbox.renumber(connection, 20))
    assert await counted() == (0b11110001111, 0b11100000000)
    await acknowledge(storage, 22)
    assert await counted() == (0b11000001111, 0b11000000000)
    await storage.begin_epoch(storage.store_epoch + 1)
    assert await counted() == (0b11111111111, 0b11000000000), "and once more what it took in the life that met the restore"
    await acknowledge(storage, 99)
    assert await counted() == (0, 0)
    for broken in ("[1]", "nothing", "[1, 1, [[1]]]", "[null, 1, []]"):
        await storage.store.write(partial(facts.put, name=facts.REPEATS, value=broken))
        assert await counted() == (0, 0)


async def test_an_operation_nobody_can_read_does_not_keep_back_those_behind_it(storage: Storage) -> None:
    sale = Sale(id="a", number="KMG-2611-200001", total=rupiah(1500))
    sale.sale_time.FromSeconds(1_790_000_000)
    for name in "abcd":
        await sell(storage, name)
    await storage.store.write(
        lambda connection: stored_sales.insert(connection, sale, sold_at_ms=1, request_key=None, request_hash=b"")
    )
    await storage.store.write(
        lambda connection: connection.execute("UPDATE operations SET body = x'ffff', kind = ? WHERE op_seq < 4", (outbox.EDIT,))
    )
    one, *others = await storage.store.read(lambda connection: outbox.batch(connection, 1, 9))
    assert (one.op_seq, one.op_id, one.sale_recorded, one.occurred_time) == (1, "a", sale, sale.sale_time)
    assert [(other.op_seq, other.op_id, other.WhichOneof("body")) for other in others] == [
        (2, "b", None),
        (3, "c", None),
        (4, "d", "sale_recorded"),
    ], "what was no sale is put aside by the cloud, and the next one comes"
    await acknowledge(storage, 3)
    await storage.begin_epoch(storage.store_epoch + 1)
    await storage.store.write(outbox.revive)
    assert await batch(storage, 1) == [(1, "d"), (2, "a"), (3, "b"), (4, "c")]


async def test_a_cloud_that_wants_what_was_forgotten_gets_it_in_a_new_life(storage: Storage) -> None:
    """It was restored from a backup of more than a month ago; the sales themselves are never forgotten."""

    def sell_again(name: str) -> Any:
        sale = Sale(id=name, number=f"KMG-{name}", total=rupiah(1000))
        return lambda connection: stored_sales.insert(connection, sale, sold_at_ms=0, request_key=None, request_hash=b"")

    for name in "abcdefgh":
        await sell(storage, name)
        await storage.store.write(sell_again(name))
    epoch = storage.store_epoch
    await acknowledge(storage, 5, now_ms=0)
    await acknowledge(storage, 7, now_ms=40 * DAY_MS)
    await storage.store.write(lambda connection: outbox.prune(connection, 31 * DAY_MS))
    assert await numbers(storage) == (8, 6, 1)
    now = await storage.begin_anew(4)
    assert storage.store_epoch > epoch
    assert (now.last_op_seq, now.first_op_seq, now.waiting) == (5, 1, 5)
    assert await batch(storage, 1) == [(1, "f"), (2, "g"), (3, "h"), (4, "d"), (5, "e")], "a to c the cloud has"
    assert (await storage.store.read(outbox.fresh)).sales == 1
    await acknowledge(storage, 5)
    assert (await storage.begin_anew(1)).waiting == 5, "all that is left of it, acknowledged or not"


def check_sums(connection: apsw.Connection) -> None:
    """What is summed up is what there is."""
    rows = connection.execute("SELECT kind, amount FROM operations WHERE acknowledged_at IS NULL").fetchall()
    worth = [amount for kind, amount in rows if kind == outbox.SALE]
    assert outbox.unsent(connection) == outbox.Unsent(len(worth), sum(int(str(one)) for one in worth))
    assert outbox.waiting(connection) == len(rows)


@given(acknowledged=st.integers(0, 12), count=st.integers(0, 12), more=st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_acknowledged_a_new_life_is_dense_from_one(
    tmp_path: Path, budget: Budget, acknowledged: int, count: int, more: int
) -> None:
    with Database(tmp_path / f"{new_id('tst')}.db", synchronous="off", migrations=schema.STORE, check=False) as store:

        def live(connection: Any) -> list[tuple[int, str]]:
            for number in range(count):
                outbox.append(
                    connection,
                    Operation(op_id=f"op_{number}", sale_recorded=Sale(id=f"op_{number}", total=rupiah(number))),
                    {},
                    0,
                )
            outbox.acknowledge(connection, min(acknowledged, count), 1)
            check_sums(connection)
            outbox.begin_epoch(connection, 77)
            for number in range(more):
                outbox.append(connection, Operation(op_id=f"new_{number}", sale_recorded=Sale(id=f"new_{number}")), {}, 0)
            outbox.settle(connection, more // 2, 2)
            check_sums(connection)
            outbox.settle(connection, 0, 3)
            check_sums(connection)
            return [(one.op_seq, one.op_id) for one in outbox.batch(connection, 1, count + more)][: waits + more]

        waits = count - min(acknowledged, count)
        waiting = [f"op_{number}" for number in range(min(acknowledged, count), count)] + [f"new_{n}" for n in range(more)]
        assert store.write_and_wait(live) == list(enumerate(waiting, 1))
