"""Pairing as a tablet sees it: a real cloud, real TLS, and every way in which it does not work the first time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud import demo, server
from cloud.accounts import till_credentials
from cloud.platform import keyring
from cloud.settings import Settings
from cloud.tills import authorities, certificates, signing_keys
from edge import enrolment, identity, settings, words
from edge.enrolment import PairingFailed, Renewal
from edge.identity import IdentityUnusable, Own
from edge.storage import facts
from edge.storage.folder import Storage
from gipos.edge.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2, link_pb2_grpc
from gipos.v1 import devices_pb2, devices_pb2_grpc
from kernel import business_days

ROOT = Path(__file__).resolve().parents[2]


class Shop:
    """A cloud with doors and the owner's key."""

    def __init__(self, cloud: server.Cloud, made: dict[str, Any], given: Settings, channel: grpc.aio.Channel) -> None:
        self.cloud, self.made, self.settings = cloud, made, given
        self._devices: Any = devices_pb2_grpc.DeviceServiceStub(channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.cloud.enrol_port}"

    async def code(self, **fields: Any) -> devices_pb2.PairingCode:
        request = devices_pb2.CreatePairingCodeRequest(outlet_id=self.made["outlets"][0]["id"], **fields)
        metadata = [("authorization", f"Bearer {self.made['api_key']}")]
        made: devices_pb2.PairingCode = await self._devices.CreatePairingCode(request, metadata=metadata)
        return made

    async def paired(self, folder: Path, said: list[str] | None = None, **fields: Any) -> identity.Identity:
        code = (await self.code(**fields)).code
        say = (said if said is not None else []).append
        return await enrolment.enrol(folder, self.address, code, software_version="1", say=say)


