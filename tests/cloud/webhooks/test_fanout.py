"""Deliveries are made with the event, for every webhook that wants it and no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.webhooks import fanout
from kernel.event_types import EVENT_TYPES, is_pattern, selected
from kernel.ids import is_id

PATTERNS = ["*", *{name.split(".")[0] + ".*" for name in EVENT_TYPES}, *EVENT_TYPES]


@given(st.sampled_from(sorted(EVENT_TYPES)), st.sets(st.sampled_from(sorted(PATTERNS)), min_size=1))
def test_matching_agrees_with_the_kernel(event_type: str, patterns: set[str]) -> None:
    assert all(is_pattern(pattern) for pattern in patterns)
    assert bool(patterns & set(fanout.patterns_of(event_type))) == (event_type in selected(patterns))


def test_deeper_groups_are_selected_at_every_level() -> None:
    assert fanout.patterns_of("payment.refund.failed") == ["*", "payment.*", "payment.refund.*", "payment.refund.failed"]


@pytest.mark.parametrize(
    ("types", "count"),
    [(("*",), 3), (("sale.*",), 3), (("sale.created",), 2), (("sale.created", "sale.*", "*"), 3), (("product.*",), 0)],
)
async def test_each_webhook_gets_what_it_asked_for_once(bench: Any, types: tuple[str, ...], count: int) -> None:
    await bench.subscribe(types=types)
    await bench.publish(2)
    await bench.publish(1, completed=True)
    assert await bench.rows("SELECT count(*), count(DISTINCT event_id) FROM deliveries") == [(count, count)]


async def test_a_batch_for_several_webhooks_is_complete_and_its_ids_are_ours(bench: Any) -> None:
    hooks = [(await bench.subscribe()).id for _ in range(5)]
    published = await bench.publish(200)
    rows = await bench.rows("SELECT webhook_id, event_id, id, status, attempt_count, due_at <= now() FROM deliveries")
    assert {(webhook, event) for webhook, event, *_ in rows} == {(webhook, event) for webhook in hooks for event in published}
    assert len({row[2] for row in rows}) == 1000
    assert all(is_id(str(row[2]), "dlv") and row[3:] == (1, 0, True) for row in rows)


async def test_a_change_that_is_rolled_back_leaves_no_delivery(bench: Any) -> None:
    await bench.subscribe()
    with pytest.raises(RuntimeError, match="changed its mind"):
        await _publish_and_fail(bench)
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(0,)]


async def _publish_and_fail(bench: Any) -> None:
    async def refuse(*_arguments: object) -> None:
        raise RuntimeError("changed its mind")

    bench.database.react(before_commit=[fanout.enqueue, refuse], after_commit=[])
    await bench.publish()


async def test_other_merchants_webhooks_get_nothing(bench: Any) -> None:
    await bench.subscribe(tenant_id="ten_other")
    await bench.publish(3)
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(0,)]


async def test_a_disabled_webhook_gets_nothing_new(bench: Any) -> None:
    webhook = await bench.subscribe()
    await bench.rows("UPDATE webhooks SET status = 2 WHERE id = :id", id=webhook.id)
    await bench.publish()
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(0,)]


async def test_a_webhook_added_while_a_publisher_is_at_work_is_not_missed(bench: Any) -> None:
    """The publisher's transaction is older than the webhook, but the webhook was committed before the event."""
    async with bench.database.transaction(bench.tenant_id) as tx:
        await tx.connection.exec_driver_sql("SELECT 1 FROM webhooks")
        await bench.subscribe()
        from gipos.v1.sales_pb2 import Sale
        from kernel.event_types import SALE_CREATED

        tx.publish(SALE_CREATED, Sale(id="sal_1"), subject_id="sal_1", version=1)
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(1,)]
