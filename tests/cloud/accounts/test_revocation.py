"""What ends, ends everywhere within a second, and no process believes its memory when it cannot know."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from cloud.accounts import api_keys, changes
from cloud.accounts.authentication import CACHE_SECONDS, UNSEEN_SECONDS, Authentication
from cloud.accounts.changes import LOOK_SECONDS, Changes
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database
from cloud.platform.wakeups import Wakeups
from gipos.v1 import catalog_pb2_grpc
from gipos.v1.catalog_pb2 import ListProductsRequest
from gipos.v1.events_pb2 import WatchEventsRequest
from gipos.v1.keys_pb2 import ApiKey, RevokeApiKeyRequest, UpdateApiKeyRequest
from kernel.errors import Unauthenticated

METHOD = "/gipos.v1.ProductService/ListProducts"


async def test_a_key_revoked_in_one_process_is_refused_in_another(keys: Any, second_cloud: Any) -> None:
    made = await keys.make("products:read")
    there = catalog_pb2_grpc.ProductServiceStub(second_cloud)
    await there.ListProducts(ListProductsRequest(), metadata=keys.auth(made.key))
    await keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=made.id), metadata=keys.shop.auth)
    code = None
    async with asyncio.timeout(CACHE_SECONDS / 2):  # it is not the end of what that process believes anyway
        while code is None:
            try:
                await there.ListProducts(ListProductsRequest(), metadata=keys.auth(made.key))
                await asyncio.sleep(0.3)
            except grpc.aio.AioRpcError as error:
                code = error.code()
    assert code == grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_ends_with_its_key(keys: Any) -> None:
    made = await keys.make("events:read", "products:write")
    stream = keys.shop.events.WatchEvents(WatchEventsRequest(), metadata=keys.auth(made.key))
    await stream.initial_metadata()
    reading = asyncio.create_task(_read_on(stream))
    renaming = UpdateApiKeyRequest(api_key=ApiKey(id=made.id, name="Baru"), update_mask=FieldMask(paths=["name"]))
    await keys.stub.UpdateApiKey(renaming, metadata=keys.shop.auth)
    failure = await keys.refused(reading)
    assert failure.code == grpc.StatusCode.UNAUTHENTICATED
    assert "Open it again" in failure.message
    again = keys.shop.events.WatchEvents(WatchEventsRequest(), metadata=keys.auth(made.key))
    await again.initial_metadata()
    reading = asyncio.create_task(_read_on(again))
    await keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=made.id), metadata=keys.shop.auth)
    assert (await keys.refused(reading)).code == grpc.StatusCode.UNAUTHENTICATED


async def _read_on(stream: Any) -> None:
    async for _ in stream:
        pass


async def a_key(database: Database) -> tuple[str, str]:
    from cloud.accounts import outlets

    async with database.transaction("ten_1") as tx:
        await outlets.create_tenant(tx, "Toko", 0)  # type: ignore[arg-type]  # the tax class plays no part
        key = await api_keys.create(tx, "First")
        row = (await api_keys.page(tx.connection, "ten_1", before="", limit=1, ended=False, now=tx.now))[0]
    return key, row.id


async def revoke(database: Database, key_id: str) -> None:
    async with database.transaction("ten_1") as tx:
        await api_keys.create(tx, "Another, so that the first may go")
        await api_keys.revoke(tx, key_id, Caller("ten_1", "", "test", frozenset()))


def arrived(key: str) -> Call:
    return Call(METHOD, {"authorization": f"Bearer {key}"}, "127.0.0.1", "req")


async def test_a_look_finds_what_no_notice_told(database: Database) -> None:
    key, key_id = await a_key(database)
    door = Authentication(database, Wakeups(database))
    await door.changes.look()
    assert (await door(arrived(key))).key_id == key_id
    await revoke(database, key_id)  # nobody announces it
    await door.changes.look()
    with pytest.raises(Unauthenticated):
        await door(arrived(key))


async def test_who_cannot_look_believes_nothing_older_than_a_second(database: Database, monkeypatch: Any) -> None:
    key, key_id = await a_key(database)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    door = Authentication(database, Wakeups(database))
    await door(arrived(key))
    await revoke(database, key_id)
    now += UNSEEN_SECONDS - 0.01
    assert (await door(arrived(key))).key_id == key_id
    now += 0.02
    with pytest.raises(Unauthenticated):
        await door(arrived(key))
    assert LOOK_SECONDS < UNSEEN_SECONDS


async def test_a_key_that_expires_is_refused_from_that_moment(database: Database, monkeypatch: Any) -> None:
    key, key_id = await a_key(database)
    door = Authentication(database, Wakeups(database))
    async with database.transaction("ten_1") as tx:
        await tx.run(sa.text("UPDATE api_keys SET expires_at = now() + interval '1 hour' WHERE id = :id"), id=key_id)
    await door(arrived(key))
    known = door._known[key]
    later = known.ends_at + 1
    assert 3500 < known.ends_at - time.monotonic() < 3601
    monkeypatch.setattr("time.monotonic", lambda: later)
    async with database.transaction("ten_1") as tx:
        await tx.run(sa.text("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = :id"), id=key_id)
    door.changes.looked_at = known.found_at = later
    with pytest.raises(Unauthenticated, match="ended at"):
        await door(arrived(key))
    assert key not in door._known


async def test_what_was_read_while_it_changed_is_not_kept(database: Database) -> None:
    key, key_id = await a_key(database)
    door = Authentication(database, Wakeups(database))
    reading, go_on = asyncio.Event(), asyncio.Event()
    identifying = database.identifying

    class Slow:
        """A database whose answer takes its time."""

        def identifying(self) -> Any:
            from contextlib import asynccontextmanager

            @asynccontextmanager
            async def slow() -> Any:
                async with identifying() as connection:
                    yield connection
                reading.set()
                await go_on.wait()

            return slow()

    door._database = Slow()  # type: ignore[assignment]  # only what is asked for here
    waiting = asyncio.create_task(door(arrived(key)))
    await reading.wait()
    door._forget([key_id])
    go_on.set()
    assert (await waiting).key_id == key_id
    assert key not in door._known


async def test_many_calls_of_one_key_cost_one_look_and_a_caller_who_leaves_ends_nobody_elses(database: Database) -> None:
    key, key_id = await a_key(database)
    door = Authentication(database, Wakeups(database))
    calls = [asyncio.create_task(door(arrived(key))) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(door._looking) == 1
    calls[0].cancel()
    callers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(callers[0], asyncio.CancelledError)
    assert {caller.key_id for caller in callers[1:] if isinstance(caller, Caller)} == {key_id}
    assert len(callers[1:]) == 49


async def test_changes_are_heard_once_each_and_forgotten_later(database: Database, sql: Any) -> None:
    heard: list[str] = []
    listener = Changes(database, Wakeups(database), heard.extend)
    await listener.look()
    async with database.transaction("ten_1") as tx:
        await changes.note(tx, "key_2", "key_1")
    await listener.look()
    await listener.look()
    assert sorted(heard) == ["key_1", "key_2"]
    async with database.transaction("ten_1") as tx:
        await changes.note(tx, "key_1")
    await listener.look()
    assert sorted(heard) == ["key_1", "key_1", "key_2"]
    await sql("UPDATE credential_changes SET changed_at = now() - interval '2 hours' WHERE subject_id = 'key_2'")
    assert await changes.forget_old(database) == 1
    assert [row.subject_id for row in await sql("SELECT subject_id FROM credential_changes")] == ["key_1"]


async def test_memory_is_bounded(database: Database, monkeypatch: Any) -> None:
    monkeypatch.setattr("cloud.accounts.authentication.CACHE_SIZE", 2)
    key, _ = await a_key(database)
    async with database.transaction("ten_1") as tx:
        more = [await api_keys.create(tx, str(number)) for number in range(4)]
    door = Authentication(database, Wakeups(database))
    for each in (key, *more):
        await door(arrived(each))
    assert list(door._known) == more[-2:]
    assert len(door._by_subject) == 2


async def test_a_stream_is_never_held_by_a_look_up_that_a_change_has_overtaken(database: Database, monkeypatch: Any) -> None:
    """Nobody would tell it: the change was announced before the stream was among those that are told."""
    key, key_id = await a_key(database)
    door = Authentication(database, Wakeups(database))
    found, changing = door._found, [None, key_id]

    async def overtaken(*given: Any) -> Any:
        known = await found(*given)
        if changing:
            if (changed := changing.pop(0)) is not None:
                await revoke(database, changed)
            door.changes.announce(changed or "key_of_somebody_else")
        return known

    monkeypatch.setattr(door, "_found", overtaken)
    stream = arrived(key)
    stream.caller = await door(stream)
    assert not door._known, "what was found is good for this call only"
    with pytest.raises(Unauthenticated):
        async with door.hold(stream):
            raise AssertionError("the key has ended")
    assert not door._streams
