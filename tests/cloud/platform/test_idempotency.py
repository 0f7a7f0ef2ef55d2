"""A key, its request and its answer: what a repetition gets, what runs at the same time, what a failure leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cloud.platform import calls, idempotency
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from gipos.v1.catalog_pb2 import CreateProductRequest, Product
from gipos.v1.webhooks_pb2 import CreateWebhookRequest, Webhook
from kernel.errors import IdempotencyInProgress, IdempotencyMismatch, Invalid, NotFound

METHOD = "CreateProduct"


@pytest.fixture
def call() -> Iterator[Call]:
    """The call being served, as the door notes it."""
    caller = Caller("ten_a", "key_a", "test", frozenset())
    made = Call("/gipos.v1.ProductService/CreateProduct", {}, "127.0.0.1", "req_1", caller)
    token = calls.current.set(made)
    yield made
    calls.current.reset(token)


def request(name: str = "Kopi", key: str = "k") -> CreateProductRequest:
    return CreateProductRequest(product=Product(name=name), request_id=key)


class Work:
    """What a request does: counts how often, and answers."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> Product:
        self.count += 1
        return Product(id=f"prd_{self.count}", name="Kopi")


async def send(
    database: Database,
    message: Any,
    work: Callable[[], Awaitable[Any]],
    *,
    tenant_id: str = "ten_a",
    method: str = METHOD,
    answer: Any = Product,
) -> Any:
    async with database.transaction(tenant_id) as tx:
        return await idempotency.once(tx, method, message.request_id, message, answer, work)


async def test_the_same_request_is_answered_again_and_said_to_be(database: Database, call: Call) -> None:
    work = Work()
    first = await send(database, request(), work)
    assert call.headers == []
    again = await send(database, request(), work)
    assert (again, work.count) == (first, 1)
    assert call.headers == [("idempotent-replayed", "true")]


async def test_another_request_with_the_key_is_refused(database: Database, call: Call) -> None:
    work = Work()
    await send(database, request(), work)
    with pytest.raises(IdempotencyMismatch):
        await send(database, request("Teh"), work)
    assert work.count == 1


async def test_keys_are_per_merchant_and_method_and_nothing_is_kept_without_one(database: Database, call: Call, sql: Any) -> None:
    work = Work()
    await send(database, request(), work)
    await send(database, request(), work, tenant_id="ten_b")
    await send(database, request(), work, method="UpdateProduct")
    for _ in range(2):
        await send(database, request(key=""), work)
    assert work.count == 5
    assert await sql("SELECT count(*) FROM idempotency_keys") == [(3,)]
    assert call.headers == []


async def test_a_request_at_the_same_time_is_refused_at_once_and_replayed_later(database: Database, call: Call) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def slow() -> Product:
        began.set()
        await release.wait()
        return Product(id="prd_1")

    first = asyncio.create_task(send(database, request(), slow))
    await began.wait()
    # The first has not ended, and nobody waits for it: neither the same request nor another one with the key.
    for name in ("Kopi", "Teh"):
        with pytest.raises(IdempotencyInProgress) as caught:
            await send(database, request(name), Work())
        assert caught.value.retry_seconds == 1
    release.set()
    assert (await first).id == "prd_1"
    # Replays do not hinder each other.
    answers = await asyncio.gather(*(send(database, request(), Work()) for _ in range(6)))
    assert {answer.id for answer in answers} == {"prd_1"}


async def test_many_at_once_do_it_once(database: Database, call: Call) -> None:
    work = Work()
    answers = await asyncio.gather(*(send(database, request(), work) for _ in range(30)), return_exceptions=True)
    assert work.count == 1
    assert {type(answer) for answer in answers} <= {Product, IdempotencyInProgress}
    assert {answer.id for answer in answers if isinstance(answer, Product)} == {"prd_1"}


async def test_a_request_that_failed_leaves_its_key_free(database: Database, call: Call, sql: Any) -> None:
    async def fail() -> Product:
        raise NotFound("not there")

    work = Work()
    with pytest.raises(NotFound):
        await send(database, request(), fail)
    assert await sql("SELECT count(*) FROM idempotency_keys") == [(0,)]
    assert (await send(database, request("Teh"), work)).id == "prd_1"


async def test_a_key_has_at_most_255_characters(database: Database, call: Call) -> None:
    assert (await send(database, request(key="k" * 255), Work())).id == "prd_1"
    with pytest.raises(Invalid):
        await send(database, request(key="k" * 256), Work())


async def test_a_secret_shown_once_is_kept_sealed(database: Database, call: Call, sql: Any) -> None:
    async def make() -> Webhook:
        return Webhook(id="whk_1", secret="whsec_open_sesame")

    message = CreateWebhookRequest(webhook=Webhook(url="https://toko.example/"), request_id="k")
    first = await send(database, message, make, method="CreateWebhook", answer=Webhook)
    ((stored,),) = await sql("SELECT answer FROM idempotency_keys")
    assert b"open_sesame" not in bytes(stored)
    assert await send(database, message, make, method="CreateWebhook", answer=Webhook) == first


async def test_keys_are_kept_for_thirty_days(database: Database, call: Call, sql: Any) -> None:
    work = Work()
    await send(database, request(), work)
    await sql("UPDATE idempotency_keys SET created_at = now() - interval '29 days 23 hours'")
    assert await idempotency.forget_old(database) == 0
    await send(database, request(), work)
    assert work.count == 1
    await sql("UPDATE idempotency_keys SET created_at = now() - interval '30 days 1 hour'")
    assert await idempotency.forget_old(database) == 1
    await send(database, request("Teh"), work)
    assert work.count == 2
