"""Pairing: a code becomes a certificate once, whatever is guessed, repeated or lost."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gipos.edge.v1 import enrolment_pb2
from gipos.v1 import devices_pb2

MISREAD = str.maketrans({"2": "z", "5": "S", "8": "b", "V": "u"})


async def test_a_paired_tablet_opens_the_link_with_its_certificate_alone(doors: Any) -> None:
    tablet = await doors.paired(name="Depan")

    assert tablet.enrolled.till.name == "Depan"
    assert tablet.enrolled.link_address == f":{doors.cloud.link_port}"
    async with doors.link(tablet) as call:
        assert await call.read() is not grpc.aio.EOF


async def test_the_certificate_names_the_till_and_its_merchant_and_lives_for_90_days(doors: Any) -> None:
    tablet = await doors.paired()

    certificate = tablet.certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.subject.rfc4514_string() == f"CN={tablet.till_id}"
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"gipos://{doors.tenant_id}/tills/{tablet.till_id}"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 90
    assert certificate.public_key() == tablet.key.public_key()


async def test_a_new_till_gets_the_next_number_of_its_outlet(doors: Any) -> None:
    first, second = await doors.paired(), await doors.paired()

    assert [first.enrolled.till.number, second.enrolled.till.number] == [3, 4]  # the demo outlet has two
    assert second.enrolled.till.name == "Kasir 4"


@pytest.mark.parametrize("typed", ["{code}", "{lower}", " {plain} ", "{misread}"])
async def test_how_a_code_is_typed_does_not_matter(doors: Any, new_tablet: Any, typed: str) -> None:
    code = await doors.code()
    plain = code.replace("-", "")
    text = typed.format(code=code, lower=code.lower(), plain=plain, misread=plain.translate(MISREAD))

    assert (await doors.enrol(new_tablet(), text)).till.id


async def test_a_code_has_no_characters_that_look_alike(doors: Any) -> None:
    codes = [(await doors.code()).replace("-", "") for _ in range(40)]

    assert {len(code) for code in codes} == {8}
    assert not set("".join(codes)) & set("01ILOBSUZ")


async def test_a_wrong_a_used_and_an_old_code_get_the_same_answer(doors: Any, new_tablet: Any, reason_of: Any, sql: Any) -> None:
    used, old = await doors.code(), await doors.code()
    await doors.enrol(new_tablet(), used)
    await sql("UPDATE pairing_codes SET ends_at = now() - interval '1 second' WHERE used_at IS NULL")

    answers = [await reason_of(doors.enrol(new_tablet(), code)) for code in (used, old, "2222-2222")]

    assert len(set(answers)) == 1
    assert answers[0][0] == "PAIRING_CODE_WRONG"
    assert "make a new code" in answers[0][1]
    assert len(await sql("SELECT 1 FROM pairing_guesses")) == 2, "one address, and all together"


async def test_an_answer_that_was_lost_is_given_again_to_the_same_tablet(doors: Any) -> None:
    code = await doors.code()
    tablet = await doors.paired()
    tablet.enrolment_id = "second"

    first = await doors.enrol(tablet, code)
    again = await doors.enrol(tablet, code)

    assert (again.till.id, list(again.certificates)) == (first.till.id, list(first.certificates))


async def test_the_same_enrolment_id_with_another_key_gets_nothing(doors: Any, new_tablet: Any, reason_of: Any) -> None:
    code = await doors.code()
    await doors.enrol(new_tablet(), code)

    assert (await reason_of(doors.enrol(new_tablet(), code)))[0] == "PAIRING_CODE_WRONG"


async def test_guessing_is_refused_after_five_tries_even_with_the_right_code(doors: Any, new_tablet: Any, reason_of: Any) -> None:
    code = await doors.code()
    wrong = "2222-2222" if code != "2222-2222" else "3333-3333"

    # All at once: none may slip through while the others are being judged.
    reasons = [reason for reason, _ in await asyncio.gather(*(reason_of(doors.enrol(new_tablet(), wrong)) for _ in range(12)))]
    reason, words = await reason_of(doors.enrol(new_tablet(), code))

    assert sorted(reasons) == ["PAIRING_CODE_WRONG"] * 5 + ["RATE_LIMITED"] * 7
    assert reason == "RATE_LIMITED"
    assert "Wait" in words


async def test_text_that_is_no_code_costs_no_try(doors: Any, new_tablet: Any, reason_of: Any, sql: Any) -> None:
    reasons = {(await reason_of(doors.enrol(new_tablet(), text)))[0] for text in ("", "2222", "O1IL-2222", "2" * 300, "\0" * 8)}

    assert reasons == {"PAIRING_CODE_WRONG"}
    assert await sql("SELECT 1 FROM pairing_guesses WHERE full_at > now()") == []


async def test_a_request_must_be_signed_by_its_own_key_on_the_right_curve(doors: Any, new_tablet: Any, reason_of: Any) -> None:
    tablet, other = new_tablet(), new_tablet()
    other.key = ec.generate_private_key(ec.SECP384R1())
    forged = bytearray(tablet.request)
    forged[-1] ^= 1
    code = await doors.code()

    for request in (bytes(forged), other.request, b"nonsense", b""):
        message = enrolment_pb2.EnrolRequest(code=code, certificate_request=request, enrolment_id="x")
        assert (await reason_of(doors.enrolment.Enrol(message)))[0] == "VALIDATION_FAILED"

    assert (await doors.enrol(tablet, code)).till.id  # none of these used the code up


async def test_a_tablet_in_place_of_another_keeps_the_number_and_locks_the_other_out(
    doors: Any, new_tablet: Any, reason_of: Any
) -> None:
    old, new = await doors.paired(), new_tablet()
    await doors.enrol(new, await doors.code(replaces=old.till_id))

    async def knock(tablet: Any) -> None:
        async with doors.link(tablet):
            pass

    assert (new.till_id, new.enrolled.till.number) == (old.till_id, old.enrolled.till.number)
    await knock(new)
    assert (await reason_of(knock(old)))[0] == "TILL_REVOKED"


async def test_a_token_is_good_no_longer_once_a_tablet_was_paired_in_its_place(doors: Any, new_tablet: Any, sql: Any) -> None:
    till = doors.made["tills"][0]
    await doors.enrol(new_tablet(), await doors.code(replaces=till["id"]))

    assert await sql("SELECT token_fingerprint FROM tills WHERE id = :id", id=till["id"]) == [(None,)]


async def test_a_tablet_with_sales_of_one_till_does_not_become_another(doors: Any, reason_of: Any) -> None:
    tablet = await doors.paired()
    code = await doors.code()
    tablet.enrolment_id = "again"

    reason, words = await reason_of(doors.enrol(tablet, code, previous_till_id=tablet.till_id))
    assert reason == "PAIRING_CODE_OTHER_TILL"
    assert tablet.till_id in words

    same = tablet.till_id
    again = await doors.enrol(tablet, await doors.code(replaces=same), previous_till_id=same)
    assert again.till.id == same


async def test_codes_are_for_outlets_and_tills_of_the_merchant(doors: Any, reason_of: Any) -> None:
    other = doors.made["outlets"][1]["id"]
    till = doors.made["tills"][0]["id"]

    for fields in (
        {"outlet_id": "out_0"},
        {"replaces": "dev_x"},
        {"outlet_id": other, "replaces": till},
    ):
        request = devices_pb2.CreatePairingCodeRequest(**({"outlet_id": doors.outlet_id} | fields))
        assert (await reason_of(doors.devices.CreatePairingCode(request, metadata=doors.auth)))[0] == "VALIDATION_FAILED"


async def test_nothing_in_the_database_tells_a_code(doors: Any, sql: Any) -> None:
    request = devices_pb2.CreatePairingCodeRequest(outlet_id=doors.outlet_id, request_id="once")
    made = await doors.devices.CreatePairingCode(request, metadata=doors.auth)
    again = await doors.devices.CreatePairingCode(request, metadata=doors.auth)

    rows = str([*await sql("SELECT * FROM pairing_codes"), *await sql("SELECT * FROM idempotency_keys")])
    assert again.code == made.code
    assert made.code not in rows
    assert made.code.replace("-", "") not in rows


async def test_pairing_and_its_refusals_are_in_the_audit_log(doors: Any, new_tablet: Any, reason_of: Any, sql: Any) -> None:
    code = await doors.code()
    tablet = new_tablet()
    await doors.enrol(tablet, code)
    await reason_of(doors.enrol(new_tablet(), code))

    for _ in range(100):
        rows = await sql("SELECT action, outcome, resource_ids FROM audit_entries WHERE action LIKE 'tills.%' ORDER BY id")
        if len(rows) == 2:
            break
        await asyncio.sleep(0.05)  # bounded: refusals are gathered before they are stored
    assert [(row.action, row.outcome) for row in rows] == [("tills.enrol", "ok"), ("tills.enrol", "PAIRING_CODE_WRONG")]
    assert rows[0].resource_ids == [tablet.till_id]
    assert [row.action for row in await sql("SELECT action FROM audit_entries WHERE action LIKE 'devices%'")] == [
        "devices.create_pairing_code"
    ]
