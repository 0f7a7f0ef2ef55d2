"""X.509 for the link, and nothing else: an authority of our own, certificates for tills and for the cloud's own door. Pure.

Tills are believed for 90 days. Certificates of the cloud begin in 1970, because a tablet whose battery has died believes that
it is 1970 and must still get through; it learns the time then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOOR_NAME = "link.gipos.internal"
"""In every certificate of the cloud, whatever its address: what tills that know the authority ask for."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TILL_LIFE = timedelta(days=90)
TILL_SKEW = timedelta(hours=1)
"""How far clocks of two processes of the cloud may differ."""
AUTHORITY_LIFE = timedelta(days=3650)

_DER = serialization.Encoding.DER


@dataclass(frozen=True)
class Issuer:
    """An authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class RequestBroken(Exception):
    """A certificate request that cannot be granted; the text says why."""


def new_authority(name: str, now: datetime) -> Issuer:
    """An authority that signs itself and may sign nothing but certificates of tills and doors."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "GiPos"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), EPOCH, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False, certifies=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issuer(certificate, key)


def for_till(issuer: Issuer, public_key: ec.EllipticCurvePublicKey, tenant_id: str, till_id: str, now: datetime) -> bytes:
    """A till's certificate, DER. Its common name is the till's id."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, till_id)])
    builder = _builder(subject, issuer.certificate.subject, public_key, now - TILL_SKEW, now + TILL_LIFE)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"gipos://{tenant_id}/tills/{till_id}")])
    return _issue(issuer, builder.add_extension(names, critical=False), ExtendedKeyUsageOID.CLIENT_AUTH)


def for_door(issuer: Issuer, names: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate of the cloud for these names and addresses, with a new key: both in PEM, the authority after it.

    It is good as long as its authority, because tablets check it by their own clocks, which may be years ahead. Nothing is lost
    by that: its key is only ever in the memory of one process, for days, beside the authority's own.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOOR_NAME)])
    ends_at = issuer.certificate.not_valid_after_utc
    builder = _builder(subject, issuer.certificate.subject, key.public_key(), EPOCH, ends_at)
    every = x509.SubjectAlternativeName([_name(text) for text in dict.fromkeys((DOOR_NAME, *names))])
    made = _issue(issuer, builder.add_extension(every, critical=False), ExtendedKeyUsageOID.SERVER_AUTH)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem([made, der(issuer.certificate)]), private


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a PKCS #10 request, whose signature proves that whoever made it holds the key.

    Raises:
        RequestBroken: not DER, not P-256, or the signature is not by that key.
    """
    try:
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
        is_proven = parsed.is_signature_valid
    except Exception as error:
        # The library has an error of its own for every way to be malformed, some of them only ValueError's cousins.
        raise RequestBroken("The certificate request cannot be read. Send PKCS #10 in DER.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestBroken("The certificate request is not for a P-256 key. Make one with the curve secp256r1.")
    if not is_proven:
        raise RequestBroken("The certificate request is not signed by its own key.")
    return key


def is_signed_by(public_key: object, signature: bytes, message: bytes) -> bool:
    """Whether the holder of a P-256 key signed the message (ECDSA, SHA-256)."""
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        return False
    try:
        public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(certificate: x509.Certificate) -> str:
    """The common name; empty for none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate in DER: what it is known by."""
    return sha256(certificate).digest()


def der(certificate: x509.Certificate) -> bytes:
    """In DER."""
    return certificate.public_bytes(_DER)


def pem(certificates: Sequence[bytes]) -> bytes:
    """DER to PEM, one after the other."""
    loaded = (x509.load_der_x509_certificate(each) for each in certificates)
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in loaded)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, starts_at: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(starts_at.replace(microsecond=0)).not_valid_after(ends_at.replace(microsecond=0))


def _issue(issuer: Issuer, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> bytes:
    authority = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=True, certifies=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority),
        critical=False,
    )
    return der(builder.sign(issuer.key, hashes.SHA256()))


def _usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
