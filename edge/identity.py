"""Who this till is: its key, its certificate and where the cloud is, in the data folder. Made by pairing, read at each start.

The key never leaves the folder. Files are replaced whole, so that a tablet that loses its power has the old ones or the new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID
from grpc import aio

from edge.settings import IDENTITY_NAME

KEY_NAME = "till.key"
DOOR_NAME = "link.gipos.internal"
"""In every certificate of the cloud's own authority, whatever address it is reached at."""
_LOCAL_POOL = ("grpc.use_local_subchannel_pool", 1)


class IdentityUnusable(Exception):
    """The files cannot be read or written; the message says what to do, in both languages."""


@dataclass(frozen=True)
class Identity:
    """What the cloud said when the tablet was paired, or when its certificate was renewed."""

    tenant_id: str
    tenant_name: str
    till_id: str
    till_name: str
    outlet_name: str
    link_address: str
    """host:port with mutual TLS."""
    enrol_address: str
    """host:port where it was paired, and where certificates are renewed."""
    is_plain: bool
    """Whether there is no TLS at that address: on one machine, for development."""
    is_public: bool
    """Whether a certificate of the public kind is shown there, by a proxy; else one of `authorities`."""
    certificates: tuple[bytes, ...]
    """DER, the till's own first."""
    authorities: tuple[bytes, ...]
    """DER: what certificates of the cloud come from."""
    policy_keys: Mapping[str, bytes]
    """Ed25519, by id."""
    renew_at: datetime
    """By the cloud's clock; chosen at random, so that tablets that were paired together do not all come back together."""
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The till's own."""
        return x509.load_der_x509_certificate(self.certificates[0])


