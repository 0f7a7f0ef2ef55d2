"""Uploads against a model: whatever is sent again, skipped, poisoned or cut off, each operation has its effect once, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gipos.edge.v1.link_pb2 import Operation
from kernel.errors import Busy, Unreachable
from kernel.ids import new_id

KINDS = st.sampled_from(["sale", "sale", "sale", "sale", "count", "poison", "refused", "unknown"])
DELIVERIES = st.tuples(st.integers(-6, 2), st.integers(1, 12), st.booleans(), st.booleans())
"""Where a batch begins next to what is stored, how long it is, whether the other till sells first, whether it is cut off."""


async def add_till(market: Any, number: int, like: Any) -> Any:
    till_id = new_id("dev")
    await market.rows(
        "INSERT INTO tills (tenant_id, id, outlet_id, name, number, token_fingerprint) VALUES ($1, $2, $3, 'x', $4, $5)",
        market.tenant_id, till_id, like.caller.outlet_id, number, till_id.encode(),
    )  # fmt: skip
    caller = type(like.caller)(
        market.tenant_id, till_id, "test", frozenset(), till_id=till_id, outlet_id=like.caller.outlet_id, kind="till"
    )
    return type(like)(market, caller)


def made(till: Any, kind: str, product: str, seen: int) -> Operation:
    if kind == "count":
        operation: Operation = till.count(product, str(20 + till.seq % 5), seen)
        return operation
    operation = till.sale((product, "1"), (product, "2"))
    if kind == "poison":
        operation.sale_recorded.id = "not-an-id"
    elif kind == "refused":
        operation.sale_recorded.cashier = "\0"
    elif kind == "unknown":
        operation.ClearField("sale_recorded")
    return operation


@pytest.fixture
async def cut(database_url: str) -> Any:
    """Ends the connections of the cloud that are in a transaction."""
    admin = await asyncpg.connect(database_url)

    async def run() -> None:
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'gipos_app' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        for _ in range(5):
            await asyncio.sleep(0)  # the last words are read, then the end: a connection nobody uses is known to be closed

    yield run
    await admin.close()


async def test_every_operation_takes_effect_once(market: Any, cut: Any) -> None:
    numbers = iter(range(100, 10_000))
    other = await add_till(market, next(numbers), market.tills[0])
    loop = asyncio.get_running_loop()

    async def example(kinds: list[str], deliveries: list[tuple[int, int, bool, bool]]) -> None:
        product = await market.product(1000)
        till = await add_till(market, next(numbers), market.tills[0])
        seen = await market.head()
        operations = [made(till, kind, product, seen) for kind in kinds]
        watermark, others, aside = 0, 0, set()
        await till.hello()
        for offset, length, sells, is_cut in [*deliveries, (0, len(operations), True, False)]:
            if sells:
                others += 1
                await other.send(other.sale((product, "1")))
            start = max(0, watermark + offset)
            batch = operations[start : start + length]
            if not batch:
                continue
            if is_cut:
                sending = asyncio.create_task(till.send(*batch))
                await asyncio.sleep(0)
                await cut()
                try:
                    outcome = await sending
                except (Unreachable, Busy):
                    continue  # nobody knows, so it is sent again some time
            else:
                outcome = await till.send(*batch)
            if start > watermark and outcome.expected_op_seq:
                assert outcome.expected_op_seq == outcome.op_watermark + 1 <= start
                watermark = outcome.op_watermark
            else:
                assert outcome.op_watermark == batch[-1].op_seq, "what was sent, and nothing besides"
                watermark = max(watermark, outcome.op_watermark)
            aside |= {each.op_seq for each in outcome.quarantined}
        while watermark < len(operations):
            watermark = (await till.send(*operations[watermark : watermark + 5])).op_watermark

        good = [each for each, kind in zip(operations, kinds, strict=True) if kind == "sale"]
        mine = await market.rows("SELECT id FROM sales WHERE till_id = $1 ORDER BY op_seq", till.caller.till_id)
        assert [row[0] for row in mine] == [each.op_id for each in good]
        kept = await market.rows("SELECT op_seq FROM quarantined_operations WHERE till_id = $1", till.caller.till_id)
        assert {row[0] for row in kept} == {
            each.op_seq for each, kind in zip(operations, kinds, strict=True) if kind in {"poison", "refused", "unknown"}
        }
        assert aside <= {row[0] for row in kept}
        # The stock: from the last count on only what this till sold afterwards, and all that the other has sold since it looked.
        expected = 1000
        for operation, kind in zip(operations, kinds, strict=True):
            if kind == "sale":
                expected -= 3
            elif kind == "count":
                expected = int(operation.stock_counted.counted)
        assert await market.on_hand(product) == expected - others
        await market.check()

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(KINDS, min_size=1, max_size=25), st.lists(DELIVERIES, max_size=6))
    def run(kinds: list[str], deliveries: list[tuple[int, int, bool, bool]]) -> None:
        asyncio.run_coroutine_threadsafe(example(kinds, deliveries), loop).result(60)

    await asyncio.to_thread(run)
