"""Who may wait steps aside for calls in flight, and goes on when they are answered, or when it has waited long enough."""

from __future__ import annotations

import asyncio

from cloud.platform.precedence import Precedence


async def test_it_waits_until_the_last_call_is_answered() -> None:
    calls = Precedence()
    assert not calls.is_wanted()
    with calls.call():
        with calls.call():
            waiting = asyncio.create_task(calls.step_aside(60))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert calls.is_wanted()
    await waiting
    assert calls.is_wanted()  # the next one is likely to come soon


async def test_it_goes_on_although_calls_never_cease() -> None:
    calls = Precedence()
    with calls.call():
        await calls.step_aside(0.001)
        waiting = asyncio.create_task(calls.step_aside(60))
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


async def test_it_lets_others_have_a_turn_when_nobody_calls() -> None:
    calls = Precedence()
    seen: list[int] = []
    asyncio.get_running_loop().call_soon(seen.append, 1)
    await calls.step_aside(60)
    assert seen == [1]
