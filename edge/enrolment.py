"""How this tablet becomes a till, and how it stays one: pairing with a code, and a new certificate in good time.

Before the code leaves the tablet it is known who gets it: a cloud whose authority is named by the QR code, or one that the public
authorities vouch for, or, where a person only typed an address, whoever answers there; then its fingerprint is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import platform
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from edge import answers, words
from edge import identity as identities
from edge.identity import DOOR_NAME, Identity, IdentityUnusable, Own
from edge.storage import facts
from edge.storage.folder import Storage
from gipos.edge.v1 import enrolment_pb2
from gipos.edge.v1.enrolment_pb2_grpc import EnrolmentServiceStub

if TYPE_CHECKING:
    # Exists only for type checkers.
    from gipos.edge.v1.enrolment_pb2_grpc import EnrolmentServiceAsyncStub

PATIENCE_SECONDS = 15.0
"""For one answer of the cloud, on a bad line."""
ASKED_WITHIN_SECONDS = 5.0
"""For an answer that a running link waits for."""
CLOCK_TOLERANCE = timedelta(minutes=5)
RENEW_SPAN = timedelta(days=18)
"""A fifth of a certificate's life: renewed at a random moment between 60 and 80 percent of it."""
RENEW_CONTEXT = b"gipos renew\0"
CHECK_SECONDS = 6 * 3600.0
RETRY_SECONDS = 600.0
_NOT_A_DOOR = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN})
"""What gRPC says of a server that is not a pairing one, or not gRPC at all."""
PENDING_NAME = "pairing.json"

_log = structlog.get_logger(__name__)


class PairingFailed(Exception):
    """The tablet could not be paired; the message says why and what to do, in both languages."""


@dataclass(frozen=True)
class Door:
    """How the cloud is reached where tablets pair."""

    address: str
    is_plain: bool = False
    is_public: bool = False
    """Its certificate is one that everybody believes; else it comes from the cloud's own authority."""
    leaf: bytes = b""
    """That certificate, DER."""


async def enrol(
    folder: Path, address: str, code: str, *, software_version: str, pin: str = "", say: Callable[[str], None] = print
) -> Identity:
    """Pairs this tablet: afterwards the folder has all the daemon needs.

    Args:
        folder: The data folder. What an earlier life of the till has left in it stays.
        address: host:port of the cloud, where tablets pair.
        code: As it was typed.
        software_version: Of this program.
        pin: SHA-256 of the authority's certificate in hex, from a QR code; empty when only an address was typed.
        say: Gets what a person should read, in both languages.

    Raises:
        PairingFailed: the cloud cannot be reached, is another one, or refuses the code.
        IdentityUnusable: the folder cannot be written, its key is damaged, or what the cloud answered is nothing to link with.
        StorageUnusable: the folder is in use by a daemon, or damaged.
    """
    with contextlib.closing(Storage.open(folder)) as storage:
        known = await storage.store.read(lambda connection: facts.text(connection, facts.TILL_ID))
        key = identities.key_of(folder)
        pending = _pending(folder, code)
        door = await find_door(address)
        async with _entered(door, pin, say) as (stub, authorities):
            request = enrolment_pb2.EnrolRequest(
                code=code,
                certificate_request=identities.request_for(key),
                enrolment_id=pending,
                hardware=f"{platform.node()}, {platform.system()} {platform.release()}"[:200],
                software_version=software_version,
                previous_till_id=known,
            )
            try:
                answer = await stub.Enrol(request, timeout=PATIENCE_SECONDS)
            except aio.AioRpcError as error:
                raise PairingFailed(_meaning(error, address)) from error
        identity = _identity(answer, door, key, authorities)
        identities.save(folder, identity)
        (folder / PENDING_NAME).unlink(missing_ok=True)
    return identity


def check_new(folder: Path) -> None:
    """Sees to it that nobody pairs a tablet twice by mistake.

    Raises:
        PairingFailed: the folder is that of a till already.
    """
    try:
        known = identities.load(folder)
    except IdentityUnusable:
        return  # pairing again is what mends that
    if known is not None:
        names = {"till": known.till_name, "outlet": known.outlet_name, "tenant": known.tenant_name}
        raise PairingFailed(words.ALREADY.format(**names, data=folder))


