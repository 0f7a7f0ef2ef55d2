"""Events reach real receivers, signed, and what happens when they do not."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook as Verifier

from gipos.v1.sales_pb2 import Sale
from kernel.event_types import SALE_CREATED
from kernel.ids import new_id


class Stranger:
    """A receiver that answers as a test wants it and keeps what it was sent."""

    def __init__(self, answer: Any) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.arrived = asyncio.Event()
        self._answer = answer

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/in"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        self.arrived.set()
        answer: web.StreamResponse = await self._answer(request)
        return answer


async def no_content(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def test_the_published_library_accepts_what_we_send(bench: Any) -> None:
    async with Stranger(no_content) as stranger, bench.dispatching():
        webhook = await bench.subscribe(stranger.url)
        (event_id,) = await bench.publish()
        async with asyncio.timeout(10):
            await stranger.arrived.wait()
    ((headers, body),) = stranger.requests
    verified = Verifier(webhook.secret).verify(body, headers)
    assert verified["id"] == event_id == headers["webhook-id"]
    assert verified["type"] == "sale.created"
    assert verified["tenant_id"] == "ten_bench"
    assert verified["sequence"] == 1
    assert verified["data"]["number"] == "A-1"
    assert "@type" not in verified["data"]
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "GiPos-Webhooks/1"
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers
    assert headers["webhook-signature"].count(" ") == 0


async def test_a_value_that_has_no_text_is_left_out_of_what_is_sent_and_named(bench: Any) -> None:
    async with Stranger(no_content) as stranger, bench.dispatching():
        webhook = await bench.subscribe(stranger.url)
        async with bench.database.transaction(bench.tenant_id) as tx:
            sale = Sale(id=new_id("sal"), number="A-1")
            sale.sale_time.seconds = 10**15
            tx.publish(SALE_CREATED, sale, subject_id=sale.id, version=1)
        async with asyncio.timeout(10):
            await stranger.arrived.wait()
    ((headers, body),) = stranger.requests
    verified = Verifier(webhook.secret).verify(body, headers)
    assert verified["$left_out"] == ["data.sale_time"]
    assert (verified["data"]["id"], verified["data"]["number"], "sale_time" in verified["data"]) == (sale.id, "A-1", False)


async def test_each_event_of_a_transaction_arrives_once(bench: Any) -> None:
    async with bench.dispatching():
        await bench.subscribe()
        published = await bench.publish(30)
        received = await bench.received(30)
    assert sorted(received) == sorted(published)
    assert await bench.rows(
        "SELECT count(*), max(attempt_count) FROM deliveries WHERE status = 2 AND settled_at IS NOT NULL"
    ) == [(30, 1)]
    assert (await bench.rows("SELECT count(*) FROM delivery_attempts WHERE result = 'ok'"))[0] == (30,)


async def test_only_subscribed_types_are_sent(bench: Any) -> None:
    async with bench.dispatching():
        await bench.subscribe(types=("sale.completed",))
        await bench.publish(3)
        (wanted,) = await bench.publish(completed=True)
        assert await bench.received(1) == [wanted]
    assert await bench.rows("SELECT event_id FROM deliveries") == [(wanted,)]


async def test_a_failed_attempt_is_repeated_with_the_same_id_and_a_fresh_signature(bench: Any) -> None:
    answers = iter((500, 204))

    async def fail_once(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=next(answers), text="tidak bisa")

    async with Stranger(fail_once) as stranger, bench.dispatching():
        webhook = await bench.subscribe(stranger.url)
        await bench.publish()
        await bench.until("SELECT 1 FROM deliveries WHERE attempt_count = 1 AND leased_until IS NULL")
        planned = "SELECT d.due_at > a.created_at + interval '3 seconds', d.status FROM deliveries d, delivery_attempts a"
        assert await bench.rows(planned) == [(True, 1)]
        await bench.rows("UPDATE deliveries SET due_at = now()")
        await bench.until("SELECT 1 FROM deliveries WHERE status = 2 AND attempt_count = 2")
    (first, body), (second, body_again) = stranger.requests
    assert first["webhook-id"] == second["webhook-id"]
    assert body == body_again
    Verifier(webhook.secret).verify(body_again, second)
    attempts = await bench.rows("SELECT number, result, response_status, response_body FROM delivery_attempts ORDER BY number")
    assert attempts == [(1, "http_5xx", 500, "tidak bisa"), (2, "ok", 204, "")]


async def test_an_address_that_is_gone_is_never_called_again(bench: Any) -> None:
    async def gone(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    async with Stranger(gone) as stranger, bench.dispatching():
        webhook = await bench.subscribe(stranger.url)
        await bench.publish()
        await bench.until("SELECT 1 FROM webhooks WHERE id = :id AND status = 2", id=webhook.id)
        await bench.until("SELECT 1 FROM deliveries WHERE status = 3")
        assert await bench.publish(5)
        await bench.subscribe()
        await bench.publish()
        await bench.received(1)
    assert len(stranger.requests) == 1
    assert await bench.rows("SELECT count(*) FROM deliveries WHERE webhook_id = :id", id=webhook.id) == [(1,)]
    assert await bench.rows("SELECT result FROM delivery_attempts WHERE response_status = 410") == [("gone",)]


async def test_what_still_waits_for_an_address_that_is_gone_is_given_up(bench: Any) -> None:
    async def gone(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    async with Stranger(gone) as stranger:
        await bench.subscribe(stranger.url)
        await bench.publish(10)
        async with bench.dispatching():
            await bench.until("SELECT 1 FROM deliveries HAVING count(*) = 10 AND min(status) = 3")
    assert len(stranger.requests) <= 4


async def test_redirects_are_not_followed(bench: Any) -> None:
    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(bench.receiver.url + "/hook")

    async with Stranger(elsewhere) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish()
        attempts = await bench.until("SELECT result, response_status FROM delivery_attempts")
    assert attempts == [("redirect", 307)]
    assert bench.receiver.deliveries == []


async def test_a_status_line_counts_even_when_the_body_never_ends(bench: Any) -> None:
    hangs = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"ok \x00")
        await hangs.wait()
        return response

    async with Stranger(drip) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish()
        found = await bench.until("SELECT result, response_body FROM delivery_attempts")
        hangs.set()
    assert found == [("ok", "ok \ufffd")]
    assert len(stranger.requests) == 1


async def test_a_long_answer_is_cut(bench: Any) -> None:
    async def flood(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 5_000_000)

    async with Stranger(flood) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish()
        assert await bench.until("SELECT result, length(response_body) FROM delivery_attempts") == [("ok", 16384)]


async def test_silence_is_a_timeout_and_a_closed_port_a_connection_failure(bench: Any) -> None:
    hangs = asyncio.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        await hangs.wait()
        return web.Response()

    async with Stranger(no_content) as closed:
        pass
    async with Stranger(never) as stranger, bench.dispatching():
        silent, refusing = await bench.subscribe(stranger.url), await bench.subscribe(closed.url)
        await bench.publish()
        await bench.until("SELECT 1 FROM delivery_attempts HAVING count(*) = 2")
        hangs.set()
    results = await bench.rows(
        "SELECT d.webhook_id, a.result, a.response_status FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery_id"
    )
    assert set(results) == {(silent.id, "timeout", 0), (refusing.id, "connection", 0)}


async def test_a_slow_address_delays_nobody_else(bench: Any) -> None:
    hangs = asyncio.Event()
    at_once = 0
    most = 0

    async def slow(_request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await hangs.wait()
        at_once -= 1
        return web.Response(status=204)

    async with Stranger(slow) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish(100)  # far more than all places of a dispatcher
        await bench.subscribe()
        published = await bench.publish(20)
        # Nothing of the slow one can be over before `hangs` is set: what arrives here did not wait for it.
        assert sorted(await bench.received(20)) == sorted(published)
        assert most == 4
        hangs.set()


async def test_one_merchants_dead_addresses_do_not_take_all_places(bench: Any) -> None:
    hangs = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await hangs.wait()
        return web.Response(status=204)

    async with Stranger(slow) as stranger, bench.dispatching(in_flight=20):
        for _ in range(10):
            await bench.subscribe(stranger.url, tenant_id="ten_other")
        await bench.publish(10, tenant_id="ten_other")
        await bench.subscribe()
        published = await bench.publish(5)
        assert sorted(await bench.received(5)) == sorted(published)
        hangs.set()


async def test_two_dispatchers_together_keep_to_the_limit_of_a_webhook(bench: Any) -> None:
    release = asyncio.Event()
    at_once = 0
    most = 0

    async def count(_request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if len(stranger.requests) >= 4:
            release.set()
        await release.wait()
        await asyncio.sleep(0.01)
        at_once -= 1
        return web.Response(status=204)

    async with Stranger(count) as stranger:
        await bench.subscribe(stranger.url)
        await bench.publish(60)
        async with bench.dispatching(), bench.dispatching():
            await bench.until("SELECT 1 FROM deliveries HAVING min(status) = 2")
    assert len(stranger.requests) == 60
    assert most == 4


async def test_retry_after_pauses_the_whole_webhook(bench: Any) -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "120"})

    async with Stranger(busy) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish()
        await bench.until("SELECT 1 FROM webhooks WHERE paused_until > now() + interval '100 seconds'")
        await bench.publish(3)
        await bench.subscribe()
        await bench.publish()
        await bench.received(1)
        assert len(stranger.requests) == 1
        assert await bench.rows("SELECT count(*) FROM deliveries WHERE status = 1 AND leased_until IS NULL") == [(5,)]
    assert await bench.rows("SELECT count(*) FROM deliveries WHERE due_at >= now() + interval '100 seconds'") == [(1,)]


async def test_a_forbidden_address_is_tried_three_times_and_then_turned_off(bench: Any) -> None:
    async def lookup(_host: str) -> list[str]:
        return ["93.184.216.34", "169.254.169.254"]

    async with bench.dispatching(lookup=lookup):
        webhook = await bench.subscribe("http://metadata.example/latest")
        await bench.publish()
        for number in (1, 2, 3):
            await bench.until("SELECT 1 FROM delivery_attempts WHERE number = :number", number=number)
            await bench.rows("UPDATE deliveries SET due_at = now() WHERE status = 1")
        await bench.until("SELECT 1 FROM webhooks WHERE id = :id AND status = 2", id=webhook.id)
    found = await bench.rows("SELECT DISTINCT result, response_status, response_body FROM delivery_attempts")
    assert found == [("target_forbidden", 0, "")]
    assert await bench.rows("SELECT status, attempt_count FROM deliveries") == [(3, 3)]


async def test_a_stop_lets_attempts_finish_and_takes_nothing_new(bench: Any) -> None:
    go_on = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(status=204)

    async with Stranger(slow) as stranger:
        await bench.subscribe(stranger.url)
        await bench.publish(8)
        async with bench.dispatching() as dispatcher:
            await stranger.arrived.wait()
            await bench.until("SELECT 1 FROM deliveries WHERE leased_until IS NOT NULL HAVING count(*) = 4")
            stopping = asyncio.create_task(dispatcher.stop(10))
            await asyncio.sleep(0)
            go_on.set()
            await stopping
        assert len(stranger.requests) == 4
    assert await bench.rows("SELECT status, count(*) FROM deliveries GROUP BY status ORDER BY status") == [(1, 4), (2, 4)]


async def test_a_stop_gives_back_what_does_not_finish(bench: Any) -> None:
    hangs = asyncio.Event()

    async def never(_request: web.Request) -> web.StreamResponse:
        await hangs.wait()
        return web.Response()

    async with Stranger(never) as stranger:
        await bench.subscribe(stranger.url)
        await bench.publish(2)
        async with bench.dispatching() as dispatcher:
            await stranger.arrived.wait()
            await dispatcher.stop(0.05)
        hangs.set()
    assert await bench.rows("SELECT status, attempt_count, leased_until, due_at <= now() FROM deliveries") == [
        (1, 0, None, True),
        (1, 0, None, True),
    ]


async def test_the_body_is_the_event_as_the_api_lists_it(bench: Any) -> None:
    async with Stranger(no_content) as stranger, bench.dispatching():
        await bench.subscribe(stranger.url)
        await bench.publish()
        await stranger.arrived.wait()
    event = json.loads(stranger.requests[0][1])
    assert set(event) == {
        "id", "type", "timestamp", "recorded_time", "tenant_id", "outlet_id", "sequence", "subject", "data",
    }  # fmt: skip
    assert event["subject"] == {"type": "sale", "id": event["data"]["id"], "version": 1}
