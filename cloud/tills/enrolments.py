"""How a tablet becomes a till and stays one: a code for a certificate, and a certificate for the next one.

Whatever is asked twice because an answer was lost is answered the same. Nobody learns here whether a wrong code was nearly right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.accounts import changes, outlets, till_credentials
from cloud.accounts.till_credentials import REVOKED, Shown
from cloud.platform import trail
from cloud.platform.calls import Call, Caller
from cloud.platform.database import Database, Transaction
from cloud.platform.keyring import Keyring
from cloud.tills import certificates, codes
from cloud.tills.addresses import Addresses
from cloud.tills.authorities import Authorities
from cloud.tills.guesses import Guesses
from gipos.edge.v1.enrolment_pb2 import EnrolRequest, EnrolResponse, RenewCertificateRequest, RenewCertificateResponse
from kernel import business_days
from kernel.errors import (
    Invalid,
    PairingCodeOther,
    PairingCodeWrong,
    TillRevoked,
    Unauthenticated,
    Violation,
)
from kernel.ids import new_id
from kernel.signatures import matches

RENEWABLE = timedelta(days=30)
"""So long after its end a certificate may be renewed with its key: a shop may be closed for a while."""
RENEWED_AT = 0.6
"""Of its life, from when on a till renews its certificate."""
SAME = timedelta(days=1)
"""Within this time a till that asks again for the same key gets the same certificate."""
RENEW_CONTEXT = b"gipos renew\0"
LONGEST = 200
_WRONG = (
    "This pairing code is wrong, was used, or is older than ten minutes. Check what was typed; if it is right, make a new code."
)
"""The same for all three: who guesses learns nothing."""


@dataclass(frozen=True)
class Enrolments:
    """What the rules need of the process."""

    database: Database
    ring: Keyring
    authorities: Authorities
    addresses: Addresses
    announce: Callable[[str], None]
    """Told, after the commit, which till has another tablet or another state now."""

    async def enrol(self, call: Call, request: EnrolRequest) -> EnrolResponse:
        """A certificate for a code.

        Raises:
            Invalid: the request is malformed.
            RateLimited, PairingCodeWrong, PairingCodeOther: the code does not do.
        """
        key = _requested(request.certificate_request)
        if not request.enrolment_id or len(request.enrolment_id) > LONGEST:
            raise Invalid([Violation("enrolment_id", "REQUIRED", f"enrolment_id is required, at most {LONGEST} characters.")])
        found, mode, is_good = await self._found(call, request, key)
        if found is not None:
            # For the audit trail, which is the merchant's whose code it is.
            call.caller = Caller(found.tenant_id, found.id, mode, frozenset(), outlet_id=found.outlet_id, kind="till")
        if found is None or not is_good:
            raise PairingCodeWrong(_WRONG)
        async with self.database.transaction(found.tenant_id) as tx:
            row = await codes.locked(tx, found.id)
            # Judged once more: of two tablets that show a code at the same moment the second waited here for the first.
            if not _is_good(row, request, key, tx.now):
                raise PairingCodeWrong(_WRONG)
            if row.used_at is not None:
                certificate, till_id = row.certificate, row.till_id
                trail.repeated(till_id)
            else:
                till_id, certificate = await self._paired(tx, row, request, key)
                trail.about(till_id)
            response = await self._response(tx, till_id, row.outlet_id, certificate)
        self.announce(till_id)
        return response

    async def _found(
        self, call: Call, request: EnrolRequest, key: ec.EllipticCurvePublicKey
    ) -> tuple[sa.Row[Any] | None, str, bool]:
        """A code's row, its merchant's mode, and whether it does. If not, that was one wrong try, whatever is wrong with it."""
        code = codes.normalised(request.code)
        guesses = Guesses(self.ring)
        async with self.database.identifying() as connection:
            await guesses.hold(connection, call)
            if not code:
                return None, "", False  # no code at all: nothing was tried
            found = await codes.look_up(connection, self.ring, code)
            is_good = found is not None and _is_good(found, request, key, business_days.now())
            if not is_good:
                await guesses.count(connection, call)
            mode = await till_credentials.mode_of(connection, found.tenant_id) if found is not None else ""
            return found, mode, is_good

    async def _paired(
        self, tx: Transaction, row: sa.Row[Any], request: EnrolRequest, key: ec.EllipticCurvePublicKey
    ) -> tuple[str, bytes]:
        if request.previous_till_id and request.previous_till_id != row.replaces:
            raise PairingCodeOther(
                "This tablet has been another till and may hold sales that are not uploaded. Make a code that replaces the till "
                f"{request.previous_till_id}, or pair with an empty data folder.",
                till_id=request.previous_till_id[:LONGEST],
            )
        till_id = row.replaces or new_id("dev")
        hardware = request.hardware[:LONGEST]
        if row.replaces:
            await till_credentials.replace(tx, till_id, row.name, hardware)
            await changes.note(tx, till_id)
        else:
            await till_credentials.add(tx, till_id, row.outlet_id, row.name, hardware)
        certificate = certificates.for_till(self.authorities.keys.issuer, key, tx.tenant_id, till_id, tx.now)
        await till_credentials.certify(tx.connection, tx.tenant_id, till_id, certificate)
        await codes.use(tx, row.id, enrolment_id=request.enrolment_id, till_id=till_id, certificate=certificate, at=tx.now)
        return till_id, certificate

    async def _response(self, tx: Transaction, till_id: str, outlet_id: str, certificate: bytes) -> EnrolResponse:
        keys = self.authorities.keys
        outlet = await outlets.find(tx.connection, tx.tenant_id, outlet_id)
        name, _ = await outlets.tenant(tx.connection, tx.tenant_id)
        response = EnrolResponse(
            tenant_id=tx.tenant_id,
            tenant_name=name,
            outlet=outlet,
            till=next(till for till in outlet.tills if till.id == till_id),
            certificates=self._chain(certificate),
            authorities=keys.trusted,
            link_address=self.addresses.link,
            policy_keys=keys.policy_keys,
        )
        response.renew_time.FromDatetime(renew_time(certificate))
        return response

    async def renew(self, call: Call, request: RenewCertificateRequest) -> RenewCertificateResponse:
        """The next certificate of a till.

        Raises:
            Invalid: the request is malformed.
            Unauthenticated: neither a certificate nor a signature by the key of one.
            TillRevoked: the till was locked out or replaced.
        """
        key = _requested(request.certificate_request)
        given = call.certificate or self._proven(request)
        shown = _let_in(await self._shown(given))
        async with self.database.transaction(shown.tenant_id) as tx:
            # Looked at once more: the till may just have been given to another tablet, and that revokes what there is by then.
            await till_credentials.hold(tx, shown.till_id)
            shown = _let_in(await till_credentials.shown(tx.connection, given))
            mode = await till_credentials.mode_of(tx.connection, shown.tenant_id)
            who = Caller(
                *(shown.tenant_id, shown.till_id, mode, frozenset[str]()),
                till_id=shown.till_id,
                outlet_id=shown.outlet_id,
                kind="till",
            )
            call.caller = who
            certificate = await self._next(tx, shown, key)
            trail.about(shown.till_id)
        keys = self.authorities.keys
        response = RenewCertificateResponse(
            certificates=self._chain(certificate), authorities=keys.trusted, policy_keys=keys.policy_keys
        )
        response.renew_time.FromDatetime(renew_time(certificate))
        return response

    async def _next(self, tx: Transaction, shown: Shown, key: ec.EllipticCurvePublicKey) -> bytes:
        last = await till_credentials.latest(tx.connection, tx.tenant_id, shown.till_id)
        if last is not None:
            parsed = x509.load_der_x509_certificate(last)
            is_fresh = tx.now - parsed.not_valid_before_utc < SAME
            if is_fresh and parsed.public_key() == key and self._is_current(parsed):
                return last
        certificate = certificates.for_till(self.authorities.keys.issuer, key, tx.tenant_id, shown.till_id, tx.now)
        await till_credentials.certify(tx.connection, tx.tenant_id, shown.till_id, certificate)
        return certificate

    async def _shown(self, certificate: bytes) -> Shown | None:
        async with self.database.identifying() as connection:
            return await _known(connection, certificate)

    def _proven(self, request: RenewCertificateRequest) -> bytes:
        if not request.expired_certificate:
            raise Unauthenticated("Call with the till's certificate, or send it with a signature by its key.")
        try:
            parsed = x509.load_der_x509_certificate(request.expired_certificate)
            issued = self._is_current(parsed)
            ends_at = parsed.not_valid_after_utc
            proven = certificates.is_signed_by(
                parsed.public_key(), request.signature, RENEW_CONTEXT + request.certificate_request
            )
        except Exception as error:
            # As in certificates.requested_key: malformed comes in many kinds.
            raise Invalid([Violation("expired_certificate", "INVALID", "expired_certificate is not X.509 in DER.")]) from error
        if not issued or not proven:
            raise Unauthenticated("The certificate is not of this cloud, or the signature is not by its key.")
        if business_days.now() - ends_at > RENEWABLE:
            raise Unauthenticated("The certificate ended more than 30 days ago. Pair the tablet again.")
        return request.expired_certificate

    def _is_current(self, certificate: x509.Certificate) -> bool:
        trusted = (x509.load_der_x509_certificate(each) for each in self.authorities.keys.trusted)
        return any(certificates.is_issued_by(certificate, authority) for authority in trusted)

    def _chain(self, certificate: bytes) -> Sequence[bytes]:
        parsed = x509.load_der_x509_certificate(certificate)
        trusted = self.authorities.keys.trusted
        return [certificate, *(each for each in trusted if x509.load_der_x509_certificate(each).subject == parsed.issuer)]


def renew_time(certificate: bytes) -> datetime:
    """The moment from which on a certificate is to be renewed."""
    parsed = x509.load_der_x509_certificate(certificate)
    life = parsed.not_valid_after_utc - parsed.not_valid_before_utc
    return parsed.not_valid_before_utc + life * RENEWED_AT


def _is_good(row: sa.Row[Any], request: EnrolRequest, key: ec.EllipticCurvePublicKey, now: datetime) -> bool:
    """Whether a code does for who shows it: it is fresh, or it was he who used it and the answer was lost."""
    if row.used_at is None:
        return bool(row.ends_at > now)
    same_key = x509.load_der_x509_certificate(row.certificate).public_key() == key
    return same_key and matches(row.enrolment_id, request.enrolment_id)


def _let_in(shown: Shown | None) -> Shown:
    """The certificate that a call was made with, or that it proves to hold the key of, if it is good for another one."""
    if shown is None:
        raise Unauthenticated("This certificate is none of a till that is known here. Pair the tablet again.")
    if shown.state == REVOKED or shown.is_revoked:
        raise TillRevoked("This till was locked out or has another tablet now. Pair the tablet again to use it.")
    return shown


async def _known(connection: AsyncConnection, certificate: bytes) -> Shown | None:
    shown = await till_credentials.shown(connection, certificate)
    if shown is None and await till_credentials.adopt(connection, certificate):
        shown = await till_credentials.shown(connection, certificate)
    return shown


def _requested(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return certificates.requested_key(request)
    except certificates.RequestBroken as error:
        raise Invalid([Violation("certificate_request", "INVALID", str(error))]) from error
