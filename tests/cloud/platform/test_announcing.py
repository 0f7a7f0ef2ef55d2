"""A change that is committed is done, whatever happens to those who are told of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from cloud.platform import log
from cloud.platform.database import Database
from gipos.v1.catalog_pb2 import Product
from kernel.event_types import PRODUCT_CREATED


async def test_a_failure_to_tell_is_not_a_failure_of_the_change(database: Database, sql: Any) -> None:
    told: list[Any] = []

    def fail(_tx: Any) -> None:
        raise LookupError("nobody there")

    database.react(before_commit=(), after_commit=(fail, told.append))
    async with database.transaction("ten_1") as tx:
        await log.add_lane(tx.connection, "ten_1", log.TENANT_LANE)
        tx.publish(PRODUCT_CREATED, Product(id="prd_1"), subject_id="prd_1", version=1)
    assert [tx.heads for tx in told] == [{"tenant": 1}]
    assert await sql("SELECT count(*) FROM events") == [(1,)]


async def test_what_is_left_for_later_is_done_and_may_fail_as_well(database: Database) -> None:
    order: list[Any] = []

    def fail() -> None:
        order.append("failing")
        raise LookupError("nobody there")

    def leave(tx: Any) -> Any:
        order.append(tx.heads)
        return fail

    database.meanwhile(lambda tx: order.append(("ready", tx.heads)))
    database.react(before_commit=(), after_commit=(leave, lambda _: partial(order.append, "later")))
    async with database.transaction("ten_1") as tx:
        await log.add_lane(tx.connection, "ten_1", log.TENANT_LANE)
        tx.publish(PRODUCT_CREATED, Product(id="prd_1"), subject_id="prd_1", version=1)
    assert order == [("ready", {"tenant": 1}), {"tenant": 1}, "failing", "later"]
