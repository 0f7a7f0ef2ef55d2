"""Streams of a real cloud, spoken to by hand: what only shows over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from structlog.testing import capture_logs

from cloud.platform import wakeups
from cloud.platform.calls import NOBODY
from cloud.sync import lanes, letters, rounds, servicer
from cloud.sync.admission import Admission
from cloud.tills import mail
from gipos.edge.v1.link_pb2 import (
    Applied,
    CommandOutcome,
    CommandResult,
    Hello,
    LanePosition,
    LinkRequest,
    LinkResponse,
    NotApplied,
    OfflineRules,
    Ping,
    ResetReason,
)
from gipos.v1 import devices_pb2, devices_pb2_grpc
from gipos.v1.devices_pb2 import GetCommandRequest, OfflinePolicy, SendCommandRequest, SetOfflinePolicyRequest
from kernel.capabilities import ALL


class Till:
    def __init__(self, call: Any) -> None:
        self.call = call
        self.got: list[LinkResponse] = []

    async def send(self, **frame: Any) -> None:
        await self.call.write(LinkRequest(**frame))

    async def next(self, kind: str) -> Any:
        while True:
            async with asyncio.timeout(10):
                frame = await self.call.read()
            assert frame is not grpc.aio.EOF, await self.call.details()
            self.got.append(frame)
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)


@asynccontextmanager
async def connected(shop: Any, index: int = 0, **hello: Any) -> AsyncIterator[Till]:
    call = shop.link.Link(metadata=shop.till_auth(index))
    till = Till(call)
    hello = {"store_epoch": 1, "capabilities": sorted(ALL), **hello}
    await till.send(hello=Hello(**hello))
    try:
        yield till
    finally:
        call.cancel()


def devices(shop: Any) -> Any:
    return devices_pb2_grpc.DeviceServiceStub(shop.channel)


def up_to_date(shop: Any, tenant: int = 0, outlet: int = 0) -> list[LanePosition]:
    return [LanePosition(lane="tenant", epoch=1, seq=tenant), LanePosition(lane=shop.outlets[0], epoch=1, seq=outlet)]


async def test_a_command_reaches_a_connected_till_and_its_answer_the_owner(shop: Any) -> None:
    till_id = shop.tills[0]["id"]
    async with connected(shop) as till:
        await till.next("policy")
        request = SendCommandRequest(device_id=till_id, kind="reprint", sale_id="sal_1")
        made = await devices(shop).SendCommand(request, metadata=shop.auth)
        assert (made.status, made.kind) == ("waiting", "reprint")
        command = await till.next("command")
        assert (command.command_id, command.reprint.sale_id) == (made.id, "sal_1")
        assert command.expire_time == made.expire_time
        done = CommandResult(command_id=made.id, outcome=CommandOutcome.COMMAND_OUTCOME_DONE, message="Dicetak.")
        await till.send(command_result=done)
        await till.send(ping=Ping(number=1))
        await till.next("progress")
        found = await devices(shop).GetCommand(GetCommandRequest(device_id=till_id, id=made.id), metadata=shop.auth)
        assert (found.status, found.message) == ("done", "Dicetak.")
        assert found.HasField("settle_time")
    async with connected(shop) as till:
        await till.next("policy")
        await till.send(ping=Ping(number=1))
        await till.next("progress")
        assert not any(frame.HasField("command") for frame in till.got), "what is settled is not sent again"


async def test_a_command_without_an_answer_is_sent_again_with_the_same_id(shop: Any) -> None:
    till_id = shop.tills[0]["id"]
    made = await devices(shop).SendCommand(SendCommandRequest(device_id=till_id, kind="open_drawer"), metadata=shop.auth)
    for _ in range(2):
        async with connected(shop) as till:
            assert (await till.next("command")).command_id == made.id
    found = await devices(shop).GetCommand(GetCommandRequest(device_id=till_id, id=made.id), metadata=shop.auth)
    assert found.status == "sent"


async def test_a_command_for_a_till_of_the_first_version_is_answered_for_it(shop: Any) -> None:
    till_id = shop.tills[0]["id"]
    made = await devices(shop).SendCommand(SendCommandRequest(device_id=till_id, kind="test_print"), metadata=shop.auth)
    async with connected(shop, capabilities=[]) as till:
        await till.send(ping=Ping())
        await till.next("progress")
        request = GetCommandRequest(device_id=till_id, id=made.id)
        while (await devices(shop).GetCommand(request, metadata=shop.auth)).status != "unsupported":
            await till.send(ping=Ping())
            await till.next("progress")
        assert not any(frame.HasField("command") or frame.HasField("policy") for frame in till.got)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "reprint"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"kind": "test_print", "device_id": "dev_00000000000000000000000000"}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_command_that_cannot_be_is_refused(shop: Any, fields: dict[str, str], code: grpc.StatusCode) -> None:
    request = SendCommandRequest(**{"device_id": shop.tills[0]["id"], **fields})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await devices(shop).SendCommand(request, metadata=shop.auth)
    assert caught.value.code() == code


async def test_a_policy_comes_after_the_welcome_and_whenever_it_changes(shop: Any) -> None:
    async with connected(shop) as till:
        first = OfflineRules.FromString((await till.next("policy")).rules)
        assert first.till_id == shop.tills[0]["id"]
        policy = OfflinePolicy(longest_hours=5, tenders=["cash"])
        request = SetOfflinePolicyRequest(outlet_id=shop.outlets[0], policy=policy)
        await devices(shop).SetOfflinePolicy(request, metadata=shop.auth)
        changed = OfflineRules.FromString((await till.next("policy")).rules)
        assert (changed.longest_hours, changed.version > first.version) == (5, True)


async def test_a_measurement_of_clocks_has_its_two_times_in_the_middle(shop: Any) -> None:
    async with connected(shop) as till:
        await till.send(ping=Ping(number=3))
        progress = await till.next("progress")
        assert progress.number == 3
        assert 0 < progress.received_time.ToNanoseconds() <= progress.server_time.ToNanoseconds()


async def test_a_state_change_ends_the_stream_and_the_next_welcome_says_so(shop: Any) -> None:
    request = devices_pb2.SetDeviceStateRequest(id=shop.tills[0]["id"], state="suspended")
    async with connected(shop) as till:
        assert (await till.next("welcome")).till_state == "active"
        await devices(shop).SetDeviceState(request, metadata=shop.auth)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await till.next("nothing")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    stored = None
    while stored is None:
        # Whoever comes while the change is being told is asked to come again.
        with suppress(grpc.aio.AioRpcError):
            async with connected(shop) as till:
                assert (await till.next("welcome")).till_state == "suspended"
                assert (await till.next("snapshot")).lane == "tenant"
                await till.send(operations={"operations": [{"op_seq": 1, "op_id": "x"}]})
                stored = await till.next("stored")
    assert (stored.op_watermark, len(stored.quarantined)) == (0, 0)
    request.state = "retired"
    await devices(shop).SetDeviceState(request, metadata=shop.auth)
    state = ""
    while state != "retired":
        with suppress(grpc.aio.AioRpcError):
            async with connected(shop) as till:
                state = (await till.next("welcome")).till_state
    answered = None
    while answered is None:
        with suppress(grpc.aio.AioRpcError):
            async with connected(shop) as till:
                assert (await till.next("welcome")).till_state == "retired"
                await till.send(ping=Ping())
                answered = await till.next("progress")
                assert not any(frame.HasField("reset") or frame.HasField("snapshot") for frame in till.got)


async def test_what_was_disputed_comes_once_more_and_then_as_a_snapshot(shop: Any) -> None:
    await shop.product()
    gap = NotApplied(lane="tenant", epoch=1, from_exclusive=0, reason="GAP")
    async with connected(shop, positions=up_to_date(shop)) as till:
        assert (await till.next("changes")).upto_inclusive == 1
        await till.send(not_applied=gap)
        again = await till.next("changes")
        assert (again.from_exclusive, again.upto_inclusive) == (0, 1)
        await till.send(not_applied=gap)
        assert (await till.next("reset")).reason == ResetReason.RESET_REASON_GAP
        part = await till.next("snapshot")
        assert (part.lane, part.seq, part.last) == ("tenant", 1, True)
        await till.send(applied=Applied(lane="tenant", epoch=1, upto=1))
        await till.send(not_applied=NotApplied(lane="tenant", epoch=1, from_exclusive=1, reason="REFRESH"))
        assert (await till.next("reset")).reason == ResetReason.RESET_REASON_REFRESH


async def test_frames_and_abilities_of_a_later_version_are_passed_over(shop: Any) -> None:
    raw = shop.channel.stream_stream("/gipos.edge.v1.EdgeLinkService/Link", response_deserializer=LinkResponse.FromString)
    call = raw(metadata=shop.till_auth(0))
    later = b"\xa2\x06\x02\x08\x01"  # field 100 of a later contract
    try:
        await call.write(later)
        await call.write(LinkRequest(hello=Hello(store_epoch=1, capabilities=["teleportation", "bookmarks"])).SerializeToString())
        await call.write(later)
        await call.write(LinkRequest(ping=Ping(number=1)).SerializeToString() + later)
        till = Till(call)
        assert list((await till.next("welcome")).capabilities) == ["bookmarks"]
        assert (await till.next("progress")).number == 1
    finally:
        call.cancel()


def violations(error: Any) -> list[tuple[str, str]]:
    found = []
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found += [(one.field, one.reason) for one in bad.field_violations]
    return found


async def test_what_is_no_frame_or_answers_no_command_is_the_senders_mistake_and_named(shop: Any) -> None:
    raw = shop.channel.stream_stream("/gipos.edge.v1.EdgeLinkService/Link", response_deserializer=LinkResponse.FromString)
    hello = LinkRequest(hello=Hello(store_epoch=1)).SerializeToString()
    nul, long = (LinkRequest(command_result=CommandResult(command_id=text)) for text in ("cmd_\0", "c" * 100_000))
    for said, *expected in (
        ([b"\xff\xff\xff"], "frame", "INVALID_FORMAT"),
        ([hello, b"\xff\xff\xff"], "frame", "INVALID_FORMAT"),
        ([hello, nul.SerializeToString()], "command_result.command_id", "INVALID_CHARACTER"),
        ([hello, long.SerializeToString()], "command_result.command_id", "TOO_LONG"),
    ):
        call = raw(metadata=shop.till_auth(0))
        for frame in said:
            await call.write(frame)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Till(call).next("nothing")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(caught.value) == [tuple(expected)]


async def test_a_till_that_confirms_nothing_is_left_and_may_come_back(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "STALLED_SECONDS", 0.5)
    await shop.product()
    async with connected(shop, positions=up_to_date(shop)) as till:
        await till.next("changes")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await till.next("nothing")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_crowd_is_told_when_to_come_back_instead_of_being_let_in(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "refused", lambda *_: (700, 2700))
    async with connected(shop) as till:
        drain = await till.next("drain")
        assert (drain.reconnect_earliest_ms, drain.reconnect_latest_ms) == (700, 2700)
        assert await till.call.read() is grpc.aio.EOF
        assert await till.call.code() is grpc.StatusCode.OK
        assert len(till.got) == 1


async def test_where_the_lanes_end_is_said_at_the_welcome(shop: Any) -> None:
    await shop.product(stock="3")
    async with connected(shop) as till:
        heads = {place.lane: place.seq for place in (await till.next("welcome")).heads}
        assert heads == {"tenant": 1, shop.outlets[0]: 1}


async def test_a_command_that_nobody_rang_for_comes_within_the_next_round(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "ring", lambda *_: None)
    async with connected(shop) as till:
        await till.next("policy")
        request = SendCommandRequest(device_id=shop.tills[0]["id"], kind="open_drawer")
        made = await devices(shop).SendCommand(request, metadata=shop.auth)
        assert (await till.next("command")).command_id == made.id
        policy = OfflinePolicy(longest_hours=7, tenders=["cash"])
        asked = SetOfflinePolicyRequest(outlet_id=shop.outlets[0], policy=policy)
        await devices(shop).SetOfflinePolicy(asked, metadata=shop.auth)
        assert OfflineRules.FromString((await till.next("policy")).rules).longest_hours == 7


async def test_mail_that_comes_while_it_is_looked_at_is_looked_at_again(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_round(_: Any) -> None:
        """What was told to a stream once is not told again by a round."""

    monkeypatch.setattr(mail, "ring", lambda *_: None)
    monkeypatch.setattr(rounds.Rounds, "mail", no_round)
    request = SendCommandRequest(device_id=shop.tills[0]["id"], kind="open_drawer")
    sent = [await devices(shop).SendCommand(request, metadata=shop.auth)]
    look = letters.hand_over

    async def looked(process: Any, *given: Any) -> bytes:
        rules = await look(process, *given)
        if len(sent) == 1:
            sent.append(await devices(shop).SendCommand(request, metadata=shop.auth))
            for stream in process.streams:
                stream.has_mail()
        return rules

    monkeypatch.setattr(letters, "hand_over", looked)
    async with connected(shop) as till:
        assert (await till.next("command")).command_id == sent[0].id
        while (await till.next("command")).command_id != sent[1].id:
            pass


async def deafened(database_url: str) -> None:
    """Ends the connections that listen for wake-ups, as the owner of the database: the cloud's roles see no query texts."""
    admin = await asyncpg.connect(database_url)
    listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    try:
        assert await admin.fetch(f"SELECT pg_terminate_backend(pid) {listening}")
        async with asyncio.timeout(10):
            while not await admin.fetchval(f"SELECT count(*) {listening}"):
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


