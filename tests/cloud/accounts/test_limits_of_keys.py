"""From where and from which web pages a key may be used, when it was used last, and what happens to those who keep failing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.accounts.attempts import Attempts
from cloud.accounts.uses import Uses
from cloud.platform import peers
from cloud.platform.calls import Call
from cloud.platform.database import Database
from gipos.v1.accounts_pb2 import GetCallerRequest
from gipos.v1.keys_pb2 import GetApiKeyRequest
from kernel.errors import RateLimited
from kernel.signatures import LIVE_PREFIX, TEST_PREFIX, new_key

DENIED = grpc.StatusCode.PERMISSION_DENIED


async def test_a_key_opens_only_from_its_addresses(keys: Any) -> None:
    made = await keys.make("products:read", allowed_addresses=["203.0.113.0/24", "2001:db8::/32"])
    for address in ("203.0.113.7", "::ffff:203.0.113.7", "2001:db8:1::1", "8.8.8.8, 203.0.113.9"):
        await keys.use(made.key, x_forwarded_for=address)
    for address in ("203.0.114.7", "203.0.113.7, 8.8.8.8", "2001:db9::1", "nonsense", ""):
        failure = await keys.refused(keys.use(made.key, x_forwarded_for=address))
        assert (failure.code, failure.reason) == (DENIED, "IP_NOT_ALLOWED"), address


async def test_a_dry_run_lets_in_and_counts(keys: Any) -> None:
    made = await keys.make("products:read", allowed_addresses=["203.0.113.0/24"], addresses_dry_run=True)
    strict = await keys.make("products:read", allowed_addresses=["203.0.113.0/24"])
    for _ in range(3):
        await keys.use(made.key, x_forwarded_for="198.51.100.1")
        await keys.refused(keys.use(strict.key, x_forwarded_for="198.51.100.1"))
    await keys.use(strict.key, x_forwarded_for="203.0.113.7")
    noted, held = await written(keys, made.id), await written(keys, strict.id)
    assert (noted.foreign_address_count, noted.last_used_address) == (3, "198.51.100.1")
    assert (held.foreign_address_count, held.last_used_address) == (3, "203.0.113.7")
    assert abs(held.last_used_time.seconds - datetime.now(UTC).timestamp()) < 60


async def written(keys: Any, key_id: str) -> Any:
    """The key once its use was written; the database is another process, so this looks again and again."""
    async with asyncio.timeout(20):
        while True:
            key = await keys.stub.GetApiKey(GetApiKeyRequest(id=key_id), metadata=keys.shop.auth)
            if key.last_used_address:
                return key
            await asyncio.sleep(0.3)


async def test_only_the_word_of_a_proxy_of_ours_counts(keys: Any) -> None:
    async def seen(**metadata: str) -> str:
        who = await keys.shop.accounts.GetCaller(GetCallerRequest(), metadata=keys.auth(keys.shop.api_key, **metadata))
        return str(who.address)

    assert await seen() == "127.0.0.1"
    assert await seen(x_forwarded_for="6.6.6.6, 198.51.100.4") == "198.51.100.4"
    assert await seen(x_forwarded_for="x" * 300) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", "198.51.100.4", "198.51.100.4"),
        ("::1", "198.51.100.4", "198.51.100.4"),
        ("10.1.2.3", "198.51.100.4", "198.51.100.4"),
        ("10.2.0.1", "198.51.100.4", "10.2.0.1"),
        ("198.51.100.9", "127.0.0.1", "198.51.100.9"),
        ("::ffff:198.51.100.9", "", "198.51.100.9"),
        ("::ffff:127.0.0.1", "fe80::1%eth0", "fe80::1"),
        ("127.0.0.1", "198.51.100.4, ", "127.0.0.1"),
        ("", "198.51.100.4", ""),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: str, expected: str) -> None:
    resolve = peers.resolver(["127.0.0.0/8", "::1", "10.1.0.0/16"])
    assert resolve(peer, forwarded) == expected


@given(st.ip_addresses())
def test_an_address_lies_in_its_own_network_however_it_is_spelt(address: Any) -> None:
    own = [peers.network(str(address))]
    assert peers.is_within(peers.normalised(str(address)), own)
    if address.version == 4:
        assert peers.is_within(peers.normalised(f"::ffff:{address}"), own)
        assert peers.is_within(str(address), [peers.network(f"::ffff:{address}/128")])


async def test_a_web_page_needs_a_key_that_names_its_origin(keys: Any) -> None:
    made = await keys.make("products:read", allowed_origins=["https://toko.example", "http://localhost:5173"])
    anywhere = await keys.make("products:read", allowed_origins=["*"])
    for key, origin in (
        (made.key, "https://toko.example"),
        (made.key, "http://localhost:5173"),
        (anywhere.key, "https://x.example"),
    ):
        call = keys.shop.products.ListProducts
        running = call(_list(), metadata=keys.auth(key, origin=origin))
        await running
        assert ("access-control-allow-origin", origin) in list(await running.initial_metadata())
    for key, origin in (
        (made.key, "https://toko.example.evil.example"),
        (made.key, "null"),
        (keys.shop.api_key, "https://x.example"),
    ):
        failure = await keys.refused(keys.use(key, origin=origin))
        assert (failure.code, failure.reason) == (DENIED, "ORIGIN_NOT_ALLOWED")
    await keys.use(made.key)


def _list() -> Any:
    from gipos.v1.catalog_pb2 import ListProductsRequest

    return ListProductsRequest()


async def test_whoever_keeps_failing_is_told_to_wait_and_nobody_else_is(keys: Any) -> None:
    await keys.use(keys.shop.api_key)
    failures = [await keys.refused(keys.use(new_key(LIVE_PREFIX))) for _ in range(30)]
    assert {failure.code for failure in failures} == {grpc.StatusCode.UNAUTHENTICATED}
    while failures[-1].code == grpc.StatusCode.UNAUTHENTICATED:  # each second gives one back, however slow the machine is
        failures.append(await keys.refused(keys.use(new_key(TEST_PREFIX))))
    failure = failures[-1]
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert failure.retry_seconds >= 1
    await keys.use(keys.shop.api_key)  # is known here, and shares the address
    elsewhere = await keys.refused(keys.use(new_key(TEST_PREFIX), x_forwarded_for="198.51.100.1"))
    assert elsewhere.code == grpc.StatusCode.UNAUTHENTICATED
    till = keys.shop.products.ListProducts(_list(), metadata=keys.shop.till_auth(0))
    assert (await keys.refused(till)).code == DENIED, "a till is recognised beside it"


def test_failures_are_forgiven_with_time_and_cost_bounded_memory() -> None:
    now = 1000.0
    attempts = Attempts("failed sign-ins", 3, 0.5, lambda: now)

    def call(address: str) -> Call:
        return Call("/m", {}, address, "req")

    for _ in range(3):
        attempts.require(call("198.51.100.1"))
        attempts.count(call("198.51.100.1"))
    with pytest.raises(RateLimited) as caught:
        attempts.require(call("198.51.100.1"))
    assert caught.value.retry_seconds == 2
    now += 2
    attempts.require(call("198.51.100.1"))
    attempts.count(call("2001:db8::1"), 3)
    with pytest.raises(RateLimited):
        attempts.require(call("2001:db8::ffff:1"))  # the same /64
    attempts.require(call("2001:db8:0:1::1"))
    for number in range(11_000):
        attempts.count(call(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(attempts._buckets) == 10_000


async def test_uses_add_up_over_processes_and_the_newest_wins(database: Database, sql: Any) -> None:
    one, two = Uses(database), Uses(database)
    clock = asyncio.get_running_loop().time

    def use(uses: Uses, address: str, *, ago: float, foreign: int) -> None:
        noted = uses.of("ten_1", "key_1")
        noted.used_at, noted.address = clock() - ago, address
        noted.foreign_count += foreign

    use(one, "198.51.100.1", ago=5, foreign=2)
    use(two, "198.51.100.2", ago=50, foreign=1)
    await one.flush()
    await two.flush()
    (row,) = await sql("SELECT last_used_at, last_used_address, foreign_count FROM credential_uses")
    assert (row.last_used_address, row.foreign_count) == ("198.51.100.1", 3)
    assert timedelta(seconds=4) < datetime.now(UTC) - row.last_used_at < timedelta(seconds=30)
    # Within the minute nothing is written again; a graceful stop writes all there is.
    use(one, "198.51.100.3", ago=0, foreign=1)
    await one.flush(clock())
    assert [row.foreign_count for row in await sql("SELECT foreign_count FROM credential_uses")] == [3]
    await one.flush()
    (row,) = await sql("SELECT last_used_address, foreign_count FROM credential_uses")
    assert (row.last_used_address, row.foreign_count) == ("198.51.100.3", 4)