async def find_door(address: str) -> Door:
    """Looks how the cloud is reached at an address. Nothing is said there but hello.

    Raises:
        PairingFailed: nobody answers, or without TLS on another machine.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        leaf = await asyncio.to_thread(_leaf, host, int(port))
    except (ssl.SSLError, ConnectionResetError, EOFError) as error:
        if not _is_here(host):
            raise PairingFailed(words.NO_TLS.format(address=address)) from error
        return Door(address, is_plain=True)
    except OSError as error:
        raise PairingFailed(words.NO_NETWORK.format(address=address, reason=error.strerror or error)) from error
    names = _names(x509.load_der_x509_certificate(leaf))
    return Door(address, is_public=DOOR_NAME not in names, leaf=leaf)


@asynccontextmanager
async def _entered(
    door: Door, pin: str, say: Callable[[str], None]
) -> AsyncIterator[tuple[EnrolmentServiceAsyncStub, tuple[bytes, ...]]]:
    """The cloud, once it is known to be the right one, and its authorities."""
    async with _channel(door, (door.leaf,)) as channel:
        stub: EnrolmentServiceAsyncStub = EnrolmentServiceStub(channel)
        try:
            answer = await stub.GetAuthorities(enrolment_pb2.GetAuthoritiesRequest(), timeout=PATIENCE_SECONDS)
        except aio.AioRpcError as error:
            text = _meaning(error, door.address)
            if error.code() in _NOT_A_DOOR and not answers.reason(error)[0] and text.startswith(door.address):
                # Somebody has answered before, so it is not the network.
                text = words.NO_DOOR.format(address=door.address)
            raise PairingFailed(text) from error
        authorities = tuple(answer.authorities)
        prints = [hashlib.sha256(each).hexdigest() for each in authorities]
        if pin and pin.lower() not in prints:
            raise PairingFailed(words.OTHER_CLOUD.format(address=door.address))
        _compare_clocks(answer.server_time.ToDatetime(UTC), say)
        if door.leaf and not door.is_public:
            found = _voucher(door.leaf, authorities, pin)
            if not found:
                raise PairingFailed(words.OTHER_CLOUD.format(address=door.address))
            if not pin:
                say(words.FINGERPRINT.format(print=shown(found)))
        yield stub, authorities


def _channel(door: Door, trusted: tuple[bytes, ...]) -> aio.Channel:
    if door.is_plain:
        return aio.insecure_channel(door.address, options=[("grpc.enable_http_proxy", 0)])
    if door.is_public:
        return aio.secure_channel(door.address, grpc.ssl_channel_credentials())
    # The server proves that it holds the key of the certificate that was looked at; whose it is, is looked at next.
    return identities.secure(door.address, trusted)


def shown(fingerprint: str) -> str:
    """A fingerprint for people who compare: 128 bits of it in groups of four."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, 32, 4))


def _voucher(leaf: bytes, authorities: tuple[bytes, ...], pin: str) -> str:
    """The fingerprint of the authority that the door's certificate comes from, which is the pinned one if there is one."""
    certificate = x509.load_der_x509_certificate(leaf)
    for each in authorities:
        fingerprint = hashlib.sha256(each).hexdigest()
        if pin and fingerprint != pin.lower():
            continue
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(x509.load_der_x509_certificate(each))
            return fingerprint
    return ""


def _identity(
    answer: enrolment_pb2.EnrolResponse, door: Door, key: ec.EllipticCurvePrivateKey, authorities: tuple[bytes, ...]
) -> Identity:
    link = answer.link_address
    if not link:
        raise PairingFailed(words.NO_LINK)
    if link.startswith(":"):
        link = door.address.rpartition(":")[0] + link
    return Identity(
        tenant_id=answer.tenant_id,
        tenant_name=answer.tenant_name,
        till_id=answer.till.id,
        till_name=answer.till.name,
        outlet_name=answer.outlet.name,
        link_address=link,
        enrol_address=door.address,
        is_plain=door.is_plain,
        is_public=door.is_public,
        certificates=tuple(answer.certificates),
        authorities=tuple(answer.authorities) or authorities,
        policy_keys={each.key_id: each.public_key for each in answer.policy_keys},
        renew_at=_renew_at(answer.renew_time.ToDatetime(UTC)),
        key=key,
    )


class Renewal:
    """Keeps a running till's certificate fresh. `run` is one task for the daemon's life; it never ends the daemon."""

    def __init__(
        self,
        own: Own,
        is_online: Callable[[], bool],
        *,
        check_seconds: float = CHECK_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Prepares; nothing is asked before `run`.

        Args:
            own: The till's identity.
            is_online: Whether the link stands. If it does not, the certificate may have ended by the cloud's clock.
            check_seconds: How often the cloud is asked while all is well.
            retry_seconds: How often it is asked while the link is down.
        """
        self._own = own
        self._is_online = is_online
        self._check_seconds = check_seconds
        self._retry_seconds = retry_seconds

    async def run(self) -> None:
        """Looks now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        due_at = loop.time()
        while True:
            if loop.time() >= due_at or not self._is_online():
                try:
                    await check(self._own)
                    due_at = loop.time() + self._check_seconds
                except (aio.AioRpcError, IdentityUnusable) as error:
                    _log.info("certificate_not_checked", error=str(error).splitlines()[0])
                except Exception as error:  # noqa: BLE001 (whatever the cloud answers, the till sells; it is asked again)
                    _log.warning("certificate_not_checked", error=repr(error))
            await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1))  # noqa: S311 (spreads load, guards nothing)


