"""What was just committed is found by position and without gaps, in bounded room; whose turn it is goes round the merchants."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.platform import recent
from cloud.platform.log import NewEvent
from cloud.platform.recent import Recent
from cloud.platform.turns import Turns

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def event(name: str, size: int = 10) -> NewEvent:
    return NewEvent(name, "tenant", "product.updated", name, 1, "", bytes(size), NOW)


def known(ring: Recent, seq: int, epoch: int = 1, lane: str = "tenant") -> list[tuple[int, str]]:
    return [(place, found.id) for place, found in ring.after("ten", lane, epoch, seq)]


def test_only_what_follows_without_a_gap_is_known() -> None:
    ring = Recent()
    ring.add("ten", "tenant", 1, 12, [event("11"), event("12")])
    ring.add("ten", "tenant", 1, 14, [event("14")])
    assert known(ring, 10) == [(11, "11"), (12, "12")]
    assert known(ring, 11) == [(12, "12")]
    assert known(ring, 12) == []
    assert known(ring, 9) == []
    ring.add("ten", "tenant", 1, 13, [event("13")])  # told later than the commit after it
    assert known(ring, 11) == [(12, "12"), (13, "13"), (14, "14")]


def test_another_epoch_and_another_lane_know_nothing_of_it() -> None:
    ring = Recent()
    ring.add("ten", "tenant", 1, 5, [event("5")])
    assert known(ring, 4, epoch=2) == []
    assert known(ring, 4, lane="out_1") == []
    ring.add("ten", "tenant", 2, 5, [event("new")])
    assert known(ring, 4) == []
    assert known(ring, 4, epoch=2) == [(5, "new")]
    ring.clear()
    assert known(ring, 4, epoch=2) == []


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 5), st.integers(0, 3000)), max_size=60))
def test_it_stays_within_its_room_and_never_tells_a_wrong_event(commits: Any) -> None:
    ring = Recent(limit=20_000)
    heads = dict.fromkeys("abc", 0)
    for lane, count, size in commits:
        heads[lane] += count
        ring.add("ten", lane, 1, heads[lane], [event(f"{lane}{heads[lane] - count + 1 + one}", size) for one in range(count)])
    held = 0
    for lane, head in heads.items():
        for seq in range(head):
            for place, found in ring.after("ten", lane, 1, seq):
                assert found.id == f"{lane}{place}"
        held += sum(
            len(found.body) + 400
            for seq in range(head)
            for place, found in ring.after("ten", lane, 1, seq)[:1]
            if place == seq + 1
        )
    assert held <= 20_000


def test_of_one_lane_only_the_last_few_are_kept_and_an_import_is_not() -> None:
    ring = Recent()
    for seq in range(1, recent.KEPT_PER_LANE + 11):
        ring.add("ten", "tenant", 1, seq, [event(str(seq))])
    assert known(ring, 9) == []
    assert len(known(ring, 10)) == recent.KEPT_PER_LANE
    ring.add("ten", "out_1", 1, 9_000, [event("x")] * (recent.KEPT_PER_LANE + 1))
    assert known(ring, 8_999, lane="out_1") == []


async def test_turns_go_round_the_merchants_whatever_the_length_of_their_queues() -> None:
    turns = Turns(1)
    order: list[str] = []
    go = asyncio.Event()

    async def work(key: str) -> None:
        async with turns.taken(key):
            order.append(key)
            await go.wait()

    tasks = [asyncio.create_task(work(key)) for key in ["first", *"aaaaa", *"bb", "c"]]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert "".join(order[1:]) == "abcabaaa"


@pytest.mark.parametrize("places", [1, 2])
async def test_a_place_is_never_lost_by_those_who_leave(places: Any) -> None:
    turns = Turns(places)
    taken = 0
    most = 0

    async def work(key: str) -> None:
        nonlocal taken, most
        async with turns.taken(key):
            taken += 1
            most = max(most, taken)
            try:
                await asyncio.sleep(0)
            finally:
                taken -= 1

    tasks = [asyncio.create_task(work("abc"[number % 3])) for number in range(60)]
    for number in range(0, 60, 4):
        await asyncio.sleep(0)
        tasks[number].cancel()
        tasks[-number - 1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= places
    async with asyncio.timeout(5):
        async with turns.taken("x"):
            pass
        await asyncio.gather(*(work("y") for _ in range(5)))
