"""The doors with TLS: who gets in with which certificate, and who is put out while inside."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.accounts import till_credentials
from cloud.platform import keyring
from cloud.tills import authorities, certificates, signing_keys
from cloud.tills.certificates import EPOCH
from gipos.edge.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2_grpc
from gipos.v1 import devices_pb2
from kernel import business_days
from kernel.ids import new_id

WITHIN = 10.0
"""Seconds; none of these is measured, they only end a test that hangs."""


async def knock(doors: Any, tablet: Any, **how: Any) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                async with doors.link(tablet, **how):
                    return
            except grpc.aio.AioRpcError as error:
                # News of a change before this stream may still be on its way, and ends it: a till comes back at once.
                if error.code() is not grpc.StatusCode.UNAVAILABLE or "Connect again" not in str(error.details()):
                    raise


async def ending(call: Any, reason_of: Any) -> tuple[str, str]:
    """The reason with which an open link is ended."""

    async def read_on() -> None:
        async with asyncio.timeout(WITHIN):
            while await call.read() is not grpc.aio.EOF:
                pass

    reason: tuple[str, str] = await reason_of(read_on())
    return reason


async def set_state(doors: Any, till_id: str, state: str) -> devices_pb2.Device:
    request = devices_pb2.SetDeviceStateRequest(id=till_id, state=state)
    made: devices_pb2.Device = await doors.devices.SetDeviceState(request, metadata=doors.auth)
    return made


async def test_nobody_gets_to_the_link_without_a_certificate_of_ours(doors: Any, new_tablet: Any, reason_of: Any) -> None:
    tablet, stranger = await doors.paired(), new_tablet()
    other = certificates.new_authority("another", business_days.now())
    forged = certificates.for_till(other, stranger.key.public_key(), doors.tenant_id, tablet.till_id, business_days.now())

    for shown in (None, [forged, certificates.der(other.certificate)]):
        assert (await reason_of(knock(doors, stranger, certificates=shown)))[0] == "UNAVAILABLE"


async def test_a_till_does_not_talk_to_a_cloud_of_another_authority(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()
    other = certificates.der(certificates.new_authority("another", business_days.now()).certificate)

    reason, words = await reason_of(knock(doors, tablet, trusted=[other]))

    assert reason == "UNAVAILABLE"
    assert "CERTIFICATE_VERIFY_FAILED" in words


async def test_a_certificate_is_nothing_one_can_say_one_has(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()
    shown = certificates.fingerprint(tablet.enrolled.certificates[0])

    for text in (shown.hex(), f"gipos_device_{shown.hex()}"):
        stub: Any = link_pb2_grpc.EdgeLinkServiceStub(doors.channel)
        call = stub.Link(metadata=[("authorization", f"Bearer {text}")])
        assert (await ending(call, reason_of))[0] == "UNAUTHENTICATED"


async def test_a_tills_certificate_opens_nothing_but_the_link(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()

    async with doors.secure(doors.cloud.link_port, tablet) as channel:
        call = channel.unary_unary(
            "/gipos.v1.DeviceService/ListDevices",
            request_serializer=devices_pb2.ListDevicesRequest.SerializeToString,
            response_deserializer=devices_pb2.ListDevicesResponse.FromString,
        )
        assert (await reason_of(call(devices_pb2.ListDevicesRequest())))[0] == "UNAUTHENTICATED"


async def test_an_expired_certificate_is_no_certificate(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()
    await doors.grow_old(tablet, timedelta(days=91))

    assert (await reason_of(knock(doors, tablet)))[0] == "UNAVAILABLE"


@pytest.mark.parametrize("state", ["suspended", "retired"])
async def test_a_till_that_may_do_less_is_still_let_in(doors: Any, state: str) -> None:
    tablet = await doors.paired()
    await set_state(doors, tablet.till_id, state)

    await knock(doors, tablet)


async def test_a_revoked_till_hears_why_in_the_middle_of_its_stream_and_may_come_back_when_it_is_active(
    doors: Any, reason_of: Any
) -> None:
    tablet = await doors.paired()
    async with doors.link(tablet) as call:
        await set_state(doors, tablet.till_id, "revoked")
        reason, words = await ending(call, reason_of)

    assert reason == "TILL_REVOKED"
    assert "Nothing on the tablet is lost" in words
    assert (await reason_of(knock(doors, tablet)))[0] == "TILL_REVOKED"
    await set_state(doors, tablet.till_id, "active")
    await knock(doors, tablet)


async def test_a_till_that_is_revoked_at_one_cloud_is_put_out_at_the_other(two_clouds: Any, reason_of: Any) -> None:
    here, there = two_clouds
    tablet = await here.paired()
    async with there.link(tablet) as call:
        await set_state(here, tablet.till_id, "revoked")

        assert (await ending(call, reason_of))[0] == "TILL_REVOKED"
    assert (await reason_of(knock(there, tablet)))[0] == "TILL_REVOKED"


async def test_the_tablet_before_is_put_out_when_another_takes_its_place(
    two_clouds: Any, new_tablet: Any, reason_of: Any
) -> None:
    here, there = two_clouds
    old, new = await here.paired(), new_tablet()
    async with there.link(old) as call:
        await here.enrol(new, await here.code(replaces=old.till_id))

        reason, words = await ending(call, reason_of)
    assert (reason, "paired again" in words) == ("TILL_REVOKED", True)
    await knock(there, new)


async def test_two_tablets_that_show_one_code_to_two_clouds_at_once_become_one_till(
    two_clouds: Any, new_tablet: Any, reason_of: Any
) -> None:
    for _ in range(4):
        code = await two_clouds[0].code()
        tablets = [new_tablet(), new_tablet()]
        tries = (cloud.enrol(tablet, code) for cloud, tablet in zip(two_clouds, tablets, strict=True))
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == [False, True]
        won = tablets[0] if tablets[0].enrolled is not None else tablets[1]
        assert (await two_clouds[1].enrol(won, code)).till.id == won.till_id, "and it may ask again, anywhere"


async def test_wrong_codes_are_counted_by_all_clouds_together(two_clouds: Any, new_tablet: Any, reason_of: Any) -> None:
    guesses = (reason_of(two_clouds[number % 2].enrol(new_tablet(), "2222-2222")) for number in range(10))

    reasons = [reason for reason, _ in await asyncio.gather(*guesses)]

    assert sorted(reasons) == ["PAIRING_CODE_WRONG"] * 5 + ["RATE_LIMITED"] * 5


async def test_two_clouds_have_one_authority(two_clouds: Any) -> None:
    here, there = two_clouds
    assert await here.trusted() == await there.trusted()
    tablet = await here.paired()
    await knock(there, tablet)


async def renewed(doors: Any, tablet: Any, request: enrolment_pb2.RenewCertificateRequest, *, by_certificate: bool) -> Any:
    port = doors.cloud.link_port if by_certificate else doors.cloud.enrol_port
    async with doors.secure(port, tablet if by_certificate else None) as channel:
        stub: Any = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        return await stub.RenewCertificate(request)


def by_signature(tablet: Any, *, key: Any = None) -> enrolment_pb2.RenewCertificateRequest:
    request = tablet.request  # another one each time: signatures of this kind have a random part
    signature = (key or tablet.key).sign(b"gipos renew\0" + request, ec.ECDSA(hashes.SHA256()))
    return enrolment_pb2.RenewCertificateRequest(
        certificate_request=request, expired_certificate=tablet.enrolled.certificates[0], signature=signature
    )


async def test_a_certificate_is_renewed_over_the_link_and_the_old_one_goes_on_until_its_end(doors: Any) -> None:
    tablet = await doors.paired()
    await doors.grow_old(tablet, timedelta(days=60))
    request = enrolment_pb2.RenewCertificateRequest(certificate_request=tablet.request)

    answer = await renewed(doors, tablet, request, by_certificate=True)
    again = await renewed(doors, tablet, request, by_certificate=True)

    assert list(again.certificates) == list(answer.certificates)  # asked twice because an answer was lost
    await knock(doors, tablet)
    await knock(doors, tablet, certificates=list(answer.certificates))
    life = answer.renew_time.ToDatetime(business_days.now().tzinfo) - business_days.now()
    assert timedelta(days=53) < life < timedelta(days=55)


async def test_a_certificate_that_ended_less_than_30_days_ago_is_renewed_by_its_key(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()
    await doors.grow_old(tablet, timedelta(days=119))
    assert (await reason_of(knock(doors, tablet)))[0] == "UNAVAILABLE"

    answer = await renewed(doors, tablet, by_signature(tablet), by_certificate=False)

    await knock(doors, tablet, certificates=list(answer.certificates))


async def test_what_is_too_old_or_not_signed_by_its_key_or_revoked_is_not_renewed(
    doors: Any, new_tablet: Any, reason_of: Any
) -> None:
    tablet, thief = await doors.paired(), new_tablet()

    async def refused(request: enrolment_pb2.RenewCertificateRequest) -> str:
        return str((await reason_of(renewed(doors, tablet, request, by_certificate=False)))[0])

    assert await refused(by_signature(tablet, key=thief.key)) == "UNAUTHENTICATED"
    assert await refused(enrolment_pb2.RenewCertificateRequest(certificate_request=tablet.request)) == "UNAUTHENTICATED"
    await set_state(doors, tablet.till_id, "revoked")
    assert await refused(by_signature(tablet)) == "TILL_REVOKED"
    await set_state(doors, tablet.till_id, "active")
    await doors.grow_old(tablet, timedelta(days=121))
    assert await refused(by_signature(tablet)) == "UNAUTHENTICATED"


async def test_a_tablet_that_renews_while_another_takes_its_place_gets_nothing(doors: Any, reason_of: Any, sql: Any) -> None:
    tablet = await doors.paired()
    waiting, good = (
        "SELECT pid FROM pg_locks WHERE NOT granted",
        "SELECT fingerprint FROM till_certificates WHERE revoked_at IS NULL",
    )
    async with doors.database.transaction(doors.tenant_id) as tx:
        await till_credentials.replace(tx, tablet.till_id, "", "the new one")
        asked = asyncio.create_task(reason_of(renewed(doors, tablet, by_signature(tablet), by_certificate=False)))
        while not asked.done() and not await sql(waiting):
            await asyncio.sleep(0.01)
    assert (await asked)[0] == "TILL_REVOKED"
    assert await sql(f"{good} AND till_id = :id", id=tablet.till_id) == []


async def test_a_cloud_that_forgot_a_renewal_still_knows_the_till(doors: Any, sql: Any) -> None:
    tablet = await doors.paired()
    await doors.grow_old(tablet, timedelta(days=60))
    old = list(tablet.enrolled.certificates)
    answer = await renewed(doors, tablet, by_signature(tablet), by_certificate=False)
    # As after a restore of a backup from before the renewal.
    await sql("DELETE FROM till_certificates WHERE fingerprint <> :known", known=certificates.fingerprint(old[0]))

    await knock(doors, tablet, certificates=list(answer.certificates))


async def test_a_certificate_of_a_till_that_never_was_here_makes_none(doors: Any, new_tablet: Any, reason_of: Any) -> None:
    stranger = new_tablet()
    key = stranger.key.public_key()
    made = certificates.for_till((await doors.keys()).issuer, key, doors.tenant_id, new_id("dev"), business_days.now())

    assert (await reason_of(knock(doors, stranger, certificates=[made])))[0] == "UNAUTHENTICATED"


async def test_a_new_authority_is_made_known_before_it_signs(doors: Any) -> None:
    tablet = await doors.paired()
    before = await doors.trusted()
    ring = keyring.find(doors.settings)
    assert ring is not None
    async with doors.database.across_tenants() as connection:
        signs_from = await authorities.rotate(connection, ring, signing_keys.AUTHORITY, business_days.now(), at_once=False)
        read = await authorities.read(connection, ring, business_days.now())

    assert signs_from - business_days.now() > certificates.TILL_LIFE
    assert len(read.trusted) == len(before) + 1
    assert read.trusted[0] == before[0]  # the old one signs on
    assert certificates.is_issued_by(tablet.certificate, read.issuer.certificate)


def test_the_clouds_certificate_is_good_for_a_tablet_in_1970_and_one_that_is_years_ahead() -> None:
    now = business_days.now()
    issuer = certificates.new_authority(new_id("aut"), now)
    door = x509.load_pem_x509_certificates(certificates.for_door(issuer, ["127.0.0.1"])[0])[0]

    for certificate in (door, issuer.certificate):
        assert certificate.not_valid_before_utc == EPOCH
        assert certificate.not_valid_after_utc - now > timedelta(days=3000)