async def check(own: Own) -> bool:
    """Asks the cloud for its time and authorities and renews when that is due; whether it was.

    The tablet's own clock is not asked: it may be years off.

    Raises:
        grpc.aio.AioRpcError: the cloud cannot be reached, or does not renew.
        IdentityUnusable: the folder cannot be written, or what the cloud says is nothing to link with.
    """
    identity = own.identity
    door = Door(identity.enrol_address, identity.is_plain, identity.is_public)
    async with _channel(door, identity.authorities) as channel:
        stub: EnrolmentServiceAsyncStub = EnrolmentServiceStub(channel)
        answer = await stub.GetAuthorities(enrolment_pb2.GetAuthoritiesRequest(), timeout=PATIENCE_SECONDS)
        named = set(answer.authorities)
        if not door.is_plain and not door.is_public and named and named != set(identity.authorities):
            own.renewed(authorities=tuple(answer.authorities))
        if answer.server_time.ToDatetime(UTC) < identity.renew_at:
            return False
        await _renew(own, stub)
    return True


async def _renew(own: Own, stub: EnrolmentServiceAsyncStub) -> None:
    identity = own.identity
    request = identities.request_for(identity.key)
    answer = await stub.RenewCertificate(
        enrolment_pb2.RenewCertificateRequest(
            certificate_request=request,
            expired_certificate=identity.certificates[0],
            signature=identity.key.sign(RENEW_CONTEXT + request, ec.ECDSA(hashes.SHA256())),
        ),
        timeout=PATIENCE_SECONDS,
    )
    # What is left out stays as it was: nobody is better off without authorities, or without keys for the offline rules.
    own.renewed(
        certificates=tuple(answer.certificates),
        authorities=tuple(answer.authorities) or identity.authorities,
        policy_keys={each.key_id: each.public_key for each in answer.policy_keys} or identity.policy_keys,
        renew_at=_renew_at(answer.renew_time.ToDatetime(UTC)),
    )
    _log.info("certificate_renewed", until=own.identity.certificate.not_valid_after_utc.isoformat())


async def policy_keys(address: str) -> dict[str, bytes]:
    """What offline rules are signed with, for a till with a token: it was given no keys, and asks where it sends its token.

    Whoever answers there is believed, as in all that such a till is told. Empty when the cloud does not say.
    """
    async with _channel(Door(address, is_plain=True), ()) as channel:
        stub: EnrolmentServiceAsyncStub = EnrolmentServiceStub(channel)
        try:
            answer = await stub.GetAuthorities(enrolment_pb2.GetAuthoritiesRequest(), timeout=ASKED_WITHIN_SECONDS)
        except aio.AioRpcError as error:
            _log.info("policy_keys_not_given", code=error.code().name)
            return {}
    return {each.key_id: each.public_key for each in answer.policy_keys}


def _renew_at(earliest: datetime) -> datetime:
    return earliest + RENEW_SPAN * random.random()  # noqa: S311 (spreads load, guards nothing)


def _pending(folder: Path, code: str) -> str:
    """The id of this try; the same for the same code, so that an answer that was lost is given again.

    Raises:
        IdentityUnusable: the folder cannot be written.
    """
    path = folder / PENDING_NAME
    mark = hashlib.sha256(code.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored: Any = json.loads(path.read_text("utf-8"))
        if stored["code"] == mark:
            return str(stored["enrolment_id"])
    made = secrets.token_hex(16)
    identities.write(path, json.dumps({"code": mark, "enrolment_id": made}).encode())
    return made


def _compare_clocks(theirs: datetime, say: Callable[[str], None]) -> None:
    ours = datetime.now(UTC)
    if abs(ours - theirs) > CLOCK_TOLERANCE:
        say(words.CLOCK.format(ours=f"{ours:%Y-%m-%d %H:%M} UTC", theirs=f"{theirs:%Y-%m-%d %H:%M} UTC"))


def _meaning(error: aio.AioRpcError, address: str) -> str:
    """An error of the cloud or of the way to it, for the person in front of the tablet."""
    details = error.details() or ""
    reason, values = answers.reason(error)
    if reason:
        text = words.REASONS.get(reason)
        return text.format(**values) if text is not None else f"{words.REFUSED}\n{details}"
    if "CERTIFICATE_VERIFY_FAILED" in details and ("expired" in details or "not yet valid" in details):
        return words.CERTIFICATE_TIME.format(address=address, ours=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return words.OTHER_CLOUD.format(address=address)
    return words.NO_NETWORK.format(address=address, reason=error.code().name)


def _leaf(host: str, port: int) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, port), timeout=PATIENCE_SECONDS))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.DNSName))


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