def key_of(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The tablet's key, made when there is none.

    Raises:
        IdentityUnusable: it cannot be read or written.
    """
    path = folder / KEY_NAME
    try:
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            _write(path, made.private_bytes(encoding, form, serialization.NoEncryption()))
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityUnusable(
            f"Kunci kasir {path} tidak bisa dibaca atau ditulis ({error}). Perbaiki izin folder, lalu pasangkan lagi.\n"
            f"The till's key {path} cannot be read or written ({error}). Correct the folder's permissions, then pair again."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityUnusable(f"Berkas {path} bukan kunci kasir.\nThe file {path} is not a till's key.")
    return key


def request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PKCS #10, DER), signed by the key. The cloud decides what the certificate says."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "till")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def load(folder: Path) -> Identity | None:
    """The identity in a data folder; None when it was never paired.

    Raises:
        IdentityUnusable: it is damaged.
    """
    path = folder / IDENTITY_NAME
    try:
        stored: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    try:
        identity = Identity(
            **{name: stored[name] for name in _TEXTS + _FLAGS},
            certificates=tuple(b64decode(each) for each in stored["certificates"]),
            authorities=tuple(b64decode(each) for each in stored["authorities"]),
            policy_keys={name: b64decode(key) for name, key in stored["policy_keys"].items()},
            renew_at=datetime.fromisoformat(stored["renew_at"]).astimezone(UTC),
            key=key_of(folder),
        )
        _check(identity)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error
    return identity


def save(folder: Path, identity: Identity) -> None:
    """Stores an identity in place of the one before, if it is one that works.

    Raises:
        IdentityUnusable: the folder cannot be written, or this is nothing to link with; the one before stays.
    """
    try:
        _check(identity)
        for key in identity.policy_keys.values():
            Ed25519PublicKey.from_public_bytes(key)
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        # An odd answer of the cloud, or of somebody in between: stored, it would keep the till from its cloud until it is paired.
        raise IdentityUnusable(
            f"Jawaban server GiPos bukan identitas kasir yang bisa dipakai ({error}). Tidak ada yang diubah; coba lagi nanti.\n"
            f"What the cloud answered is no identity a till can use ({error}). Nothing was changed; try again later."
        ) from error
    stored = {name: getattr(identity, name) for name in _TEXTS + _FLAGS}
    stored["certificates"] = [b64encode(each).decode() for each in identity.certificates]
    stored["authorities"] = [b64encode(each).decode() for each in identity.authorities]
    stored["policy_keys"] = {name: b64encode(key).decode() for name, key in identity.policy_keys.items()}
    stored["renew_at"] = identity.renew_at.isoformat()
    write(folder / IDENTITY_NAME, json.dumps(stored, indent=1).encode())


class Own:
    """The identity of a running till, as it is now: renewing replaces it, and the next stream shows the new one."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder = folder
        self.identity = identity

    def renewed(self, **changed: Any) -> None:
        """Stores what changed.

        Raises:
            IdentityUnusable: the folder cannot be written, or the new one would not work; the old one goes on.
        """
        identity = replace(self.identity, **changed)
        save(self.folder, identity)
        self.identity = identity

    def channel(self, address: str, options: Sequence[tuple[str, int]]) -> aio.Channel:
        """A channel to the link, secure both ways. Each stream on it shows the certificate there is when it begins."""
        return cast("aio.Channel", _Renewing(lambda: self.identity, address, options))


class _Renewing:
    """A channel for streams that is made anew after the certificate was renewed: gRPC fixes a channel's credentials."""

    def __init__(self, current: Callable[[], Identity], address: str, options: Sequence[tuple[str, int]]) -> None:
        self._current = current
        self._address = address
        self._options = options
        self._made_for: Identity | None = None
        self._inner: aio.Channel | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def stream_stream(self, path: str, **how: Any) -> Any:
        """As grpc.aio.Channel's."""

        def begin(**call: Any) -> Any:
            return self._newest().stream_stream(path, **how)(**call)

        return begin

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """As grpc.aio.Channel's."""
        if self._inner is not None:
            await self._inner.close(grace)
        await asyncio.gather(*self._closing)

    def _newest(self) -> aio.Channel:
        identity = self._current()
        if self._inner is None or self._made_for is not identity:
            if self._inner is not None:
                closing = asyncio.create_task(self._inner.close(None))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            self._made_for = identity
            self._inner = secure(self._address, identity.authorities, options=self._options, shown=identity)
        return self._inner


def secure(
    address: str, trusted: Sequence[bytes], *, options: Sequence[tuple[str, int]] = (), shown: Identity | None = None
) -> aio.Channel:
    """A channel to a cloud whose authority is known, with the till's certificate when there is one to show.

    The name it asks for is in every certificate of such a cloud; no other server has one of that authority.
    """
    key = certificates = None
    if shown is not None:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key = shown.key.private_bytes(encoding, form, serialization.NoEncryption())
        certificates = _pem(shown.certificates)
    credentials = grpc.ssl_channel_credentials(_pem(trusted), key, certificates)
    every = [*options, ("grpc.ssl_target_name_override", DOOR_NAME), _LOCAL_POOL, ("grpc.enable_http_proxy", 0)]
    return aio.secure_channel(address, credentials, options=every)


_TEXTS = ("tenant_id", "tenant_name", "till_id", "till_name", "outlet_name", "link_address", "enrol_address")
_FLAGS = ("is_plain", "is_public")


def _check(identity: Identity) -> None:
    """Looks at all that a stream is opened with; what is wrong raises as it is found."""
    if identity.certificate.public_key() != identity.key.public_key():
        raise ValueError("the certificate is for another key")
    if not identity.authorities:
        raise ValueError("no authority is named")
    _pem(identity.certificates)
    _pem(identity.authorities)


def _pem(certificates: Sequence[bytes]) -> bytes:
    loaded = (x509.load_der_x509_certificate(each) for each in certificates)
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in loaded)


def _damaged(path: Path, error: Exception) -> IdentityUnusable:
    return IdentityUnusable(
        f"Identitas kasir {path} rusak ({error}). Buat kode pemasangan baru untuk kasir ini, lalu pasangkan tablet lagi;"
        " penjualan di tablet tetap ada.\n"
        f"The till's identity {path} is damaged ({error}). Make a pairing code that replaces this till and pair the tablet again;"
        " the sales on it stay."
    )


def write(path: Path, content: bytes) -> None:
    """Writes a file whole, for its owner only, and in place before it returns: also after the power fails.

    Raises:
        IdentityUnusable: it cannot be written.
    """
    try:
        _write(path, content)
    except OSError as error:
        raise IdentityUnusable(
            f"{path} tidak bisa ditulis ({error.strerror}).\n{path} cannot be written ({error.strerror})."
        ) from error


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
