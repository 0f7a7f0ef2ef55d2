"""What happens at what time, on one screen. Jobs are small, safe to repeat and safe to run in every process at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from cloud.accounts import changes, oauth_flows
from cloud.limits import usage
from cloud.platform import idempotency
from cloud.platform.database import Database

logger = structlog.get_logger()


@dataclass(frozen=True)
class Every:
    """A job and its interval."""

    seconds: float
    run: Callable[[Database], Awaitable[int]]
    """Returns how much it did, for the log."""


_ACCOUNTS = (Every(3600, changes.forget_old), Every(3600, oauth_flows.forget_old))
JOBS: Sequence[Every] = (Every(3600, idempotency.forget_old), Every(86_400, usage.forget_old), *_ACCOUNTS)


async def run(database: Database) -> None:
    """Works until cancelled. A job that fails is tried again at its next turn."""
    async with asyncio.TaskGroup() as tasks:
        for job in JOBS:
            tasks.create_task(_repeat(database, job))


async def _repeat(database: Database, job: Every) -> None:
    while True:
        try:
            count = await job.run(database)
        except Exception:
            # Whatever it is, the other jobs and the next turn go on.
            logger.exception("job_failed", job=job.run.__qualname__)
        else:
            if count:
                logger.info("job_done", job=job.run.__qualname__, count=count)
        await asyncio.sleep(job.seconds)
