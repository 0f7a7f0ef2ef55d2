"""What owners see of their tills, and what they say about working without the internet."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud.platform import keyring
from cloud.platform.calls import Caller
from cloud.tills import policies, signing_keys
from cloud.tills.presences import Presences
from gipos.edge.v1 import link_pb2
from gipos.v1 import devices_pb2
from kernel import business_days


def till(doors: Any, index: int = 0) -> Caller:
    """The caller of a stream of a demo till."""
    made = doors.made["tills"][index]
    return Caller(doors.tenant_id, made["id"], "test", frozenset(), till_id=made["id"], outlet_id=made["outlet_id"], kind="till")


async def device(doors: Any, till_id: str) -> devices_pb2.Device:
    found: devices_pb2.Device = await doors.devices.GetDevice(devices_pb2.GetDeviceRequest(id=till_id), metadata=doors.auth)
    return found


async def test_a_till_that_connects_is_online_within_a_moment_and_offline_when_it_left(doors: Any) -> None:
    tablet = await doors.paired()

    async def until(*, online: bool) -> devices_pb2.Device:
        async with asyncio.timeout(10):
            while (found := await device(doors, tablet.till_id)).is_online is not online:
                await asyncio.sleep(0.02)  # bounded: the row is written by another task
        return found

    async with doors.link(tablet):
        there = await until(online=True)
    gone = await until(online=False)

    assert (there.software_version, there.hardware, there.state) == ("test", "Test", "active")
    assert there.HasField("certificate_expire_time")
    assert gone.since_time.ToDatetime() >= there.since_time.ToDatetime()


async def test_what_many_tills_say_is_one_statement_and_the_newest_stream_of_a_till_counts(doors: Any) -> None:
    presences = Presences(doors.database)
    first, other = till(doors), till(doors, 1)
    old = presences.connected(first, software_version="1")
    new = presences.connected(first, software_version="2\0", waiting_operations=5)  # no text of one keeps the others from it
    beside = presences.connected(other)
    beside.heard(waiting_operations=7, clock_offset_ms=-1200)
    await presences.flush()
    old.left()  # late: the till came back before anybody noticed that it had gone
    await presences.flush()

    found = await device(doors, first.till_id)
    neighbour = await device(doors, other.till_id)
    assert (found.is_online, found.software_version, found.waiting_operations) == (True, "2", 5)
    assert (neighbour.waiting_operations, neighbour.clock_offset_ms) == (7, -1200)

    new.left()
    await presences.flush()
    assert not (await device(doors, first.till_id)).is_online
    assert not presences._open.keys() - {beside.connection}


async def test_a_till_that_changed_clouds_is_not_put_offline_by_the_one_it_left(doors: Any) -> None:
    here, there = Presences(doors.database), Presences(doors.database)
    who = till(doors)
    before = here.connected(who)
    await here.flush()
    there.connected(who)
    await there.flush()
    before.left()
    await here.flush()

    assert (await device(doors, who.till_id)).is_online


async def test_a_cloud_that_died_does_not_leave_its_tills_online_for_ever(doors: Any, sql: Any) -> None:
    presences = Presences(doors.database)
    who = till(doors)
    presences.connected(who)
    await presences.flush()
    await sql("UPDATE till_presences SET heard_at = heard_at - interval '2 minutes', since_at = since_at - interval '1 hour'")

    found = await device(doors, who.till_id)

    assert not found.is_online
    assert found.since_time == found.seen_time


async def test_devices_are_listed_by_outlet_and_state(doors: Any, reason_of: Any) -> None:
    first, second = doors.made["tills"][0]["id"], doors.made["tills"][1]["id"]
    request = devices_pb2.SetDeviceStateRequest(id=second, state="suspended", reason="service")
    await doors.devices.SetDeviceState(request, metadata=doors.auth)

    async def ids(**fields: Any) -> list[str]:
        answer = await doors.devices.ListDevices(devices_pb2.ListDevicesRequest(**fields), metadata=doors.auth)
        return [each.id for each in answer.devices]

    assert await ids(outlet_id=doors.outlet_id) == [first, second]
    assert await ids(states=["suspended"]) == [second]
    assert len(await ids()) == 3
    missing = doors.devices.SetDeviceState(devices_pb2.SetDeviceStateRequest(id="dev_x", state="active"), metadata=doors.auth)
    assert (await reason_of(missing))[0] == "RESOURCE_NOT_FOUND"


async def put(doors: Any, **fields: Any) -> devices_pb2.OfflinePolicy:
    request = devices_pb2.SetOfflinePolicyRequest(outlet_id=doors.outlet_id, policy=devices_pb2.OfflinePolicy(**fields))
    made: devices_pb2.OfflinePolicy = await doors.devices.SetOfflinePolicy(request, metadata=doors.auth)
    return made


async def signed(doors: Any, till_id: str) -> link_pb2.OfflinePolicy:
    async with doors.database.reading(doors.tenant_id) as connection:
        made = await policies.current(connection, doors.tenant_id, till_id)
    assert made is not None
    return made


async def test_an_outlet_has_the_usual_policy_until_another_is_set(doors: Any) -> None:
    request = devices_pb2.GetOfflinePolicyRequest(outlet_id=doors.outlet_id)
    usual = await doors.devices.GetOfflinePolicy(request, metadata=doors.auth)
    assert (usual.longest_hours, list(usual.tenders), usual.override_minutes, usual.version) == (72, ["cash"], 60, 1)

    made = await put(
        doors, longest_hours=24, most_sales=10, tenders=["cash", "qris"], override_minutes=0, supervisor_pins=["1234"]
    )
    again = await put(doors, longest_hours=24)

    assert (made.supervisor_pin_count, list(made.supervisor_pins), made.override_minutes) == (1, [], 0)
    assert (again.supervisor_pin_count, again.override_minutes) == (1, 60)  # PINs stay unless others are given
    assert again.version > made.version > usual.version


async def test_a_restored_cloud_gives_no_version_of_a_policy_out_again(doors: Any, sql: Any) -> None:
    """A till that has met the version that was lost would keep it, and take the new one for old."""
    met = [(await put(doors, most_sales=number)).version for number in (1, 2)]
    await sql("UPDATE offline_policies SET version = :version", version=met[0])
    assert (await put(doors, most_sales=3)).version > met[1]
    await sql("DELETE FROM offline_policies")
    assert (await put(doors, most_sales=4)).version > met[1]
    await sql("UPDATE offline_policies SET version = version + 1000000")
    ahead = (await put(doors, most_sales=5)).version
    assert (await put(doors, most_sales=6)).version == ahead + 1, "it rises whatever the clock does"


async def test_the_policy_of_a_till_is_signed_with_a_key_it_was_given_when_it_was_paired(doors: Any) -> None:
    tablet = await doors.paired()
    made = await put(doors, longest_hours=24, supervisor_pins=["482915"])

    policy = await signed(doors, tablet.till_id)

    keys = {each.key_id: each.public_key for each in tablet.enrolled.policy_keys}
    Ed25519PublicKey.from_public_bytes(keys[policy.key_id]).verify(policy.signature, b"gipos offline policy\0" + policy.rules)
    rules = link_pb2.OfflineRules.FromString(policy.rules)
    assert (rules.till_id, rules.tenant_id, rules.longest_hours) == (tablet.till_id, doors.tenant_id, 24)
    assert rules.version == made.version
    _, kind, parameters, salt, expected = rules.supervisor_pins[0].split("$")
    raw = [b64decode(text + "=" * (-len(text) % 4)) for text in (salt, expected)]
    assert (kind, parameters) == ("scrypt", "ln=14,r=8,p=1")
    assert hashlib.scrypt(b"482915", salt=raw[0], n=2**14, r=8, p=1, dklen=32) == raw[1]


async def test_the_same_policy_is_the_same_bytes_and_another_one_is_not(doors: Any) -> None:
    who = doors.made["tills"][0]["id"]
    first, again = await signed(doors, who), await signed(doors, who)
    made = await put(doors, most_sales=5)

    assert first == again
    assert await signed(doors, who) != first
    async with doors.database.reading(doors.tenant_id) as connection:
        assert await policies.current(connection, doors.tenant_id, "dev_x") is None
        assert await policies.version(connection, doors.tenant_id, doors.outlet_id) == made.version


@pytest.mark.parametrize(
    "wrong", [{"supervisor_pins": ["123"]}, {"supervisor_pins": ["12a4"]}, {"tenders": ["no spaces"]}, {"longest_hours": 721}]
)
async def test_a_policy_that_makes_no_sense_is_refused(doors: Any, reason_of: Any, wrong: Any) -> None:
    assert (await reason_of(put(doors, **wrong)))[0] == "VALIDATION_FAILED"


async def test_pins_are_nowhere_in_clear(doors: Any, sql: Any) -> None:
    await put(doors, supervisor_pins=["48291577"])

    everything = str([*await sql("SELECT * FROM offline_policies"), *await sql("SELECT * FROM audit_entries")])
    assert "48291577" not in everything


async def test_signing_keys_are_sealed_and_follow_the_master_key(doors: Any, sql: Any) -> None:
    old = keyring.find(doors.settings)
    assert old is not None
    new = keyring.Keyring.random()
    both = keyring.Keyring.__new__(keyring.Keyring)
    both.keys, both.current = (new.current, old.current), new.current
    async with doors.database.across_tenants() as connection:
        now = business_days.now()
        before = await signing_keys.every(connection, old, signing_keys.AUTHORITY, now)
        assert await signing_keys.rewrap(connection, both) == 2
        assert await signing_keys.rewrap(connection, both) == 0
        after = await signing_keys.every(connection, new, signing_keys.AUTHORITY, now)

    assert [each.private for each in after] == [each.private for each in before]
    stored = await sql("SELECT sealed FROM signing_keys")
    assert all(before[0].private not in row.sealed for row in stored)
    assert before[0].ends_at - now > timedelta(days=3600)
