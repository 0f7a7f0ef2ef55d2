"""A till's batches under way: two at most, what is known of the till holds only while none is, and a failure is told."""

from __future__ import annotations

import asyncio

from cloud.sync.pipelines import Pipeline
from cloud.sync.ranges import Own, Watermark


async def test_the_second_begins_while_the_first_is_under_way_and_the_third_waits() -> None:
    own = Own("dev", 1)
    doors = [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def store(number: int) -> Watermark:
        begun.append(number)
        await doors[number].wait()
        return Watermark(number, 10 * number)

    async def push_all(pipeline: Pipeline) -> None:
        for number in range(3):
            await pipeline.push(store(number))

    failures: list[Exception] = []
    pipeline = Pipeline(own, failures.append)
    pushing = asyncio.create_task(push_all(pipeline))
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == [0, 1]
    assert own.uploads == 1
    own.learn(Watermark(9, 9), own.uploads)  # read meanwhile: it may be older than what is being stored
    assert own.known is None
    doors[0].set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == [0, 1, 2]
    assert own.known is None
    doors[1].set()
    doors[2].set()
    await pushing
    await pipeline.settle()
    assert not failures
    assert own.uploads == 2
    known: Watermark | None = own.known
    assert known == Watermark(2, 20)


async def test_what_a_batch_fails_with_is_told_and_the_till_is_not_known() -> None:
    own = Own("dev", 1)
    failures: list[Exception] = []
    pipeline = Pipeline(own, failures.append)
    error = ConnectionError("gone")

    async def store() -> Watermark | None:
        raise error

    await pipeline.push(store())
    await pipeline.settle()
    assert (failures, own.uploads, own.known) == ([error], 2, None)


async def test_a_link_that_ends_leaves_what_is_under_way() -> None:
    own = Own("dev", 1)
    pipeline = Pipeline(own, lambda _: None)

    async def store() -> Watermark | None:
        await asyncio.Event().wait()
        return None

    await pipeline.push(store())
    await asyncio.sleep(0)
    pipeline.cancel()
    await pipeline.settle()
    assert own.uploads == 2
