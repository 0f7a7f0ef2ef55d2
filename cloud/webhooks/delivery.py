"""Posts events to webhooks: one attempt, and the dispatcher that makes attempts until each delivery is settled.

The wire format is Standard Webhooks 1.0.0. Each attempt is signed afresh, because receivers refuse old timestamps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import event_json
from cloud.platform.addresses import ForbiddenTarget
from cloud.platform.database import Database
from cloud.platform.http import Answer, CallFailed, CallTimedOut, Client, Limits, Lookup
from cloud.platform.jobs import DATABASE_ERRORS, Held, Lease, LeaseLoop
from cloud.platform.sealing import SealBroken
from cloud.webhooks import leases, log
from cloud.webhooks.leases import Job
from cloud.webhooks.outcomes import Outcome, result_of, retry_after
from cloud.webhooks.paces import Paces
from kernel import business_days
from kernel.signatures import sign_webhook

AGENT = "GiPos-Webhooks/1"
IN_FLIGHT = 64
LEASE_SECONDS = 60.0
"""Far more than one attempt can take (the head of the answer within 15 s, the rest within 2 s)."""
TIDY_SECONDS = 3600.0

logger = structlog.get_logger()


class Deliveries:
    """The kind of work the lease loop runs here."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._paces = Paces()

    async def recover(self, connection: AsyncConnection) -> None:
        """See leases.py."""
        await leases.recover(connection)

    async def claim(self, connection: AsyncConnection, lease: Lease, running: Collection[Job], free: int) -> list[Job]:
        """See leases.py."""
        return await leases.claim(connection, lease, running, free, self._paces.share_of)

    async def settle(self, connection: AsyncConnection, done: Sequence[tuple[Held[Job], Outcome]]) -> None:
        """See leases.py."""
        await leases.settle(connection, done)

    async def release(self, connection: AsyncConnection, held: Sequence[Held[Job]]) -> None:
        """See leases.py."""
        await leases.release(connection, held)

    async def perform(self, job: Job) -> Outcome | None:
        """One attempt, when it is this job's turn at its webhook; None when the turn came too late."""
        async with self._paces.turn(job.webhook_id):
            if asyncio.get_running_loop().time() > job.start_before:
                return None
            outcome = await self._attempt(job)
        self._paces.note(job.webhook_id, outcome)
        return outcome

    async def _attempt(self, job: Job) -> Outcome:
        """Whatever goes wrong is an outcome: nothing may keep a delivery from being counted and retried."""
        started_at, started = business_days.now(), time.perf_counter()
        result, answer = "internal", None
        try:
            answer = await self._post(job)
            result = result_of(answer.status)
        except ForbiddenTarget as error:
            result = "target_forbidden"
            logger.warning("webhook_target_forbidden", job=str(job), webhook_id=job.webhook_id, detail=error.detail)
        except CallTimedOut:
            result = "timeout"
        except CallFailed as error:
            result = "connection"
            logger.info("webhook_not_reached", job=str(job), webhook_id=job.webhook_id, error=str(error))
        except Exception:
            logger.exception("webhook_attempt_failed", job=str(job), webhook_id=job.webhook_id)
        outcome = Outcome(
            number=job.attempt_count + 1,
            result=result,
            started_at=started_at,
            duration_ms=round((time.perf_counter() - started) * 1000),
            response_status=answer.status if answer else 0,
            # A zero byte is the one character that PostgreSQL cannot store in a text.
            response_body=answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd") if answer else "",
            retry_after=retry_after(answer.headers, business_days.now()) if answer else 0.0,
            control=answer.headers.get("webhook-delivery", "").strip().lower() if answer else "",
        )
        logger.info(
            "webhook_attempt",
            tenant_id=job.tenant_id,
            webhook_id=job.webhook_id,
            delivery_id=job.delivery_id,
            type=job.event.type,
            attempt=outcome.number,
            result=outcome.result,
            response_status=outcome.response_status,
            ms=outcome.duration_ms,
        )
        return outcome

    async def _post(self, job: Job) -> Answer:
        if job.secret is None:
            raise SealBroken(f"the secret of webhook {job.webhook_id} cannot be opened")
        body = event_json.encode(job.tenant_id, job.event)
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            # The event, not the delivery: two webhooks of one receiver then show the same id, and it can tell.
            "webhook-id": job.event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign_webhook(job.secret, job.event.id, timestamp, body),
        }
        return await self._client.call("POST", job.url, headers=headers, body=body, repeatable=True)


class Dispatcher:
    """Delivers in the background. Several processes may each run one on the same database."""

    def __init__(
        self,
        database: Database,
        *,
        private_addresses: bool = False,
        limits: Limits | None = None,
        lookup: Lookup | None = None,
        in_flight: int = IN_FLIGHT,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._client = Client(private_addresses=private_addresses, limits=limits, lookup=lookup, agent=AGENT)
        self._loop: LeaseLoop[Job, Outcome] = LeaseLoop(
            database, Deliveries(self._client), name="deliveries", limit=in_flight, lease_seconds=lease_seconds
        )

    def wake(self) -> None:
        """Called after each commit that made deliveries. Without it, a delivery waits up to a second."""
        self._loop.wake()

    async def run(self) -> None:
        """Works until stopped or cancelled."""
        async with self._client, asyncio.TaskGroup() as tasks:
            tidying = tasks.create_task(self._tidy())
            await self._loop.run()
            tidying.cancel()

    async def stop(self, seconds: float = 5.0) -> None:
        """Takes nothing new, lets attempts under way finish for so long, gives back the rest; then `run` returns."""
        await self._loop.stop(seconds)

    async def _tidy(self) -> None:
        while True:
            try:
                async with self._database.across_tenants() as connection:
                    more = await log.tidy(connection)
            except DATABASE_ERRORS as error:
                logger.warning("deliveries_not_tidied", error=str(getattr(error, "orig", None) or error))
                more = False
            await asyncio.sleep(1.0 if more else TIDY_SECONDS)
