from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from edge import words
from edge.link import meanings
from edge.link.client import LinkClient
from edge.link.status import LinkState
from edge.storage import facts, lanes, outbox, outlets, products
from edge.storage.folder import Storage
from edge.till import stock
from gipos.edge.v1.link_pb2 import Changes, LinkResponse, Operation
from gipos.v1.sales_pb2 import Sale
from kernel.ids import new_id

Eventually = Callable[..., Awaitable[Any]]


@pytest.fixture
def open_link(cloud: Any, storage: Storage) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_link(**settings: Any) -> AsyncIterator[LinkClient]:
        client = LinkClient(
            **{
                "address": f"127.0.0.1:{cloud.port}",
                "token": "gipos_device_test",
                "storage": storage,
                "enabled": True,
                "software_version": "test",
                **settings,
            }
        )
        task = asyncio.create_task(client.run())
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return open_link


async def sell(storage: Storage, product_id: str = "prd_1") -> Sale:
    sale = Sale(id=new_id("sal"))
    sale.lines.add(product_id=product_id, quantity="1")
    operation = Operation(op_id=sale.id, sale_recorded=sale)
    await storage.store.write(lambda connection: outbox.append(connection, operation, {product_id: -1000}, 0))
    return sale


async def sell_many(storage: Storage, count: int) -> None:
    def append(connection: Any) -> None:
        for _ in range(count):
            sale = Sale(id=new_id("sal"))
            outbox.append(connection, Operation(op_id=sale.id, sale_recorded=sale), {}, 0)

    await storage.store.write(append)


def is_online(link: LinkClient) -> bool:
    return link.status.state is LinkState.ONLINE


async def waiting(storage: Storage) -> int:
    return await storage.store.read(outbox.waiting)


async def seqs(storage: Storage) -> dict[str, int]:
    return {lane: place.seq for lane, place in (await storage.replica.read(lanes.positions)).items()}


async def caught_up(cloud: Any, storage: Storage) -> bool:
    return await seqs(storage) == {lane: len(log) for lane, log in cloud.logs.items()}


