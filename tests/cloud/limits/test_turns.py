"""Who runs when several merchants want to: shares, order, and places that are never lost. Pure counting, no clock but ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from cloud.limits.turns import LEAST, RECENT_SECONDS, Turns


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_merchant_alone_is_not_bounded_here() -> None:
    turns = Turns(8, Clock())
    assert all(turns.enter("flood") for _ in range(500))
    assert turns.running("flood") == 500


@pytest.mark.parametrize(("places", "present", "share"), [(16, 2, 8), (16, 4, 4), (16, 10, LEAST), (64, 4, 16)])
def test_places_are_shared_among_those_present(places: int, present: int, share: int) -> None:
    turns = Turns(places, Clock())
    for number in range(present):
        turns.share(f"ten_{number}")
    entered = [turns.enter("ten_0") for _ in range(share + 3)]
    assert entered == [True] * share + [False] * 3


def test_who_has_not_called_for_a_while_has_no_share_any_more() -> None:
    clock = Clock()
    turns = Turns(8, clock)
    turns.share("quiet")
    assert [turns.enter("busy") for _ in range(6)].count(True) == 4
    clock.now += RECENT_SECONDS + 0.1
    assert all(turns.enter("busy") for _ in range(50))


async def test_a_flood_waits_for_itself_and_a_newcomer_never_waits_for_it() -> None:
    turns = Turns(8, Clock())
    turns.share("calm")
    order: list[str] = []

    async def call(tenant: str, release: asyncio.Event) -> None:
        if not turns.enter(tenant):
            await turns.wait(tenant)
        order.append(tenant)
        await release.wait()
        turns.leave(tenant)

    never, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    flood = [asyncio.create_task(call("flood", never)) for _ in range(300)]
    await settle()
    assert order == ["flood"] * 4
    # Nothing of the flood has ended, 296 wait; ten calls of another merchant go right through.
    await asyncio.gather(*(call("calm", at_once) for _ in range(10)))
    assert order == ["flood"] * 4 + ["calm"] * 10
    never.set()
    await asyncio.gather(*flood)
    assert order.count("flood") == 300
    assert turns.running("flood") == turns.running("calm") == 0


async def test_those_who_wait_are_served_in_their_order() -> None:
    turns = Turns(8, Clock())
    turns.share("calm")
    order: list[int] = []
    releases = [asyncio.Event() for _ in range(10)]

    async def call(number: int) -> None:
        if not turns.enter("busy"):
            await turns.wait("busy")
        order.append(number)
        await releases[number].wait()
        turns.leave("busy")

    tasks = [asyncio.create_task(call(number)) for number in range(10)]
    for number in range(10):
        await settle()
        assert order == list(range(min(10, number + 4)))
        releases[number].set()
    await asyncio.gather(*tasks)


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    turns = Turns(8, Clock())
    turns.share("calm")
    assert all(turns.enter("busy") for _ in range(4))
    waiting = [asyncio.create_task(turns.wait("busy")) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    await settle()
    turns.leave("busy")  # goes to the second
    turns.leave("busy")  # goes to the third
    waiting[1].cancel()  # given a place and cancelled in the same moment
    await asyncio.gather(*waiting, return_exceptions=True)
    assert waiting[2].exception() is None
    assert turns.running("busy") == 3
