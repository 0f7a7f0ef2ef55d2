"""What is forgotten, what is kept, and what is given up."""

from __future__ import annotations

from typing import Any

from cloud.webhooks import endpoints, log


async def tidy(bench: Any) -> bool:
    async with bench.database.across_tenants() as connection:
        return await log.tidy(connection)


async def attempt_all(bench: Any) -> None:
    await bench.rows(
        "INSERT INTO delivery_attempts SELECT tenant_id, id, n, 'http_5xx', 500, '', 1, now() + n * interval '1 second' "
        "FROM deliveries, generate_series(1, 25) n"
    )


async def test_settled_deliveries_are_forgotten_after_thirty_days_with_their_attempts(bench: Any) -> None:
    await bench.subscribe()
    old, recent, waiting = await bench.publish(3)
    await attempt_all(bench)
    await bench.rows("UPDATE deliveries SET status = 2, settled_at = now() - interval '31 days' WHERE event_id = :id", id=old)
    await bench.rows("UPDATE deliveries SET status = 3, settled_at = now() - interval '29 days' WHERE event_id = :id", id=recent)
    await bench.rows("UPDATE deliveries SET created_at = now() - interval '40 days'")
    assert await tidy(bench) is False
    assert {row[0] for row in await bench.rows("SELECT event_id FROM deliveries")} == {recent, waiting}
    assert await bench.rows("SELECT count(*) FROM delivery_attempts") == [(50,)]


async def test_deliveries_of_deleted_webhooks_are_forgotten(bench: Any) -> None:
    webhook = await bench.subscribe()
    await bench.publish(2)
    await attempt_all(bench)
    await bench.rows("UPDATE deliveries SET status = 2, settled_at = now(), created_at = now() - interval '2 hours'")
    async with bench.database.transaction(bench.tenant_id) as tx:
        await endpoints.delete(tx, webhook.id)
    await tidy(bench)
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(0,)]
    assert await bench.rows("SELECT count(*) FROM delivery_attempts") == [(0,)]


async def test_what_was_queued_while_a_webhook_was_turned_off_is_given_up(bench: Any) -> None:
    webhook = await bench.subscribe()
    await bench.publish()
    await bench.rows("UPDATE webhooks SET status = 2 WHERE id = :id", id=webhook.id)
    await tidy(bench)
    assert await bench.rows("SELECT status, settled_at IS NOT NULL FROM deliveries") == [(3, True)]


async def test_much_is_forgotten_in_steps(bench: Any) -> None:
    await bench.subscribe()
    await bench.publish(1200)
    await bench.rows("UPDATE deliveries SET status = 2, settled_at = now() - interval '31 days'")
    assert await tidy(bench) is True
    assert await tidy(bench) is False
    assert await bench.rows("SELECT count(*) FROM deliveries") == [(0,)]


async def test_a_listing_shows_the_newest_twenty_attempts(bench: Any) -> None:
    webhook = await bench.subscribe()
    await bench.publish(2)
    await attempt_all(bench)
    async with bench.database.snapshot(bench.tenant_id) as connection:
        deliveries = await log.deliveries_of(connection, bench.tenant_id, webhook.id, limit=10)
    assert [len(delivery.attempts) for delivery in deliveries] == [20, 20]
    times = [attempt.create_time.ToDatetime() for attempt in deliveries[0].attempts]
    assert times == sorted(times, reverse=True)
