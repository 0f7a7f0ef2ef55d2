"""Work of ours while the database works for us: a statement is sent, and what comes next is prepared until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

S = TypeVar("S")
W = TypeVar("W")


async def beside(statement: Coroutine[Any, Any, S], work: Coroutine[Any, Any, W]) -> tuple[S, W]:
    """The answers of a statement and of the work done meanwhile, which must not use the same connection.

    Raises:
        What either raised; the statement is over then, so that its connection may be used again.
    """
    sending = asyncio.get_running_loop().create_task(statement)
    try:
        await asyncio.sleep(0)  # it runs until it has sent what it has to say
        made = await work
        return await sending, made
    finally:
        if not sending.done():
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
