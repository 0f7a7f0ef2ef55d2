"""Questions and changes that wait together go together; each gets its own answer, and a failure is told to whoever asked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from itertools import pairwise

import pytest

from cloud.platform.coalescing import SLICE, Bundler, Coalescer

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Answers:
    """Answers with the square, as slowly as the test wants."""

    def __init__(self) -> None:
        self.bundles: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, numbers: list[int]) -> Mapping[int, int]:
        self.bundles.append(numbers)
        assert WHO.get() == "nobody"
        await self.open.wait()
        if 13 in numbers:
            raise ZeroDivisionError
        return {number: number * number for number in numbers if number >= 0}


async def test_what_is_asked_in_one_turn_is_asked_once_and_what_comes_later_goes_later() -> None:
    answers = Answers()
    coalescer = Coalescer(answers, most=10, at_once=1)
    answers.open.clear()
    first = [asyncio.ensure_future(coalescer.ask(number)) for number in (1, 2, 1)]
    await asyncio.sleep(0.01)
    later = [asyncio.ensure_future(coalescer.ask(number)) for number in (1, -4)]
    await asyncio.sleep(0.01)
    answers.open.set()
    assert await asyncio.gather(*first, *later) == [1, 4, 1, 1, None]
    assert answers.bundles == [[1, 2], [1, -4]]


async def test_a_bundle_has_a_limit_and_several_can_be_under_way() -> None:
    answers = Answers()
    coalescer = Coalescer(answers, most=3, at_once=2)
    assert await asyncio.gather(*map(coalescer.ask, range(8))) == [number * number for number in range(8)]
    assert [len(bundle) for bundle in answers.bundles] == [3, 3, 2]


async def test_a_failure_is_told_to_those_who_asked_and_to_nobody_else() -> None:
    answers = Answers()
    coalescer = Coalescer(answers, most=10, at_once=1)
    bad = await asyncio.gather(coalescer.ask(13), coalescer.ask(2), return_exceptions=True)
    assert [type(one) for one in bad] == [ZeroDivisionError, ZeroDivisionError]
    assert await coalescer.ask(2) == 4


async def test_who_leaves_does_not_disturb_the_others() -> None:
    answers = Answers()
    answers.open.clear()
    coalescer = Coalescer(answers, most=10, at_once=1)
    WHO.set("first")
    one, other = asyncio.ensure_future(coalescer.ask(3)), asyncio.ensure_future(coalescer.ask(3))
    await asyncio.sleep(0.01)
    one.cancel()
    answers.open.set()
    assert await other == 9
    assert one.cancelled()


class Maker:
    """Makes changes: doubles what is even, leaves what is odd, fails at 13."""

    def __init__(self) -> None:
        self.bundles: list[tuple[str, list[int]]] = []
        self.running: dict[str, int] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, key: str, numbers: list[int]) -> list[int | None]:
        assert WHO.get() == "nobody"
        self.bundles.append((key, numbers))
        self.running[key] = self.running.get(key, 0) + 1
        assert self.running[key] == 1
        await self.open.wait()
        self.running[key] -= 1
        if 13 in numbers:
            raise ZeroDivisionError
        return [None if number % 2 else number * 2 for number in numbers]


async def test_changes_of_a_key_wait_for_the_last_ones_and_other_keys_do_not() -> None:
    maker = Maker()
    bundler = Bundler(maker, most=3)
    maker.open.clear()
    first = asyncio.ensure_future(bundler.make("a", 2))
    await asyncio.sleep(0.01)
    rest = [asyncio.ensure_future(bundler.make("a", number)) for number in (4, 5, 6, 8)]
    other = asyncio.ensure_future(bundler.make("b", 10))
    await asyncio.sleep(0.01)
    maker.open.set()
    assert await asyncio.gather(first, *rest, other) == [4, 8, None, 12, 16, 20]
    assert maker.bundles == [("a", [2]), ("b", [10]), ("a", [4, 5, 6]), ("a", [8])]


async def test_the_next_changes_begin_before_the_last_ones_are_told_and_those_are_told_a_few_at_a_time() -> None:
    maker = Maker()
    bundler = Bundler(maker, most=3 * SLICE)
    told: list[int] = []

    async def change(number: int) -> None:
        await bundler.make("a", number)
        told.append(len(maker.bundles))

    maker.open.clear()
    first = [asyncio.ensure_future(change(number)) for number in range(0, 6 * SLICE, 2)]
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(change(2))
    await asyncio.sleep(0.01)
    maker.open.set()
    seen = [0]
    while len(told) <= len(first):
        await asyncio.sleep(0)
        seen.append(len(told))
    await asyncio.gather(*first, second)
    assert set(told) == {2}
    assert max(after - before for before, after in pairwise(seen)) <= SLICE + 1


async def test_changes_after_a_failure_are_made() -> None:
    bundler = Bundler(Maker(), most=8)
    bad = await asyncio.gather(bundler.make("a", 13), bundler.make("a", 2), return_exceptions=True)
    assert [type(one) for one in bad] == [ZeroDivisionError, ZeroDivisionError]
    assert await bundler.make("a", 2) == 4


@pytest.mark.parametrize("leaves_early", [True, False])
async def test_a_change_whose_caller_left_is_made_only_if_it_was_begun(leaves_early: bool) -> None:
    maker = Maker()
    bundler = Bundler(maker, most=8)
    maker.open.clear()
    one = asyncio.ensure_future(bundler.make("a", 2))
    await asyncio.sleep(0 if leaves_early else 0.01)
    one.cancel()
    await asyncio.sleep(0.01)
    maker.open.set()
    assert await bundler.make("a", 4) == 8
    assert [numbers for _, numbers in maker.bundles] == ([[4]] if leaves_early else [[2], [4]])
