"""A dispatcher dies in the middle of its work: everything still arrives, under ids that can be told apart."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa

from kernel.errors import Unreachable
from sandboxes.webhook_receiver import WebhookReceiver

PROGRAM = """
import asyncio, sys
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.webhooks.delivery import Dispatcher

async def main():
    database = Database(sys.argv[1], connections=4, keyring=Keyring([bytes.fromhex(sys.argv[3])]))
    await Dispatcher(database, private_addresses=True, lease_seconds=float(sys.argv[2])).run()

asyncio.run(main())
"""


@asynccontextmanager
async def dispatcher_process(url: str, key: bytes, lease_seconds: float = 60) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, url, str(lease_seconds), key.hex())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_a_killed_dispatcher_had_taken_is_delivered_by_the_next(
    bench: Any, database_url: str, secret_key: bytes
) -> None:
    await bench.subscribe()
    published = await bench.publish(10)
    async with dispatcher_process(database_url, secret_key) as process:
        await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
        bench.receiver.faults.delay = 0.5
        published += await bench.publish(30)
        await bench.until("SELECT 1 FROM deliveries WHERE leased_until IS NOT NULL HAVING count(*) >= 4")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    bench.receiver.faults.delay = 0.0
    assert len(bench.receiver.deliveries) < 40
    async with bench.dispatching():
        # The leases run for another minute, far beyond the patience of this test: they are given back because the owner is dead.
        await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
    received = [delivery.id for delivery in bench.receiver.deliveries if delivery.valid]
    assert set(received) == set(published)
    # At most what was on its way at the moment of death came twice, and the receiver can tell by the id.
    assert len(received) - 40 <= 4
    assert sum(delivery.duplicate for delivery in bench.receiver.deliveries) == len(received) - 40
    assert await bench.rows("SELECT count(*) FROM delivery_attempts") == [(40,)]


async def test_a_dispatcher_that_hangs_loses_its_leases_when_they_end(bench: Any, database_url: str, secret_key: bytes) -> None:
    """It is alive, so its lock is held; only the time of the lease helps. When it wakes up, it changes nothing."""
    await bench.subscribe()
    published = await bench.publish(4)
    bench.receiver.faults.delay = 1.0
    async with dispatcher_process(database_url, secret_key, lease_seconds=2) as process:
        await bench.until("SELECT 1 FROM deliveries WHERE leased_until IS NOT NULL HAVING count(*) = 4")
        process.send_signal(signal.SIGSTOP)
        bench.receiver.faults.delay = 0.0
        async with bench.dispatching():
            await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
        settled = await bench.rows("SELECT id, attempt_count, settled_at FROM deliveries ORDER BY id")
        process.send_signal(signal.SIGCONT)
        (late,) = await bench.publish()
        await bench.until("SELECT 1 FROM deliveries WHERE event_id = :id AND status = 2", id=late)
    unchanged = await bench.rows(
        "SELECT id, attempt_count, settled_at FROM deliveries WHERE event_id <> :late ORDER BY id", late=late
    )
    assert unchanged == settled
    assert await bench.rows("SELECT count(*) FROM delivery_attempts") == [(5,)]
    accepted = [delivery.id for delivery in bench.receiver.deliveries if delivery.valid]
    assert set(accepted) == {*published, late}


async def test_leases_of_a_living_dispatcher_are_left_alone(bench: Any, database_url: str, secret_key: bytes) -> None:
    await bench.subscribe()
    await bench.publish(4)
    bench.receiver.faults.delay = 2.5  # longer than two looks of the other one
    async with dispatcher_process(database_url, secret_key), bench.dispatching(limits=None):
        await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
    assert [delivery.duplicate for delivery in bench.receiver.deliveries] == [False] * 4


async def test_a_database_that_cuts_all_connections_loses_no_delivery(bench: Any, database_url: str) -> None:
    await bench.subscribe()
    async with bench.dispatching():
        published = await bench.publish(30)
        await bench.received(3)
        admin = await asyncpg.connect(database_url)
        ours = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ended = await admin.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        await admin.close()
        assert ended
        await _reconnect(bench)
        await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
        (later,) = await bench.publish()
        await bench.until("SELECT 1 FROM deliveries WHERE event_id = :id AND status = 2", id=later)
    assert {delivery.id for delivery in bench.receiver.deliveries} == {*published, later}


async def _reconnect(bench: Any) -> None:
    """Uses up the connections of the pool that are dead now; in the service, calls in that moment fail and are repeated."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(sa.exc.DBAPIError, Unreachable):
                await bench.rows("SELECT 1")
                async with bench.database.transaction(bench.tenant_id) as tx:
                    await tx.run(sa.text("SELECT 1"))
                return


async def test_a_receiver_that_drops_connections_gets_everything_later(bench: Any) -> None:
    async with WebhookReceiver(0, bench.secrets) as receiver:
        receiver.faults.drop = 3
        await bench.subscribe(receiver.url)
        async with bench.dispatching():
            published = await bench.publish(3)
            await bench.until("SELECT 1 FROM delivery_attempts HAVING count(*) = 3")
            await bench.until("SELECT 1 FROM deliveries WHERE leased_until IS NULL HAVING count(*) = 3")
            await bench.rows("UPDATE deliveries SET due_at = now()")
            await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
        assert {delivery.id for delivery in receiver.deliveries} == set(published)
    assert await bench.rows("SELECT result, count(*) FROM delivery_attempts GROUP BY result ORDER BY result") == [
        ("connection", 3),
        ("ok", 3),
    ]


async def test_a_turn_that_comes_too_late_is_given_back_and_taken_again(bench: Any) -> None:
    """Fetched ahead for a quick receiver that turns slow: begun late, an attempt could outlast its lease."""
    await bench.subscribe()
    async with bench.dispatching(lease_seconds=4, limits=None):
        await bench.publish(20)  # its share grows
        await bench.received(20)
        bench.receiver.faults.delay = 1.2
        await bench.publish(16)
        await bench.received(24)
        bench.receiver.faults.delay = 0.0
        await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
    assert await bench.rows("SELECT count(*), max(attempt_count) FROM deliveries") == [(36, 1)]
    assert not any(delivery.duplicate for delivery in bench.receiver.deliveries)
