"""What happens at what time, on one screen. Jobs are small, safe to repeat and safe to run in every process at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from cloud.accounts import changes, dashboard_tickets, oauth_flows
from cloud.inventory import promises, silences
from cloud.limits import usage
from cloud.platform import idempotency, retention
from cloud.platform.database import Database
from cloud.settings import Settings
from cloud.tills import codes, commands, guesses
from cloud.webhooks import log as deliveries

logger = structlog.get_logger()


@dataclass(frozen=True)
class Every:
    """A job and its interval."""

    seconds: float
    run: Callable[[Database], Awaitable[int]]
    """Returns how much it did, for the log."""


_ACCOUNTS = (
    Every(3600, changes.forget_old),
    Every(3600, oauth_flows.forget_old),
    Every(3600, dashboard_tickets.forget_old),
)
_TILLS = (Every(86_400, commands.forget_old), Every(86_400, codes.forget_old), Every(3600, guesses.forget_old))
_STOCK = (Every(2, promises.expire), Every(20, silences.tell), Every(86_400, promises.forget_old))
JOBS: Sequence[Every] = (Every(3600, idempotency.forget_old), Every(86_400, usage.forget_old), *_ACCOUNTS, *_TILLS, *_STOCK)


def log_retention(settings: Settings) -> Every:
    """Takes the log's oldest events away."""
    keeping = retention.Keeping(settings.log_days, settings.log_least, needed=(deliveries.needed,))

    async def trim_log(database: Database) -> int:
        return await retention.trim(database, keeping)

    return Every(3600, trim_log)


async def run(database: Database, settings: Settings) -> None:
    """Works until cancelled. A job that fails is tried again at its next turn."""
    async with asyncio.TaskGroup() as tasks:
        for job in (*JOBS, log_retention(settings)):
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
