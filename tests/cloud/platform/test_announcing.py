"""A change that is committed is done, whatever happens to those who are told of it."""

from __future__ import annotations

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