async def test_the_first_connection_brings_a_snapshot_of_both_lanes(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link() as link:
        await eventually(lambda: caught_up(cloud, storage))
        assert link.status.state is LinkState.ONLINE
        assert link.status.message == words.NOTHING
        assert (await storage.replica.read(products.count)) == 2
        await eventually(lambda: {("tenant", 2), ("out_kemang", 2)} <= set(cloud.applied))


async def test_a_new_product_arrives_without_asking(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, product: Any
) -> None:
    async with open_link():
        await eventually(lambda: caught_up(cloud, storage))
        cloud.put(product(3, barcode="4006381333931"))
        found = await eventually(
            lambda: storage.replica.read(lambda connection: products.find_by_barcode(connection, "4006381333931"))
        )
        assert found.id == "prd_3"


async def test_sales_made_before_the_link_are_uploaded_in_order_and_once(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    made = [(await sell(storage)).id for _ in range(5)]
    async with open_link():
        await eventually(lambda: _none_waiting(storage))
    assert [cloud.sales[number].id for number in sorted(cloud.sales)] == made
    assert cloud.received == [1, 2, 3, 4, 5]


async def _none_waiting(storage: Storage) -> bool:
    return await waiting(storage) == 0


async def test_a_sale_made_while_online_is_sent_when_the_bell_rings(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link() as link:
        await eventually(lambda: is_online(link))
        sale = await sell(storage)
        link.wake()
        await eventually(lambda: _none_waiting(storage))
        assert cloud.sales[1].id == sale.id


async def test_more_sales_than_two_batches_hold_all_arrive(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    await sell_many(storage, 450)
    async with open_link() as link:
        await eventually(lambda: _none_waiting(storage))
        assert sorted(cloud.sales) == list(range(1, 451))
        assert cloud.batches == [10, 10, 20, 40, 80, 160, 130]
        # The next stream goes on with what this one has learned of the line.
        cloud.cut()
        await sell_many(storage, 300)
        link.wake()
        await eventually(lambda: _none_waiting(storage))
        assert cloud.batches[7:] == [200, 100]
        cloud.acknowledges = False
        await sell_many(storage, 150)
        link.wake()
        await eventually(lambda: cloud.batches[9:] == [150])
        # Whatever cut this one: its batch may have been too long for the line.
        cloud.cut()
        await eventually(lambda: _none_waiting(storage))
        cloud.acknowledges = True
        await sell_many(storage, 150)
        link.wake()
        await eventually(lambda: _none_waiting(storage))
        assert cloud.batches[10:] == [100, 50]


async def test_after_a_cut_only_what_was_not_stored_is_sent_again(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link() as link:
        await eventually(lambda: is_online(link))
        await sell(storage)
        link.wake()
        await eventually(lambda: _none_waiting(storage))
        await cloud.stop()
        await eventually(lambda: link.status.state is LinkState.OFFLINE)
        assert link.status.message == words.UNREACHABLE
        await sell(storage)
        link.wake()
        await cloud.start()
        await eventually(lambda: _none_waiting(storage))
    assert cloud.received == [1, 2]


async def test_a_lost_acknowledgement_leads_to_a_resend_that_the_cloud_skips_by_number(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    cloud.acknowledges = False
    await sell(storage)
    async with open_link() as link:
        await eventually(lambda: cloud.received == [1])
        assert await waiting(storage) == 1
        cloud.acknowledges = True
        cloud.cut()
        await eventually(lambda: is_online(link) and len(cloud.hellos) == 2)
        await eventually(lambda: _none_waiting(storage))
    assert list(cloud.sales) == [1]


async def test_a_cloud_restored_from_a_backup_gets_the_acknowledged_sales_again(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    for _ in range(3):
        await sell(storage)
    async with open_link():
        await eventually(lambda: _none_waiting(storage))
        cloud.watermark = 1
        del cloud.sales[2], cloud.sales[3]
        cloud.cut()
        await eventually(lambda: sorted(cloud.sales) == [1, 2, 3])
        await eventually(lambda: _none_waiting(storage))


async def test_a_cloud_restored_from_a_backup_of_long_ago_gets_what_is_kept_in_a_new_life(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    made = [(await sell(storage)).id for _ in range(5)]
    async with open_link() as link:
        await eventually(lambda: _none_waiting(storage))
        await storage.store.write(lambda connection: connection.execute("DELETE FROM operations WHERE op_seq < 4"))
        cloud.watermark = 0
        cloud.sales.clear()
        cloud.cut()
        await eventually(lambda: len(cloud.hellos) == 3 and is_online(link))
        last = await sell(storage)
        link.wake()
        await eventually(lambda: _none_waiting(storage))
    assert [cloud.sales[number].id for number in sorted(cloud.sales)] == [*made[3:], last.id]
    assert cloud.hellos[1].store_epoch < cloud.hellos[2].store_epoch


async def test_a_store_restored_from_a_backup_gives_no_number_twice(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    cloud.watermark = 4
    sale = await sell(storage)
    async with open_link():
        await eventually(lambda: _none_waiting(storage))
    assert cloud.sales[5].id == sale.id
    assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == 3


async def test_a_refused_token_is_said_clearly_and_tried_again_later(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    cloud.token = "another"
    async with open_link(refused_retry_seconds=0.05) as link:
        await eventually(lambda: link.status.message == words.UNKNOWN_TILL)
        assert link.status.state is LinkState.OFFLINE
        cloud.token = "gipos_device_test"
        await eventually(lambda: is_online(link))
        assert link.status.message == words.NOTHING


@pytest.mark.parametrize(
    ("code", "reason", "values", "expected"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "TILL_REVOKED", {}, words.LOCKED_OUT),
        (grpc.StatusCode.PERMISSION_DENIED, "TILL_REVOKED", {"cause": "replaced"}, words.REPLACED),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", {"cause": "session"}, words.TWO_TABLETS),
        (grpc.StatusCode.UNAVAILABLE, "TILL_CHANGED", {}, words.CHANGED),
        (grpc.StatusCode.UNAVAILABLE, "BUSY", {}, words.RESTARTING),
        (grpc.StatusCode.UNAVAILABLE, "", {}, words.UNREACHABLE),
        (grpc.StatusCode.FAILED_PRECONDITION, "", {}, words.NOT_LET_IN.filled(details="no")),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", {}, words.UNKNOWN_TILL),
    ],
)
def test_every_end_of_a_stream_has_words_for_the_cashier(
    code: grpc.StatusCode, reason: str, values: dict[str, str], expected: words.Said
) -> None:
    said = status_pb2.Status(code=code.value[0], message="no")
    said.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, metadata=values))
    trailing = [("grpc-status-details-bin", said.SerializeToString())] if reason else []
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), "no")
    assert meanings.of(error).message == expected


def junk_details() -> list[bytes]:
    """What somebody in between may put in the place of a status: no status at all, and one whose detail is none."""
    said = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="cut by the test")
    said.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff\xff")
    return [b"\xff\xff\xff", said.SerializeToString()]


@pytest.mark.parametrize("details", junk_details(), ids=["junk status", "junk detail"])
async def test_an_end_that_nobody_can_read_is_an_end_like_any_other(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, details: bytes
) -> None:
    cloud.trailing = (("grpc-status-details-bin", details),)
    async with open_link() as link:
        for streams in (1, 2, 3):
            await eventually(lambda streams=streams: len(cloud.hellos) == streams and is_online(link))
            await eventually(cloud.connected.is_set)
            cloud.cut()
            await eventually(lambda: not is_online(link))
        assert link.status.message == words.UNREACHABLE


async def test_a_fault_in_saying_why_a_stream_ended_ends_nothing_else(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: grpc.aio.AioRpcError) -> None:
        raise KeyError(error.code())

    async with open_link() as link:
        await eventually(lambda: caught_up(cloud, storage))
        with monkeypatch.context() as patch:
            patch.setattr(meanings, "of", fail)
            cloud.cut()
            await eventually(lambda: link.status.message == words.FAULT)
        await eventually(lambda: len(cloud.hellos) == 2 and is_online(link))


async def test_credentials_that_no_stream_can_be_opened_with_are_tried_again(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    class Spoiled:
        """As a till's own identity whose authorities cannot be read, until it is renewed."""

        spoiled = True

        def channel(self, address: str, options: Any) -> Any:
            channel: Any = grpc.aio.insecure_channel(address, options=options)
            opens = channel.stream_stream

            def stream_stream(*about: Any, **how: Any) -> Any:
                call = opens(*about, **how)

                def begin(**given: Any) -> Any:
                    if self.spoiled:
                        raise ValueError("no certificate")
                    return call(**given)

                return begin

            channel.stream_stream = stream_stream
            return channel

    credentials = Spoiled()
    async with open_link(credentials=credentials) as link:
        await eventually(lambda: link.status.message == words.FAULT)
        credentials.spoiled = False
        await eventually(lambda: is_online(link))


async def test_a_till_that_cannot_link_says_why_and_asks_nobody(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link(unusable=words.IDENTITY_UNUSABLE) as link:
        for enabled, state, message in (
            (True, LinkState.OFFLINE, words.IDENTITY_UNUSABLE),
            (False, LinkState.SWITCHED_OFF, words.NOTHING),
            (True, LinkState.OFFLINE, words.IDENTITY_UNUSABLE),
        ):
            link.switch(enabled=enabled)
            link.wake()
            assert (link.status.state, link.status.message) == (state, message)
        async with open_link() as working:
            await eventually(lambda: is_online(working))
    assert len(cloud.hellos) == 1


@pytest.mark.parametrize("said", [each for each in vars(words).values() if isinstance(each, words.Said)])
def test_whatever_a_cashier_reads_is_there_in_both_languages(said: words.Said) -> None:
    assert bool(said.indonesian) == bool(said.english)
    assert said.indonesian != said.english or said == words.NOTHING


async def test_a_token_of_another_till_changes_nothing(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    await storage.store.write(lambda connection: facts.put(connection, facts.TILL_ID, "dev_other"))
    await sell(storage)
    async with open_link() as link:
        await eventually(lambda: "belongs to till dev_other" in link.status.message.english)
    assert cloud.received == []
    assert await seqs(storage) == {}


async def test_drain_brings_the_till_back_in_its_window(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, drain: Any
) -> None:
    async with open_link() as link:
        await eventually(lambda: caught_up(cloud, storage))
        cloud.send(drain(50))
        await eventually(lambda: len(cloud.hellos) == 2)
        await eventually(lambda: is_online(link))
    assert {place.lane: place.seq for place in cloud.hellos[1].positions} == {"tenant": 2, "out_kemang": 2}


async def test_a_frame_that_does_not_fit_leads_to_a_new_snapshot_of_that_lane(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link():
        await eventually(lambda: caught_up(cloud, storage))
        cloud.send(LinkResponse(changes=Changes(lane="tenant", epoch=1, from_exclusive=7, upto_inclusive=9)))
        await eventually(lambda: len(cloud.hellos) == 2)
        assert [place.lane for place in cloud.hellos[1].positions] == ["out_kemang"]
        await eventually(lambda: cloud.applied.count(("tenant", 2)) == 2)
        cloud.cut()
        await eventually(lambda: len(cloud.hellos) == 3)
        assert len(cloud.hellos[2].positions) == 2, "once the snapshot is in, the lane is followed again"


async def test_a_cloud_that_is_silent_is_given_up(cloud: Any, storage: Storage, open_link: Any, eventually: Eventually) -> None:
    cloud.silent = True
    async with open_link(dead_after_seconds=0.1) as link:
        await eventually(lambda: len(cloud.hellos) >= 2)
        assert link.status.message == words.SILENT
        cloud.silent = False
        await eventually(lambda: is_online(link))


async def test_heartbeats_keep_a_quiet_link_alive(cloud: Any, storage: Storage, open_link: Any, eventually: Eventually) -> None:
    async with open_link(dead_after_seconds=2.5) as link:  # one every second: together they last longer than that
        await eventually(lambda: cloud.pings >= 3)
        assert link.status.state is LinkState.ONLINE
        assert len(cloud.hellos) == 1


async def test_the_switch_ends_the_link_at_once_and_opens_it_again(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async with open_link(enabled=False) as link:
        assert link.status.state is LinkState.SWITCHED_OFF
        link.switch(enabled=True)
        await eventually(lambda: is_online(link))
        link.switch(enabled=False)
        await sell(storage)
        link.wake()
        await eventually(lambda: not cloud._streams)
        assert link.status.state is LinkState.SWITCHED_OFF
        assert cloud.received == []
        link.switch(enabled=True)
        await eventually(lambda: _none_waiting(storage))
    assert cloud.received == [1]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_whatever_ends_the_stream_the_till_comes_back(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, code: grpc.StatusCode
) -> None:
    async with open_link() as link:
        await eventually(lambda: caught_up(cloud, storage))
        cloud.cut(code)
        await eventually(lambda: len(cloud.hellos) == 2)
        await eventually(lambda: is_online(link))


@pytest.mark.parametrize(("own", "expected"), [(0, 41), (50, 50)])
async def test_receipts_count_on_from_the_highest_number_the_cloud_knows(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually, own: int, expected: int
) -> None:
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_RECEIPT_SEQ, own))
    cloud.last_sale_number = "KMG-2611-200041"
    async with open_link():
        # With the identity in the replica sales can be made; the count must be there by then.
        await eventually(lambda: storage.replica.read(outlets.find))
        assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_RECEIPT_SEQ)) == expected


async def test_whoever_waits_for_the_identity_is_called_when_it_is_stored(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    seen: list[outlets.Identity | None] = []

    async def look() -> None:
        seen.append(await storage.replica.read(outlets.find))

    async with open_link(adopted=look):
        await eventually(lambda: seen)
    assert seen[0] is not None
    assert seen[0].till.id == "dev_kasa2"


async def test_an_empty_frame_with_a_higher_watermark_settles_the_shown_stock(
    cloud: Any, storage: Storage, open_link: Any, eventually: Eventually
) -> None:
    async def on_hand() -> tuple[int, int]:
        shown = (await stock.shown(storage, ["prd_1"]))["prd_1"]
        return shown.on_hand, shown.pending

    async with open_link():
        await eventually(lambda: cloud.applied.count(("out_kemang", 2)) == 1)
        await sell(storage)
        assert await on_hand() == (9_000, -1_000)
        # The cloud had this sale already: no row changes, but they are known to contain it.
        frame = Changes(lane="out_kemang", epoch=1, from_exclusive=2, upto_inclusive=2, op_watermark=1)
        cloud.send(LinkResponse(changes=frame))
        await eventually(lambda: cloud.applied.count(("out_kemang", 2)) == 2)
        place = await storage.replica.read(lambda connection: lanes.position(connection, "out_kemang"))
        assert place == lanes.Position(epoch=1, seq=2, op_watermark=1)
        assert await on_hand() == (10_000, 0)
        assert len(cloud.hellos) == 1
