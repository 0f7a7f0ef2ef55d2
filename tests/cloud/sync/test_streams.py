"""Streams of a real cloud, spoken to by hand: what only shows over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud.sync import lanes
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
async def connected(shop: Any, **hello: Any) -> AsyncIterator[Till]:
    call = shop.link.Link(metadata=shop.till_auth(0))
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


async def test_tills_of_a_cloud_that_was_restored_beneath_them_say_hello_again(shop: Any, sql: Any) -> None:
    deafen = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    async with connected(shop) as till:
        await till.next("policy")
        await sql(deafen)
        await till.send(ping=Ping(number=1))
        await till.next("progress")  # the connection was lost, and nothing else: the stream goes on
        await sql("UPDATE till_links SET session = 0")
        await sql(deafen)
        assert "restored" in (await till.next("drain")).reason
        assert await till.call.read() is grpc.aio.EOF
