"""How many deliveries a webhook is given at a time, as a table of what it answered before."""

from __future__ import annotations

import asyncio

import pytest

from cloud.webhooks import paces as module
from cloud.webhooks.outcomes import Outcome
from cloud.webhooks.paces import AT_ONCE, LARGEST_SHARE, Paces
from kernel import business_days


def an_outcome(result: str, duration_ms: int = 10) -> Outcome:
    return Outcome(1, result, business_days.now(), duration_ms)


QUICK, SLOW, FAILED = an_outcome("ok"), an_outcome("ok", 3000), an_outcome("timeout", 15_000)


@pytest.mark.parametrize(
    ("outcomes", "share"),
    [
        ([], AT_ONCE),
        ([QUICK], 8),
        ([QUICK] * 3, LARGEST_SHARE),
        ([QUICK] * 10, LARGEST_SHARE),
        ([QUICK] * 10 + [SLOW], AT_ONCE),
        ([QUICK] * 10 + [FAILED], 1),
        ([FAILED, QUICK], 2),
        ([FAILED, QUICK, QUICK], AT_ONCE),
        ([FAILED, SLOW, SLOW, SLOW], AT_ONCE),
        ([an_outcome("http_5xx")], 1),
    ],
)
def test_the_share_follows_the_answers(outcomes: list[Outcome], share: int) -> None:
    paces = Paces()
    for outcome in outcomes:
        paces.note("whk_1", outcome)
    assert paces.share_of("whk_1") == share
    assert paces.share_of("whk_2") == AT_ONCE


async def test_turns_are_limited_per_webhook_and_forgotten_when_nobody_waits() -> None:
    paces = Paces()
    inside = 0
    most = 0
    go_on = asyncio.Event()

    async def attempt(webhook_id: str) -> None:
        nonlocal inside, most
        async with paces.turn(webhook_id):
            inside += 1
            most = max(most, inside)
            await go_on.wait()
            inside -= 1

    tasks = [asyncio.create_task(attempt("whk_1")) for _ in range(10)]
    await asyncio.sleep(0)
    assert inside == AT_ONCE
    tasks += [asyncio.create_task(attempt("whk_2"))]
    await asyncio.sleep(0)
    assert inside == AT_ONCE + 1
    go_on.set()
    await asyncio.gather(*tasks)
    assert most == AT_ONCE + 1
    tasks.clear()
    assert not paces._turns


def test_only_so_many_webhooks_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN", 3)
    paces = Paces()
    for name in ("a", "b", "c", "a", "d"):
        paces.note(name, FAILED)
    assert [paces.share_of(name) for name in "abcd"] == [1, AT_ONCE, 1, 1]
