"""Tidies the memory of a process that serves, as long as it does. What that is, and why, is said in kernel/memory.py."""

from __future__ import annotations

import asyncio

from kernel import memory


async def run() -> None:
    """Tidies from time to time, until cancelled."""
    while True:
        await asyncio.sleep(memory.TIDY_SECONDS)
        memory.tidy()