@pytest.fixture
def epochs(sql: Any) -> Any:
    """The epochs of all lanes, lowest first; they are alike but for a millisecond."""

    async def read() -> list[int]:
        return [epoch for (epoch,) in await sql("SELECT epoch FROM log_heads ORDER BY epoch")]

    return read


async def test_tills_of_a_cloud_that_was_restored_beneath_them_say_hello_again(
    shop: Any, sql: Any, epochs: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(servicer, "EVERY_SECONDS", 0.1)
    with capture_logs() as logs:
        async with connected(shop) as till, connected(shop, 1) as other:
            for each in (till, other):
                await each.next("policy")
            await deafened(database_url)
            await shop.product()
            for each in (till, other):
                await each.next("changes")  # the connection was lost, and nothing else: the stream goes on
            assert max(await epochs()) == 1
            await sql("UPDATE till_links SET session = 0")
            await deafened(database_url)
            for each in (till, other):
                assert "restored" in (await each.next("drain")).reason
                assert await each.call.read() is grpc.aio.EOF
        raised = await epochs()
        assert min(raised) > 1, "whoever has copied what was lost copies anew, however far the lanes have grown by then"
        async with connected(shop, positions=up_to_date(shop, 1)) as till:
            heads = (await till.next("welcome")).heads
            assert {place.epoch for place in heads} <= set(raised)
            assert (await till.next("reset")).reason == ResetReason.RESET_REASON_EPOCH
            await deafened(database_url)
            await shop.product()
            await till.next("changes")
        assert await epochs() == raised
    assert [entry["event"] for entry in logs].count("log_lost_history") == 1


async def test_a_round_goes_over_streams_that_have_not_said_hello_yet(database: Any) -> None:
    bells = wakeups.Wakeups(database)
    silent = SimpleNamespace(standing=None, who=NOBODY)
    going = rounds.Rounds(database, bells, [silent])
    bells.life += 1
    assert not await going.was_restored()


async def test_a_log_that_ends_before_what_online_tills_were_told_begins_anew_once_and_for_all(
    shop: Any, sql: Any, epochs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 0.1)
    for name in "abc":
        await shop.product(name)
    positions = up_to_date(shop, 3)
    with capture_logs() as logs:
        async with connected(shop, positions=positions) as till, connected(shop, 1, positions=positions[:1]) as other:
            for each in (till, other):
                await each.next("policy")
            # A backup is put back in which two products are missing; no connection is lost, no sale, and no session.
            await sql("DELETE FROM events WHERE lane = 'tenant' AND seq > 1")
            await sql("UPDATE log_heads SET last_seq = 1 WHERE lane = 'tenant'")
            for each in (till, other):
                assert "restored" in (await each.next("drain")).reason
    assert [entry["event"] for entry in logs].count("log_lost_history") == 1
    assert min(await epochs()) > 1
    for name in "de":
        await shop.product(name)
    async with connected(shop, 2, positions=positions[:1], capabilities=[]) as late:
        assert (await late.next("reset")).reason == ResetReason.RESET_REASON_EPOCH
        while (part := await late.next("snapshot")).lane != "tenant":
            pass
        names = {change.product.name for change in part.changes}
        assert names == set("abcde"), "its place is reached again, by other changes than those it has seen"


async def test_a_batch_after_a_gap_that_cannot_be_proves_a_restore(shop: Any, sql: Any, epochs: Any) -> None:
    operations = [{"op_seq": number, "op_id": f"sal_{number}"} for number in range(1, 6)]
    async with connected(shop) as till:
        await till.next("policy")
        await till.send(operations={"operations": operations[:2]})
        assert (await till.next("stored")).op_watermark == 2
        await till.send(operations={"operations": operations[4:]})
        assert (await till.next("stored")).expected_op_seq == 3
        assert max(await epochs()) == 1, "the till has left something out"
        await sql("UPDATE till_stores SET op_watermark = 1")
        await till.send(operations={"operations": operations[2:3]})
        assert "restored" in (await till.next("drain")).reason
    assert min(await epochs()) > 1


async def test_a_place_of_an_epoch_that_the_cloud_has_forgotten_proves_a_restore_and_one_of_the_future_nothing(
    shop: Any, epochs: Any
) -> None:
    async def said(number: int) -> set[int]:
        async with connected(shop, positions=[LanePosition(lane="tenant", epoch=number, seq=0)]) as till:
            return {place.epoch for place in (await till.next("welcome")).heads}

    assert await said(1) == await said(2**60) == {1}
    raised = await said(2)
    assert min(raised) > 2
    assert await said(2) == raised <= set(await epochs())