@pytest.fixture
async def shop(database_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    given = Settings(database_url=database_url, data_dir=tmp_path / "cloud", drain_seconds=0.2, database_connections=6)
    async with server.running(given, link_port=0, enrol_port=0) as cloud:
        await demo.create(cloud.database, tmp_path / "demo.json", "")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{cloud.port}") as channel:
            yield Shop(cloud, json.loads((tmp_path / "demo.json").read_text()), given, channel)


async def greeted(own: Own) -> str:
    """Opens a stream as the link does; the till that the cloud takes it for."""
    async with own.channel(own.identity.link_address, ()) as channel:
        stub: Any = link_pb2_grpc.EdgeLinkServiceStub(channel)
        while True:
            call = stub.Link(metadata=())
            try:
                await call.write(link_pb2.LinkRequest(hello=link_pb2.Hello(store_epoch=1)))
                first = await call.read()
            except grpc.aio.AioRpcError as error:
                # News of a change before this stream may still be on its way, and ends it: a till comes back at once.
                if error.code() is not grpc.StatusCode.UNAVAILABLE or "Connect again" not in str(error.details()):
                    raise
                continue
            assert first is not grpc.aio.EOF
            call.cancel()
            return str(first.welcome.till.id)


async def test_two_commands_are_all_a_shop_needs(shop: Shop, tmp_path: Path) -> None:
    """The folder holds the rest: address, key and certificate."""
    folder, code = tmp_path / "till", (await shop.code(name="Depan")).code
    program = (sys.executable, "-m", "edge")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIPOS_")}
    pairing = await asyncio.create_subprocess_exec(
        *(*program, "enroll", "--cloud", shop.address, "--code", code.lower(), "--data", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    words_said, complaints = await pairing.communicate()
    assert pairing.returncode == 0, complaints.decode()
    assert "Tablet ini sekarang Depan di Toko Contoh Kemang" in words_said.decode()
    assert "This tablet is Depan at Toko Contoh Kemang" in words_said.decode()

    log = (tmp_path / "till.log").open("wb")
    daemon = await asyncio.create_subprocess_exec(
        *(*program, "--data", str(folder), "--port", "0"), stderr=log, cwd=ROOT, env=environment
    )
    try:
        async with asyncio.timeout(30):
            while b"link_online" not in (tmp_path / "till.log").read_bytes():
                assert daemon.returncode is None, (tmp_path / "till.log").read_text()
                await asyncio.sleep(0.05)  # bounded: another process
    finally:
        daemon.terminate()
        await daemon.wait()
        log.close()


async def test_the_key_is_for_its_owner_only_and_is_sent_to_nobody(shop: Shop, tmp_path: Path) -> None:
    made = await shop.paired(tmp_path / "till")

    for name in (identity.KEY_NAME, settings.IDENTITY_NAME):
        assert stat.S_IMODE((tmp_path / "till" / name).stat().st_mode) == 0o600
    again = identity.load(tmp_path / "till")
    assert again is not None
    assert replace(again, key=made.key) == made
    assert again.key.private_numbers() == made.key.private_numbers()
    assert await greeted(Own(tmp_path / "till", again)) == made.till_id


async def test_a_qr_code_pins_the_authority_and_typing_shows_its_fingerprint(shop: Shop, tmp_path: Path) -> None:
    code = await shop.code()
    given = settings.read_enrolling(["--qr", code.qr_text, "--data", str(tmp_path / "till")], {})
    said: list[str] = []
    made = await enrolment.enrol(given.data, given.cloud, given.code, software_version="1", pin=given.authority, say=said.append)
    assert (made.tenant_name, said) == ("Toko Contoh", [])

    await shop.paired(tmp_path / "other", said)
    assert code.authority_fingerprint in said[0]


async def test_a_cloud_of_another_authority_does_not_get_the_code(shop: Shop, tmp_path: Path) -> None:
    code = (await shop.code()).code

    with pytest.raises(PairingFailed, match="bukan cloud yang dimaksud"):
        await enrolment.enrol(tmp_path / "till", shop.address, code, software_version="1", pin="ab" * 32)

    made = await enrolment.enrol(tmp_path / "till", shop.address, code, software_version="1", say=list[str]().append)
    assert made.till_id  # the code was not used up


async def test_without_tls_a_code_goes_to_this_machine_only(shop: Shop, tmp_path: Path) -> None:
    code = (await shop.code()).code
    with pytest.raises(PairingFailed, match="tidak ada sambungan aman"):
        await enrolment.enrol(tmp_path / "till", f"0.0.0.0:{shop.cloud.port}", code, software_version="1")

    made = await enrolment.enrol(tmp_path / "till", f"127.0.0.1:{shop.cloud.port}", code, software_version="1")

    assert made.link_address == f"127.0.0.1:{shop.cloud.link_port}"
    assert await greeted(Own(tmp_path / "till", made)) == made.till_id


async def test_every_failure_says_in_both_languages_what_to_do(shop: Shop, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"

        for address, code, indonesian, english in (
            (nobody, "AAAA-AAAA", "Periksa internet", "Check the internet"),
            (shop.address, "AAAA-AAAA", "Kode pemasangan salah", "The pairing code is wrong"),
            (shop.address, "A", "Kode pemasangan salah", "The pairing code is wrong"),
            # The link's own port, where only tills are let in.
            (f"127.0.0.1:{shop.cloud.link_port}", "AAAA-AAAA", "bukan pintu pemasangan", "not the door where tablets pair"),
        ):
            with pytest.raises(PairingFailed) as failed:
                await enrolment.enrol(tmp_path / "till", address, code, software_version="1", say=list[str]().append)
            first, second = str(failed.value).splitlines()
            assert indonesian in first
            assert english in second


async def test_a_tablet_that_is_a_till_already_is_paired_again_only_if_that_is_meant(shop: Shop, tmp_path: Path) -> None:
    enrolment.check_new(tmp_path / "till")
    made = await shop.paired(tmp_path / "till")
    with pytest.raises(PairingFailed, match="--again") as refused:
        enrolment.check_new(tmp_path / "till")
    assert made.till_name in str(refused.value)
    (tmp_path / "till" / settings.IDENTITY_NAME).write_text("broken")
    enrolment.check_new(tmp_path / "till")  # pairing again is what mends it


async def test_a_till_with_a_token_gets_the_keys_that_rules_are_signed_with_where_it_shows_the_token(
    shop: Shop, tmp_path: Path
) -> None:
    made = await shop.paired(tmp_path / "till")
    assert await enrolment.policy_keys(f"127.0.0.1:{shop.cloud.port}") == made.policy_keys
    assert await enrolment.policy_keys("127.0.0.1:1") == {}


async def test_a_tablet_that_loses_its_power_before_it_stored_the_answer_pairs_with_the_same_code(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, folder = (await shop.code()).code, tmp_path / "till"
    with monkeypatch.context() as patch:
        patch.setattr(identity, "save", lambda *_: (_ for _ in ()).throw(IdentityUnusable("no power")))
        with pytest.raises(IdentityUnusable):
            await enrolment.enrol(folder, shop.address, code, software_version="1", say=list[str]().append)
    assert identity.load(folder) is None

    made = await enrolment.enrol(folder, shop.address, code, software_version="1", say=list[str]().append)

    assert await greeted(Own(folder, made)) == made.till_id
    with pytest.raises(PairingFailed, match="sudah dipakai"):
        await enrolment.enrol(tmp_path / "other", shop.address, code, software_version="1", say=list[str]().append)


async def test_a_folder_with_sales_of_a_till_becomes_no_other_and_goes_on_as_the_same(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "till"
    first = await shop.paired(folder)
    storage = Storage.open(folder)
    epoch = storage.store_epoch
    await storage.store.write(lambda connection: facts.put(connection, facts.TILL_ID, first.till_id))
    await storage.store.write(lambda connection: facts.put(connection, facts.LAST_OP_SEQ, 7))
    storage.close()

    with pytest.raises(PairingFailed, match=first.till_id):
        await shop.paired(folder)
    again = await shop.paired(folder, replaces=first.till_id)

    assert again.till_id == first.till_id
    assert again.certificates != first.certificates
    storage = Storage.open(folder)
    assert storage.store_epoch == epoch
    assert await storage.store.read(lambda connection: facts.number(connection, facts.LAST_OP_SEQ)) == 7
    storage.close()
    assert await greeted(Own(folder, again)) == first.till_id


async def test_a_certificate_is_renewed_when_its_time_has_come_and_the_next_stream_shows_the_new_one(
    shop: Shop, tmp_path: Path
) -> None:
    folder = tmp_path / "till"
    made = await shop.paired(folder)
    own = Own(folder, made)
    assert not await enrolment.check(own)
    ring = keyring.find(shop.settings)
    assert ring is not None
    async with shop.cloud.database.across_tenants() as connection:
        issuer = (await authorities.read(connection, ring, business_days.now())).issuer
        then = business_days.now() - timedelta(days=100)
        old = certificates.for_till(issuer, made.key.public_key(), made.tenant_id, made.till_id, then)
        await connection.execute(sa.text("DELETE FROM till_certificates WHERE till_id = :id"), {"id": made.till_id})
        await till_credentials.certify(connection, made.tenant_id, made.till_id, old)
    # Paired a hundred days ago and switched off since: the link is closed to it, and it may still renew.
    own.renewed(certificates=(old, *made.certificates[1:]), renew_at=datetime.now(UTC) - timedelta(minutes=1))
    with pytest.raises(grpc.aio.AioRpcError):
        await greeted(own)

    assert await enrolment.check(own)

    assert own.identity.renew_at > datetime.now(UTC) + timedelta(days=50)
    assert own.identity.certificate.public_key() == made.key.public_key()
    stored = identity.load(folder)
    assert stored is not None
    assert stored.certificates == own.identity.certificates
    assert await greeted(own) == made.till_id


async def test_one_channel_shows_the_certificate_there_is_when_a_stream_begins(shop: Shop, tmp_path: Path) -> None:
    own = Own(tmp_path / "till", await shop.paired(tmp_path / "till"))
    other = await shop.paired(tmp_path / "other")
    async with own.channel(own.identity.link_address, ()) as channel:
        stub: Any = link_pb2_grpc.EdgeLinkServiceStub(channel)

        async def till_of_a_new_stream() -> str:
            call = stub.Link(metadata=())
            await call.write(link_pb2.LinkRequest(hello=link_pb2.Hello(store_epoch=1)))
            first = await call.read()
            call.cancel()
            return str(first.welcome.till.id)

        before = await till_of_a_new_stream()
        mine, own.identity = own.identity, other
        after = await till_of_a_new_stream()

    assert (before, after) == (mine.till_id, other.till_id)


async def test_a_running_till_learns_of_a_new_authority_by_itself(shop: Shop, tmp_path: Path) -> None:
    own = Own(tmp_path / "till", await shop.paired(tmp_path / "till"))
    ring = keyring.find(shop.settings)
    assert ring is not None
    async with shop.cloud.database.across_tenants() as connection:
        await authorities.rotate(connection, ring, signing_keys.AUTHORITY, business_days.now(), at_once=False)
    assert shop.cloud.renew_doors is not None
    await shop.cloud.renew_doors()

    renewal = asyncio.create_task(Renewal(own, lambda: True, check_seconds=0.1, retry_seconds=0.1).run())
    try:
        async with asyncio.timeout(10):
            while len(own.identity.authorities) < 2:
                await asyncio.sleep(0.02)  # bounded: the other task works
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
    stored = identity.load(tmp_path / "till")
    assert stored is not None
    assert len(stored.authorities) == 2


async def test_a_damaged_identity_is_said_and_nothing_is_guessed(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "till"
    await shop.paired(folder)
    (folder / settings.IDENTITY_NAME).write_text('{"till_id": ')

    with pytest.raises(IdentityUnusable, match="rusak"):
        identity.load(folder)

    (folder / settings.IDENTITY_NAME).unlink()
    assert identity.load(folder) is None


class OddCloud(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """A cloud that says what no cloud of ours says, behind a certificate that the till believes."""

    def __init__(self, leaf: bytes) -> None:
        self.authorities: list[bytes] = [leaf]
        self.answer = enrolment_pb2.RenewCertificateResponse()
        self.asked = 0

    async def Enrol(  # noqa: N802 (named by the contract)
        self, _request: Any, context: Any
    ) -> enrolment_pb2.EnrolResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Nobody is paired here.")
        raise AssertionError

    async def GetAuthorities(  # noqa: N802 (as above)
        self, _request: Any, _context: Any
    ) -> enrolment_pb2.GetAuthoritiesResponse:
        answer = enrolment_pb2.GetAuthoritiesResponse(authorities=self.authorities)
        answer.server_time.FromDatetime(business_days.now())
        self.asked += 1
        return answer

    async def RenewCertificate(  # noqa: N802 (as above)
        self, _request: Any, _context: Any
    ) -> enrolment_pb2.RenewCertificateResponse:
        return self.answer


def a_certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    """One that vouches for itself."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "till")]), business_days.now()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity.DOOR_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@asynccontextmanager
async def an_odd_cloud(folder: Path) -> AsyncIterator[tuple[OddCloud, Own]]:
    """It, and a till that was paired with it and must renew its certificate."""
    folder.mkdir()
    key = identity.key_of(folder)
    leaf = a_certificate(key)
    cloud, server = OddCloud(leaf), grpc.aio.server()
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(cloud, server)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = x509.load_der_x509_certificate(leaf).public_bytes(encoding)
    credentials = grpc.ssl_server_credentials([(key.private_bytes(encoding, form, serialization.NoEncryption()), pem)])
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    texts = dict.fromkeys(("tenant_id", "tenant_name", "till_id", "till_name", "outlet_name"), "x")
    known = identity.Identity(
        **texts, link_address=address, enrol_address=address, is_plain=False, is_public=False, certificates=(leaf,),
        authorities=(leaf,), policy_keys={"key": bytes(32)}, renew_at=business_days.now() - timedelta(days=1), key=key,
    )  # fmt: skip
    identity.save(folder, known)
    await server.start()
    try:
        yield cloud, Own(folder, known)
    finally:
        await server.stop(None)


def stored_identity(folder: Path) -> bytes:
    return (folder / settings.IDENTITY_NAME).read_bytes()


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"certificates": [b"junk"]},
        {"certificates": ["another's"]},
        {"certificates": ["mine", b"junk"]},
        {"certificates": ["mine"], "authorities": [b"junk"]},
        {"certificates": ["mine"], "policy_keys": [{"key_id": "key", "public_key": b"short"}]},
        {"certificates": ["mine"], "renew_time": {"seconds": 2**62}},
        {"authorities known": [b"junk"]},
    ],
    ids=[
        "nothing",
        "junk",
        "another's key",
        "a junk chain",
        "junk authorities",
        "a junk key",
        "no time",
        "other junk authorities",
    ],
)
async def test_an_odd_answer_changes_nothing_and_ends_nothing(tmp_path: Path, odd: dict[str, Any]) -> None:
    async with an_odd_cloud(tmp_path / "till") as (cloud, own):
        given = {"mine": a_certificate(own.identity.key), "another's": a_certificate(ec.generate_private_key(ec.SECP256R1()))}
        said = {**odd, "certificates": [given.get(each, each) for each in odd.get("certificates", ())]}
        cloud.authorities = said.pop("authorities known", cloud.authorities)
        cloud.answer = enrolment_pb2.RenewCertificateResponse(**said)
        before, known = stored_identity(own.folder), own.identity
        renewal = asyncio.create_task(Renewal(own, lambda: False, retry_seconds=0.01).run())
        try:
            async with asyncio.timeout(10):
                while cloud.asked < 3 and not renewal.done():
                    await asyncio.sleep(0.01)  # bounded: the other task works
            assert not renewal.done()
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        assert own.identity is known
        assert stored_identity(own.folder) == before
        assert identity.load(own.folder) is not None


async def test_what_an_answer_leaves_out_stays_as_it_was(tmp_path: Path) -> None:
    async with an_odd_cloud(tmp_path / "till") as (cloud, own):
        known = own.identity
        cloud.authorities = []
        cloud.answer = enrolment_pb2.RenewCertificateResponse(certificates=[a_certificate(known.key)])

        assert await enrolment.check(own)

        assert own.identity.certificates == tuple(cloud.answer.certificates) != known.certificates
        assert own.identity.authorities == known.authorities
        assert own.identity.policy_keys == known.policy_keys


def test_an_identity_that_is_none_is_not_stored(tmp_path: Path) -> None:
    key = identity.key_of(tmp_path)
    texts = dict.fromkeys(
        ("tenant_id", "tenant_name", "till_id", "till_name", "outlet_name", "link_address", "enrol_address"), "x"
    )
    none = identity.Identity(
        **texts, is_plain=True, is_public=False, certificates=(a_certificate(key),), authorities=(), policy_keys={},
        renew_at=business_days.now(), key=key,
    )  # fmt: skip
    with pytest.raises(IdentityUnusable, match="no authority is named") as refusal:
        identity.save(tmp_path, none)
    assert len(str(refusal.value).splitlines()) == 2
    assert not (tmp_path / settings.IDENTITY_NAME).exists()


@pytest.mark.parametrize("authorities", [[], ["anVuaw=="]])
async def test_an_identity_without_an_authority_that_can_be_read_is_damaged(tmp_path: Path, authorities: list[str]) -> None:
    async with an_odd_cloud(tmp_path / "till") as (_, own):
        path = own.folder / settings.IDENTITY_NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), "authorities": authorities}))
        with pytest.raises(IdentityUnusable, match="rusak"):
            identity.load(own.folder)


@pytest.mark.parametrize("text", ["https://example.com/?code=1", "gipos-pair:?v=1&code=ABCD", ""])
def test_a_qr_code_of_something_else_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(settings.SettingsInvalid):
        settings.read_enrolling(["--qr", text], {})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pos.example.com", "pos.example.com:8083"),
        ("pos.example.com:9000", "pos.example.com:9000"),
        ("https://pos.example.com/", "pos.example.com:443"),
        (" https://pos.example.com:8083 ", "pos.example.com:8083"),
        ("[::1]", "[::1]:8083"),
        ("http://pos.example.com", "tanpa http://"),
        ("pos.example.com:0", "host:port"),
        ("two words", "host:port"),
        ("https://", "host:port"),
    ],
)
def test_an_address_is_taken_as_people_type_it_or_refused_with_an_example(typed: str, expected: str) -> None:
    try:
        assert settings.pairing_address(typed) == expected
    except settings.SettingsInvalid as refusal:
        first, second = str(refusal).splitlines()
        assert expected in first
        assert "example" in second


@pytest.mark.parametrize("code", ["K7QF", "K7QF-2MX!", "K7QF-2MXDD"])
def test_what_cannot_be_a_code_is_refused_before_anybody_is_asked(code: str) -> None:
    with pytest.raises(settings.SettingsInvalid, match="8 huruf dan angka"):
        settings.read_enrolling(["--cloud", "pos.example.com", "--code", code], {})


def test_a_tablet_that_was_not_paired_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsInvalid, match="python -m edge enroll"):
        settings.read(["--data", str(tmp_path)], {})


def test_a_paired_tablet_needs_nothing_and_ignores_a_token_of_another_time(tmp_path: Path) -> None:
    (tmp_path / settings.IDENTITY_NAME).write_text("{}")

    given = settings.read(["--data", str(tmp_path)], {"GIPOS_EDGE_TOKEN": "gipos_device_old"})

    assert (given.cloud, given.token) == ("", "")


def test_every_reason_has_two_lines() -> None:
    assert all(len(text.splitlines()) == 2 for text in words.REASONS.values())
